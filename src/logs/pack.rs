//! The thread that compresses rotated files, behind everything else that wants a processor or disk.
//!
//! It must never remove a file before its compressed form is whole and on the disk. Killed at any
//! step it leaves a part that is begun anew, or both forms, of which the compressed one is whole.

#![expect(unsafe_code, reason = "priorities of a single thread are in no safe interface")]

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::{Compression, GzBuilder};
use nix::libc::{self, O_NOFOLLOW, O_NONBLOCK};

use super::file::{Names, resemble};
use super::gzip::Mark;
use super::rotate::{self, Kept, Numbers};
use super::{lock, spawn_with};

/// How long after a failure compression is tried again; twice as long after each further one.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Read and written at once.
const BUFFER: usize = 64 << 10;
/// The compressor makes its large tables on the stack before it moves them.
const STACK: usize = 2 << 20;

/// Compresses what it is told to; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Packer {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    stopping: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<Job>,
    running: bool,
}

/// A log whose rotated files are to be compressed.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    names: Arc<Names>,
    /// It failed: not before then.
    at: Option<Instant>,
    wait: Duration,
}

impl Packer {
    /// Compresses the rotated files beside `path`, when there is time.
    pub(super) fn pack(&self, path: &Path, names: &Arc<Names>) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let (queue, more) = &*self.queue;
        let mut queue = lock(queue);
        if queue.jobs.iter().all(|it| it.path != path) {
            let (path, names) = (path.to_owned(), Arc::clone(names));
            queue.jobs.push(Job { path, names, at: None, wait: RETRY });
            more.notify_all();
        }
        if !queue.running {
            let packer = self.clone();
            // Without a thread the next rotation tries again.
            queue.running = spawn_with(STACK, "log gzip", move || packer.run()).is_ok();
        }
    }

    /// Has it stop; what it was at is begun anew by the next keepup. Waits no longer than `limit`.
    pub(super) fn finish(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let (queue, more) = &*self.queue;
        // Held from here on, so that it is not told between its look and its wait.
        let queue = lock(queue);
        more.notify_all();
        let running = |it: &mut Queue| it.running;
        drop(more.wait_timeout_while(queue, limit, running));
    }

    fn run(&self) {
        step_back();
        while let Some(Job { path, names, wait, .. }) = self.next() {
            let outcome = loop {
                match pack_oldest(&path, &names, &self.stopping) {
                    Ok(Some(())) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            if self.stopping.load(Ordering::Relaxed) {
                continue;
            }
            let failed = outcome.is_err();
            names.packed(outcome);
            if failed {
                let at = Some(Instant::now() + wait);
                let wait = (wait * 2).min(RETRY_MAX);
                lock(&self.queue.0).jobs.push(Job { path, names, at, wait });
            }
        }
    }

    /// The next that is due, as soon as it is; `None`: there is none.
    fn next(&self) -> Option<Job> {
        let (queue, more) = &*self.queue;
        let mut queue = lock(queue);
        loop {
            let now = Instant::now();
            if self.stopping.load(Ordering::Relaxed) {
                queue.jobs.clear();
            }
            if let Some(due) = queue.jobs.iter().position(|it| it.at.is_none_or(|at| at <= now)) {
                return Some(queue.jobs.remove(due));
            }
            let Some(at) = queue.jobs.iter().filter_map(|it| it.at).min() else {
                queue.running = false;
                more.notify_all();
                return None;
            };
            let woken = more.wait_timeout(queue, at.saturating_duration_since(now));
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Lets everything else go first.
fn step_back() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: plain numbers; 0 is the calling thread in both. Refusals change nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}

/// Compresses one file; `None`: there is none that needs it.
fn pack_oldest(path: &Path, names: &Names, stop: &AtomicBool) -> io::Result<Option<()>> {
    let oldest = {
        let _held = names.hold();
        let numbers = rotate::scan(path)?;
        remove_twice(path, &numbers)?;
        let plain = numbers.kept.iter().rev().find(|it| *it.1 == Kept::Plain);
        plain.map(|it| open(&rotate::numbered(path, *it.0))).transpose()?
    };
    let part = part_of(path);
    let Some(plain) = oldest else {
        let _ = std::fs::remove_file(part);
        return Ok(None);
    };
    let mark = Mark::of(&plain.metadata()?);
    compress(&plain, mark, &part, stop)?;
    if Mark::of(&plain.metadata()?) != mark {
        std::fs::remove_file(&part)?;
        return Err(io::Error::other("it is still written"));
    }
    settle(path, names, &plain, &part).map(Some)
}

/// A crash came between the last two steps: of both forms the compressed one is whole.
fn remove_twice(path: &Path, numbers: &Numbers) -> io::Result<()> {
    for &number in &numbers.twice {
        std::fs::remove_file(rotate::numbered(path, number))?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    let plain = file.metadata()?.is_file();
    if plain { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Where a compressed file grows.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz.part");
    PathBuf::from(name)
}

fn compress(plain: &File, mark: Mark, part: &Path, stop: &AtomicBool) -> io::Result<()> {
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    let written = write_packed(plain, mark, &file, stop).and_then(|()| {
        resemble(&file, &plain.metadata()?);
        file.sync_all()
    });
    if written.is_err() {
        // On a full disk every byte counts.
        let _ = std::fs::remove_file(part);
    }
    written
}

fn write_packed(plain: &File, mark: Mark, to: &File, stop: &AtomicBool) -> io::Result<()> {
    let time = u32::try_from(plain.metadata()?.mtime()).unwrap_or(0);
    let builder = GzBuilder::new().comment(mark.comment()).mtime(time);
    let mut packed = builder.write(io::BufWriter::new(to), Compression::default());
    let mut from = BufReader::with_capacity(BUFFER, plain);
    let mut buffer = vec![0; BUFFER];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("keepup is ending"));
        }
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        packed.write_all(&buffer[..count])?;
    }
    packed.finish()?.flush()
}

/// Puts the whole part in the place of the plain file, under whatever number that has by now.
fn settle(path: &Path, names: &Names, plain: &File, part: &Path) -> io::Result<()> {
    let mut held = names.hold();
    *held = None;
    let id = |it: &std::fs::Metadata| (it.dev(), it.ino());
    let own = id(&plain.metadata()?);
    let numbers = rotate::scan(path)?;
    let found = numbers.kept.iter().filter(|it| *it.1 == Kept::Plain).find(|it| {
        let meta = std::fs::symlink_metadata(rotate::numbered(path, *it.0));
        meta.is_ok_and(|it| id(&it) == own)
    });
    let Some((&number, _)) = found else {
        // It was given up meanwhile.
        return std::fs::remove_file(part);
    };
    std::fs::rename(part, rotate::formed(path, number, Kept::Packed))?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    std::fs::remove_file(rotate::numbered(path, number))
}
