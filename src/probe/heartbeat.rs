//! Looks at heartbeat files, off the loop: a file that changed since the last look is a beat.
//!
//! It must never open a file (a FIFO would hold it), never compare a file's times with a clock, and
//! never let a file whose disk hangs hold up the others or the loop.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::event::{Event, Sight, Ticket};
use crate::net::client::words::{one_line, plain};
use crate::plan::Name;

/// How long a spawn waits to know what the file was like before it. On a disk that answers it takes
/// microseconds; on one that does not, an early beat may be taken for the old state.
const BASELINE_PATIENCE: Duration = Duration::from_millis(5);

/// A look needs little; pages that are not touched cost nothing.
const STACK_SIZE: usize = 128 * 1024;

/// Looks at heartbeat files and sends what it saw.
///
/// Threads: none before the first file; then one that waits without waking up; and while looks
/// hang, one more for each path that hangs.
#[derive(Debug)]
pub struct Looker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    answers: mpsc::Sender<Event>,
    stat: fn(&Path) -> io::Result<Found>,
    desk: Mutex<Desk>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    files: HashMap<Name, Watched>,
    queue: VecDeque<Job>,
    /// Threads that wait for work, or that have been started and will look for it.
    idle: usize,
    threads: usize,
    closed: bool,
}

/// One service's file.
#[derive(Debug)]
struct Watched {
    path: Arc<Path>,
    /// What it was like when it was last there.
    stamp: Option<Stamp>,
    /// It was seen to be there, or not to be, since the run began.
    known: bool,
    /// A look is under way.
    looking: bool,
    /// Who waits for it; a baseline has nobody.
    ticket: Option<Ticket>,
    /// A run began while a look was under way: what that look sees is where the run begins.
    rebase: bool,
}

/// A look to be had.
#[derive(Debug)]
struct Job {
    name: Name,
    path: Arc<Path>,
    done: Option<SyncSender<()>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    size: u64,
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
enum Found {
    File(Stamp),
    Directory,
    Special,
}

impl Looker {
    /// A looker that sends [`Event::Looked`] to `answers`.
    pub fn new(answers: mpsc::Sender<Event>) -> Looker {
        Looker::with(answers, stat)
    }

    fn with(answers: mpsc::Sender<Event>, stat: fn(&Path) -> io::Result<Found>) -> Looker {
        let (desk, work) = (Mutex::default(), Condvar::new());
        Looker { shared: Arc::new(Shared { answers, stat, desk, work }) }
    }

    /// A run of the service is about to begin: what the file is like now is no beat of it.
    ///
    /// Call it before every spawn. It waits for the disk, but for 5 ms at most.
    pub fn baseline(&mut self, name: &Name, file: &Path) {
        let (done, looked) = sync_channel(1);
        let mut desk = self.shared.desk();
        let watched = desk.watched(name, file);
        if watched.looking {
            watched.rebase = true;
            watched.ticket = None;
            return;
        }
        *watched = Watched { looking: true, ..Watched::new(watched.path.clone()) };
        let job = Job { name: name.clone(), path: watched.path.clone(), done: Some(done) };
        self.shared.submit(desk, job);
        // Late, or never: then the run begins with what the look will see.
        let _ = looked.recv_timeout(BASELINE_PATIENCE);
    }

    /// Looks at the file. One [`Event::Looked`] follows; while a look hangs none does, and when it
    /// comes back it answers the latest question.
    pub fn look(&mut self, name: &Name, ticket: Ticket, file: &Path) {
        let mut desk = self.shared.desk();
        let watched = desk.watched(name, file);
        watched.ticket = Some(ticket);
        if watched.looking {
            // Threads may have been short when the look was asked for.
            self.shared.staff(&mut desk);
            return;
        }
        watched.looking = true;
        let job = Job { name: name.clone(), path: watched.path.clone(), done: None };
        self.shared.submit(desk, job);
    }

