//! Incidents, as the loop sees them: when one begins, what belongs to it, and when it is over.
//!
//! One incident is one outage: it is open from the first failure until a run has been well for
//! `stable_after`, so that a crash loop leaves one and not a thousand. Nothing here touches a disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::core::event::{Answer, End, Note, Short, Time};
use crate::core::{Service, State, Supervisor};
use crate::logs::Logs;
use crate::os::evidence::Look;
use crate::plan::{HttpAddress, Name, ProbeKind, Role};
use crate::report::incident::{Answered, Criticality, Failure, Incident, Moment, Outcome, Shelf};
use crate::status::{ExitStatus, Stamp, seconds};

/// Moments before a failure that are remembered of each service.
const MOMENTS_MAX: usize = 40;
/// Answers of its probes.
const ANSWERS_MAX: usize = 64;
/// Older answers say nothing about a failure.
const ANSWERS_FOR: Duration = Duration::from_secs(10 * 60);
/// Lines of a log that are shown; more where the service was asked where it hangs.
const LINES: usize = 50;
const LINES_AFTER_SIGNAL: usize = 250;

/// All services' incidents.
#[derive(Debug)]
pub(super) struct Incidents {
    /// Absent: they are not kept.
    place: Option<Shelf>,
    logs: Arc<Logs>,
    pages: HashMap<Name, Page>,
}

/// What is remembered of a service.
#[derive(Debug, Default)]
struct Page {
    /// What happened since the last good moment.
    recent: VecDeque<Moment>,
    answers: VecDeque<Heard>,
    /// The first miss of the row that may become a failure.
    first_miss: Option<Stamp>,
    /// A run is over, and it is not known yet whether that is a failure.
    ended: Option<Failure>,
    open: Option<String>,
    /// The incident that tells of the last end.
    tells: Option<String>,
}

/// An answer, as small as it can be kept.
#[derive(Debug)]
struct Heard {
    at: Stamp,
    probe: usize,
    took: Duration,
    miss: Option<(&'static str, String)>,
}

impl Incidents {
    /// `place`: where they are kept, if they are.
    pub(super) fn new(place: Option<Shelf>, logs: Arc<Logs>) -> Incidents {
        Incidents { place, logs, pages: HashMap::new() }
    }

    /// The incident that tells of the last end of this service.
    pub(super) fn of_last_end(&self, name: &Name) -> Option<String> {
        self.pages.get(name)?.tells.clone()
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self, name: &Name, probe: usize, answer: &Answer, took: Duration) {
        if self.place.is_none() {
            return;
        }
        let miss = match answer {
            Answer::Pass => None,
            Answer::Miss(miss) => Some((miss.class.name(), miss.text.clone())),
        };
        let answers = &mut self.pages.entry(name.clone()).or_default().answers;
        if answers.len() == ANSWERS_MAX {
            answers.pop_front();
        }
        answers.push_back(Heard { at: Stamp::now(), probe, took, miss });
    }

    /// What is being seen of a run that hangs.
    pub(super) fn seen(&self, name: &Name, look: Look) {
        let open = self.pages.get(name).and_then(|it| it.open.as_ref());
        if let (Some(place), Some(id)) = (&self.place, open) {
            place.add_look(id, look);
            let what = "looked at its processes before they were disturbed".to_owned();
            place.change(id, |it| it.did(what));
        }
    }

    /// Something happened to a service.
    pub(super) fn note(&mut self, core: &Supervisor, name: &Name, note: &Note) {
        let (Some(place), Some(service)) = (&self.place, core.service(name)) else { return };
        let page = self.pages.entry(name.clone()).or_default();
        let moment = Moment { at: Stamp::now(), what: note.to_string() };
        page.remember(note, &moment);
        if let Some(id) = &page.open {
            let did = action(note);
            place.change(id, |it| {
                it.happened(moment.clone());
                if let Some(what) = did {
                    it.did(what);
                }
            });
        }
        let outage = Outage { core, service, place, logs: &self.logs };
        match note {
            Note::Unhealthy { .. } => {
                if let State::Stopping(stopping) = &service.state {
                    let failure = failure(service, &stopping.end, None, stopping.uptime, moment.at);
                    let began = page.first_miss.unwrap_or(moment.at);
                    outage.begin(page, &failure, began);
                }
            }
            Note::Ended { end, exit, uptime } => {
                let exit = exit.map(ExitStatus::of);
                let failure = failure(service, end, exit, *uptime, moment.at);
                page.tells = None;
                page.ended = Some(failure).filter(|_| !matches!(end, End::Asked(_)));
                // Of all others it shows in what follows them.
                if end.is_hang() {
                    outage.failed(page);
                }
            }
            Note::Backoff { .. } => outage.failed(page),
            Note::GaveUp { retry, .. } => {
                outage.failed(page);
                outage.gave_up(page, retry.is_none(), moment.at);
            }
            Note::Down => {
                let outcome = if core.is_leaving() { Outcome::Ended } else { Outcome::Stopped };
                outage.over(page, outcome, moment.at);
            }
            Note::Done => outage.over(page, Outcome::Recovered, moment.at),
            Note::Starting { .. }
            | Note::Up { .. }
            | Note::Waits { .. }
            | Note::HookFailed { .. }
            | Note::HookStuck { .. }
            | Note::Ready { .. }
            | Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Busy { .. }
            | Note::Healthy
            | Note::Hanging { .. }
            | Note::Stopping { .. }
            | Note::Killing { .. }
            | Note::Reloaded { .. }
            | Note::Stuck { .. } => {}
        }
    }

