//! What a run's heartbeat shows: late, lost, or there. It judges by what a look at the file saw and
//! when, never by the times that a file carries, and by when the run said WATCHDOG=1.

use std::time::Duration;

use super::event::{Effect, End, Short, Sight, Ticket, Time};
use super::turn::Turn;
use crate::plan::{Heartbeat, Service};

/// What is known from the heartbeat.
#[derive(Debug)]
pub(super) struct Beats {
    /// The last beat, or the start of the run.
    pub(super) last: Time,
    pub(super) beaten: bool,
    look_at: Time,
    look: Look,
    extended: bool,
    /// It is not lost before this, since it may merely be busy.
    spared_until: Time,
    /// Why there is nothing to see.
    nothing: Option<String>,
    pub(super) degraded: bool,
}

/// Whether a look has not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Back,
    Asked {
        ticket: Ticket,
        since: Time,
    },
    /// It should have come back by now.
    Hangs {
        ticket: Ticket,
    },
}

impl Look {
    fn ticket(self) -> Option<Ticket> {
        match self {
            Look::Back => None,
            Look::Asked { ticket, .. } | Look::Hangs { ticket } => Some(ticket),
        }
    }
}

impl Beats {
    /// The question that has no answer yet.
    pub(super) fn asked(&self) -> Option<Ticket> {
        self.look.ticket()
    }

    pub(super) fn new(now: Time) -> Beats {
        Beats {
            last: now,
            beaten: false,
            look_at: now,
            look: Look::Back,
            extended: false,
            spared_until: Time::default(),
            nothing: None,
            degraded: false,
        }
    }

    pub(super) fn deadline(&self, heartbeat: &Heartbeat) -> Option<Time> {
        let looks = heartbeat.file.is_some() && self.look == Look::Back;
        let look = looks.then_some(self.look_at);
        let degraded_at = self.last + heartbeat.degraded_after;
        let at = if self.degraded { self.lost_at(heartbeat) } else { degraded_at };
        let verdict = self.beaten.then(|| at + grace(heartbeat));
        look.into_iter().chain(verdict).min()
    }

    /// Looks draw the conclusions; but the file system may hang, and none come back.
    pub(super) fn tick(&mut self, heartbeat: &Heartbeat, now: Time) -> Option<End> {
        let overdue = |at: Time| at + grace(heartbeat) <= now;
        if let Look::Asked { ticket, since } = self.look
            && overdue(since)
        {
            self.look = Look::Hangs { ticket };
        }
        self.degraded |= self.beaten && overdue(self.last + heartbeat.degraded_after);
        let lost = self.beaten && overdue(self.lost_at(heartbeat));
        lost.then(|| self.lost(heartbeat, now))
    }

    /// One look at a time: where a file system hangs, each one costs a thread.
    pub(super) fn ask(&mut self, plan: &Service, heartbeat: &Heartbeat, turn: &mut Turn<'_>) {
        if heartbeat.file.is_none() || self.look != Look::Back || turn.now < self.look_at {
            return;
        }
        let ticket = turn.ticket();
        self.look = Look::Asked { ticket, since: turn.now };
        turn.effect(Effect::Look { name: plan.name.clone(), ticket });
        // A look falls on each threshold, so that its verdict is neither early nor late.
        let due = [self.last + heartbeat.degraded_after, self.lost_at(heartbeat)];
        let next = turn.now + pace(heartbeat);
        self.look_at = due.into_iter().filter(|&at| turn.now < at).fold(next, Time::min);
    }

    /// When it is lost without a beat.
    fn lost_at(&self, heartbeat: &Heartbeat) -> Time {
        self.spared_until.max(self.last + heartbeat.unhealthy_after)
    }

    /// It is not lost before then.
    pub(super) fn spare(&mut self, until: Time) {
        self.spared_until = self.spared_until.max(until);
    }

    /// A second gap without a beat in between may hide a hang: it is not given.
    pub(super) fn stalled(&mut self, gap: Duration) {
        if !self.extended {
            self.last = self.last + gap;
            self.extended = true;
        }
    }

    /// Takes in what a look showed; says whether the heartbeat is lost.
    pub(super) fn looked(&mut self, heartbeat: &Heartbeat, sight: Sight, now: Time) -> Option<End> {
        self.look = Look::Back;
        self.look_at = self.look_at.max(now);
        match sight {
            Sight::Beat => self.beat(now),
            Sight::Still => self.nothing = None,
            Sight::Nothing(why) => self.nothing = Some(why),
        }
        self.degraded = self.beaten && self.last + heartbeat.degraded_after <= now;
        let lost = self.beaten && self.lost_at(heartbeat) <= now;
        lost.then(|| self.lost(heartbeat, now))
    }

    /// There was one.
    pub(super) fn beat(&mut self, now: Time) {
        self.last = now;
        self.beaten = true;
        self.extended = false;
        self.spared_until = Time::default();
        self.nothing = None;
        self.degraded = false;
    }

    fn lost(&self, heartbeat: &Heartbeat, now: Time) -> End {
        End::HeartbeatLost(format!(
            "no heartbeat for {}: {}",
            Short(now - self.last),
            self.trouble(heartbeat)
        ))
    }

    pub(super) fn trouble(&self, heartbeat: &Heartbeat) -> String {
        let Some(file) = &heartbeat.file else {
            return "it does not say WATCHDOG=1".to_owned();
        };
        let file = file.display();
        match &self.nothing {
            _ if matches!(self.look, Look::Hangs { .. }) => format!("no look at {file} came back"),
            Some(why) => why.clone(),
            None => format!("{file} does not change"),
        }
    }
}

/// How often the file is looked at. A beat is dated when it is seen, so this is also the error.
fn pace(heartbeat: &Heartbeat) -> Duration {
    const PACE_MIN: Duration = Duration::from_millis(10);
    const PACE_MAX: Duration = Duration::from_secs(1);
    (heartbeat.degraded_after.min(heartbeat.unhealthy_after) / 10).clamp(PACE_MIN, PACE_MAX)
}

/// How long after a threshold a look may come back and still decide.
fn grace(heartbeat: &Heartbeat) -> Duration {
    if heartbeat.file.is_some() { pace(heartbeat) * 2 } else { Duration::ZERO }
}
