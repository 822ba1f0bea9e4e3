//! What whoever started keepup should know of it, in the words of systemd: is it ready, is it on
//! its way out, and how it is in one line. Derived from the state, so it is never stale.

use std::collections::BTreeMap;
use std::iter;
use std::time::Duration;

use super::event::Short;
use super::health::Level;
use super::service::{Service, State, Want};
use super::supervisor::Supervisor;
use crate::plan::Name;

/// Services that the line names; of further ones it has the number.
const NAMED_MAX: usize = 3;

/// keepup, as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Every service that is to start with keepup has started, or failed once. May become false
    /// again; who waits for a start has heard it by then.
    pub ready: bool,
    /// It is on its way out.
    pub stopping: bool,
    /// How it is, for people: one short line, which is another only when something changed.
    pub status: String,
}

impl Supervisor {
    /// What to tell. Ask again after every step.
    pub fn tell(&self) -> Tell {
        let stopping = self.is_leaving();
        Tell {
            ready: self.is_ready(),
            stopping,
            status: if stopping { self.farewell() } else { self.line() },
        }
    }

    /// Is it ready, in the sense of [`Tell::ready`]?
    pub fn is_ready(&self) -> bool {
        self.is_leaving() || self.services().iter().all(|it| self.is_settled(it))
    }

    /// How long it may take until all is started, at the most: the longest chain of services that
    /// come after one another, each with its `start_timeout`.
    pub fn start_limit(&self) -> Duration {
        let mut limits: BTreeMap<&Name, Duration> = BTreeMap::new();
        // Each round settles at least one more service of every chain; there are no cycles.
        for _ in self.services() {
            let mut changed = false;
            for service in self.services() {
                let before = service.plan.after.iter().filter_map(|it| limits.get(it)).max();
                let limit: Duration = before.copied().unwrap_or_default();
                let limit = limit.saturating_add(service.plan.start_timeout);
                changed |= limits.insert(service.name(), limit) != Some(limit);
            }
            if !changed {
                break;
            }
        }
        limits.into_values().max().unwrap_or_default()
    }

    /// Nobody needs to wait for it any more: it has started, has failed once, or is not to run.
    fn is_settled(&self, service: &Service) -> bool {
        match &service.state {
            State::Waiting(_) => service.last_end.is_some() || self.waits_in_vain(service),
            State::Spawning { .. } => service.last_end.is_some(),
            // A oneshot is there to be done.
            State::Up { health, .. } => {
                service.last_end.is_some() || (health.started().is_some() && !service.plan.oneshot)
            }
            State::Down
            | State::Backoff { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => true,
        }
    }

    /// One of those it waits for has failed, or is not to run: that may take for ever.
    fn waits_in_vain(&self, service: &Service) -> bool {
        let waits = |it: &Service| matches!(it.state, State::Waiting(_));
        let before = self.before([service], waits);
        let mut missing = before.into_iter().filter(|it| !it.lets_others_start());
        missing.any(|it| it.last_end.is_some() || matches!(it.state, State::Down | State::Failed))
    }

    fn line(&self) -> String {
        let wanted = |it: &&Service| it.want == Want::Up && !matches!(it.state, State::Done);
        let wanted: Vec<&Service> = self.services().iter().filter(wanted).collect();
        let up = wanted.iter().filter(|it| is_up(it)).count();
        let count = match wanted.len() {
            0 => "nothing is to run".to_owned(),
            all => format!("{up} of {all} up"),
        };
        let words: Vec<String> = wanted.iter().filter_map(|it| self.word(it)).collect();
        joined(count, &words)
    }

    fn farewell(&self) -> String {
        let running = self.services().iter().filter(|it| it.is_running());
        let names: Vec<String> = running.map(|it| it.name().to_string()).collect();
        match names.len() {
            0 => "stopped".to_owned(),
            1 => joined("stopping".to_owned(), &[format!("{} still runs", names[0])]),
            all => joined(format!("stopping; {all} still run"), &names),
        }
    }

    /// What a service is doing, if it is not simply well.
    fn word(&self, service: &Service) -> Option<String> {
        let name = service.name();
        Some(match &service.state {
            State::Waiting(waiting) => {
                let missing = || waiting.missing(&service.plan.wait_for).next();
                match self.awaited(service).next().map(|it| it.name().to_string()).or_else(missing)
                {
                    Some(awaited) => format!("{name} waits for {awaited}"),
                    None => format!("{name} waits"),
                }
            }
            State::Backoff { until } => {
                // Counted from the end, so that the line stays the same.
                let since = service.last_end.as_ref().map_or(*until, |it| it.at);
                let delay = Short(*until - since);
                match service.gave_up {
                    Some(_) => format!("{name} given up, retried in {delay}"),
                    None => format!("{name} in backoff {delay}"),
                }
            }
            State::Spawning { .. } => format!("{name} starting"),
            State::Up { health, .. } => match health.level() {
                Level::Starting => format!("{name} starting"),
                Level::Healthy => return None,
                Level::Degraded(_) => format!("{name} degraded"),
            },
            State::Stopping(_) => format!("{name} stopping"),
            State::Failed => format!("{name} given up"),
            State::Down | State::Done => return None,
        })
    }
}

fn is_up(service: &Service) -> bool {
    service.health().is_some_and(|it| it.started().is_some())
}

fn joined(first: String, words: &[String]) -> String {
    let more = words.len().saturating_sub(NAMED_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    let named = words.iter().take(NAMED_MAX).cloned();
    let parts: Vec<String> = iter::once(first).chain(named).chain(more).collect();
    parts.join("; ")
}
