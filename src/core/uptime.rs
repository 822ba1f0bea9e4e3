//! How much of the last day a service was up, of the time in which it was to be.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Time;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Changes remembered; past that the oldest are forgotten, and the figure covers less than a day.
const CHANGES_MAX: usize = 256;

/// What the time from a moment on counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Up,
    Down,
    /// It is not to be up.
    Nothing,
}

/// When a service went up and down.
#[derive(Debug, Default)]
pub struct Uptime {
    changes: VecDeque<(Time, Counts)>,
}

impl Uptime {
    pub(super) fn mark(&mut self, now: Time, counts: Counts) {
        if self.changes.back().is_some_and(|it| it.1 == counts) {
            return;
        }
        // A change that ended before the day began says nothing any more.
        while self.changes.len() >= CHANGES_MAX
            || self.changes.get(1).is_some_and(|it| it.0 + DAY <= now)
        {
            self.changes.pop_front();
        }
        self.changes.push_back((now, counts));
    }

    /// In percent; `None` if it was not to be up at all.
    pub fn percent(&self, now: Time) -> Option<f64> {
        let (mut up, mut all) = (Duration::ZERO, Duration::ZERO);
        let begin = Time(now.0.saturating_sub(DAY));
        for (nth, &(at, counts)) in self.changes.iter().enumerate() {
            let until = self.changes.get(nth + 1).map_or(now, |next| next.0);
            let span = until - at.max(begin);
            match counts {
                Counts::Up => {
                    up += span;
                    all += span;
                }
                Counts::Down => all += span,
                Counts::Nothing => {}
            }
        }
        (!all.is_zero()).then(|| 100.0 * up.as_secs_f64() / all.as_secs_f64())
    }
}
