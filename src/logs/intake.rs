//! What is on its way from a service's pipe to its file; shared by the lane and its rescuer.
//!
//! Whoever reads the pipe does so under this lock, and lets go of it before any disk is touched:
//! so bytes stay in order, whoever reads them, and nobody waits for a disk to get this lock.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memchr::memrchr;
use nix::fcntl::{FcntlArg, fcntl};

use super::backlog::{Backlog, LINE_MAX};
use super::console::Voice;
use super::errors::Finder;
use super::file::Bounds;
use super::form::Form;

/// How long a line of ours waits for the service to end its own.
const PATIENCE: Duration = Duration::from_secs(1);

/// A pipe that was found full is made so large: its writer then waits less often, and writes to
/// the file can be large. Any user may have this much.
///
/// Source: pipe(7), `/proc/sys/fs/pipe-max-size`.
const PIPE_MAX: usize = 1 << 20;
/// So many pipes may grow: they hold memory of the kernel that nobody else gets.
const GROWN_MAX: usize = 32;
static GROWN: AtomicUsize = AtomicUsize::new(0);

/// What a line of our own begins with, where nothing else says that it is ours.
const OWN: &[u8] = b"keepup: ";

/// Called once when what a drain waits for is done.
pub(super) type Done = Box<dyn FnOnce() + Send>;

pub(super) struct Intake {
    pub(super) backlog: Backlog,
    /// One for each pipe.
    pub(super) voices: Vec<Voice>,
    /// Absent: bytes stay as they are.
    pub(super) form: Option<Form>,
    /// Absent: nobody asks for errors.
    pub(super) finder: Option<Finder>,
    /// keepup ends: what began comes to no end.
    ending: bool,
    pub(super) wish: Wish,
    /// What the pipe can hold, as long as it may grow.
    capacity: Option<usize>,
    /// Lines of keepup's own that wait for a line's end, and since when.
    own: Vec<u8>,
    own_since: Instant,
    drains: Vec<Drain>,
}

/// What is to be done to the file, when that next can be.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) reopen: bool,
    pub(super) bounds: Option<Bounds>,
}

struct Drain {
    /// What was in the pipe when it was asked for, at most.
    left: usize,
    /// All pipes were found empty, or will have been, since it was asked for.
    looked: bool,
    done: Done,
}

/// Whether a pipe is the first that may be found empty, or one after others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    First,
    Further,
}

/// What a read brought.
pub(super) struct Got {
    pub(super) read: Read,
    /// Bytes taken out of the pipe.
    pub(super) bytes: usize,
    /// The pipe was empty after this, and nobody waits for that.
    pub(super) emptied: bool,
    /// Lines lost because there was no room to keep them.
    pub(super) lost: u64,
    /// Lines that show an error.
    pub(super) errors: u64,
    /// To be called once what was read is written.
    pub(super) drained: Vec<Done>,
}

/// What to do with what was read.
pub(super) enum Read {
    /// Write this part of the buffer.
    Straight { from: usize, to: usize },
    /// Write what was added to `out`, which has lines of our own in it.
    Woven,
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
    pub(super) fn new(
        limit: u64,
        form: Option<Form>,
        voices: Vec<Voice>,
        capacity: usize,
    ) -> Intake {
        Intake {
            capacity: Some(capacity),
            backlog: Backlog::new(limit),
            voices,
            form,
            finder: None,
            ending: false,
            wish: Wish::default(),
            own: Vec::new(),
            own_since: Instant::now(),
            drains: Vec::new(),
        }
    }

