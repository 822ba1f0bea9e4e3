//! Before a run ends for want of a sign of life, the host is looked at: where that starves, whoever
//! is silent may merely be busy, and gets the same time once more in an outage.
//!
//! Only silence can be excused: an answer that did not come in time, a file or a heartbeat that did
//! not change. A busy process still accepts connections, and one that answers has said how it is.

use std::time::Duration;

use super::{Health, Level};
use crate::core::event::{Effect, End, HostSample, Note, Ticket, Time};
use crate::core::turn::Turn;
use crate::plan::{Class, Probe, ProbeKind, Role, Service};

/// A host that does not even say within this time how it is does not come to it.
const SAMPLE_MAX: Duration = Duration::from_secs(1);

/// What is known of the host in this outage.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// It is looked at since the first silence.
    watched: bool,
    /// The outage has had its second chance.
    spent: bool,
    held: Option<Held>,
}

/// A verdict that waits for what the host is like.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    of: Subject,
    end: End,
    by: Time,
}

/// Who was silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The probe at this place.
    Check(usize),
    Heart,
}

impl Doubts {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.held.as_ref().map(|it| it.by)
    }

    /// There was a sign of life after all.
    pub(super) fn lift(&mut self, of: Subject) {
        self.held.take_if(|it| it.of == of);
    }

    /// Probes have other places, or none, by another plan.
    pub(super) fn follow(&mut self, place: impl Fn(usize) -> Option<usize>) {
        if let Some(held) = &mut self.held
            && let Subject::Check(nth) = held.of
        {
            match place(nth) {
                Some(new) => held.of = Subject::Check(new),
                None => self.held = None,
            }
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }
}

impl Health {
    /// A run is to end for this silence: at once, or not before it is known how the host is.
    pub(super) fn doubt(
        &mut self,
        plan: &Service,
        of: Subject,
        end: End,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        if self.doubts.spent || !self.may_be_busy(plan, of) {
            return Some(end);
        }
        let by = match &self.doubts.held {
            Some(held) => held.by,
            None => turn.now + SAMPLE_MAX,
        };
        if let Some(beats) = &mut self.beats {
            beats.spare(by);
        }
        if self.doubts.held.is_none() {
            let ticket = turn.ticket();
            turn.effect(Effect::SampleHost { name: plan.name.clone(), ticket });
            self.doubts.held = Some(Held { ticket, of, end, by });
        }
        None
    }

    /// The answer came. Says why the run must end, if it must.
    pub(in crate::core) fn host_sampled(
        &mut self,
        plan: &Service,
        ticket: Ticket,
        sample: &HostSample,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        let held = self.doubts.held.take_if(|it| it.ticket == ticket)?;
        match starved(sample, asks_aside(plan, held.of)) {
            Some(why) => self.excuse(plan, &held, why, turn),
            None => return Some(held.end),
        }
        self.unless(None, plan, turn)
    }

    /// No answer came in time: keepup itself does not get what it needs.
    pub(super) fn excuse_unanswered(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        if let Some(held) = self.doubts.held.take_if(|it| it.by <= turn.now) {
            let why = "even a look at its load is not done within 1s".to_owned();
            self.excuse(plan, &held, why, turn);
        }
    }

    /// All of the run begins anew, once: whoever is starved is so for all who ask.
    fn excuse(&mut self, plan: &Service, held: &Held, host: String, turn: &mut Turn<'_>) {
        self.doubts.spent = true;
        for (check, probe) in self.checks.iter_mut().zip(&plan.probes) {
            if let Some(miss) = &check.miss
                && probe.role == Role::Liveness
                && is_silence(probe, miss.class)
            {
                check.misses = 0;
                check.ok = None;
            }
        }
        if let (Some(beats), Some(heartbeat)) = (&mut self.beats, &plan.heartbeat) {
            beats.spare(turn.now + heartbeat.unhealthy_after);
        }
        let why = match &held.end {
            End::Unhealthy(why) | End::HeartbeatLost(why) => why.clone(),
            End::Exited(_)
            | End::SpawnFailed(_)
            | End::NeverReady(_)
            | End::OverMemory(_)
            | End::OverCpu(_)
            | End::Asked(_) => held.end.to_string(),
        };
        turn.note(&plan.name, Note::Busy { why, host });
    }

