//! The log thread of one file system: reads the pipes of many services, writes their files.
//!
//! Where one disk hangs, its lane hangs with it, and no other; then the watch reads the pipes of
//! its services, so that they never wait.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::rhythm::GATHER;
use super::stream::{After, PIPES_MAX, RETRY, Stream};
use super::{Shared, lock};
use crate::core::event::Short;

/// A disk that takes longer for one write or rotation hangs. One that is merely slow slows its
/// writers down, as without us; most do not fill their pipe in this time.
const STALL: Duration = Duration::from_secs(2);
/// Read at once, and written at once; fits a core's cache.
pub(super) const BUFFER: usize = 256 << 10;
/// How long small pieces gather: no longer than a pipe of 64 KiB takes at some hundred MiB/s.
const NAP: Duration = Duration::from_micros(200);
/// Bytes in a turn that are not worth waking for, when more follow at once.
const LITTLE: u64 = 16 << 10;
/// The key of the lane's own event; streams count from 0.
const WAKE: u64 = u64::MAX;

/// What the thread, its callers and the watch share.
#[derive(Debug)]
pub(super) struct Lane {
    epoll: Epoll,
    wake: EventFd,
    timer: TimerFd,
    pace: Mutex<Pace>,
    streams: Mutex<HashMap<u64, Arc<Stream>>>,
    marked: Mutex<Vec<Arc<Stream>>>,
    finishing: AtomicBool,
}

/// How the thread gets on.
#[derive(Debug, Default)]
struct Pace {
    /// When the disk last answered, in the turn that is under way.
    since: Option<Instant>,
    /// It hangs: the watch reads in the thread's stead.
    stuck: bool,
    /// The watch has read in this turn.
    helped: bool,
    /// The timer will fire.
    armed: bool,
    /// The thread's own id.
    thread: i32,
}

