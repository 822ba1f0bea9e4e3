//! What a run's health takes from what it says of itself: has it started, is it ending, is it well?

use super::Health;
use super::doubt::{Doubts, Subject};
use crate::core::event::{End, News, Short, Time};
use crate::core::turn::Turn;
use crate::core::words::EXTENSION_MAX;
use crate::plan::Service;

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Told {
    ready: bool,
    /// It asked for this long for its start.
    starts_by: Option<Time>,
    ends: Option<Ends>,
}

/// It said that it is ending.
#[derive(Clone, Copy, Debug)]
struct Ends {
    since: Time,
    by: Time,
}

impl Told {
    /// A run that is to say READY=1 has not started before.
    pub(super) fn lets_start(&self, plan: &Service) -> bool {
        self.ready || !plan.notify
    }

    /// By when it must have started, if it must by then unless it asked for more.
    pub(super) fn start_by(&self, by: Time) -> Time {
        self.starts_by.map_or(by, |asked| asked.max(by))
    }

    /// By when it must be gone; `None`: it did not say that it is ending.
    pub(super) fn gone_by(&self) -> Option<Time> {
        self.ends.map(|it| it.by)
    }

    /// Why it must end, if it said so and does not.
    pub(super) fn outstays(&self, now: Time) -> Option<End> {
        let ends = self.ends.filter(|it| it.by <= now)?;
        let ago = Short(now - ends.since);
        Some(End::Unhealthy(format!("it said {ago} ago that it is stopping, and still runs")))
    }
}

impl Health {
    /// It says something. Says why the run must end, if it must.
    pub(in crate::core) fn hears(
        &mut self,
        plan: &Service,
        news: &News,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        match news {
            News::Ready => self.told.ready = true,
            News::Stopping => self.ends(plan, turn),
            News::Trigger => {
                let why = "it says so itself (WATCHDOG=trigger)";
                return Some(End::Unhealthy(why.to_owned()));
            }
            News::Extend(more) => self.extend(turn.now + (*more).min(EXTENSION_MAX)),
            News::Reloading | News::Status(_) => {}
        }
        self.unless(None, plan, turn)
    }

    /// It says WATCHDOG=1.
    pub(in crate::core) fn beat(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        if let Some(beats) = &mut self.beats {
            beats.beat(turn.now);
            self.doubts.lift(Subject::Heart);
            self.unless(None, plan, turn);
        }
    }

    /// Whoever is ending need not answer any more; but it must end.
    fn ends(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        if self.told.ends.is_some() {
            return;
        }
        self.abandon(turn);
        self.beats = None;
        self.doubts = Doubts::default();
        for check in &mut self.checks {
            check.asking = super::Asking::Idle;
        }
        self.told.ends = Some(Ends { since: turn.now, by: turn.now + plan.stop_timeout });
    }

    fn extend(&mut self, until: Time) {
        match &mut self.told.ends {
            Some(ends) => ends.by = until.max(ends.by),
            None if self.started.is_none() => {
                let before = self.told.starts_by.unwrap_or_default();
                self.told.starts_by = Some(until.max(before));
            }
            None => {}
        }
    }
}
