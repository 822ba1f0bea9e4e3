//! `keepup run`: a file, or one command without a file.

use std::env;
use std::path::Path;

use super::args::RunArguments;
use super::error::{Error, Kind};
use super::remote::found;
use crate::config::{self, Checked, CommandLine, Surroundings};
use crate::plan::Rewrite;
use crate::run::{self, Failed};

/// Runs until everything is over; the exit code of keepup.
pub(super) fn run(config: Option<&Path>, arguments: RunArguments) -> Result<u8, Error> {
    if config.is_none() && is_plain_init(&arguments) {
        let rewrite = Rewrite(arguments.rewrite.into_iter().collect());
        return run::init(&arguments.command, &rewrite).map_err(|it| failed(&it));
    }
    let surroundings = Surroundings::of_process();
    let (checked, kind) = if arguments.command.is_empty() {
        (config::load(config.unwrap_or_else(|| found()), &surroundings), Kind::File)
    } else if config.is_some() {
        return Err(Error::new(Kind::Usage, "cannot take both `-c` and a command")
            .hint("a command after `--` is run without a file"));
    } else {
        (config::command_line(&line(arguments)?, &surroundings), Kind::Line)
    };
    let Checked { plan, warnings } =
        checked.map_err(|problems| Error::new(kind, problems.to_string()))?;
    let warnings: Vec<String> = warnings.iter().map(in_a_line).collect();
    run::run(plan, &warnings).map_err(|it| failed(&it))
}

/// A command that is not kept up, and that there is nothing to watch about.
fn is_plain_init(arguments: &RunArguments) -> bool {
    let RunArguments { restart, liveness, heartbeat, listen, http, command, .. } = arguments;
    let watch = [liveness, heartbeat, http];
    !command.is_empty()
        && listen.is_empty()
        && matches!(restart.as_deref(), Some("never" | "no"))
        && watch.into_iter().all(Option::is_none)
}

fn failed(failed: &Failed) -> Error {
    let kind = match failed {
        Failed::Start(failure) => Kind::NotRun(failure.status),
        Failed::Lock(_) | Failed::Socket(_) | Failed::System(..) => Kind::System,
    };
    Error::new(kind, failed.to_string())
}

fn in_a_line(warning: &config::Problem) -> String {
    match &warning.place {
        Some(place) => format!("{}: {}", place.short(), warning.text),
        None => warning.text.clone(),
    }
}

fn line(arguments: RunArguments) -> Result<CommandLine, Error> {
    let directory = env::current_dir().map_err(|error| {
        Error::new(Kind::System, format!("cannot find the current folder: {error}"))
    })?;
    let RunArguments { restart, liveness, heartbeat, listen, http, name, rewrite, command } =
        arguments;
    let rewrite = Rewrite(rewrite.into_iter().collect());
    Ok(CommandLine {
        restart,
        liveness,
        heartbeat,
        listen,
        name,
        http,
        rewrite,
        command,
        directory,
    })
}
