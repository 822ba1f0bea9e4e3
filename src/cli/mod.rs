//! The command line: from arguments to an exit code, one file per command that needs more than a
//! line.
//!
//! The only room that prints, besides the log; and here the only place where errors are printed.

mod act;
mod args;
pub mod check;
mod error;
mod events;
mod healthcheck;
mod incidents;
pub mod init;
mod logs;
mod output;
mod reload;
mod remote;
mod run;
mod signal;
mod status;
mod table;

use std::env;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

pub use self::args::{ActArguments, Arguments, Command, Lines, LogArguments, RunArguments};
pub use self::error::{Error, Kind};
use crate::config::Surroundings;
use crate::control::Act;
use crate::control::protocol::Follow;

/// What `keepup` does, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help, the version, or what is wrong with the arguments. If that cannot be printed,
            // the exit code still tells.
            let _ = told.print();
            return ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(2));
        }
    };
    match perform(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            ExitCode::from(error.kind.code())
        }
    }
}

fn perform(arguments: Arguments) -> Result<ExitCode, Error> {
    let Arguments { config, socket, command } = arguments;
    let remote = || remote::Remote::find(config.as_deref(), socket.as_deref());
    let done = |()| ExitCode::SUCCESS;
    match command.unwrap_or_else(|| Command::Run(RunArguments::default())) {
        Command::Run(run) => {
            if run.command.is_empty() && env::args_os().next_back().is_some_and(|it| it == "--") {
                // A variable that is empty must not start what some file says.
                return Err(Error::new(Kind::Usage, "cannot run: there is no command after `--`"));
            }
            run::run(config.as_deref(), run).map(ExitCode::from)
        }
        Command::Check { file } => {
            let file = file.or(config);
            let file = file.as_deref().unwrap_or_else(|| remote::found());
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            Ok(check::run(file, &Surroundings::of_process(), &mut out, &mut err).into())
        }
        Command::Init => {
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            Ok(init::run(Path::new("."), &mut out, &mut err).into())
        }
        Command::Status { name, json } => {
            let form = if json { status::Form::Json } else { status::Form::People };
            status::status(&remote()?, name.as_deref(), form).map(done)
        }
        Command::Start(it) => act::act(&remote()?, Act::Start, &it).map(done),
        Command::Stop(it) => act::act(&remote()?, Act::Stop, &it).map(done),
        Command::Restart(it) => act::act(&remote()?, Act::Restart, &it).map(done),
        Command::Signal { name, signal } => signal::send(&remote()?, &name, signal).map(done),
        Command::Reload { dry_run } => reload::reload(&remote()?, dry_run).map(done),
        Command::Events { follow, json } => {
            let form = if json { status::Form::Json } else { status::Form::People };
            let follow = if follow { Follow::Yes } else { Follow::No };
            events::events(&remote()?, follow, form).map(done)
        }
        Command::Incidents { id, json } => {
            let form = if json { status::Form::Json } else { status::Form::People };
            incidents::incidents(&remote()?, config.as_deref(), id.as_deref(), form).map(done)
        }
        Command::Logs(it) => logs::logs(&remote()?, config.as_deref(), &it).map(done),
        Command::Healthcheck { name } => {
            healthcheck::healthcheck(&remote()?, name.as_deref()).map(done)
        }
    }
}

#[cfg(test)]
mod tests;
