//! `keepup run`: the services of a file, or one command without one.

use std::env;
use std::path::Path;

use super::args::RunArguments;
use super::error::{Error, Kind};
use super::remote::found;
use crate::config::{self, CommandLine, Surroundings};
use crate::run::{self, Failed};

/// Runs until nothing is left to run, or keepup is asked to end; the exit code.
pub(super) fn run(config: Option<&Path>, arguments: RunArguments) -> Result<u8, Error> {
    available(&arguments)?;
    let surroundings = Surroundings::of_process();
    let checked = match (config, arguments.command.is_empty()) {
        (Some(_), false) => {
            return Err(Error::new(Kind::Usage, "cannot take both `-c` and a command")
                .hint("a command after `--` is run without a file"));
        }
        (config, true) => {
            let path = config.unwrap_or_else(|| found());
            config::load(path, &surroundings).map_err(|it| wrong(Kind::File, &it))?
        }
        (None, false) => {
            let line = command_line(arguments)?;
            config::command_line(&line, &surroundings).map_err(|it| wrong(Kind::Usage, &it))?
        }
    };
    let warnings: Vec<String> = checked.warnings.iter().map(in_a_line).collect();
    run::run(checked.plan, &warnings).map_err(|failed| {
        let error = Error::new(Kind::System, failed.to_string());
        match failed {
            Failed::Lock(_) | Failed::Socket(_) => {
                error.hint("`name` or `state_dir` and `runtime_dir` tell two keepups apart")
            }
            Failed::System(..) => error,
        }
    })
}

fn in_a_line(warning: &config::Problem) -> String {
    match &warning.place {
        Some(place) => format!("{}: {}", place.short(), warning.text),
        None => warning.text.clone(),
    }
}

fn wrong(kind: Kind, problems: &config::Problems) -> Error {
    let count = problems.list.len();
    let count = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    Error::new(kind, format!("cannot start: {count}\n\n{problems}"))
}

fn command_line(arguments: RunArguments) -> Result<CommandLine, Error> {
    let directory = env::current_dir().map_err(|error| {
        Error::new(Kind::System, format!("cannot find the current folder: {error}"))
    })?;
    Ok(CommandLine {
        restart: arguments.restart,
        liveness: arguments.liveness,
        heartbeat: arguments.heartbeat,
        name: arguments.name,
        http: arguments.http,
        command: arguments.command,
        directory,
    })
}

/// Refuses what is not known yet, rather than ignoring it.
fn available(run: &RunArguments) -> Result<(), Error> {
    let missing = match run {
        RunArguments { listen: Some(_), .. } => "--listen",
        RunArguments { rewrite, .. } if !rewrite.is_empty() => "--rewrite",
        RunArguments { .. } => return Ok(()),
    };
    Err(Error::new(Kind::Usage, format!("cannot use `{missing}`: it is not available yet")))
}
