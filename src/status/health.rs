//! From the state of services to what is wrong: the level, and the list of problems.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Health, ServiceStatus, Stamp, State, Want};
use crate::core::event::Short;

/// All services in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Normal,
    /// The host, or the memory of a service, nears a limit.
    Warning,
    /// A service is degraded, or one is unhealthy.
    Degraded,
    /// A service was given up, or several are unhealthy.
    Critical,
}

impl Level {
    /// The level that these services amount to. A service that waits for its next start after a
    /// failure is not healthy, though it has no process that could be asked.
    pub fn of(services: &[ServiceStatus]) -> Level {
        let unhealthy = services.iter().filter(|it| it.is_unhealthy()).count();
        let degraded = |it: &&ServiceStatus| it.health == Some(Health::Degraded);
        let warned = services.iter().filter(degraded).any(|it| it.uses_much);
        let degraded = services.iter().filter(degraded).any(|it| !it.uses_much);
        if unhealthy > 1 || services.iter().any(ServiceStatus::is_given_up) {
            Level::Critical
        } else if unhealthy == 1 || degraded {
            Level::Degraded
        } else if warned {
            Level::Warning
        } else {
            Level::Normal
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Normal => "normal",
            Level::Warning => "warning",
            Level::Degraded => "degraded",
            Level::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a service, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words; never empty.
    pub what: String,
    /// Since when it has not been well.
    pub since: Stamp,
}

/// A problem, as `/readyz` and `/v1/problems` list it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    /// The service's name.
    pub service: String,
    /// In words; never empty.
    pub what: String,
    /// Null if that is not known.
    pub since: Option<Stamp>,
}

impl ServiceStatus {
    /// Given up, for now or for good.
    pub fn is_given_up(&self) -> bool {
        self.given_up || self.state == State::Failed
    }

    fn is_unhealthy(&self) -> bool {
        self.health == Some(Health::Unhealthy) || self.state == State::Backoff
    }

    /// What keeps it from being ready although it is wanted up. Given up is an issue, stopped by an
    /// operator is none.
    pub fn issue(&self) -> Option<Issue> {
        let missed = match self.state {
            State::Failed => true,
            State::Done | State::Down => false,
            State::Waiting | State::Starting | State::Up | State::Stopping | State::Backoff => {
                self.want == Want::Up && !self.ready
            }
        };
        missed.then(|| self.as_issue())
    }

    /// As [`ServiceStatus::issue`], or what degrades it while it is ready.
    pub fn problem(&self) -> Option<Issue> {
        let ailing = match self.health {
            Some(Health::Degraded | Health::Unhealthy) => self.want == Want::Up,
            Some(Health::Starting | Health::Healthy) | None => false,
        };
        if ailing { Some(self.as_issue()) } else { self.issue() }
    }

    fn as_issue(&self) -> Issue {
        let mut what = match (&self.awaits, &self.trouble) {
            (Some(awaits), _) => awaits.clone(),
            (None, Some(trouble)) => trouble.what.clone(),
            (None, None) => self.in_words(),
        };
        if let Some(wait) = self.next_start_in_seconds
            && let Ok(wait) = Duration::try_from_secs_f64(wait)
        {
            use fmt::Write as _;
            // Writing to a string cannot fail.
            let _ = write!(what, "; next start in {}", Short(wait));
        }
        let since = self.trouble.as_ref().map(|it| it.since);
        Issue { service: self.name.clone(), what, since }
    }

    /// What can be said of it when the journal knows of no trouble.
    fn in_words(&self) -> String {
        let failing = self.probes.iter().find(|it| it.ok == Some(false));
        match (self.state, failing, &self.last_end) {
            (State::Up, Some(probe), _) => {
                let detail = probe.detail.as_deref().unwrap_or("failing");
                format!("{}: {detail}", probe.role)
            }
            (State::Failed, _, Some(end)) => format!("given up: {}", end.in_words()),
            (State::Failed, _, None) => "given up".to_owned(),
            (State::Backoff, _, Some(end)) => end.in_words(),
            (State::Up, None, _) => match self.health {
                Some(Health::Degraded) => "degraded".to_owned(),
                Some(Health::Unhealthy) => "unhealthy".to_owned(),
                Some(Health::Starting | Health::Healthy) | None => "not ready yet".to_owned(),
            },
            (
                State::Waiting
                | State::Starting
                | State::Stopping
                | State::Backoff
                | State::Down
                | State::Done,
                _,
                _,
            ) => self.state.name().to_owned(),
        }
    }
}

impl super::LastEnd {
    /// The end in words; of an end that came over the wire, the reason and the exit.
    pub fn in_words(&self) -> String {
        match (&self.exit, self.reason.as_str()) {
            _ if !self.text.is_empty() => self.text.clone(),
            (Some(exit), "exited") => exit.text.clone(),
            (Some(exit), reason) => format!("{reason} ({})", exit.text),
            (None, reason) => reason.to_owned(),
        }
    }
}