impl Lane {
    pub(super) fn new() -> io::Result<Lane> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Lane {
            epoll,
            wake,
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            pace: Mutex::default(),
            streams: Mutex::default(),
            marked: Mutex::default(),
            finishing: AtomicBool::new(false),
        })
    }

    /// Serves this stream from now on; its file is opened at once.
    pub(super) fn adopt(&self, stream: &Arc<Stream>) -> io::Result<()> {
        stream.held.store(false, Ordering::Relaxed);
        stream.set_gathers(None);
        for (key, pipe) in stream.open_pipes() {
            lock(&self.streams).insert(key, Arc::clone(stream));
            if let Err(errno) = self.epoll.add(pipe, EpollEvent::new(EpollFlags::EPOLLIN, key)) {
                self.forget(stream);
                return Err(errno.into());
            }
        }
        self.mark(stream);
        Ok(())
    }

    /// Serves this stream no longer.
    pub(super) fn forget(&self, stream: &Stream) {
        for (_, pipe) in stream.open_pipes() {
            let _ = self.epoll.delete(pipe);
        }
        let keys = stream.key..stream.key + PIPES_MAX;
        lock(&self.streams).retain(|key, _| !keys.contains(key));
    }

    /// Does not wait for the pipes of a stream that is held, which are ready all the time.
    fn hold(&self, stream: &Stream, held: bool) {
        if stream.held.swap(held, Ordering::Relaxed) == held {
            return;
        }
        for (key, pipe) in stream.open_pipes() {
            let _ = if held {
                self.epoll.delete(pipe)
            } else {
                self.epoll.add(pipe, EpollEvent::new(EpollFlags::EPOLLIN, key))
            };
        }
    }

    /// Does not wait for this pipe of the stream, which is looked at soon enough; waits for one that
    /// this was so for.
    fn gather(&self, stream: &Stream, pipe: Option<usize>) {
        if stream.gathers() != pipe {
            // While the thread hangs, nobody would look.
            let pace = lock(&self.pace);
            self.set_gathers(stream, pipe.filter(|_| !pace.stuck));
        }
    }

    fn set_gathers(&self, stream: &Stream, pipe: Option<usize>) {
        let key_of = |it: usize| stream.key + it as u64;
        let (before, now) = (stream.gathers().map(key_of), pipe.map(key_of));
        stream.set_gathers(pipe);
        for (key, end) in stream.open_pipes().filter(|_| before != now) {
            if Some(key) == before {
                let _ = self.epoll.add(end, EpollEvent::new(EpollFlags::EPOLLIN, key));
            } else if Some(key) == now {
                let _ = self.epoll.delete(end);
            }
        }
    }

    /// A pipe that ended is ready for ever: it is not waited for any more.
    fn follow(&self, stream: &Stream, after: After) {
        for pipe in stream.ended_pipes() {
            let _ = self.epoll.delete(pipe);
        }
        self.hold(stream, after == After::Held);
        match after {
            After::Rest | After::Gather(_) | After::Again | After::Held | After::Ending => {}
            After::Gone => self.forget(stream),
        }
    }

    /// Has the thread look at this stream.
    pub(super) fn mark(&self, stream: &Arc<Stream>) {
        lock(&self.marked).push(Arc::clone(stream));
        let _ = self.wake.write(1);
    }

    /// The stream whose pipe of this key is ready.
    fn ready(&self, key: u64) -> Option<Arc<Stream>> {
        let stream = lock(&self.streams).get(&key).cloned()?;
        stream.is_ready(key);
        Some(stream)
    }

    /// Writes what there is, then ends the thread.
    pub(super) fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        let _ = self.wake.write(1);
    }

    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        let streams = lock(&self.streams);
        // Each under its first key alone, or the one that is left.
        let mut all: Vec<Arc<Stream>> = streams.values().cloned().collect();
        all.sort_by_key(|it| it.key);
        all.dedup_by_key(|it| it.key);
        all
    }

    /// Fires when a turn takes too long.
    pub(super) fn timer(&self) -> &TimerFd {
        &self.timer
    }

    /// Ready when one of the pipes is.
    pub(super) fn pipes(&self) -> &Epoll {
        &self.epoll
    }

    fn begin_turn(&self) {
        let mut pace = lock(&self.pace);
        pace.since = Some(Instant::now());
        self.arm(&mut pace, STALL);
    }

    /// Once armed, the timer is left to fire: cheaper than setting it for each turn.
    fn arm(&self, pace: &mut Pace, delay: Duration) {
        if !std::mem::replace(&mut pace.armed, true) {
            let after = Expiration::OneShot(TimeSpec::from_duration(delay));
            let _ = self.timer.set(after, TimerSetTimeFlags::empty());
        }
    }

    /// The thread got on: its disk answered.
    pub(super) fn progress(&self) {
        let mut pace = lock(&self.pace);
        pace.since = Some(Instant::now());
        pace.stuck = false;
        self.arm(&mut pace, STALL);
    }

    /// Returns what the watch may have looked at for us: everything, or nothing.
    fn end_turn(&self) -> Vec<Arc<Stream>> {
        let mut pace = lock(&self.pace);
        (pace.since, pace.stuck) = (None, false);
        let helped = std::mem::take(&mut pace.helped);
        drop(pace);
        if helped { self.all() } else { Vec::new() }
    }

    /// Says whether the thread hangs; then it is to be helped with [`Lane::rescue`].
    pub(super) fn is_stuck(&self) -> bool {
        let _ = self.timer.wait();
        let mut pace = lock(&self.pace);
        pace.armed = false;
        let Some(since) = pace.since else { return false };
        let left = STALL.saturating_sub(since.elapsed());
        if !left.is_zero() {
            self.arm(&mut pace, left);
            return false;
        }
        // A thread that could run waits for a processor, not for a disk.
        if is_runnable(pace.thread) {
            self.arm(&mut pace, STALL);
            return false;
        }
        (pace.stuck, pace.helped) = (true, true);
        for stream in self.all() {
            self.set_gathers(&stream, None);
        }
        true
    }

    /// Reads the pipes that are ready, in the thread's stead; says whether it still hangs.
    pub(super) fn rescue(&self, buffer: &mut [u8]) -> bool {
        // Held to the end, so that the thread looks at every stream after us, and not before.
        let pace = lock(&self.pace);
        if !pace.stuck {
            return false;
        }
        let mut events = [EpollEvent::empty(); 32];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let mut ready = Vec::new();
        for event in &events[..count] {
            if event.data() == WAKE {
                let _ = self.wake.read();
                ready.append(&mut lock(&self.marked));
            } else {
                ready.extend(self.ready(event.data()));
            }
        }
        let why = format!("the disk has not answered for {}", Short(STALL));
        for stream in ready {
            self.follow(&stream, stream.rescue(buffer, &why));
        }
        true
    }
}

/// Where the thread works on what it reads.
pub(super) struct Space {
    /// What was read.
    pub(super) read: Vec<u8>,
    /// What is made of it, where it does not stay as it is.
    pub(super) out: Vec<u8>,
}

/// The thread.
pub(super) struct Work {
    lane: Arc<Lane>,
    space: Space,
    /// Streams to look at again, and when.
    again: HashMap<u64, Arc<Stream>>,
    again_at: Option<Instant>,
    /// Streams whose lines gather, and until when.
    gathering: HashMap<u64, Arc<Stream>>,
    gather_at: Option<Instant>,
    /// The last turn came at once, and brought little.
    brisk: bool,
    /// Bytes that this turn brought.
    taken: u64,
}

