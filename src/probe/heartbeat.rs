//! Looks at heartbeat files, off the loop: a file that changed since the last look is a beat.
//!
//! It must never open a file (a FIFO would hold it), never compare a file's times with a clock, and
//! never let a file whose disk hangs hold up the others or the loop.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
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

/// How long a spawn waits to know what the file was like before it. A disk that answers does so far
/// sooner; one that does not costs this much once, until it answers again. An early beat may then
/// be taken for the old state.
const BASELINE_PATIENCE: Duration = Duration::from_millis(20);

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
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    size: u64,
}

impl Stamp {
    pub(super) fn of(it: &Metadata) -> Stamp {
        Stamp {
            dev: it.dev(),
            ino: it.ino(),
            mtime: (it.mtime(), it.mtime_nsec()),
            ctime: (it.ctime(), it.ctime_nsec()),
            size: it.size(),
        }
    }
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
    /// Call it before every spawn. It waits for the disk, but for 20 ms at most, and
    /// not at all for a file that hangs already.
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
        Found::File(Stamp::of(&it))
    } else if it.is_dir() {
        Found::Directory
    } else {
        Found::Special
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Looks at paths that begin with `/dead` hang until the gate opens.
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a look that may fail")]
    fn hang(path: &Path) -> io::Result<Found> {
        if path.starts_with("/dead") {
            drop(GATE.1.wait_while(GATE.0.lock().unwrap(), |open| !*open).unwrap());
        }
        let stamp = Stamp { dev: 1, ino: 1, mtime: (1, 1), ctime: (1, 1), size: 1 };
        Ok(Found::File(stamp))
    }

    fn next(answers: &mut mpsc::Receiver<Event>) -> (String, u64, Sight) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let event = runtime.block_on(async { tokio::time::timeout(LIMIT, answers.recv()).await });
        match event {
            Ok(Some(Event::Looked { name, ticket, sight })) => (name.to_string(), ticket.0, sight),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_that_hang_hold_up_nobody_and_come_back_with_the_latest_question() {
        let (sender, mut answers) = mpsc::channel(64);
        let mut looker = Looker::with(sender, hang);
        let dead: Vec<_> = (0..5).map(|nth| Name::from(format!("dead{nth}"))).collect();
        let (path, alive) = (Path::new("/dead/beat"), Name::from("alive"));
        let began = Instant::now();
        looker.baseline(&dead[0], path);
        assert!(began.elapsed() < LIMIT / 2, "a spawn waits for a dead disk");
        for ticket in 1..=100 {
            for name in &dead {
                looker.look(name, Ticket(ticket), path);
            }
            looker.look(&alive, Ticket(ticket), Path::new("/alive"));
            assert_eq!(next(&mut answers), ("alive".to_owned(), ticket, Sight::Still));
        }
        // One for each that hangs, one that works, and some that may be about to end.
        assert!((6..=8).contains(&looker.threads()), "{} threads", looker.threads());
        // The disk comes back, after a new run of one of them has begun.
        looker.baseline(&dead[1], path);
        looker.look(&dead[2], Ticket(101), path);
        looker.forget(&dead[3]);
        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
        let mut back: Vec<_> = (0..3).map(|_| next(&mut answers)).collect();
        back.sort_by(|one, other| one.0.cmp(&other.0));
        let told: Vec<_> = back.iter().map(|it| (it.0.as_str(), it.1)).collect();
        assert_eq!(told, [("dead0", 100), ("dead2", 101), ("dead4", 100)]);
        assert!(back.iter().all(|it| it.2 == Sight::Still));
    }

    fn file(size: u64) -> Found {
        Found::File(Stamp { dev: 1, ino: 1, mtime: (1, 1), ctime: (1, 1), size })
    }

    #[test]
    fn what_cannot_be_read_is_neither_a_beat_nor_forgotten() {
        let mut watched = Watched::new(Arc::from(Path::new("/beat")));
        let denied = || Err(io::Error::from_raw_os_error(libc::EACCES));
        let nothing = Sight::Nothing("/beat: permission denied".to_owned());
        assert_eq!(watched.see(denied()), nothing);
        assert_eq!(
            watched.see(Ok(file(1))),
            Sight::Still,
            "the first that is seen is the baseline"
        );
        assert_eq!(watched.see(denied()), nothing);
        assert_eq!(watched.see(Ok(file(1))), Sight::Still);
        let missing = || Err(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(watched.see(missing()), Sight::Nothing("/beat does not exist".to_owned()));
        assert_eq!(watched.see(Ok(file(1))), Sight::Still, "the same file, mounted again");
        assert_eq!(watched.see(Ok(file(2))), Sight::Beat);
        watched.rebase = true;
        assert_eq!(
            watched.see(Ok(file(3))),
            Sight::Still,
            "a new run began while it was looked at"
        );
        assert_eq!(watched.see(Ok(file(4))), Sight::Beat);
    }
}
