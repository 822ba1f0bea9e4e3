//! The command line, as it is written.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use super::signal;
use crate::plan::Signal;

/// Keeps services up: starts them, watches them, restarts them, rotates their logs.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "keepup", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The configuration; by default ./supervisor.toml, else /etc/keepup/supervisor.toml.
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The control socket of a running keepup; by default the one that the configuration says.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// What to do; by default `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes of `run`: 0 all done, or asked to end · 1 the system failed · 2 usage · 3 configuration · \
4 a service was given up · an essential service's own code.
Of the others: 0 · 1 failed or unhealthy · 2 usage or unknown name · 3 file · 5 no keepup there.";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the services of the configuration (the default), or one command without a file.
    Run(RunArguments),
    /// Check a configuration, and say what its restart policies lead to.
    Check {
        /// The configuration; instead of -c.
        file: Option<PathBuf>,
    },
    /// Write a commented configuration to start from.
    Init,
    /// Show how the services are.
    Status {
        /// One service in detail.
        name: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Start services that are down or given up, and wait until they have started.
    Start(ActArguments),
    /// Stop services, and wait until nothing of them is left.
    Stop(ActArguments),
    /// Stop services and start them again, and wait until they have started.
    Restart(ActArguments),
    /// Send a signal to a service.
    Signal {
        /// The service.
        name: String,
        /// The signal, by name or number.
        #[arg(value_parser = signal::named)]
        signal: Signal,
    },
    /// Apply what changed in the configuration, and leave every other service alone.
    Reload {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what happened.
    Events {
        /// And then each event as it comes.
        #[arg(short, long)]
        follow: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List the incidents, or show one: what failed, why, and what to do.
    Incidents {
        /// One of them: its id, the beginning of it, or `last`.
        id: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what services printed, from all their files, also while no keepup runs.
    Logs(LogArguments),
    /// Exit with 0 if every service that is wanted up is ready or done, else with 1.
    Healthcheck {
        /// Only this service.
        name: Option<String>,
    },
}

/// The arguments of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RunArguments {
    /// When to restart COMMAND: always, on-failure, on-failure:N, unless-stopped or never. With
    /// never, and nothing to watch, keepup is a plain init like tini.
    #[arg(long, value_name = "POLICY", requires = "command")]
    pub restart: Option<String>,
    /// Restart COMMAND when this address no longer answers.
    #[arg(long, value_name = "URL", requires = "command")]
    pub liveness: Option<String>,
    /// Restart COMMAND when it no longer touches this file.
    #[arg(long, value_name = "FILE", requires = "command")]
    pub heartbeat: Option<String>,
    /// Hold a socket for COMMAND, which finds it as descriptor 3: tcp:ADDRESS:PORT, unix:PATH or
    /// systemd:NAME. Can be given several times.
    #[arg(long, value_name = "SOCKET", requires = "command")]
    pub listen: Vec<String>,
    /// Where keepup's own endpoint listens.
    #[arg(long, value_name = "ADDR", requires = "command")]
    pub http: Option<String>,
    /// The service's name; by default the program's.
    #[arg(long, value_name = "NAME", requires = "command")]
    pub name: Option<String>,
    /// Pass on signal B where A came, as in 15:3 or TERM:QUIT; 0 for none.
    #[arg(long, value_name = "A:B", requires = "command", value_parser = signal::rewrite)]
    pub rewrite: Vec<(Signal, Option<Signal>)>,
    /// One essential service, and no file.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// The arguments of `start`, `stop` and `restart`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ActArguments {
    /// The services, one after the other.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Do not wait for what comes of it.
    #[arg(long)]
    pub no_wait: bool,
}

/// The arguments of `logs`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct LogArguments {
    /// One service; by default all, each line with its service's name.
    pub name: Option<String>,
    /// The last N lines, or `all`; by default 100, or all that --since and --grep let through.
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<Lines>,
    /// And then each line as it comes.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines that are no older, such as 10m; for the log formats text and json.
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Lines in which this regular expression is found.
    #[arg(long, value_name = "RE")]
    pub grep: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// How many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The last so many.
    Last(usize),
    /// All.
    All,
}

impl FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Lines, String> {
        match text {
            "all" => Ok(Lines::All),
            number => number
                .parse()
                .map(Lines::Last)
                .map_err(|_| "must be a whole number, or all".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_file_and_the_socket_may_stand_anywhere() {
        let first = parse("keepup -c a.toml --socket /s status api --json").unwrap();
        let last = parse("keepup status api --json --socket /s -c a.toml").unwrap();
        assert_eq!(first, last);
        assert_eq!(first.config, Some(PathBuf::from("a.toml")));
        assert_eq!(parse("keepup -c a.toml").unwrap().command, None);
    }

    #[test]
    fn a_command_keeps_its_own_arguments() {
        let line = "keepup run --restart never --name web -- uvicorn --name x -c y";
        let Some(Command::Run(run)) = parse(line).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(run.command, ["uvicorn", "--name", "x", "-c", "y"]);
        assert_eq!(run.name.as_deref(), Some("web"));
    }

    #[test]
    fn what_is_meant_for_a_command_needs_one() {
        for line in [
            "keepup run --restart never",
            "keepup start",
            "keepup explode",
            "keepup status a b",
            "keepup completions bash",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("keepup --help").unwrap_err().exit_code(), 0);
    }
}
