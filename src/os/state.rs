//! `state.json`: what outlives keepup.
//!
//! Written aside, synced and renamed by a thread of its own, so that a stalled disk holds up
//! nobody. Must never keep keepup from starting: a broken file is set aside, a folder that cannot
//! be written to is told of, and keepup runs from memory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::procfs;
use crate::core::event::Pid;

/// The shape of the file that this keepup writes.
const VERSION: u32 = 1;
const FILE: &str = "state.json";
/// Broken files kept for whoever wants to know.
const CORRUPT_MAX: u32 = 5;
/// A larger file is not read, in bytes: no keepup wrote it.
const SIZE_MAX: u64 = 64 << 20;
/// How long a state waits for a newer one: a restart makes several, and each costs the disk two
/// syncs. What keepup started bears its mark, so nothing is lost by it but an operator's word.
const GATHER: Duration = Duration::from_millis(100);
/// Between two attempts while the newest state is not on the disk.
const RETRY: Duration = Duration::from_secs(5);

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// Of this shape.
    pub version: u32,
    /// The boot in which the rest is true; pids and monotonic times mean nothing in another.
    pub boot_id: String,
    /// The namespace that the pids belong to.
    pub pid_namespace: u64,
    /// The keepup that wrote it.
    pub keepup: SavedProcess,
    /// By name.
    pub services: BTreeMap<String, SavedService>,
    /// What ran.
    pub runs: Vec<SavedRun>,
}

/// A process, named beyond the reuse of its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedProcess {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

/// What is remembered of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedService {
    /// An operator wants it down.
    pub want_down: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When it was restarted, in seconds of the monotonic clock, oldest first.
    pub restarts: Vec<f64>,
}

/// A run whose main process lived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRun {
    /// Of which service.
    pub service: String,
    /// Its main process.
    pub pid: i32,
    /// When that was started, in clock ticks since boot.
    pub start_time: u64,
    /// Its process group.
    pub pgid: i32,
}

impl Saved {
    /// An empty state of this keepup, now.
    pub fn new() -> Saved {
        let own = Pid(nix::unistd::getpid().as_raw());
        let start_time = procfs::stat(own).map_or(0, |it| it.start_time);
        Saved {
            version: VERSION,
            boot_id: procfs::boot_id(),
            pid_namespace: procfs::pid_namespace(),
            keepup: SavedProcess { pid: own.0, start_time },
            services: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    /// Its pids and times mean something here and now.
    pub fn is_of_this_boot(&self) -> bool {
        !self.boot_id.is_empty()
            && self.boot_id == procfs::boot_id()
            && self.pid_namespace == procfs::pid_namespace()
    }
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// `None`: nothing, or nothing of use.
    pub saved: Option<Saved>,
    /// What people should know, whole sentences.
    pub warnings: Vec<String>,
}

/// Reads the state of an earlier keepup.
pub fn load(folder: &Path) -> Loaded {
    let path = folder.join(FILE);
    let problem = match read(&path) {
        Ok(saved) if saved.version == VERSION => {
            return Loaded { saved: Some(saved), warnings: Vec::new() };
        }
        Ok(saved) => format!("it has version {}, this keepup writes {VERSION}", saved.version),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Loaded::default(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        Err(error) => {
            let path = path.display();
            let warning = format!("cannot read `{path}`: {error}; starting without it");
            return Loaded { saved: None, warnings: vec![warning] };
        }
    };
    let aside = match set_aside(&path) {
        Ok(aside) => format!("set aside as `{}`", aside.display()),
        Err(error) => format!("cannot set it aside: {error}"),
    };
    let path = path.display();
    let warning = format!("cannot use `{path}`: {problem}; {aside}, starting without it");
    Loaded { saved: None, warnings: vec![warning] }
}

fn read(path: &Path) -> io::Result<Saved> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|it| io::Error::new(io::ErrorKind::InvalidData, it))
}

/// To the first free number; when all are taken, the last one is replaced.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let numbered = |number: u32| path.with_file_name(format!("{FILE}.corrupt-{number}"));
    let free = (1..CORRUPT_MAX).map(numbered).find(|it| !it.exists());
    let aside = free.unwrap_or_else(|| numbered(CORRUPT_MAX));
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Writes states, the newest alone where they come faster than the disk takes them.
#[derive(Debug)]
pub struct Writer {
    slot: Arc<Slot>,
    ended: Receiver<()>,
}

/// Where a state waits for the disk: for one, so that a stalled disk does not fill the memory.
#[derive(Debug, Default)]
struct Slot {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    newest: Option<Saved>,
    /// It does not wait for a newer one.
    urgent: bool,
    ending: bool,
}

impl Writer {
    /// `tell` is called on the writer's thread with what people should know: each distinct problem
    /// once, until a state was written again.
    pub fn new(folder: &Path, tell: impl FnMut(String) + Send + 'static) -> io::Result<Writer> {
        let slot = Arc::new(Slot::default());
        let (ending, ended) = channel();
        let (folder, states) = (folder.to_owned(), Arc::clone(&slot));
        let thread = std::thread::Builder::new().name("state".to_owned()).stack_size(256 << 10);
        thread.spawn(move || {
            write_all(&folder, &states, tell);
            // Nobody listens where `finish` was not called, or gave up.
            ending.send(()).ok();
        })?;
        Ok(Writer { slot, ended })
    }

    /// Has this state written soon; returns at once.
    pub fn save(&self, saved: Saved) {
        if self.slot.lock().newest.replace(saved).is_none() {
            self.slot.changed.notify_one();
        }
    }

    /// Has what was saved written now: an operator's word must outlive keepup. Returns at once.
    pub fn hurry(&self) {
        self.slot.lock().urgent = true;
        self.slot.changed.notify_one();
    }

    /// Waits until the newest state is on the disk, cannot be written, or `limit` has passed.
    /// False in the last case.
    pub fn finish(self, limit: Duration) -> bool {
        self.slot.lock().ending = true;
        self.slot.changed.notify_one();
        self.ended.recv_timeout(limit).is_ok()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic cannot leave half a state behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next state to write, and whether it is the last; `failed` is tried again after a while
    /// if nothing newer comes.
    fn next(&self, failed: Option<Saved>) -> (Option<Saved>, bool) {
        let patience = if failed.is_some() { RETRY } else { Duration::MAX };
        let idle = |it: &mut Waiting| it.newest.is_none() && !it.ending;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let can_wait = |it: &mut Waiting| !it.urgent && !it.ending;
        let gathered = self.changed.wait_timeout_while(waiting, GATHER, can_wait);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        waiting.urgent = false;
        (waiting.newest.take().or(failed), waiting.ending)
    }
}

fn write_all(folder: &Path, slot: &Slot, mut tell: impl FnMut(String)) {
    let mut failed: Option<Saved> = None;
    let mut told: Vec<String> = Vec::new();
    loop {
        let (state, ending) = slot.next(failed.take());
        if let Some(state) = state {
            match write(folder, &state) {
                Ok(()) => told.clear(),
                Err(error) => {
                    let path = folder.join(FILE);
                    let text = format!("cannot write `{}`: {error}, retrying", path.display());
                    if !told.contains(&text) {
                        tell(text.clone());
                        told.push(text);
                    }
                    failed = Some(state);
                }
            }
        }
        if ending {
            return;
        }
    }
}

fn write(folder: &Path, saved: &Saved) -> io::Result<()> {
    let aside = folder.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let mut bytes = serde_json::to_vec(saved)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&aside, folder.join(FILE))?;
    // The rename itself is on the disk only with the folder.
    File::open(folder)?.sync_all()
}