    /// A service has other probes: what they answer is not what others answered.
    pub(super) fn asked_otherwise(&mut self, name: &Name) {
        if let Some(page) = self.pages.get_mut(name) {
            page.answers.clear();
        }
    }

    /// A service is no more.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(page) = self.pages.remove(name)
            && let (Some(id), Some(place)) = (page.open, &self.place)
        {
            place.change(&id, |it| it.end(Outcome::Stopped, Stamp::now()));
        }
    }

    /// Ends the incidents of services that have been well for long enough.
    pub(super) fn review(&mut self, core: &Supervisor, now: Time) {
        let Some(place) = &self.place else { return };
        for (name, page) in self.pages.iter_mut().filter(|it| it.1.open.is_some()) {
            let Some(service) = core.service(name) else { continue };
            if let Some((started, stable)) = stable(service)
                && stable <= now
            {
                let outage = Outage { core, service, place, logs: &self.logs };
                outage.over(page, Outcome::Recovered, Stamp::now().before(now - started));
            }
        }
    }

    /// When the next one may be over.
    pub(super) fn deadline(&self, core: &Supervisor) -> Option<Time> {
        let open = self.pages.iter().filter(|it| it.1.open.is_some());
        open.filter_map(|(name, _)| Some(stable(core.service(name)?)?.1)).min()
    }

    /// keepup ends: waits until all is written, or `limit` has passed.
    pub(super) fn close(mut self, limit: Duration) {
        let Some(place) = self.place.take() else { return };
        for id in self.pages.values().filter_map(|it| it.open.as_ref()) {
            place.change(id, |it| it.end(Outcome::Ended, Stamp::now()));
        }
        place.close(limit);
    }
}

/// When its run started, and when it will have been well for `stable_after`.
fn stable(service: &Service) -> Option<(Time, Time)> {
    let started = service.health()?.started()?;
    Some((started, started + service.plan.restart.stable_after))
}

impl Page {
    fn remember(&mut self, note: &Note, moment: &Moment) {
        let good = matches!(note, Note::Healthy | Note::Ready { .. });
        if good && self.open.is_none() {
            self.recent.clear();
        }
        if good || matches!(note, Note::Starting { .. }) {
            self.first_miss = None;
        }
        if let Note::Miss { role: Role::Liveness, count: 1, of: Some(_), .. } = note {
            self.first_miss = Some(moment.at);
        }
        if self.recent.len() == MOMENTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(moment.clone());
    }
}

/// A service that fails, and all that is needed to tell of it.
struct Outage<'a> {
    core: &'a Supervisor,
    service: &'a Service,
    place: &'a Shelf,
    logs: &'a Logs,
}