    /// Reads once from the pipe of this number; `out` is empty. `keep`: the file cannot be written now, so what is
    /// read goes into the backlog.
    pub(super) fn read(
        &mut self,
        (pipe, number, look): (&OwnedFd, usize, Look),
        buffer: &mut [u8],
        out: &mut Vec<u8>,
        keep: bool,
    ) -> Got {
        let nothing = |read| {
            let (lost, errors, drained) = (0, 0, Vec::new());
            Got { read, bytes: 0, emptied: false, lost, errors, drained }
        };
        if !keep && !self.backlog.is_clear() {
            return nothing(Read::Behind);
        }
        let bytes = match nix::unistd::read(pipe, buffer) {
            Ok(0) => {
                self.saw_nothing(look);
                return nothing(Read::End);
            }
            Ok(count) => count,
            // Interrupted, or nothing there: what is there later wakes the lane again.
            Err(_) => {
                self.saw_nothing(look);
                return nothing(Read::Nothing);
            }
        };
        if self.capacity.is_some_and(|it| it <= bytes) {
            self.grow(pipe);
        }
        if let Some(voice) = self.voices.get_mut(number) {
            voice.say(&buffer[..bytes]);
        }
        let finder = self.finder.as_mut();
        let errors = finder.map_or(0, |it| it.take(number, &buffer[..bytes]));
        let drained = self.took(bytes);
        let awaited = !self.drains.is_empty() || !self.own.is_empty() || self.ending;
        let emptied = bytes < buffer.len() && !awaited;
        if let Some(form) = &mut self.form {
            form.take(number, &buffer[..bytes], out);
            out.append(&mut self.own);
            let lost = if keep { self.backlog.accept(out) } else { 0 };
            if !keep {
                self.backlog.pass(out.len());
            }
            let read = if keep { Read::Kept } else { Read::Woven };
            return Got { read, bytes, emptied, lost, errors, drained };
        }
        let fresh = self.backlog.skip(&buffer[..bytes]);
        let from = bytes - fresh.len();
        let woven = self.weave(fresh, out);
        let all = if woven { &out[..] } else { fresh };
        let lost = if keep { self.backlog.accept(all) } else { 0 };
        if !keep {
            self.backlog.pass(all.len());
        }
        let read = match woven {
            _ if keep => Read::Kept,
            true => Read::Woven,
            false => Read::Straight { from, to: bytes },
        };
        Got { read, bytes, emptied, lost, errors, drained }
    }

    /// What is asked for from now on is not answered by this look: more may have come until then.
    fn saw_nothing(&mut self, look: Look) {
        match look {
            Look::First => self.drains.iter_mut().for_each(|it| it.looked = true),
            Look::Further => {}
        }
    }

