//! What services print, on its way from their pipes into rotated files and onto the console.
//!
//! One thread per file system serves all services whose logs lie there; one more reads for those
//! whose disk hangs. They must never make a service wait, nor lose a line that nobody is told of,
//! and nothing here may be reached by the loop that can hang: only [`Tail::read`] and the writing
//! of [`own`] files touch a disk on their caller's time.
//!
//! In reading order: `backlog`, `rhythm` and `rotate` decide, `file` and `stream` do, `lane` and `watch` are
//! the threads.

mod backlog;
mod console;
mod errors;
mod file;
mod form;
mod gzip;
mod intake;
mod lane;
pub mod own;
mod pack;
mod parts;
mod rhythm;
mod rotate;
mod show;
mod stream;
mod tail;
mod trouble;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::plan::{self, Name};
use errors::Tally;
use lane::{Lane, Work};
use pack::Packer;
use stream::Stream;
use trouble::Troubles;
use watch::Watch;

pub use console::{Console, Style};
pub use errors::pattern;
pub use show::{Ask, Dress, Show, Source};
pub use tail::Tail;
pub use trouble::{Tell, Trouble};

/// The logs of all services. Made once; its threads start when they are needed.
#[derive(Debug)]
pub struct Logs {
    shared: Arc<Shared>,
}

/// What is known about a service's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that the service wrote.
    pub bytes: u64,
    /// Lines that are in no file, and never will be.
    pub lines_lost: u64,
    /// Lines that show an error, of all its runs.
    pub error_lines: u64,
    /// Why its file cannot be written, rotated or compressed now, and for how long.
    pub problem: Option<(String, Duration)>,
}

struct Shared {
    console: Console,
    tell: Tell,
    tally: Arc<Tally>,
    registry: Mutex<Registry>,
    packer: Packer,
}

#[derive(Default)]
struct Registry {
    services: HashMap<Name, Service>,
    /// Those whose pipes could not be made, with what is planned for them.
    missing: HashMap<Name, (plan::Logs, Option<(u32, u32)>)>,
    /// The lane of each folder, and of each file system once it is known.
    folders: HashMap<PathBuf, Arc<Lane>>,
    disks: HashMap<u64, Arc<Lane>>,
    watch: Option<Arc<Watch>>,
    /// Each receives nothing, and fails when its thread has ended.
    ended: Vec<(Arc<Lane>, Receiver<()>)>,
    keys: u64,
}

struct Service {
    plan: plan::Logs,
    owner: Option<(u32, u32)>,
    stream: Arc<Stream>,
}

impl Logs {
    /// Makes the logs; `tell` is told when one cannot be written, and when it can again.
    pub fn start(console: Console, tell: Tell) -> Logs {
        let (registry, packer, tally) = (Mutex::default(), Packer::default(), Arc::default());
        Logs { shared: Arc::new(Shared { console, tell, tally, registry, packer }) }
    }

    /// Makes a service's pipe and has its file opened, or changes what is planned for it. Where
    /// the file or the owner is another, the old pipe lives on as long as it has writers.
    ///
    /// # Errors
    ///
    /// A text for people: no pipe or thread can be had; the next run tries again. A file that
    /// cannot be opened is no error.
    pub fn add(
        &self,
        name: &Name,
        plan: &plan::Logs,
        owner: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let added = self.try_add(name, plan, owner);
        let mut registry = lock(&self.shared.registry);
        if added.is_err() {
            registry.missing.insert(Arc::clone(name), (plan.clone(), owner));
        } else {
            registry.missing.remove(name);
        }
        added
    }

