//! What can be seen of a run that hangs, from `/proc`, before it is killed.
//!
//! Taken on a thread of its own, since reading about a process that the kernel holds can hang for
//! as long as that does. What was seen until somebody's patience ends is there to be read even if
//! the thread never comes back; the number of such threads has a limit. Processes may vanish
//! meanwhile: then there is less to see, and nothing else.

mod calls;
mod files;
mod host;
mod look;
mod task;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::host::HostSeen;
use crate::core::event::{Event, Pid, Ticket};
use crate::plan::Name;
use crate::status::Stamp;

/// Looks that may go on, or hang, at once. One more sees nothing.
const LOOKS_MAX: usize = 8;

/// A look needs little; pages that are not touched cost nothing.
const STACK_SIZE: usize = 256 * 1024;

/// What was seen of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// When the look began.
    pub at: Option<Stamp>,
    /// How long it took, in milliseconds; null: it was not over when it was no longer waited for.
    pub took_ms: Option<u64>,
    /// What kept keepup from seeing more, for people.
    pub incomplete: Option<String>,
    /// The processes of the run, its main process first.
    pub processes: Vec<ProcessSeen>,
    /// Further processes that were not looked at.
    pub processes_more: usize,
    /// The machine, and the control group of the run.
    pub host: HostSeen,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSeen {
    /// Its number.
    pub pid: i32,
    /// That of its parent.
    pub parent: i32,
    /// Its name, as the kernel keeps it.
    pub name: String,
    /// Its command line; null where it could not be read in time.
    pub command: Option<String>,
    /// `S (sleeping)` and so on.
    pub state: String,
    /// Anonymous memory, in MiB.
    pub memory_mib: Option<f64>,
    /// Swapped out, in MiB.
    pub swap_mib: Option<f64>,
    /// Processor time that it used, in seconds.
    pub cpu_seconds: f64,
    /// How many threads it has.
    pub threads_count: usize,
    /// The first of them, its main thread among them.
    pub threads: Vec<ThreadSeen>,
    /// How many files it has open; null where the kernel does not permit to look.
    pub files_count: Option<usize>,
    /// The first of them: `7 → socket tcp 10.0.0.2:4711 → 10.0.0.5:5432`.
    pub files: Vec<String>,
    /// Its address space in a line: how many mappings, of how much, and the largest.
    pub maps: Option<String>,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadSeen {
    /// Its number.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// `R`, `S`, `D` and so on.
    pub state: String,
    /// What it waits for in the kernel; null while it does not wait.
    pub wait: Option<String>,
    /// The system call it is in: `read of fd 7 (pipe)`; null: it is in none, or that is not shown.
    pub call: Option<String>,
    /// Its stack in the kernel, innermost first, or `not permitted`.
    pub stack: Vec<String>,
}

/// A look that may still be going on: what it has seen so far can be read at any time.
#[derive(Clone, Debug)]
pub struct Look(Arc<Mutex<Evidence>>);

impl Look {
    fn new() -> Look {
        Look(Arc::new(Mutex::new(Evidence { at: Some(Stamp::now()), ..Evidence::default() })))
    }

    /// What was seen until now.
    pub fn seen(&self) -> Evidence {
        let mut seen = self.lock().clone();
        if seen.took_ms.is_none() && seen.incomplete.is_none() {
            seen.incomplete = Some("the kernel did not answer in time".to_owned());
        }
        seen
    }

    fn lock(&self) -> MutexGuard<'_, Evidence> {
        // A panic leaves what was seen as it was: there is less of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Evidence)) {
        note(&mut self.lock());
    }
}

/// Looks at runs, and says when it has seen enough.
#[derive(Debug)]
pub struct Examiner {
    answers: mpsc::Sender<Event>,
    looks: Arc<AtomicUsize>,
}

impl Examiner {
    /// One that sends [`Event::Examined`] to `answers`.
    pub fn new(answers: mpsc::Sender<Event>) -> Examiner {
        Examiner { answers, looks: Arc::default() }
    }

    /// Begins to look at the run of this main process; returns at once. It looks no longer than
    /// `limit`, unless the kernel holds it up.
    pub fn examine(&self, name: &Name, ticket: Ticket, main: Pid, limit: Duration) -> Look {
        let look = Look::new();
        let done = Event::Examined { name: name.clone(), ticket };
        if self.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX {
            self.looks.fetch_sub(1, Ordering::Relaxed);
            let why = format!("{LOOKS_MAX} looks at other processes hang in the kernel");
            return self.blind(look, done, why);
        }
        let (seen, answers, place) =
            (look.clone(), self.answers.clone(), Place(self.looks.clone()));
        let thread = thread::Builder::new().name("evidence".to_owned()).stack_size(STACK_SIZE);
        let told = done.clone();
        let started = thread.spawn(move || {
            look::at_run(&seen, main, Instant::now() + limit);
            drop(place);
            // Nobody listens when keepup is ending.
            let _ = answers.blocking_send(told);
        });
        match started {
            Ok(_) => look,
            Err(error) => self.blind(look, done, format!("no thread could be had: {error}")),
        }
    }

    /// Nothing is seen, and nothing is waited for.
    fn blind(&self, look: Look, done: Event, why: String) -> Look {
        look.note(|it| it.incomplete = Some(why));
        // Where there is no room for the answer, it is not waited for longer than its limit.
        let _ = self.answers.try_send(done);
        look
    }
}

/// A place among those who look, left when the look ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
