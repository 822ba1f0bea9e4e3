//! What outlives keepup: it is read at the start, and written whenever the core says so.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use crate::core::event::Time;
use crate::core::{Remembered, Supervisor};
use crate::os::Processes;
use crate::plan::{Name, Plan};
use crate::report::Journal;

/// Keeps the state.
#[derive(Debug)]
pub(super) struct Keeper {
    since: Time,
    has_terminal: bool,
}

impl Keeper {
    /// Reads what an earlier keepup left, and ends what it left running.
    pub(super) fn open(
        _plan: &Plan,
        _writable: bool,
        since: Time,
        _journal: &Journal,
    ) -> (Keeper, BTreeMap<Name, Remembered>) {
        let has_terminal = io::stdin().is_terminal();
        (Keeper { since, has_terminal }, BTreeMap::new())
    }

    /// When keepup started.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Was keepup started from a terminal? Then a hang-up means that the terminal is gone.
    pub(super) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Writes down what is now; returns at once.
    pub(super) fn save(&mut self, _core: &Supervisor, _processes: &Processes) {}

    /// Writes down how it ended.
    pub(super) fn close(self, _core: &Supervisor, _processes: &Processes, _limit: Duration) {}
}
