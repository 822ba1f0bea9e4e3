//! What is on its way from a service's pipe to its file; shared by the lane and its rescuer.
//!
//! Whoever reads the pipe does so under this lock, and lets go of it before any disk is touched:
//! so bytes stay in order, whoever reads them, and nobody waits for a disk to get this lock.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use memchr::memrchr;

use super::backlog::{Backlog, LINE_MAX};
use super::console::Voice;

/// How long a line of ours waits for the service to end its own.
const PATIENCE: Duration = Duration::from_secs(1);

/// Called once when what a drain waits for is done.
pub(super) type Done = Box<dyn FnOnce() + Send>;

pub(super) struct Intake {
    pub(super) backlog: Backlog,
    pub(super) voice: Option<Voice>,
    pub(super) wish: Wish,
    /// Lines of keepup's own that wait for a line's end, and since when.
    own: Vec<u8>,
    own_since: Instant,
    drains: Vec<Drain>,
}

/// What is to be done to the file, when that next can be.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) reopen: bool,
    pub(super) bounds: Option<(u64, u32)>,
}

struct Drain {
    /// What was in the pipe when it was asked for, at most.
    left: usize,
    done: Done,
}

/// What a read brought.
pub(super) struct Got {
    pub(super) read: Read,
    /// Bytes taken out of the pipe.
    pub(super) bytes: usize,
    /// Lines lost because there was no room to keep them.
    pub(super) lost: u64,
    /// To be called once what was read is written.
    pub(super) drained: Vec<Done>,
}

/// What to do with what was read.
pub(super) enum Read {
    /// Write this part of the buffer.
    Straight { from: usize, to: usize },
    /// Write this, which has lines of our own in it.
    Woven(Vec<u8>),
    /// It is in the backlog.
    Kept,
    /// Nothing was read: the backlog must be written first.
    Behind,
    /// The pipe is empty.
    Nothing,
    /// The pipe has no writers any more.
    End,
}

impl Intake {
    pub(super) fn new(limit: u64, voice: Option<Voice>) -> Intake {
        Intake {
            backlog: Backlog::new(limit),
            voice,
            wish: Wish::default(),
            own: Vec::new(),
            own_since: Instant::now(),
            drains: Vec::new(),
        }
    }

    /// Reads once. `keep`: the file cannot be written now, so what is read goes into the backlog.
    pub(super) fn read(&mut self, pipe: &OwnedFd, buffer: &mut [u8], keep: bool) -> Got {
        let nothing = |read| Got { read, bytes: 0, lost: 0, drained: Vec::new() };
        if !keep && !self.backlog.is_clear() {
            return nothing(Read::Behind);
        }
        let bytes = match nix::unistd::read(pipe, buffer) {
            Ok(0) => return nothing(Read::End),
            Ok(count) => count,
            // Interrupted, or nothing there: what is there later wakes the lane again.
            Err(_) => return nothing(Read::Nothing),
        };
        if let Some(voice) = &mut self.voice {
            voice.say(&buffer[..bytes]);
        }
        let drained = self.took(bytes);
        let fresh = self.backlog.skip(&buffer[..bytes]);
        let from = bytes - fresh.len();
        let woven = self.weave(fresh);
        let lost = if keep { self.backlog.accept(woven.as_deref().unwrap_or(fresh)) } else { 0 };
        if !keep {
            self.backlog.pass(woven.as_ref().map_or(fresh.len(), Vec::len));
        }
        let read = match woven {
            _ if keep => Read::Kept,
            Some(woven) => Read::Woven(woven),
            None => Read::Straight { from, to: bytes },
        };
        Got { read, bytes, lost, drained }
    }

    /// Puts lines of our own behind the last whole line, if there are any.
    fn weave(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.own.is_empty() {
            return None;
        }
        let end = memrchr(b'\n', bytes)? + 1;
        let own = std::mem::take(&mut self.own);
        Some([&bytes[..end], &own, &bytes[end..]].concat())
    }

    /// Nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.backlog.is_clear() && self.own.is_empty()
    }

    /// Calls `done` after so many more bytes, or when the pipe is empty.
    pub(super) fn drain(&mut self, left: usize, done: Done) {
        self.drains.push(Drain { left, done });
    }

    /// Counts what was read toward the drains; returns those that are done with it.
    fn took(&mut self, bytes: usize) -> Vec<Done> {
        let mut done = Vec::new();
        for mut drain in std::mem::take(&mut self.drains) {
            drain.left = drain.left.saturating_sub(bytes);
            if drain.left == 0 {
                done.push(drain.done);
            } else {
                self.drains.push(drain);
            }
        }
        done
    }

    /// The pipe is empty: all drains are done.
    pub(super) fn drained(&mut self) -> Vec<Done> {
        if !self.drains.is_empty() {
            self.end_line();
        }
        self.drains.drain(..).map(|drain| drain.done).collect()
    }

    /// The service ended: what it left on the console without a line's end gets one.
    pub(super) fn end_line(&mut self) {
        if let Some(voice) = &mut self.voice {
            voice.end_line();
        }
    }

    /// Adds a line of our own; returns how many are lost because too many wait.
    pub(super) fn line(&mut self, text: &str) -> u64 {
        if LINE_MAX < self.own.len() + text.len() {
            return 1;
        }
        if self.own.is_empty() {
            self.own_since = Instant::now();
        }
        self.own.extend_from_slice(b"keepup: ");
        self.own.extend(text.bytes().map(|it| if it == b'\n' { b' ' } else { it }));
        self.own.push(b'\n');
        0
    }

    pub(super) fn has_own_lines(&self) -> bool {
        !self.own.is_empty()
    }

    /// Takes the lines of our own that are due now that the pipe is empty: at a line's start, or
    /// when nobody will end the line that stands there.
    pub(super) fn own_lines(&mut self, file_at_line_start: bool, ended: bool) -> Vec<u8> {
        let held = self.backlog.held().last();
        let at_line_start = held.map_or(file_at_line_start, |last| *last == b'\n');
        if self.own.is_empty() || !at_line_start && !ended && !self.is_impatient() {
            return Vec::new();
        }
        let mut own = std::mem::take(&mut self.own);
        if !at_line_start {
            own.insert(0, b'\n');
        }
        own
    }

    fn is_impatient(&self) -> bool {
        PATIENCE <= self.own_since.elapsed()
    }

    /// keepup ends: lines of our own wait no longer.
    pub(super) fn hurry(&mut self) {
        self.own_since = self.own_since.checked_sub(PATIENCE).unwrap_or(self.own_since);
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}
