//! What people and programs are shown: one source for the command line, the API, the metrics and
//! the page.
//!
//! Plain values, filled from a look at the core; nothing here asks the system. The names of the
//! fields are a contract: every field is always present, and null when it is not known.

mod health;
mod log;
mod look;
mod stamp;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::health::{Issue, Level, Trouble};
pub use self::log::LogStatus;
pub use self::stamp::Stamp;
use crate::core::event::{End, Exit, Miss};
use crate::plan::{self, Name, Signal};

/// Everything that `GET /v1/status` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// keepup itself.
    pub supervisor: SupervisorStatus,
    /// The services, in the order of the file.
    pub services: Vec<ServiceStatus>,
}

/// keepup itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Since keepup started.
    pub uptime_seconds: f64,
    /// The file it was started with; null for `run -- COMMAND`.
    pub config: Option<String>,
    /// All services in a word.
    pub level: Level,
    /// The machine.
    pub host: Host,
}

/// The machine, or the container's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Of the memory, or of the container's limit.
    pub memory_used_percent: Option<f64>,
    /// Of the file system that holds the logs.
    pub disk_used_percent: Option<f64>,
    /// The load average over one minute.
    pub load1: Option<f64>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub want: Want,
    /// What it is doing.
    pub state: State,
    /// How it is; null unless its process runs.
    pub health: Option<Health>,
    /// Started, and all readiness probes pass.
    pub ready: bool,
    /// Its main process.
    pub pid: Option<i32>,
    /// How manieth run it is, from 1; 0 before the first.
    pub run: u64,
    /// Of the present run.
    pub uptime_seconds: Option<f64>,
    /// Automatic restarts since keepup started.
    pub restarts: u64,
    /// Failures in a row.
    pub failures_in_row: u32,
    /// Restarts that count toward the cap.
    pub restarts_in_window: u32,
    /// The cap; 0: none.
    pub max_restarts: u32,
    /// Until the next attempt.
    pub next_start_in_seconds: Option<f64>,
    /// Anonymous memory and swap of its processes.
    pub memory_bytes: Option<u64>,
    /// Of one CPU, since the figure was last asked for.
    pub cpu_percent: Option<f64>,
    /// Open files of its processes.
    pub open_files: Option<u64>,
    /// Threads of its processes.
    pub threads: Option<u64>,
    /// The part of the last 24 hours, or since its first start, in which its process ran.
    pub uptime_percent_24h: Option<f64>,
    /// Since the last heartbeat.
    pub heartbeat_age_seconds: Option<f64>,
    /// Lines of this run that show an error, within the last hour; null unless they are counted.
    pub errors_last_hour: Option<u64>,
    /// What became of its output.
    pub log: LogStatus,
    /// What its run says of itself, by `sd_notify`.
    pub status_text: Option<String>,
    /// How the run before this one ended.
    pub last_end: Option<LastEnd>,
    /// Its probes, in the order startup, liveness, readiness, warning.
    pub probes: Vec<ProbeStatus>,
    /// Given up, for now or for good. Not shown; part of the level.
    #[serde(skip)]
    pub given_up: bool,
    /// Degraded for nothing but the memory it uses. Not shown; part of the level.
    #[serde(skip)]
    pub uses_much: bool,
    /// What is wrong with it, and since when. Not shown here but in `/readyz` and `/v1/problems`.
    #[serde(skip)]
    pub trouble: Option<Trouble>,
    /// What it waits for, in words. Not shown; part of its trouble.
    #[serde(skip)]
    pub awaits: Option<String>,
    /// Processor time of its processes. Not shown here but in `/metrics`.
    #[serde(skip)]
    pub cpu_seconds: Option<f64>,
}

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// To run.
    Up,
    /// Not to run.
    Down,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for another service.
    Waiting,
    /// A start is under way.
    Starting,
    /// Its process runs.
    Up,
    /// Its process is being stopped.
    Stopping,
    /// Waits for its next start.
    Backoff,
    /// Does not run, as an operator or the file wants it.
    Down,
    /// Did what it was meant to.
    Done,
    /// Given up.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 8] = [
        State::Waiting,
        State::Starting,
        State::Up,
        State::Stopping,
        State::Backoff,
        State::Down,
        State::Done,
        State::Failed,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Up => "up",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Down => "down",
            State::Done => "done",
            State::Failed => "failed",
        }
    }
}

/// How a running service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not started yet.
    Starting,
    /// As it should be.
    Healthy,
    /// Not as it should be, and not to be restarted for it.
    Degraded,
    /// To be restarted for it.
    Unhealthy,
}

