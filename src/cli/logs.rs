//! `keepup logs`.

use std::path::Path;
use std::time::Duration;

use super::args::{Lines, LogArguments};
use super::error::{Error, Kind};
use super::output::write;
use super::remote::{self, Remote};
use crate::config::{self, Surroundings};
use crate::control::NotShown;
use crate::control::protocol::{LogQuery, logs_path};
use crate::run::shown;

/// Lines that are shown unless all of a kind are wanted.
const LINES: usize = 100;
/// How often is looked for more, where no keepup runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shows what services printed: asks keepup, or reads the files where none runs.
pub(super) fn logs(
    remote: &Remote,
    config: Option<&Path>,
    arguments: &LogArguments,
) -> Result<(), Error> {
    let query = query(arguments)?;
    match remote.pieces(&logs_path(&query), write) {
        Err(error) if error.kind == Kind::Nobody => {
            let services = config::load(
                config.unwrap_or_else(|| remote::found()),
                &Surroundings::of_process(),
            );
            // Without a file there is nothing that could be read, so keepup is what is missing.
            let Ok(checked) = services else { return Err(error) };
            read_files(remote, &checked.plan.services, &query)
        }
        other => other,
    }
}

fn query(arguments: &LogArguments) -> Result<LogQuery, Error> {
    let LogArguments { name, lines, follow, since, grep, json } = arguments;
    if let Some(name) = name {
        remote::name(name)?;
    }
    let lines = match lines {
        Some(Lines::Last(lines)) => Some(*lines),
        Some(Lines::All) => None,
        None if since.is_some() || grep.is_some() => None,
        None => Some(LINES),
    };
    Ok(LogQuery {
        service: name.clone(),
        lines,
        follow: *follow,
        since: since.clone(),
        grep: grep.clone(),
        json: *json,
    })
}

fn read_files(
    remote: &Remote,
    services: &[crate::plan::Service],
    query: &LogQuery,
) -> Result<(), Error> {
    if let Some(name) = &query.service
        && services.iter().all(|it| *it.name != **name)
    {
        return Err(Error::new(Kind::Unknown, format!("there is no service `{name}`")));
    }
    let failed = |why| Error::new(Kind::Failed, why);
    let mut lines = shown::open(None, services, query).map_err(|why| match why {
        NotShown::Query(why) => Error::new(Kind::Usage, why),
        NotShown::Failed(why) => failed(why),
    })?;
    loop {
        let more = lines.more().map_err(failed)?;
        if !more.is_empty() {
            write(&more)?;
        } else if query.follow {
            remote.pause(LOOK_EVERY);
        } else {
            return write(&lines.rest());
        }
    }
}