    /// Makes the pipe larger, once, if that is allowed.
    fn grow(&mut self, pipe: &OwnedFd) {
        self.capacity = None;
        if GROWN.fetch_add(1, Ordering::Relaxed) < GROWN_MAX {
            let size = i32::try_from(PIPE_MAX).unwrap_or(i32::MAX);
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size));
        }
    }

    /// Puts lines of our own behind the last whole line, if there are any.
    fn weave(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let end = memrchr(b'\n', bytes).filter(|_| !self.own.is_empty());
        let Some(end) = end else { return false };
        out.extend_from_slice(&bytes[..=end]);
        out.append(&mut self.own);
        out.extend_from_slice(&bytes[end + 1..]);
        true
    }

    /// Nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        let begun = self.form.as_ref().is_some_and(Form::has_begun);
        self.backlog.is_clear() && self.own.is_empty() && !begun
    }

    /// Calls `done` after so many more bytes, or when the pipe is empty.
    pub(super) fn drain(&mut self, left: usize, done: Done) {
        self.drains.push(Drain { left, looked: false, done });
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

    /// All pipes were found empty: drains that were asked for before that are done. And how many
    /// lines that come to no end show an error.
    pub(super) fn drained(&mut self) -> (Vec<Done>, u64) {
        let (done, waiting): (Vec<Drain>, Vec<Drain>) =
            std::mem::take(&mut self.drains).into_iter().partition(|it| it.looked);
        self.drains = waiting;
        let mut errors = 0;
        if !done.is_empty() || self.ending {
            errors = self.end_errors();
            self.end_line();
            let rest = self.form.as_mut().map(Form::end).unwrap_or_default();
            self.own.extend_from_slice(&rest);
        }
        (done.into_iter().map(|drain| drain.done).collect(), errors)
    }

    /// The service ended: what it left on the console without a line's end gets one.
    pub(super) fn end_line(&mut self) {
        for voice in &mut self.voices {
            voice.end_line();
        }
    }

    /// The service ended: how many lines that it did not come to the end of show an error.
    pub(super) fn end_errors(&mut self) -> u64 {
        self.finder.as_mut().map_or(0, Finder::end)
    }

    /// Adds a line of our own; returns how many are lost because too many wait.
    pub(super) fn line(&mut self, text: &str) -> u64 {
        if LINE_MAX < self.own.len() + text.len() {
            return 1;
        }
        if self.own.is_empty() {
            self.own_since = Instant::now();
        }
        let text: Vec<u8> = text.bytes().map(|it| if it == b'\n' { b' ' } else { it }).collect();
        let line = match &self.form {
            Some(form) => form.own(&text),
            None => [OWN, &text, b"\n"].concat(),
        };
        self.own.extend_from_slice(&line);
        0
    }

    /// As [`Backlog::close_gap`], in the form of the log.
    pub(super) fn close_gap(&mut self, at_line_start: bool, why: &str) -> Option<u64> {
        let closed = self.backlog.close_gap(at_line_start, why)?;
        if let Some(form) = &self.form {
            let mark = self.backlog.held().trim_ascii();
            let text = mark.strip_prefix(OWN).unwrap_or(mark);
            let line = form.own(text);
            self.backlog.replace(&line);
        }
        Some(closed)
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
        self.ending = true;
        self.own_since = self.own_since.checked_sub(PATIENCE).unwrap_or(self.own_since);
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    use super::*;

    struct World {
        intake: Intake,
        read_end: OwnedFd,
        write_end: OwnedFd,
        buffer: [u8; 16],
        out: Vec<u8>,
        done: Arc<AtomicUsize>,
    }

    impl World {
        fn new() -> World {
            let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
            let intake = Intake::new(100, None, Vec::new(), 1 << 16);
            let (buffer, out, done) = ([0; 16], Vec::new(), Arc::default());
            World { intake, read_end, write_end, buffer, out, done }
        }

        fn write(&self, bytes: &[u8]) {
            assert_eq!(write(&self.write_end, bytes), Ok(bytes.len()));
        }

        fn read(&mut self, keep: bool) -> Got {
            let pipe = (&self.read_end, 0, Look::First);
            self.out.clear();
            self.intake.read(pipe, &mut self.buffer, &mut self.out, keep)
        }

        fn drain(&mut self, left: usize) {
            let done = Arc::clone(&self.done);
            let count = move || {
                done.fetch_add(1, Ordering::Relaxed);
            };
            self.intake.drain(left, Box::new(count));
        }
    }

    #[test]
    fn nothing_is_read_past_what_waits() {
        let mut world = World::new();
        world.write(b"first\n");
        assert!(matches!(world.read(true).read, Read::Kept));
        world.write(b"second\n");
        assert!(matches!(world.read(false).read, Read::Behind));
        world.intake.backlog.take();
        assert!(matches!(world.read(false).read, Read::Behind), "also while it is being written");
        world.intake.backlog.written();
        assert!(matches!(world.read(false).read, Read::Straight { from: 0, to: 7 }));
    }

    #[test]
    fn a_drain_is_done_after_what_was_in_the_pipe_when_it_was_asked_for() {
        let mut world = World::new();
        world.drain(20);
        world.write(&[b'x'; 40]);
        let first = world.read(true);
        assert!(first.drained.is_empty() && !first.emptied);
        let second = world.read(true);
        assert_eq!(second.drained.len(), 1);
        assert!(!second.emptied, "there is more");
        assert!(world.read(true).emptied);
    }

    #[test]
    fn a_short_read_does_not_end_the_look_while_somebody_waits_for_an_empty_pipe() {
        let mut world = World::new();
        world.drain(20);
        world.write(b"short\n");
        assert!(!world.read(true).emptied);
        assert!(matches!(world.read(true).read, Read::Nothing));
        for done in world.intake.drained().0 {
            done();
        }
        assert_eq!(world.done.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_empty_pipe_is_no_answer_to_who_asks_after_the_look() {
        let mut world = World::new();
        assert!(matches!(world.read(true).read, Read::Nothing));
        world.write(b"last words");
        world.drain(20);
        assert!(world.intake.drained().0.is_empty());
        assert_eq!(world.read(true).bytes, 10);
        assert!(matches!(world.read(true).read, Read::Nothing));
        assert_eq!(world.intake.drained().0.len(), 1);
    }

    #[test]
    fn our_lines_stand_behind_the_last_whole_line_of_what_was_read() {
        let mut world = World::new();
        world.intake.line("ours");
        world.write(b"half");
        assert!(matches!(world.read(false).read, Read::Straight { .. }));
        world.intake.backlog.written();
        world.write(b" line\nnext");
        assert!(matches!(world.read(false).read, Read::Woven));
        assert_eq!(world.out, b" line\nkeepup: ours\nnext");
    }

    #[test]
    fn too_many_lines_of_our_own_are_counted() {
        let mut world = World::new();
        let lost: u64 = (0..10_000).map(|_| world.intake.line("a line of ours")).sum();
        assert!((5_000..10_000).contains(&lost), "{lost}");
    }
}