impl Work {
    /// Serves the streams of this lane, unless the folder's file system has a lane already, which
    /// then gets them.
    pub(super) fn run(lane: Arc<Lane>, shared: &Shared, folder: &Path) {
        lock(&lane.pace).thread = nix::unistd::gettid().as_raw();
        lane.begin_turn();
        let disk = disk_of(folder);
        let ours = shared.claim(disk, &lane);
        let ready = lane.end_turn();
        if ours {
            let space = Space { read: vec![0; BUFFER], out: Vec::new() };
            let work = Work {
                lane,
                space,
                again: HashMap::new(),
                again_at: None,
                gathering: HashMap::new(),
                gather_at: None,
                brisk: false,
                taken: 0,
            };
            work.turns(ready);
        }
    }

    fn turns(mut self, mut ready: Vec<Arc<Stream>>) {
        while !self.lane.finishing.load(Ordering::Acquire) {
            if ready.is_empty() {
                self.nap();
                let start = Instant::now();
                self.wait(&mut ready);
                self.brisk = start.elapsed() < NAP;
            }
            self.lane.begin_turn();
            // Kept while much comes, which is when it would be costly to make.
            if self.taken < LITTLE {
                self.space.out = Vec::new();
            }
            self.taken = 0;
            for stream in std::mem::take(&mut ready) {
                self.look(&stream);
            }
            ready = self.lane.end_turn();
        }
        self.lane.begin_turn();
        for stream in self.lane.all() {
            stream.finish(&self.lane, &mut self.space);
        }
        // Streams and lanes know each other; this lets go of both, and of their descriptors.
        lock(&self.lane.streams).clear();
        lock(&self.lane.marked).clear();
        let _ = self.lane.end_turn();
    }

    /// Lets small pieces gather that come one after the other, so that neither we nor their writers
    /// pay for each of them; whoever calls for us wakes us.
    fn nap(&self) {
        if self.brisk && self.taken < LITTLE {
            let mut calls = [PollFd::new(self.lane.wake.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut calls, Some(TimeSpec::from_duration(NAP)), None);
        }
    }

    /// Waits for what is to be looked at.
    fn wait(&mut self, ready: &mut Vec<Arc<Stream>>) {
        let due = [self.again_at, self.gather_at].into_iter().flatten().min();
        let timeout = due.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: waking a little too early would mean turning until it is time.
            EpollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(EpollTimeout::ZERO)
        });
        let mut events = [EpollEvent::empty(); 64];
        // Interrupted is as good as nothing.
        let count = self.lane.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            if event.data() == WAKE {
                let _ = self.lane.wake.read();
                ready.append(&mut lock(&self.lane.marked));
            } else {
                ready.extend(self.lane.ready(event.data()));
            }
        }
        if self.again_at.is_some_and(|at| at <= Instant::now()) {
            self.again_at = None;
            ready.extend(self.again.drain().map(|it| it.1));
        }
        if self.gather_at.is_some_and(|at| at <= Instant::now()) {
            self.gather_at = None;
            ready.extend(self.gathering.drain().map(|it| it.1));
        }
    }

    fn look(&mut self, stream: &Arc<Stream>) {
        let before = stream.bytes();
        let after = stream.pump(&self.lane, &mut self.space);
        self.taken += stream.bytes() - before;
        // While pieces gather, nobody knows which of them came first.
        self.brisk &= !stream.is_ordered();
        let gathers = match after {
            After::Gather(pipe) => Some(pipe),
            After::Rest | After::Again | After::Held | After::Ending | After::Gone => None,
        };
        self.lane.gather(stream, gathers);
        self.lane.follow(stream, after);
        match after {
            After::Rest | After::Gone => {}
            After::Gather(_) => {
                self.gathering.insert(stream.key, Arc::clone(stream));
                self.gather_at.get_or_insert_with(|| Instant::now() + GATHER);
            }
            After::Again | After::Held | After::Ending => {
                self.again.insert(stream.key, Arc::clone(stream));
                self.again_at.get_or_insert_with(|| Instant::now() + RETRY);
            }
        }
    }
}

/// The file system that the folder is on; made, where it is missing. Can hang as a disk can.
fn disk_of(folder: &Path) -> u64 {
    let _ = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    folder.ancestors().find_map(|it| std::fs::metadata(it).ok()).map_or(0, |it| it.dev())
}

/// Says whether a thread of ours runs or could run.
fn is_runnable(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    // The name before the state may hold anything, parentheses too.
    stat.is_ok_and(|it| it.rsplit_once(") ").is_some_and(|it| it.1.starts_with('R')))
}
