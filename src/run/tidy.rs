//! Once all has started, what only a start needs is given back, and keepup is as small as it gets.

use std::time::Duration;

use crate::core::Supervisor;
use crate::core::event::Time;
use crate::os::pages;

/// What follows a start is over by then: states are saved, and whoever waited has asked.
const AFTER: Duration = Duration::from_secs(2);

/// Gives back once what only a start needs.
#[derive(Debug)]
pub(super) enum Tidy {
    /// Not all has started yet.
    Starting,
    /// All has started.
    At(Time),
    Done,
}

impl Tidy {
    /// When there is something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self {
            Tidy::At(at) => Some(*at),
            Tidy::Starting | Tidy::Done => None,
        }
    }

    /// In every turn of the loop.
    pub(super) fn turn(&mut self, core: &Supervisor, now: Time) {
        match self {
            Tidy::Starting if core.is_ready() => *self = Tidy::At(now + AFTER),
            Tidy::At(at) if *at <= now => {
                *self = Tidy::Done;
                pages::forget();
            }
            Tidy::Starting | Tidy::At(_) | Tidy::Done => {}
        }
    }
}
