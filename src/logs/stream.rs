//! One service's output: its pipe, what of it is not written yet, and its file.
//!
//! The pipe lives over all of the service's runs. It is read even when the file cannot be written,
//! so that the service never waits for a disk; and nothing of it is lost without being counted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::console::Voice;
use super::errors::{Finder, Tally};
use super::file::{Bounds, LogFile, Names};
use super::form::Form;
use super::intake::{Done, Got, Intake, Look, Read};
use super::lane::{BUFFER, Lane, Space};
use super::pack::Packer;
use super::rhythm::Rhythm;
use super::trouble::{Troubles, Work};
use super::{lock, plan};
use crate::plan::Overflow;

/// How long after a failure writing is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(500);
/// Bytes read of one service before the others have their turn; as much as the largest pipe holds.
const TURN: usize = 1 << 20;

/// Pipes of one service, at most; the keys of streams are so far apart.
pub(super) const PIPES_MAX: u64 = 2;
/// Nobody said which pipe was ready first.
const ANY: usize = usize::MAX;

/// A service's output.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: u64,
    /// One for both streams, or stdout's and stderr's.
    pipes: Vec<Pipe>,
    /// The pipe that was ready first since the last look.
    first: AtomicUsize,
    /// Empty once the service is no longer ours: the pipes then end with their last writers.
    service_ends: Mutex<Vec<OwnedFd>>,
    intake: Mutex<Intake>,
    /// For the lane alone, which holds it as long as the disk lets it.
    sink: Mutex<Sink>,
    lane: Mutex<Arc<Lane>>,
    troubles: Arc<Troubles>,
    bytes: AtomicU64,
    tally: Arc<Tally>,
    error_lines: AtomicU64,
    run: AtomicU64,
    /// Nothing is to be lost: the service is held up instead.
    blocks: AtomicBool,
    /// Its pipes are not waited for.
    pub(super) held: AtomicBool,
    /// The pipe whose lines gather: it is looked at when it is time, and not waited for.
    gathers: AtomicUsize,
}

/// One of a service's pipes.
#[derive(Debug)]
struct Pipe {
    read_end: OwnedFd,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Sink {
    file: LogFile,
    /// The last write failed; the next is tried at this time.
    retry_at: Option<Instant>,
    rhythm: Rhythm,
}

/// What is to follow a look at a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing, until there is more to read.
    Rest,
    /// As long as lines come out of this pipe, looks from time to time, which nobody else asks for.
    Gather(usize),
    /// Another look, after [`RETRY`].
    Again,
    /// Another look; its pipes are not read until then, so that the service waits.
    Held,
    /// Another look, but there is nothing to read any more.
    Ending,
    /// It ended.
    Gone,
}