    /// The service is gone from the plan, or has no heartbeat any more.
    pub fn forget(&mut self, name: &Name) {
        self.shared.desk().files.remove(name);
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.desk().threads
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.work.notify_all();
    }
}

impl Desk {
    /// What is known of the file; nothing, if it is another one than before.
    fn watched(&mut self, name: &Name, file: &Path) -> &mut Watched {
        let entry = self.files.entry(name.clone());
        let watched = entry.or_insert_with(|| Watched::new(Arc::from(file)));
        if *watched.path != *file {
            *watched = Watched::new(Arc::from(file));
        }
        watched
    }
}

impl Watched {
    fn new(path: Arc<Path>) -> Watched {
        Watched { path, stamp: None, known: false, looking: false, ticket: None, rebase: false }
    }

    /// Takes in what a look saw.
    fn see(&mut self, found: io::Result<Found>) -> Sight {
        if std::mem::take(&mut self.rebase) {
            (self.stamp, self.known) = (None, false);
        }
        match found {
            Ok(Found::File(stamp)) => {
                // A file that is back as it was, after its disk was away, is no beat either.
                let beat = self.known && self.stamp != Some(stamp);
                (self.stamp, self.known) = (Some(stamp), true);
                if beat { Sight::Beat } else { Sight::Still }
            }
            Ok(Found::Directory) => self.nothing(" is a directory"),
            Ok(Found::Special) => self.nothing(" is not a regular file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.known = true;
                self.nothing(" does not exist")
            }
            Err(error) => self.nothing(&format!(": {}", plain(&error))),
        }
    }

    fn nothing(&self, why: &str) -> Sight {
        Sight::Nothing(one_line(&format!("{}{why}", self.path.display())))
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Shared>, mut desk: MutexGuard<'_, Desk>, job: Job) {
        desk.queue.push_back(job);
        self.staff(&mut desk);
    }

    /// Sees to it that somebody takes on what waits, even if all who work hang.
    ///
    /// A thread that cannot be started is missed only until the next call, or until one that works
    /// comes back.
    fn staff(self: &Arc<Shared>, desk: &mut Desk) {
        if desk.queue.is_empty() {
            return;
        }
        if desk.idle > 0 {
            self.work.notify_one();
            return;
        }
        let shared = self.clone();
        let builder = thread::Builder::new().name("heartbeat".to_owned()).stack_size(STACK_SIZE);
        if builder.spawn(move || shared.run()).is_ok() {
            desk.threads += 1;
            desk.idle += 1;
        }
    }

    /// A thread's life: looks as long as there is something to look at, then waits, unless another
    /// one does already.
    fn run(self: &Arc<Shared>) {
        let mut desk = self.desk();
        loop {
            if desk.closed || (desk.queue.is_empty() && desk.idle > 1) {
                desk.idle -= 1;
                desk.threads -= 1;
                return;
            }
            let Some(job) = desk.queue.pop_front() else {
                desk = self.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            desk.idle -= 1;
            // If this look hangs, the next one must not wait for it.
            self.staff(&mut desk);
            drop(desk);
            self.look(job);
            desk = self.desk();
            desk.idle += 1;
        }
    }

    fn look(&self, job: Job) {
        let found = (self.stat)(&job.path);
        let answer = {
            let mut desk = self.desk();
            let watched = desk.files.get_mut(&job.name);
            // Another file is watched by now, or none.
            let Some(watched) = watched.filter(|it| Arc::ptr_eq(&it.path, &job.path)) else {
                return;
            };
            let sight = watched.see(found);
            watched.looking = false;
            watched.ticket.take().map(|ticket| Event::Looked { name: job.name, ticket, sight })
        };
        if let Some(done) = job.done {
            // The spawn may have gone on.
            let _ = done.try_send(());
        }
        if let Some(answer) = answer {
            // If nobody listens any more, keepup is ending.
            let _ = self.answers.blocking_send(answer);
        }
    }
}

fn stat(path: &Path) -> io::Result<Found> {
    let it = std::fs::metadata(path)?;
    Ok(if it.is_file() {
        Found::File(Stamp {
            dev: it.dev(),
            ino: it.ino(),
            mtime: (it.mtime(), it.mtime_nsec()),
            ctime: (it.ctime(), it.ctime_nsec()),
            size: it.size(),
        })
    } else if it.is_dir() {
        Found::Directory
    } else {
        Found::Special
    })
}