    /// Keeps an eye on the host while the run is silent, and forgets the outage once it is over.
    pub(super) fn watch_host(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        if self.doubts.holds() || self.told.gone_by().is_some() {
            return;
        }
        let silent = |nth: usize| self.may_be_busy(plan, Subject::Check(nth));
        let late = self.beats.as_ref().is_some_and(|it| it.degraded);
        if late || (0..self.checks.len()).any(silent) {
            if !self.doubts.watched && !self.doubts.spent {
                self.doubts.watched = true;
                turn.effect(Effect::WatchHost { name: plan.name.clone() });
            }
        } else if self.is_calm(plan) {
            self.doubts = Doubts::default();
        }
    }

    fn may_be_busy(&self, plan: &Service, of: Subject) -> bool {
        let Subject::Check(nth) = of else { return true };
        let (check, probe) = (&self.checks[nth], &plan.probes[nth]);
        let silent = check.miss.as_ref().is_some_and(|miss| is_silence(probe, miss.class));
        silent && probe.role == Role::Liveness && self.said != Level::Starting
    }

    /// Nothing that could end the run is amiss.
    fn is_calm(&self, plan: &Service) -> bool {
        let mut checks = self.checks.iter().zip(&plan.probes);
        checks.all(|(check, probe)| probe.role != Role::Liveness || check.miss.is_none())
    }
}

/// The file decides for itself what is definite.
fn is_silence(probe: &Probe, class: Class) -> bool {
    let silence = match class {
        Class::Timeout | Class::Stale => true,
        Class::Refused | Class::Dns | Class::Tls | Class::Http | Class::Body | Class::Other => {
            false
        }
    };
    silence && !probe.definite.contains(&class)
}

/// A process of its own asks, and may be what did not come to it.
fn asks_aside(plan: &Service, of: Subject) -> bool {
    matches!(of, Subject::Check(nth) if matches!(plan.probes[nth].kind, ProbeKind::Exec(_)))
}

/// How the host is starved, in words; nothing if it is not. What no process of the run waited for
/// cannot be why it is silent.
fn starved(it: &HostSample, asks_aside: bool) -> Option<String> {
    /// In percent of the time: to wait for so much of it is to starve.
    const STARVED: f64 = 40.0;
    /// Whoever waits less than this for a processor is not short of it.
    const UNTOUCHED: f64 = 10.0;
    /// A thread of keepup's own that waits so long is starved.
    const LAG_MAX: Duration = Duration::from_millis(500);
    let much = |figure: Option<f64>| figure.filter(|part| STARVED <= *part);
    let untouched = !asks_aside && it.waited.is_some_and(|part| part < UNTOUCHED);
    let processor = if untouched { None } else { much(it.cpu) };
    let throttled = if untouched { None } else { much(it.throttled) };
    let parts = [
        processor.map(|part| format!("cpu pressure {part:.0} %")),
        throttled.map(|part| format!("throttled in {part:.0} % of the time")),
        much(it.waited).map(|part| format!("it waited for a processor {part:.0} % of the time")),
        much(it.memory).map(|part| format!("memory pressure {part:.0} %")),
        much(it.io).map(|part| format!("io pressure {part:.0} %")),
        (LAG_MAX <= it.lag).then(|| format!("keepup itself was {}ms late", it.lag.as_millis())),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_starves_for_each_reason_alone_and_not_below_its_limit() {
        let none = HostSample::default();
        assert_eq!(starved(&none, false), None);
        let of = |figure: f64| {
            [
                HostSample { cpu: Some(figure), ..none },
                HostSample { throttled: Some(figure), ..none },
                HostSample { waited: Some(figure), ..none },
                HostSample { memory: Some(figure), ..none },
                HostSample { io: Some(figure), ..none },
                HostSample { lag: Duration::from_secs_f64(figure / 80.0), ..none },
            ]
        };
        let words = |it: &HostSample| starved(it, false);
        assert!(of(40.0).iter().all(|it| words(it).is_some()));
        assert!(of(39.9).iter().all(|it| words(it).is_none()));
        let busy = HostSample { cpu: Some(87.4), waited: Some(61.0), ..none };
        let text = "cpu pressure 87 %, it waited for a processor 61 % of the time";
        assert_eq!(words(&busy).unwrap(), text);
    }

    #[test]
    fn who_waits_for_no_processor_is_not_excused_by_those_who_do() {
        let busy = HostSample { cpu: Some(99.0), throttled: Some(99.0), ..HostSample::default() };
        let blocked = HostSample { waited: Some(9.9), ..busy };
        assert_eq!(starved(&blocked, false), None);
        assert!(starved(&HostSample { waited: Some(10.0), ..busy }, false).is_some());
        // Who asks it may be who waits.
        assert!(starved(&blocked, true).is_some());
        assert!(starved(&HostSample { memory: Some(80.0), ..blocked }, false).is_some());
    }
}
