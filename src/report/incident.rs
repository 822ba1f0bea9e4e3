//! Incidents: what happened when a service failed, for people at three in the morning and for
//! programs.
//!
//! One incident is one outage: from the first failure until the service is stable again, or is not
//! started any more. Its files are written at the failure and again whenever something is added,
//! by a thread of their own ([`Shelf`]).

mod cause;
mod shelf;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::shelf::{Listed, Shelf, Told, list, newest_first, read};
use crate::os::evidence::{Evidence, HostSeen};
use crate::status::{ExitStatus, Stamp};

/// Failures, moments and actions that are kept from the beginning of an outage, and from its end;
/// what comes between is counted.
const FIRST_MAX: usize = 30;
const LAST_MAX: usize = 70;

/// An outage of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The name of its files: when, which service, why.
    pub id: String,
    /// Whose.
    pub service: String,
    /// Why the first run failed, in a word: [`crate::core::event::End::reason`].
    pub reason: String,
    /// The same in words.
    pub what: String,
    /// When it began: the first miss of a run that hung, else the failure.
    pub began_at: Stamp,
    /// When it was over: the start of the run that stayed; null while it lasts.
    pub ended_at: Option<Stamp>,
    /// What became of it.
    pub outcome: Outcome,
    /// How bad that is.
    pub criticality: Criticality,
    /// Services that come after this one.
    pub affects: Vec<String>,
    /// Runs that failed.
    pub failures_count: u64,
    /// The first of them, and the last.
    pub failures: Vec<Failure>,
    /// What happened, from the last good moment on.
    pub chronology: Vec<Moment>,
    /// Moments between the first and the last that are not kept.
    pub moments_left_out: u64,
    /// What keepup did.
    pub actions: Vec<Action>,
    /// What probes answered in the last minutes before the first failure.
    pub probes: Vec<Answered>,
    /// What was seen of the first run that hung, and of the last.
    pub evidence: Vec<Evidence>,
    /// What the service printed last, at its first failure and at the last one.
    pub log: Vec<LogTail>,
    /// The machine, at the first failure.
    pub host: Option<HostSeen>,
    /// Who holds the port that the service could not have.
    pub port_holder: Option<String>,
    /// What probably caused it, the likeliest first.
    pub causes: Vec<String>,
    /// What a person should do.
    pub follow_up: Vec<String>,
}

/// What became of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is not over.
    Open,
    /// A run stayed up and well, or did what it was meant to.
    Recovered,
    /// Not recovered: the service was given up.
    GivenUp,
    /// Not recovered: an operator stopped it.
    Stopped,
    /// Not recovered: keepup ended.
    Ended,
    /// Not known: keepup itself was killed before it was over.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Open => "not over",
            Outcome::Recovered => "recovered",
            Outcome::GivenUp => "not recovered: given up",
            Outcome::Stopped => "not recovered: stopped by an operator",
            Outcome::Ended => "not recovered: keepup ended",
            Outcome::Unknown => "not known: keepup itself was killed before it was over",
        })
    }
}

/// How bad an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// One service, which is restarted.
    Degraded,
    /// Given up, essential, or others depend on it.
    Critical,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When it was over.
    pub at: Stamp,
    /// The how manieth run it was.
    pub run: u64,
    /// Why it ended, in a word.
    pub reason: String,
    /// The same in words.
    pub what: String,
    /// How its main process died, if there was one.
    pub exit: Option<ExitStatus>,
    /// How long it was up.
    pub uptime_seconds: f64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Stamp,
    /// What, in words.
    pub what: String,
}

/// Something that keepup did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What a probe answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// When the answer was taken in.
    pub at: Stamp,
    /// What it is for.
    pub role: String,
    /// What was asked of what.
    pub probe: String,
    /// What was missed; null: it passed.
    pub miss: Option<String>,
    /// The kind of the miss.
    pub class: Option<String>,
    /// How long the answer took, in milliseconds.
    pub took_ms: f64,
}

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogTail {
    /// When it was read.
    pub at: Stamp,
    /// The last lines, oldest first.
    pub lines: Vec<String>,
}

impl Incident {
    /// One that begins.
    pub fn new(service: &str, failure: &Failure, began_at: Stamp) -> Incident {
        Incident {
            id: format!("{}-{service}-{}", file_time(failure.at), failure.reason),
            service: service.to_owned(),
            reason: failure.reason.clone(),
            what: failure.what.clone(),
            began_at,
            ended_at: None,
            outcome: Outcome::Open,
            criticality: Criticality::Degraded,
            affects: Vec::new(),
            failures_count: 0,
            failures: Vec::new(),
            chronology: Vec::new(),
            moments_left_out: 0,
            actions: Vec::new(),
            probes: Vec::new(),
            evidence: Vec::new(),
            log: Vec::new(),
            host: None,
            port_holder: None,
            causes: Vec::new(),
            follow_up: Vec::new(),
        }
    }

    /// A run failed.
    pub fn failed(&mut self, failure: Failure) {
        self.failures_count += 1;
        keep_ends(&mut self.failures, failure);
    }

    /// Something happened.
    pub fn happened(&mut self, moment: Moment) {
        self.moments_left_out += keep_ends(&mut self.chronology, moment);
    }

    /// keepup did something.
    pub fn did(&mut self, what: String) {
        match self.actions.iter_mut().find(|it| it.what == what) {
            Some(action) => action.count += 1,
            None => _ = keep_ends(&mut self.actions, Action { what, count: 1 }),
        }
    }

    /// It is over.
    pub fn end(&mut self, outcome: Outcome, at: Stamp) {
        self.outcome = outcome;
        self.ended_at = Some(at);
        if outcome == Outcome::GivenUp {
            self.criticality = Criticality::Critical;
        }
        self.happened(Moment { at: Stamp::now(), what: outcome.to_string() });
    }

    /// How long it lasted, if it is over.
    pub fn lasted(&self) -> Option<std::time::Duration> {
        std::time::Duration::try_from(self.ended_at?.0.duration_since(self.began_at.0)).ok()
    }

    fn conclude(&mut self) {
        (self.causes, self.follow_up) = cause::of(self);
    }
}

/// Adds one, and lets one from the middle go where there are too many; how many went.
fn keep_ends<T>(list: &mut Vec<T>, one: T) -> u64 {
    list.push(one);
    if list.len() > FIRST_MAX + LAST_MAX {
        list.remove(FIRST_MAX);
        return 1;
    }
    0
}

/// As it stands in the name of a file: `2026-01-02T03-04-05Z`.
fn file_time(at: Stamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text).replace(':', "-"))
}

#[cfg(test)]
mod tests;