impl Stream {
    /// Makes the pipe; nothing on a disk is touched.
    pub(super) fn new(
        key: u64,
        plan: &plan::Logs,
        owner: Option<(u32, u32)>,
        voice: Option<Voice>,
        lane: Arc<Lane>,
        (troubles, packer, tally): (Arc<Troubles>, Packer, Arc<Tally>),
    ) -> io::Result<Stream> {
        let form = Form::of(plan.format, troubles.service());
        let count = if form.is_some() { 2 } else { 1 };
        let (mut pipes, mut service_ends) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (read_end, service_end) = make_pipe(owner)?;
            pipes.push(Pipe { read_end, ended: AtomicBool::new(false) });
            service_ends.push(service_end);
        }
        let capacity = capacity(&pipes[0].read_end);
        let mut intake = Intake::new(limit(plan), form, voices(voice, count), capacity);
        intake.finder = Finder::of(plan, count);
        let names = Names::of(Arc::clone(&troubles));
        let file = LogFile::new(plan.file.clone(), Bounds::of(plan), packer, names);
        let sink = Sink { file, retry_at: None, rhythm: Rhythm::new(Instant::now()) };
        Ok(Stream {
            key,
            pipes,
            first: AtomicUsize::new(ANY),
            service_ends: Mutex::new(service_ends),
            intake: Mutex::new(intake),
            sink: Mutex::new(sink),
            lane: Mutex::new(lane),
            troubles,
            bytes: AtomicU64::new(0),
            tally,
            error_lines: AtomicU64::new(0),
            run: AtomicU64::new(0),
            blocks: AtomicBool::new(plan.overflow == Overflow::Block),
            held: AtomicBool::new(false),
            gathers: AtomicUsize::new(ANY),
        })
    }

    /// The pipes that have not ended, each with its key.
    pub(super) fn open_pipes(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        let open = self.pipes.iter().zip(self.key..);
        let open = open.filter(|it| !it.0.ended.load(Ordering::Relaxed));
        open.map(|(pipe, key)| (key, pipe.read_end.as_fd()))
    }

    /// Pipes that have ended, which are ready for ever.
    pub(super) fn ended_pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ended = self.pipes.iter().filter(|it| it.ended.load(Ordering::Relaxed));
        ended.map(|it| it.read_end.as_fd())
    }

    /// The pipe of this key is ready; the first one that is said to be is read first.
    pub(super) fn is_ready(&self, key: u64) {
        let number = usize::try_from(key - self.key).unwrap_or(0);
        let relaxed = Ordering::Relaxed;
        let _ = self.first.compare_exchange(ANY, number, relaxed, relaxed);
    }

    /// The order in which its pipes are ready tells something.
    pub(super) fn is_ordered(&self) -> bool {
        self.pipes.len() > 1
    }

    /// The pipe whose lines gather.
    pub(super) fn gathers(&self) -> Option<usize> {
        Some(self.gathers.load(Ordering::Relaxed)).filter(|it| *it != ANY)
    }

    /// Has the lines of this pipe gather, or those of none; for its lane, which waits for it or not.
    pub(super) fn set_gathers(&self, pipe: Option<usize>) {
        self.gathers.store(pipe.unwrap_or(ANY), Ordering::Relaxed);
    }

    pub(super) fn writer(&self) -> io::Result<OwnedFd> {
        match lock(&self.service_ends).first() {
            Some(end) => end.try_clone(),
            None => Err(io::Error::other("its logs are closed")),
        }
    }

    pub(super) fn begin_run(&self, run: u64) -> io::Result<[OwnedFd; 2]> {
        self.run.store(run, Ordering::Relaxed);
        if let Some(form) = &lock(&self.intake).form {
            form.set_run(run);
        }
        let stdout = self.writer()?;
        let stderr = match lock(&self.service_ends).last() {
            Some(end) => end.try_clone()?,
            None => return Err(io::Error::other("its logs are closed")),
        };
        Ok([stdout, stderr])
    }

    pub(super) fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// Bytes that the service wrote.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lines that show an error.
    pub(super) fn error_lines(&self) -> u64 {
        self.error_lines.load(Ordering::Relaxed)
    }

    /// The last bytes that are not in the file yet.
    pub(super) fn unwritten(&self, count: usize) -> Vec<u8> {
        let intake = lock(&self.intake);
        let held = intake.backlog.held();
        held[held.len().saturating_sub(count)..].to_vec()
    }

    /// Calls `done` when what is in the pipe now has been taken out and, if it can be, written.
    pub(super) fn drain(self: &Arc<Stream>, done: Done) {
        let mut intake = lock(&self.intake);
        if intake.is_quiet() && self.is_empty() {
            intake.end_line();
            let errors = intake.end_errors();
            drop(intake);
            self.erred(errors);
            return done();
        }
        let held = self.pipes.iter().map(|it| capacity(&it.read_end)).sum();
        intake.drain(held, done);
        drop(intake);
        self.mark();
    }

    /// Adds a line of keepup's own.
    pub(super) fn line(self: &Arc<Stream>, text: &str) {
        let lost = lock(&self.intake).line(text);
        self.troubles.lost(lost);
        self.mark();
    }

    pub(super) fn reopen(self: &Arc<Stream>) {
        lock(&self.intake).wish.reopen = true;
        self.mark();
    }

    /// Other limits for the same file; `voice` is asked for when the console is new.
    pub(super) fn adjust(
        self: &Arc<Stream>,
        plan: &plan::Logs,
        voice: impl FnOnce() -> Option<Voice>,
    ) {
        let mut intake = lock(&self.intake);
        intake.backlog.set_limit(limit(plan));
        self.blocks.store(plan.overflow == Overflow::Block, Ordering::Relaxed);
        if plan.console == intake.voices.is_empty() {
            intake.end_line();
            intake.voices = voices(voice(), self.pipes.len());
        }
        intake.finder = Finder::of(plan, self.pipes.len());
        intake.wish.bounds = Some(Bounds::of(plan));
        drop(intake);
        self.mark();
    }

    /// No further run writes here: the stream ends when the last writer is gone.
    pub(super) fn leave(self: &Arc<Stream>) {
        lock(&self.service_ends).clear();
        self.mark();
    }

    /// Has its lane look at it.
    fn mark(self: &Arc<Stream>) {
        lock(&self.lane).mark(self);
    }

    /// Moves to another lane.
    pub(super) fn move_to(self: &Arc<Stream>, to: &Arc<Lane>) -> io::Result<()> {
        let mut lane = lock(&self.lane);
        lane.forget(self);
        *lane = Arc::clone(to);
        lane.adopt(self)
    }

    fn is_empty(&self) -> bool {
        let mut waits: Vec<PollFd<'_>> = Vec::new();
        for pipe in &self.pipes {
            waits.push(PollFd::new(pipe.read_end.as_fd(), PollFlags::POLLIN));
        }
        matches!(poll(&mut waits, PollTimeout::ZERO), Ok(0))
    }

    /// Takes out what is in the pipe and writes it. For the lane's thread alone.
    pub(super) fn pump(&self, lane: &Lane, space: &mut Space) -> After {
        let mut sink = lock(&self.sink);
        self.fulfil(&mut sink);
        let after = self.take_out(lane, space, &mut sink);
        let gathers = sink.rhythm.looked(Instant::now(), self.gathers().is_some());
        match (after, gathers) {
            (After::Rest, Some(pipe)) => After::Gather(pipe),
            (other, _) => other,
        }
    }

    fn take_out(&self, lane: &Lane, space: &mut Space, sink: &mut Sink) -> After {
        let (mut taken, mut idle) = (0, 0);
        // If something is in another pipe, too, that is waited for, and said at once.
        let alone = self.gathers().is_some() && self.first.load(Ordering::Relaxed) == ANY;
        let mut number = self.first_pipe();
        while taken < TURN {
            self.flush(lane, sink);
            lane.progress();
            if sink.retry_at.is_some() && self.blocks.load(Ordering::Relaxed) {
                return After::Held;
            }
            // Large, aligned writes cost the kernel least: it keeps the file in larger folios.
            let aligned = &mut space.read[..BUFFER - sink.file.size_modulo(BUFFER)];
            space.out.clear();
            let look = if idle == 0 { Look::First } else { Look::Further };
            let pipe = (&self.pipes[number].read_end, number, look);
            let keep = sink.retry_at.is_some();
            let got = lock(&self.intake).read(pipe, aligned, &mut space.out, keep);
            taken += self.count(&got);
            sink.rhythm.brought(number, got.bytes);
            match got.read {
                Read::Straight { from, to } => self.put(sink, &space.read[from..to]),
                Read::Woven => self.put(sink, &space.out),
                Read::Kept | Read::Behind => {}
                Read::Nothing | Read::End => {
                    if matches!(got.read, Read::End) {
                        self.pipes[number].ended.store(true, Ordering::Relaxed);
                    }
                    idle += 1;
                    if idle < self.pipes.len() {
                        number = (number + 1) % self.pipes.len();
                        continue;
                    }
                    return self.at_rest(sink);
                }
            }
            call(got.drained);
            idle = if got.emptied { idle + 1 } else { 0 };
            if idle == self.pipes.len() || idle == 1 && alone {
                break;
            }
            if got.emptied {
                number = (number + 1) % self.pipes.len();
            }
        }
        if sink.retry_at.is_some() { After::Again } else { After::Rest }
    }

    fn first_pipe(&self) -> usize {
        let first = self.first.swap(ANY, Ordering::Relaxed);
        // What gathered came before what is said to be there.
        match self.gathers().unwrap_or(first) {
            ANY => 0,
            number => number.min(self.pipes.len() - 1),
        }
    }

    /// All pipes are empty, or have ended.
    fn at_rest(&self, sink: &mut Sink) -> After {
        let after = self.quiet(sink);
        if self.open_pipes().next().is_some() {
            after
        } else if sink.retry_at.is_some() {
            After::Ending
        } else {
            After::Gone
        }
    }

    fn count(&self, got: &Got) -> usize {
        self.bytes.fetch_add(got.bytes as u64, Ordering::Relaxed);
        self.troubles.lost(got.lost);
        self.erred(got.errors);
        got.bytes
    }

    /// So many more lines show an error.
    fn erred(&self, lines: u64) {
        if lines != 0 {
            self.error_lines.fetch_add(lines, Ordering::Relaxed);
            self.tally.add(self.troubles.service(), self.run.load(Ordering::Relaxed), lines);
        }
    }

    /// Does what was asked for since the last look.
    fn fulfil(&self, sink: &mut Sink) {
        let wish = std::mem::take(&mut lock(&self.intake).wish);
        if let Some(bounds) = wish.bounds {
            sink.file.set_bounds(bounds);
        }
        if wish.reopen {
            sink.file.close();
            sink.retry_at = None;
            self.troubles.work(Work::Rotation, None);
        }
    }

    /// Writes what waits, if it is time to try.
    fn flush(&self, lane: &Lane, sink: &mut Sink) {
        if sink.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        if let Err(why) = sink.file.ensure() {
            return self.failed(sink, &why);
        }
        loop {
            let mut intake = lock(&self.intake);
            if intake.backlog.is_clear() {
                break;
            }
            let held = intake.backlog.take();
            if held.is_empty() {
                let why = self.troubles.why();
                let closed = intake.close_gap(sink.file.at_line_start(), &why);
                drop(intake);
                self.troubles.lost(closed.unwrap_or(0));
                continue;
            }
            drop(intake);
            for start in (0..held.len()).step_by(BUFFER) {
                let piece = &held[start..held.len().min(start + BUFFER)];
                if let Err(stopped) = sink.file.write(piece) {
                    return self.refused(sink, &held[start + stopped.written..], &stopped.why);
                }
                lane.progress();
            }
            lock(&self.intake).backlog.written();
        }
        sink.retry_at = None;
        self.troubles.over();
    }

    /// Writes these bytes, before which nothing waits.
    fn put(&self, sink: &mut Sink, bytes: &[u8]) {
        match sink.file.write(bytes) {
            Ok(()) => lock(&self.intake).backlog.written(),
            Err(stopped) => self.refused(sink, &bytes[stopped.written..], &stopped.why),
        }
        self.troubles.work(Work::Rotation, sink.file.rotation_problem());
    }

    /// The pipe is empty: our own lines may be due, and drains are done.
    fn quiet(&self, sink: &mut Sink) -> After {
        let mut intake = lock(&self.intake);
        let (drained, errors) = intake.drained();
        self.erred(errors);
        let own = intake.own_lines(sink.file.at_line_start(), !drained.is_empty());
        let waits = intake.has_own_lines();
        let behind = !intake.backlog.is_clear();
        if own.is_empty() {
            drop(intake);
        } else if intake.backlog.is_clear() && sink.retry_at.is_none() {
            intake.backlog.pass(own.len());
            drop(intake);
            self.put(sink, &own);
        } else {
            let lost = intake.backlog.accept(&own);
            drop(intake);
            self.troubles.lost(lost);
        }
        call(drained);
        let again = waits || behind || sink.retry_at.is_some();
        if again { After::Again } else { After::Rest }
    }

    /// A write failed before this rest.
    fn refused(&self, sink: &mut Sink, rest: &[u8], why: &str) {
        self.failed(sink, why);
        let lost = lock(&self.intake).backlog.refused(rest);
        self.troubles.lost(lost);
    }

    fn failed(&self, sink: &mut Sink, why: &str) {
        self.troubles.failed(why);
        sink.retry_at = Some(Instant::now() + RETRY);
    }

    /// Takes out what is in the pipe while the lane hangs in a call to its disk.
    pub(super) fn rescue(&self, buffer: &mut [u8], why: &str) -> After {
        if self.blocks.load(Ordering::Relaxed) {
            self.troubles.failed(why);
            return After::Held;
        }
        let (mut taken, mut idle, mut number) = (0, 0, self.first_pipe());
        let mut out = Vec::new();
        while taken < TURN && idle < self.pipes.len() {
            let look = if idle == 0 { Look::First } else { Look::Further };
            let pipe = (&self.pipes[number].read_end, number, look);
            out.clear();
            let got = lock(&self.intake).read(pipe, buffer, &mut out, true);
            if got.bytes != 0 {
                self.troubles.failed(why);
            }
            taken += self.count(&got);
            call(got.drained);
            match got.read {
                Read::Straight { .. } | Read::Woven | Read::Kept | Read::Behind => idle = 0,
                Read::Nothing => {
                    (idle, number) = (idle + 1, (number + 1) % self.pipes.len());
                }
                Read::End => {
                    self.pipes[number].ended.store(true, Ordering::Relaxed);
                    (idle, number) = (idle + 1, (number + 1) % self.pipes.len());
                }
            }
        }
        if idle == self.pipes.len() {
            let (drained, errors) = lock(&self.intake).drained();
            self.erred(errors);
            call(drained);
            if self.open_pipes().next().is_none() {
                return After::Ending;
            }
        }
        After::Again
    }

    /// A last look, as keepup ends: what cannot be written now is lost.
    pub(super) fn finish(&self, lane: &Lane, space: &mut Space) {
        lock(&self.intake).hurry();
        // Now everything has to be taken out, to be written or to be counted.
        self.blocks.store(false, Ordering::Relaxed);
        let mut sink = lock(&self.sink);
        sink.retry_at = sink.retry_at.map(|_| Instant::now());
        drop(sink);
        self.pump(lane, space);
        lock(&self.sink).file.close();
        let mut intake = lock(&self.intake);
        intake.end_line();
        let lost = intake.backlog.give_up();
        drop(intake);
        self.troubles.lost(lost);
        self.troubles.end();
    }
}

