//! `keepup incidents`.

use std::path::{Path, PathBuf};

use super::error::{Error, Kind};
use super::output::{Colour, Paint, print, say, write};
use super::remote::{self, Remote};
use super::status::Form;
use super::table::{Cell, aligned};
use crate::config::{self, Surroundings};
use crate::control::protocol::{INCIDENTS, incident_path};
use crate::core::event::Short;
use crate::report::incident::{self, Listed, Outcome};
use crate::report::log::Tame;

/// Where incidents are to be had.
enum Source<'a> {
    Keepup(&'a Remote),
    /// No keepup runs: its state folder.
    Files(PathBuf),
}

/// Lists incidents, or shows one: asks keepup, or reads the files where none runs.
pub(super) fn incidents(
    remote: &Remote,
    config: Option<&Path>,
    id: Option<&str>,
    form: Form,
) -> Result<(), Error> {
    let (source, listed) = find(remote, config)?;
    let Some(wanted) = id else { return list(&listed, form) };
    let id = meant(&listed, wanted)?;
    let extension = match form {
        Form::Json => "json",
        Form::People => "md",
    };
    let text = match source {
        Source::Keepup(remote) => remote.get(&incident_path(id, extension))?.body.to_vec(),
        Source::Files(folder) => {
            let text = incident::read(&folder, id, extension).map_err(unreadable)?;
            text.ok_or_else(|| unknown(wanted))?.into_bytes()
        }
    };
    match form {
        Form::Json => write(&text),
        Form::People => {
            // It holds what a service printed.
            String::from_utf8_lossy(&text).lines().try_for_each(|line| say(Tame(line)))
        }
    }
}

fn find<'a>(remote: &'a Remote, config: Option<&Path>) -> Result<(Source<'a>, Vec<Listed>), Error> {
    match remote.look(INCIDENTS) {
        Ok(listed) => Ok((Source::Keepup(remote), listed)),
        Err(error) if error.kind == Kind::Nobody => {
            let file = config.unwrap_or_else(|| remote::found());
            // Without a file there is nothing that could be read, so keepup is what is missing.
            let Ok(checked) = config::load(file, &Surroundings::of_process()) else {
                return Err(error);
            };
            let folder = checked.plan.supervisor.state_dir;
            let listed = incident::list(&folder).map_err(unreadable)?;
            Ok((Source::Files(folder), listed))
        }
        Err(error) => Err(error),
    }
}

fn list(listed: &[Listed], form: Form) -> Result<(), Error> {
    if let Form::Json = form {
        let text = serde_json::to_string(listed).unwrap_or_default();
        return say(text);
    }
    if listed.is_empty() {
        return say("no incidents");
    }
    let plain = |it: &str| Cell::left(it, Colour::None);
    let mut rows =
        vec![["BEGAN", "SERVICE", "REASON", "LASTED", "OUTCOME", "ID"].map(plain).to_vec()];
    for it in listed {
        let time = it.ended_at.and_then(|end| end.0.duration_since(it.began_at.0).try_into().ok());
        let time = time.map_or_else(|| "-".to_owned(), |it| Short(it).to_string());
        let outcome = match it.outcome {
            Outcome::Open => "not over",
            Outcome::Recovered => "recovered",
            Outcome::GivenUp => "given up",
            Outcome::Stopped => "stopped",
            Outcome::Ended => "keepup ended",
            Outcome::Unknown => "not known",
        };
        let began = it.began_at.to_string();
        let row =
            [began.get(..19).unwrap_or(&began), &it.service, &it.reason, &time, outcome, &it.id];
        rows.push(row.map(plain).to_vec());
    }
    print(aligned(&rows, Paint::of_stdout()))
}

/// `last`, an id, or the beginning of one alone.
fn meant<'a>(listed: &'a [Listed], wanted: &str) -> Result<&'a str, Error> {
    if wanted == "last" {
        let message = "there are no incidents";
        return listed
            .first()
            .map(|it| it.id.as_str())
            .ok_or_else(|| Error::new(Kind::Unknown, message));
    }
    let ids = || listed.iter().map(|it| it.id.as_str());
    if let Some(id) = ids().find(|it| *it == wanted) {
        return Ok(id);
    }
    let mut beginning = ids().filter(|it| it.starts_with(wanted));
    match (beginning.next(), beginning.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            let message = format!("several incidents begin with `{wanted}`");
            Err(Error::new(Kind::Unknown, message).hint("`keepup incidents` lists them"))
        }
        (None, _) => Err(unknown(wanted)),
    }
}

fn unknown(id: &str) -> Error {
    let message = format!("there is no incident `{}`", id.escape_debug());
    Error::new(Kind::Unknown, message).hint("`keepup incidents` lists them")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Failed, format!("cannot read incidents: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_found_by_a_part_of_its_name() {
        let one = |id: &str| Listed {
            id: id.to_owned(),
            service: "api".to_owned(),
            reason: "exited".to_owned(),
            what: String::new(),
            began_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            ended_at: None,
            outcome: Outcome::Open,
            failures_count: 1,
        };
        let listed = [one("2026-b"), one("2026-a")];
        let meant = |wanted| meant(&listed, wanted).map_err(|it| it.message);
        assert_eq!(meant("last"), Ok("2026-b"));
        assert_eq!(meant("2026-a"), Ok("2026-a"));
        assert_eq!(meant("2026-b"), Ok("2026-b"));
        assert_eq!(meant("2026"), Err("several incidents begin with `2026`".to_owned()));
        assert_eq!(meant("x"), Err("there is no incident `x`".to_owned()));
    }
}