impl Outage<'_> {
    fn begin(&self, page: &mut Page, failure: &Failure, began: Stamp) {
        if page.open.is_some() {
            return;
        }
        let mut incident = Incident::new(&self.service.plan.name, failure, began);
        page.recent.drain(..).for_each(|it| incident.happened(it));
        incident.affects = self.affected();
        if self.service.plan.essential || !incident.affects.is_empty() {
            incident.criticality = Criticality::Critical;
        }
        incident.probes = self.transcript(page, failure.at);
        page.open = self.place.begin(incident, self.ports());
        self.tail(page);
    }

    /// A run ended, and it was a failure.
    fn failed(&self, page: &mut Page) {
        let Some(failure) = page.ended.take() else { return };
        self.begin(page, &failure, failure.at);
        page.tells.clone_from(&page.open);
        self.tail(page);
        if let Some(id) = &page.open {
            self.place.change(id, |it| it.failed(failure));
        }
    }

    fn gave_up(&self, page: &mut Page, for_good: bool, at: Stamp) {
        if for_good {
            return self.over(page, Outcome::GivenUp, at);
        }
        if let Some(id) = &page.open {
            self.place.change(id, |it| it.criticality = Criticality::Critical);
        }
    }

    fn over(&self, page: &mut Page, outcome: Outcome, at: Stamp) {
        page.ended = None;
        if let Some(id) = page.open.take() {
            self.place.change(&id, |it| it.end(outcome, at));
            page.recent.clear();
        }
    }

    fn tail(&self, page: &Page) {
        let plan = &self.service.plan;
        let lines = if plan.hang_signal.is_some() { LINES_AFTER_SIGNAL } else { LINES };
        if let (Some(id), Some(tail)) = (&page.open, self.logs.tail(&plan.name, lines)) {
            self.place.add_tail(id, tail);
        }
    }

    /// Those that come after it, and after those.
    fn affected(&self) -> Vec<String> {
        let mut found: Vec<&Name> = vec![self.service.name()];
        let mut nth = 0;
        while let Some(&name) = found.get(nth) {
            let after = self.core.services().iter().filter(|it| it.plan.after.contains(name));
            let new: Vec<&Name> =
                after.map(Service::name).filter(|it| !found.contains(it)).collect();
            found.extend(new);
            nth += 1;
        }
        found[1..].iter().map(ToString::to_string).collect()
    }

    fn transcript(&self, page: &Page, until: Stamp) -> Vec<Answered> {
        let from = until.before(ANSWERS_FOR);
        let shown = |it: &Heard| {
            let probe = self.service.plan.probes.get(it.probe)?;
            Some(Answered {
                at: it.at,
                role: probe.role.to_string(),
                probe: probe.kind.to_string(),
                miss: it.miss.as_ref().map(|it| it.1.clone()),
                class: it.miss.as_ref().map(|it| it.0.to_owned()),
                took_ms: seconds(it.took * 1000),
            })
        };
        page.answers.iter().filter(|it| from <= it.at).filter_map(shown).collect()
    }

    /// Where it is probed: probably the ports that it listens at.
    fn ports(&self) -> Vec<u16> {
        let of = |address: &HttpAddress| match address {
            HttpAddress::Tcp(_, port) | HttpAddress::Tls(_, port, _) => Some(*port),
            HttpAddress::Unix(_) => None,
        };
        let port = |kind: &ProbeKind| match kind {
            ProbeKind::Http(http) => of(&http.address),
            ProbeKind::Grpc(grpc) => of(&grpc.address),
            ProbeKind::Tcp(address) => address.rsplit_once(':')?.1.parse().ok(),
            ProbeKind::Listening(address) => Some(address.port()),
            ProbeKind::Exec(_) | ProbeKind::File(_) => None,
        };
        let own = self
            .service
            .plan
            .probes
            .iter()
            .filter(|it| matches!(it.role, Role::Startup | Role::Liveness | Role::Readiness));
        own.filter_map(|it| port(&it.kind)).collect()
    }
}

fn failure(
    service: &Service,
    end: &End,
    exit: Option<ExitStatus>,
    uptime: Duration,
    at: Stamp,
) -> Failure {
    Failure {
        at,
        run: service.run,
        reason: end.reason().to_owned(),
        what: end.to_string(),
        exit,
        uptime_seconds: seconds(uptime),
    }
}

/// What keepup did, if this tells of it.
fn action(note: &Note) -> Option<String> {
    Some(match note {
        Note::Starting { by: None, .. } => "started it again".to_owned(),
        Note::Starting { by: Some(uid), .. } => format!("started it again, asked by uid {uid}"),
        Note::Hanging { signal, .. } => format!("sent {signal}, to make it say where it hangs"),
        Note::Stopping { signal, .. } => format!("asked it to stop, with {signal}"),
        Note::Killing { why } => format!("killed it: {why}"),
        Note::GaveUp { retry: None, .. } => "gave it up".to_owned(),
        Note::GaveUp { retry: Some(retry), .. } => {
            format!("gave it up for now, with an attempt every {}", Short(*retry))
        }
        Note::Busy { .. } => "let it have the same time once more".to_owned(),
        Note::Reloaded { change, .. } => format!("its configuration changed: {change}"),
        Note::Up { .. }
        | Note::Waits { .. }
        | Note::HookFailed { .. }
        | Note::HookStuck { .. }
        | Note::Ready { .. }
        | Note::Miss { .. }
        | Note::Degraded { .. }
        | Note::Healthy
        | Note::Unhealthy { .. }
        | Note::Stuck { .. }
        | Note::Ended { .. }
        | Note::Backoff { .. }
        | Note::Down
        | Note::Done => return None,
    })
}
