//! `keepup run`: a file, or one command without a file.

use std::env;
use std::path::Path;

use super::args::RunArguments;
use super::error::{Error, Kind};
use super::remote::found;
use crate::config::{self, Checked, CommandLine, Surroundings};
use crate::run;

/// Runs until everything is over; the exit code of keepup.
pub(super) fn run(config: Option<&Path>, arguments: RunArguments) -> Result<u8, Error> {
    let surroundings = Surroundings::of_process();
    let checked = if arguments.command.is_empty() {
        config::load(config.unwrap_or_else(|| found()), &surroundings)
    } else if config.is_some() {
        return Err(Error::new(Kind::Usage, "cannot take both `-c` and a command")
            .hint("a command after `--` is run without a file"));
    } else {
        config::command_line(&line(arguments)?, &surroundings)
    };
    let Checked { plan, warnings } =
        checked.map_err(|problems| Error::new(Kind::Problems, problems.to_string()))?;
    let warnings: Vec<String> = warnings.iter().map(in_a_line).collect();
    run::run(plan, &warnings).map_err(|failed| Error::new(Kind::System, failed.to_string()))
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
    let RunArguments { restart, liveness, heartbeat, http, name, command, .. } = arguments;
    Ok(CommandLine { restart, liveness, heartbeat, name, http, command, directory })
}