impl Health {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Health> {
        let all = [Health::Starting, Health::Healthy, Health::Degraded, Health::Unhealthy];
        all.into_iter().find(|it| it.name() == name)
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastEnd {
    /// The word for it: [`End::reason`].
    pub reason: String,
    /// How its main process ended; null if there was none.
    pub exit: Option<ExitStatus>,
    /// When.
    pub at: Stamp,
    /// The incident that tells of it.
    pub incident: Option<String>,
    /// The end in words. Not shown; part of what people read of a problem.
    #[serde(skip)]
    pub text: String,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Its exit code.
    pub code: Option<u8>,
    /// The signal that killed it, such as `SIGKILL`.
    pub signal: Option<String>,
    /// It left a core file.
    pub core_dumped: bool,
    /// The OOM killer did it; null where that cannot be told.
    pub oom: Option<bool>,
    /// In words.
    pub text: String,
}

/// One probe, and its last answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// What its answer is for.
    pub role: String,
    /// What kind of question it is.
    pub kind: String,
    /// What it is asked of.
    pub target: String,
    /// The last answer was as wanted; null before the first of this run.
    pub ok: Option<bool>,
    /// Misses in a row.
    pub misses: u32,
    /// How long the last answer took.
    pub latency_ms: Option<f64>,
    /// The kind of the last miss, if the last answer was one.
    pub class: Option<String>,
    /// What was missed, in words.
    pub detail: Option<String>,
}

/// What is needed to tell of keepup itself.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// Since keepup started.
    pub uptime: Duration,
    /// What it runs.
    pub plan: &'a plan::Supervisor,
}

impl Status {
    /// The status of everything, its level worked out. `services`: one [`ServiceStatus`] each, in
    /// the order of the file. What only the system knows (`host`, memory, CPU), what only the
    /// journal knows (`trouble`) and what only the logs know is null, and filled in by `control`.
    pub fn of(about: &About<'_>, services: Vec<ServiceStatus>) -> Status {
        let supervisor = SupervisorStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: seconds(about.uptime),
            config: about.plan.config.as_ref().map(|it| it.display().to_string()),
            level: Level::of(&services),
            host: Host::default(),
        };
        Status { supervisor, services }
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.services.iter().find(|it| it.name == name)
    }

    /// What keeps services that are wanted up from being ready; empty: all is ready or done.
    pub fn issues(&self) -> Vec<Issue> {
        self.services.iter().filter_map(ServiceStatus::issue).collect()
    }

    /// The issues, and what degrades services that are ready.
    pub fn problems(&self) -> Vec<Issue> {
        self.services.iter().filter_map(ServiceStatus::problem).collect()
    }
}

impl ServiceStatus {
    /// A service of which nothing is known but its plan: down, and not wanted up.
    pub fn down(plan: &plan::Service) -> ServiceStatus {
        ServiceStatus {
            name: plan.name.to_string(),
            want: Want::Down,
            state: State::Down,
            health: None,
            ready: false,
            pid: None,
            run: 0,
            uptime_seconds: None,
            restarts: 0,
            failures_in_row: 0,
            restarts_in_window: 0,
            max_restarts: plan.restart.max_restarts,
            next_start_in_seconds: None,
            memory_bytes: None,
            cpu_percent: None,
            open_files: None,
            threads: None,
            uptime_percent_24h: None,
            heartbeat_age_seconds: None,
            errors_last_hour: None,
            log: LogStatus::default(),
            status_text: None,
            last_end: None,
            probes: plan.probes.iter().map(ProbeStatus::unasked).collect(),
            given_up: false,
            uses_much: false,
            trouble: None,
            awaits: None,
            cpu_seconds: None,
        }
    }

    /// Its name, as the rest of keepup writes it.
    pub fn key(&self) -> Name {
        Name::from(self.name.as_str())
    }
}

impl LastEnd {
    /// The end of a run, at this moment.
    pub fn of(end: &End, exit: Option<Exit>, at: Stamp) -> LastEnd {
        LastEnd {
            reason: end.reason().to_owned(),
            exit: exit.map(ExitStatus::of),
            at,
            incident: None,
            text: end.to_string(),
        }
    }
}

impl ExitStatus {
    /// In numbers and in words.
    pub fn of(exit: Exit) -> ExitStatus {
        let (code, signal, core_dumped, oom) = match exit {
            Exit::Code(code) => (Some(code), None, false, Some(false)),
            Exit::Signal { signal, core_dumped } => {
                // The kernel uses no other for that, and who else sent it is not told.
                let oom = (signal != Signal::KILL).then_some(false);
                (None, Some(signal.to_string()), core_dumped, oom)
            }
            Exit::OutOfMemory => (None, Some(Signal::KILL.to_string()), false, Some(true)),
        };
        ExitStatus { code, signal, core_dumped, oom, text: exit.to_string() }
    }
}

impl ProbeStatus {
    /// A probe that was not asked in this run.
    pub fn unasked(plan: &plan::Probe) -> ProbeStatus {
        ProbeStatus {
            role: plan.role.to_string(),
            kind: plan.kind.name().to_owned(),
            target: plan.kind.target(),
            ok: None,
            misses: 0,
            latency_ms: None,
            class: None,
            detail: None,
        }
    }

    /// The same probe after an answer: what it missed, if anything, and how long it took.
    #[must_use]
    pub fn answered(self, miss: Option<&Miss>, misses: u32, took: Duration) -> ProbeStatus {
        ProbeStatus {
            ok: Some(miss.is_none()),
            misses,
            latency_ms: Some(micros(took) / 1e3),
            class: miss.map(|it| it.class.name().to_owned()),
            detail: miss.map(|it| it.text.clone()),
            ..self
        }
    }
}

/// A duration in seconds, to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    (micros(duration) / 1e3).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
fn micros(duration: Duration) -> f64 {
    duration.as_micros() as f64
}

#[cfg(test)]
pub(crate) mod tests;
