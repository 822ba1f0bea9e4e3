//! What outlives keepup: read at the start, written whenever the core says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use crate::core::event::Time;
use crate::core::{Remembered, Supervisor};
use crate::os::state::{self, Saved, SavedRun, SavedService, Writer};
use crate::os::{Processes, leftover};
use crate::plan::{self, Level, Name};
use crate::report::Journal;

/// How long what an earlier keepup left running may take to be gone.
const LEFTOVER_WAIT: Duration = Duration::from_secs(10);

/// A disk that hangs must not hold up the services for longer than this.
const INTRODUCTION_WAIT: Duration = Duration::from_secs(1);

/// Keeps the state.
#[derive(Debug)]
pub(super) struct Keeper {
    since: Time,
    has_terminal: bool,
    /// Absent: there is no folder to write to, and keepup runs from memory.
    writer: Option<Writer>,
    /// This keepup, here and now; the rest of each state is filled in.
    blank: Saved,
}

impl Keeper {
    /// A keeper that writes nothing.
    pub(super) fn forgetful(since: Time) -> Keeper {
        Keeper { since, has_terminal: io::stdin().is_terminal(), writer: None, blank: Saved::new() }
    }

    /// Reads what an earlier keepup left, and ends what it left running, before anything is
    /// started: there are never two copies of a service.
    pub(super) fn open(
        plan: &plan::Supervisor,
        since: Time,
        journal: &Journal,
    ) -> (Keeper, BTreeMap<Name, Remembered>) {
        let loaded = state::load(&plan.state_dir);
        for text in &loaded.warnings {
            journal.say(Level::Warn, text);
        }
        let mut past = BTreeMap::new();
        if let Some(saved) = &loaded.saved {
            let ended = leftover::end(saved, LEFTOVER_WAIT);
            for text in &ended.texts {
                journal.say(Level::Warn, text);
            }
            past = remembered(saved, &ended.alive);
        }
        let keeper = Keeper::forgetful(since);
        keeper.introduce(&plan.state_dir, loaded.saved.as_ref());
        let tell = journal.clone();
        let writer = Writer::new(&plan.state_dir, move |text| tell.say(Level::Warn, &text));
        let writer = writer.map_err(|error| {
            journal.say(Level::Warn, &format!("cannot keep the state: {error}, ignoring"));
        });
        (Keeper { writer: writer.ok(), ..keeper }, past)
    }

    /// Writes down who this keepup is, before it starts anything: what it starts bears its mark, and
    /// is found by that however soon keepup dies. What was remembered stays so.
    fn introduce(&self, folder: &Path, earlier: Option<&Saved>) {
        let keep = |saved: &Saved| {
            let here = saved.is_of_this_boot();
            // Monotonic times mean nothing in another boot.
            let keep = |it: &SavedService| {
                let wants = SavedService { want_down: it.want_down, ..SavedService::default() };
                if here { it.clone() } else { wants }
            };
            saved.services.iter().map(|(name, it)| (name.clone(), keep(it))).collect()
        };
        let services = earlier.map(keep).unwrap_or_default();
        // A folder that cannot be written is told at the first save.
        if let Ok(writer) = Writer::new(folder, |_| ()) {
            writer.save(Saved { services, ..self.blank.clone() });
            writer.finish(INTRODUCTION_WAIT);
        }
    }

    /// When keepup started.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Was keepup started from a terminal? Then a hang-up means that the terminal is gone.
    pub(super) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Has it written down what is now; returns at once.
    pub(super) fn save(&self, core: &Supervisor, processes: &Processes, now: Time) {
        if let Some(writer) = &self.writer {
            writer.save(self.snapshot(core, processes, now));
        }
    }

    /// What was saved must not wait: an operator's word is in it.
    pub(super) fn hurry(&self) {
        if let Some(writer) = &self.writer {
            writer.hurry();
        }
    }

    /// Writes down how it ended, within the limit.
    pub(super) fn close(self, core: &Supervisor, processes: &Processes, limit: Duration) {
        self.save(core, processes, crate::os::clock::now());
        if let Some(writer) = self.writer {
            writer.finish(limit);
        }
    }

    fn snapshot(&self, core: &Supervisor, processes: &Processes, now: Time) -> Saved {
        let service = |(name, it): (Name, Remembered)| {
            let restarts = it.restarts.iter().map(|at| at.0.as_secs_f64()).collect();
            let saved = SavedService { want_down: it.stopped, failures: it.failures, restarts };
            (name.to_string(), saved)
        };
        let runs = processes.runs().map(|run| SavedRun {
            service: run.service.to_string(),
            pid: run.pid.0,
            start_time: run.start_time,
            // It leads its own group.
            pgid: run.pid.0,
        });
        Saved {
            services: core.remember(now).into_iter().map(service).collect(),
            runs: runs.collect(),
            ..self.blank.clone()
        }
    }
}

fn remembered(saved: &Saved, alive: &BTreeSet<String>) -> BTreeMap<Name, Remembered> {
    // Monotonic times mean nothing in another boot.
    let here = saved.is_of_this_boot();
    let time = |seconds: &f64| Duration::try_from_secs_f64(*seconds).ok().map(Time);
    let remember = |(name, it): (&String, &SavedService)| {
        let remembered = Remembered {
            stopped: it.want_down,
            survives: alive.contains(name),
            failures: if here { it.failures } else { 0 },
            restarts: it.restarts.iter().filter(|_| here).filter_map(time).collect(),
        };
        (Name::from(name.as_str()), remembered)
    };
    saved.services.iter().map(remember).collect()
}