/// What the pipe can hold.
fn capacity(pipe: &OwnedFd) -> usize {
    let size = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok();
    size.and_then(|it| usize::try_from(it).ok()).unwrap_or(TURN)
}

/// A pipe whose reading end does not block, and its end for a service of this owner.
fn make_pipe(owner: Option<(u32, u32)>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
    if let Some((uid, gid)) = owner {
        // Refused unless we are root; then the service cannot open /dev/stdout anew, no more.
        let _ = fchown(&write_end, Some(uid), Some(gid));
    }
    // Opened anew for reading and writing, the service's end outlives our reading end: a
    // service whose keepup dies gets no SIGPIPE. And O_NONBLOCK stays on our end alone.
    let service_end = reopen_both_ways(write_end.as_fd())?;
    fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read_end, service_end))
}

/// Bytes that may wait in memory. What was taken out for a service that loses nothing all waits; it
/// is no more than one read.
fn limit(plan: &plan::Logs) -> u64 {
    match plan.overflow {
        Overflow::Drop => plan.buffer,
        Overflow::Block => u64::MAX,
    }
}

/// A voice for each pipe.
fn voices(voice: Option<Voice>, pipes: usize) -> Vec<Voice> {
    let Some(voice) = voice else { return Vec::new() };
    let twins: Vec<Voice> = (1..pipes).map(|_| voice.twin()).collect();
    std::iter::once(voice).chain(twins).collect()
}

fn call(drained: Vec<Done>) {
    for done in drained {
        done();
    }
}

fn reopen_both_ways(end: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()) {
        // Without /proc a service whose keepup dies gets SIGPIPE; better than not to start.
        Err(Errno::ENOENT) => end.try_clone_to_owned(),
        other => Ok(other?),
    }
}