    fn try_add(
        &self,
        name: &Name,
        plan: &plan::Logs,
        owner: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let cannot = |error: io::Error| {
            format!("cannot take the output of `{name}`: {}", file::reason(&error))
        };
        let voice = || plan.console.then(|| self.shared.console.voice(name)).flatten();
        let mut registry = lock(&self.shared.registry);
        if let Some(service) = registry.services.get_mut(name)
            && service.plan.file == plan.file
            && service.plan.format == plan.format
            && service.owner == owner
        {
            if service.plan != *plan {
                service.stream.adjust(plan, voice);
                service.plan = plan.clone();
            }
            return Ok(());
        }
        let folder = plan.file.parent().unwrap_or(Path::new("/"));
        let lane = self.lane(&mut registry, folder).map_err(cannot)?;
        registry.keys += stream::PIPES_MAX;
        let tell = Arc::clone(&self.shared.tell);
        let troubles = Arc::new(Troubles::new(Arc::clone(name), plan.file.clone(), tell));
        let (packer, tally) = (self.shared.packer.clone(), Arc::clone(&self.shared.tally));
        let (key, rest) = (registry.keys, (troubles, packer, tally));
        let stream = Stream::new(key, plan, owner, voice(), Arc::clone(&lane), rest);
        let stream = Arc::new(stream.map_err(cannot)?);
        lane.adopt(&stream).map_err(cannot)?;
        let service = Service { plan: plan.clone(), owner, stream };
        if let Some(old) = registry.services.insert(Arc::clone(name), service) {
            old.stream.leave();
        }
        Ok(())
    }

    /// Forgets a service; what its last processes still print is written.
    pub fn remove(&self, name: &Name) {
        let mut registry = lock(&self.shared.registry);
        registry.missing.remove(name);
        if let Some(service) = registry.services.remove(name) {
            service.stream.leave();
        }
    }

    /// A duplicate of the service's end of its pipe, to be stdout and stderr of a new run.
    ///
    /// # Errors
    ///
    /// The service is unknown, or there is no descriptor left.
    pub fn writer(&self, name: &Name) -> io::Result<OwnedFd> {
        match self.stream(name) {
            Some(stream) => stream.writer(),
            None => Err(io::Error::other("it has no logs")),
        }
    }

    /// Duplicates of the service's ends of its pipes, to be stdout and stderr of this run. They
    /// are two ends of one pipe where the format does not tell the streams apart, which keeps
    /// their order.
    ///
    /// # Errors
    ///
    /// As of [`Logs::writer`].
    pub fn begin_run(&self, name: &Name, run: u64) -> io::Result<[OwnedFd; 2]> {
        let missing = lock(&self.shared.registry).missing.remove(name);
        if let Some((plan, owner)) = missing {
            self.add(name, &plan, owner).map_err(io::Error::other)?;
            let text = "its output is taken from now on".to_owned();
            let service = Arc::clone(name);
            (self.shared.tell)(Trouble { service, text, lines_lost: 0, over: true });
        }
        match self.stream(name) {
            Some(stream) => stream.begin_run(run),
            None => Err(io::Error::other("it has no logs")),
        }
    }

    /// Calls `done` once everything that is in the pipe now is in the file, or kept or counted
    /// because it cannot be. Nobody waits for the pipe's end, which a grandchild may hold open.
    /// `done` may be called before this returns, or from a log thread, which it must not hold up;
    /// whoever waits for it sets a limit.
    pub fn drain(&self, name: &Name, done: Box<dyn FnOnce() + Send>) {
        match self.stream(name) {
            Some(stream) => stream.drain(done),
            None => done(),
        }
    }

    /// Puts the line `keepup: <text>` into a service's log, where a line of its own ends.
    pub fn line(&self, name: &Name, text: &str) {
        if let Some(stream) = self.stream(name) {
            stream.line(text);
        }
    }

    /// Closes all files and opens what then carries their names.
    pub fn reopen(&self) {
        for service in lock(&self.shared.registry).services.values() {
            service.stream.reopen();
        }
    }

    /// Where the last lines of a service are; to be read off the loop.
    pub fn tail(&self, name: &Name, lines: usize) -> Option<Tail> {
        let stream = self.stream(name)?;
        let unwritten = stream.unwritten(Tail::BYTES_MAX);
        Some(Tail { path: stream.troubles().path().clone(), unwritten, lines })
    }

    /// What a service printed and what is in no file yet, because it cannot be written.
    pub fn unwritten(&self, name: &Name) -> Vec<u8> {
        self.stream(name).map(|it| it.unwritten(Tail::BYTES_MAX)).unwrap_or_default()
    }

