//! When to restart, and when to give up.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::{End, Exit, Short, Time};
use super::turn::Numbers;
use crate::plan::{ExitMatch, OnCap, Policy, Restart, Service, Signal};

/// What to do about a service whose run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did what it was meant to.
    Done,
    /// Start it again after this delay.
    After(Duration),
    /// Too many restarts: given up for now, with an attempt after `retry_after`.
    Retry(String),
    /// Given up.
    Fail(String),
    /// Given up, and keepup with it.
    Exit(String),
}

/// What a service has used up of its restarts. Dies with no run; an operator's start clears it.
#[derive(Debug, Default)]
pub struct Budget {
    failures: u32,
    /// When it was restarted, within the window; oldest first. Attempts after the cap do not count:
    /// they have a pace of their own.
    recent: VecDeque<Time>,
    /// The cap was reached, and no run has been stable since.
    given_up: bool,
}

impl Budget {
    /// With failures and restarts of before keepup was started.
    pub(super) fn remembered(failures: u32, restarts: &[Time]) -> Budget {
        Budget { failures, recent: restarts.iter().copied().collect(), given_up: false }
    }

    /// Failures since the last run that was stable.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The cap was reached: attempts follow one another by `retry_after`.
    pub fn given_up(&self) -> bool {
        self.given_up
    }

    /// Restarts within the window that ends now, oldest first.
    pub fn recent(&self, plan: &Restart, now: Time) -> impl Iterator<Item = Time> {
        let window = plan.window;
        self.recent.iter().copied().filter(move |&at| now < at + window)
    }

    /// A run was well for `stable_after`. The window is not touched: it empties by time alone, so
    /// that a crash just past `stable_after`, again and again, still reaches the cap.
    pub(super) fn stable(&mut self) {
        self.failures = 0;
        self.given_up = false;
    }

    /// Is there anything that a stable run would clear?
    pub(super) fn strained(&self) -> bool {
        self.failures > 0 || self.given_up
    }

    /// A restart by the policy happens now.
    pub(super) fn restarted(&mut self, plan: &Restart, now: Time) {
        if !self.given_up && plan.max_restarts > 0 {
            self.recent.push_back(now);
        }
    }

    /// Judges a run that ended now. The only place that decides it.
    pub(super) fn judge(
        &mut self,
        plan: &Service,
        now: Time,
        end: &End,
        numbers: &mut Numbers,
    ) -> Verdict {
        let restart = &plan.restart;
        if let End::Exited(exit) = end {
            if matches(&restart.fatal_codes, *exit) {
                return Verdict::Fail(format!("{exit} is among its fatal_codes"));
            }
            let success = matches(&restart.success_codes, *exit);
            match restart.policy {
                Policy::Never | Policy::OnFailure if success => return Verdict::Done,
                Policy::Always | Policy::UnlessStopped if success && plan.oneshot => {
                    return Verdict::Done;
                }
                Policy::Always | Policy::UnlessStopped | Policy::OnFailure | Policy::Never => {}
            }
        }
        if restart.policy == Policy::Never {
            return Verdict::Fail("its restart policy is never".to_owned());
        }
        self.failures = self.failures.saturating_add(1);
        while self.recent.front().is_some_and(|&at| at + restart.window <= now) {
            self.recent.pop_front();
        }
        let cap = restart.max_restarts as usize;
        if self.given_up || (cap > 0 && cap <= self.recent.len()) {
            return self.at_cap(restart, end);
        }
        let delay = delay(restart, self.failures);
        Verdict::After(numbers.jittered(delay, restart.jitter))
    }

    fn at_cap(&mut self, restart: &Restart, end: &End) -> Verdict {
        let why = if self.given_up {
            format!("the attempt failed: {end}")
        } else {
            let (cap, window) = (restart.max_restarts, Short(restart.window));
            let restarts = if cap == 1 { "restart" } else { "restarts" };
            format!("{cap} {restarts} within {window} did not help; the last run: {end}")
        };
        match restart.on_cap {
            OnCap::Retry => {
                self.given_up = true;
                Verdict::Retry(why)
            }
            OnCap::Fail => Verdict::Fail(why),
            OnCap::Exit => Verdict::Exit(why),
        }
    }
}

/// The delay before the restart that follows the `nth` failure in a row, without jitter.
pub fn delay(plan: &Restart, nth: u32) -> Duration {
    let exponent = i32::try_from(nth.saturating_sub(1)).unwrap_or(i32::MAX);
    let seconds = plan.delay.as_secs_f64() * plan.factor.powi(exponent);
    // Compared as numbers first: the product may be more than a Duration can hold.
    if seconds < plan.max_delay.as_secs_f64() {
        Duration::from_secs_f64(seconds)
    } else {
        plan.max_delay
    }
}

fn matches(list: &[ExitMatch], exit: Exit) -> bool {
    list.iter().any(|it| match (it, exit) {
        (ExitMatch::Code(code), Exit::Code(exited)) => *code == exited,
        (ExitMatch::Signal(signal), Exit::Signal { signal: killer, .. }) => *signal == killer,
        (ExitMatch::Signal(signal), Exit::OutOfMemory) => *signal == Signal::KILL,
        (ExitMatch::Code(_), Exit::Signal { .. } | Exit::OutOfMemory)
        | (ExitMatch::Signal(_), Exit::Code(_)) => false,
    })
}