    /// What is known about a service's log; nothing but zeros of one that has none.
    pub fn stats(&self, name: &Name) -> Stats {
        let Some(stream) = self.stream(name) else { return Stats::default() };
        let troubles = stream.troubles();
        Stats {
            bytes: stream.bytes(),
            lines_lost: troubles.lines_lost(),
            error_lines: stream.error_lines(),
            problem: troubles.problem(),
        }
    }

    /// Has `call` called when lines were found that show an error, once until they are taken; from a
    /// log thread, which it must not hold up. Only the first one who asks is called.
    pub fn on_errors(&self, call: Box<dyn Fn() + Send + Sync>) {
        self.shared.tally.call(call);
    }

    /// Which services have printed how many lines that show an error since this was last asked,
    /// each with the number of its run.
    pub fn take_errors(&self) -> Vec<(Name, u64, u64)> {
        self.shared.tally.take()
    }

    /// Writes what there is, and ends the threads; waits no longer than `limit` for a disk or for
    /// whoever reads the console.
    pub fn finish(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let (ended, watch) = {
            let mut registry = lock(&self.shared.registry);
            (std::mem::take(&mut registry.ended), registry.watch.take())
        };
        for (lane, _) in &ended {
            lane.finish();
        }
        for (_, end) in ended {
            let _ = end.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
        if let Some(watch) = watch {
            watch.finish();
        }
        self.shared.packer.finish(until.saturating_duration_since(Instant::now()));
        self.shared.console.finish(until.saturating_duration_since(Instant::now()));
    }

    fn stream(&self, name: &Name) -> Option<Arc<Stream>> {
        lock(&self.shared.registry).services.get(name).map(|it| Arc::clone(&it.stream))
    }

    /// The lane that serves this folder; a new one finds out itself whether it is needed.
    fn lane(&self, registry: &mut Registry, folder: &Path) -> io::Result<Arc<Lane>> {
        if let Some(lane) = registry.folders.get(folder) {
            return Ok(Arc::clone(lane));
        }
        let lane = Arc::new(Lane::new()?);
        let watch = registry.watch()?;
        watch.add(registry.folders.len() as u64, &lane)?;
        let (end, ended) = channel();
        let (mine, shared, place) =
            (Arc::clone(&lane), Arc::clone(&self.shared), folder.to_owned());
        spawn("log", move || {
            Work::run(mine, &shared, &place);
            drop(end);
        })?;
        registry.ended.push((Arc::clone(&lane), ended));
        registry.folders.insert(folder.to_owned(), Arc::clone(&lane));
        Ok(lane)
    }
}

impl Registry {
    /// The watch, started for the first lane.
    fn watch(&mut self) -> io::Result<Arc<Watch>> {
        if let Some(watch) = &self.watch {
            return Ok(Arc::clone(watch));
        }
        let watch = Arc::new(Watch::new()?);
        let run = Arc::clone(&watch);
        spawn("log watch", move || run.run())?;
        Ok(Arc::clone(self.watch.insert(watch)))
    }
}

impl Shared {
    /// Makes `lane` the one of this file system, and says so; or gives its streams to the one
    /// that is.
    fn claim(&self, disk: u64, lane: &Arc<Lane>) -> bool {
        let mut registry = lock(&self.registry);
        let known = Arc::clone(registry.disks.entry(disk).or_insert_with(|| Arc::clone(lane)));
        if Arc::ptr_eq(&known, lane) {
            return true;
        }
        for own in registry.folders.values_mut().filter(|it| Arc::ptr_eq(it, lane)) {
            *own = Arc::clone(&known);
        }
        for stream in lane.all() {
            // The pipe was watched a moment ago, so it can be watched again.
            let _ = stream.move_to(&known);
        }
        false
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("console", &self.console).finish_non_exhaustive()
    }
}

/// Locks, also after another thread's panic: what these locks guard is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread with a small stack.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn_with(256 << 10, name, run)
}

fn spawn_with(
    stack: usize,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(run)
}
