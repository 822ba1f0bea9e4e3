//! One log file on disk: opened, locked, appended to, rotated.
//!
//! It must never follow a link, write a file that another keepup writes, or write a file that no
//! longer carries its name. Its calls can hang as a disk can: only log threads make them.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::pack::{Packer, part_of};
use super::rotate::Numbers;
use super::trouble::{Troubles, Work};
use super::{rotate, spawn};
use crate::plan::{self, Compress};

/// How often is looked whether the file still carries its name; so long may lines go into a file
/// that somebody moved away.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long after a failed rotation the next is tried.
const ROTATE_AGAIN: Duration = Duration::from_secs(1);

/// Files that are being freed at once, at most; a disk that is so far behind is waited for.
const SWEEPS_MAX: usize = 8;

/// When a file is rotated, and what is kept then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) size_max: u64,
    pub(super) age_max: Option<Duration>,
    pub(super) keep: u32,
    pub(super) total_max: Option<u64>,
    pub(super) compress: Compress,
}

impl Bounds {
    pub(super) fn of(plan: &plan::Logs) -> Bounds {
        Bounds {
            size_max: plan.max_size,
            age_max: plan.max_age,
            keep: plan.keep,
            total_max: plan.max_total,
            compress: plan.compress,
        }
    }

    /// Nothing but a size and a number of files.
    pub(super) fn plain(size_max: u64, keep: u32) -> Bounds {
        let (age_max, total_max, compress) = (None, None, Compress::None);
        Bounds { size_max, age_max, keep, total_max, compress }
    }
}

/// The rotated files of a log, once they have been looked for. Held by whoever renames them.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: Mutex<Option<Numbers>>,
    /// Who is told of what is wrong with their compression.
    troubles: Option<Arc<Troubles>>,
}

impl Names {
    pub(super) fn of(troubles: Arc<Troubles>) -> Names {
        Names { numbers: Mutex::default(), troubles: Some(troubles) }
    }

    /// Their compression comes to this.
    pub(super) fn packed(&self, outcome: io::Result<()>) {
        if let Some(troubles) = &self.troubles {
            let why = outcome.err().map(|error| reason(&error));
            troubles.work(Work::Packing, why.as_deref());
        }
    }

    pub(super) fn hold(&self) -> MutexGuard<'_, Option<Numbers>> {
        super::lock(&self.numbers)
    }
}

/// A log file by its path; open whenever it can be.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    bounds: Bounds,
    packer: Packer,
    open: Option<Open>,
    names: Arc<Names>,
    /// Was open before: a line without an end in it is our own, and goes on.
    known: bool,
    /// The last rotation failed at this time, for this reason.
    stuck: Option<(Instant, String)>,
    /// They free what rotations gave up.
    sweeps: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: (u64, u64),
    size: u64,
    line_start: bool,
    checked: Instant,
    /// When it gets too old.
    old_at: Option<Instant>,
}

/// A write that did not get to its end.
#[derive(Debug)]
pub(super) struct Stopped {
    /// So many bytes are in the file.
    pub(super) written: usize,
    /// Why not more.
    pub(super) why: String,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, bounds: Bounds, packer: Packer, names: Names) -> LogFile {
        let (open, names, stuck, sweeps) = (None, Arc::new(names), None, Vec::new());
        LogFile { path, bounds, packer, open, names, known: false, stuck, sweeps }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        *self.names.hold() = None;
        if let Some(open) = &mut self.open {
            open.old_at = open.file.metadata().ok().and_then(|it| old_at(&it, bounds.age_max));
        }
        self.pack();
    }

    /// What ends in the file now would end at a line's end. True of a file that is not open.
    pub(super) fn at_line_start(&self) -> bool {
        self.open.as_ref().is_none_or(|it| it.line_start)
    }

    /// How far the end of the file is behind a multiple of `unit`.
    pub(super) fn size_modulo(&self, unit: usize) -> usize {
        let size = self.open.as_ref().map_or(0, |it| it.size);
        usize::try_from(size % unit as u64).unwrap_or(0)
    }

    /// Why the file grows beyond its size, if it does.
    pub(super) fn rotation_problem(&self) -> Option<&str> {
        self.stuck.as_ref().map(|it| it.1.as_str())
    }

    /// Closes the file; the next write opens what then carries its name.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.stuck = None;
        *self.names.hold() = None;
    }

    /// Opens the file, unless it is open; rotates one that an earlier keepup left and that is due.
    pub(super) fn ensure(&mut self) -> Result<(), String> {
        if self.open.is_some() {
            return Ok(());
        }
        let first = !self.known;
        self.reopen(None)?;
        let now = Instant::now();
        if first && self.is_due(now) {
            self.rotate(now)?;
        } else if first {
            self.tidy();
        }
        Ok(())
    }

    /// It is at a line's end, and large or old enough.
    fn is_due(&self, now: Instant) -> bool {
        let Some(open) = &self.open else { return false };
        let old = open.old_at.is_some_and(|at| at <= now);
        open.size != 0 && open.line_start && (old || self.bounds.size_max <= open.size)
    }

    /// What an earlier keepup did not come to the end of.
    fn tidy(&self) {
        match self.bounds.compress {
            Compress::None => {
                let _ = std::fs::remove_file(part_of(&self.path));
            }
            Compress::Gzip => self.pack(),
        }
    }

    fn pack(&self) {
        if self.bounds.compress == Compress::Gzip {
            self.packer.pack(&self.path, &self.names);
        }
    }

    /// Appends all of `bytes`, in as many files as it takes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(count) => written += count,
                Err(why) => return Err(Stopped { written, why }),
            }
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let now = Instant::now();
        if self.has_moved(now) {
            self.close();
        }
        self.ensure()?;
        let Some(open) = &mut self.open else { return Ok(0) };
        let resting = self.stuck.as_ref().is_some_and(|it| now < it.0 + ROTATE_AGAIN);
        let old = open.size != 0 && open.old_at.is_some_and(|at| at <= now);
        let size_max = if old { 0 } else { self.bounds.size_max };
        let piece = match rotate::piece(open.size, open.line_start, size_max, bytes) {
            Some(piece) => &bytes[..piece],
            None if resting => bytes,
            None => return self.rotate(now).map(|()| 0),
        };
        match open.file.write(piece) {
            Ok(0) => Err("nothing could be written".to_owned()),
            Ok(count) => {
                open.size += count as u64;
                open.line_start = piece[count - 1] == b'\n';
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            // What stands at its end goes on in the next one.
            Err(error) if is_too_large(&error) && open.size != 0 && !resting => {
                self.rotate(now).map(|()| 0)
            }
            // There is room as soon as the oldest file is freed.
            Err(error) if is_full(&error) && self.await_sweeps(0) => Ok(0),
            Err(error) => {
                if !is_full(&error) {
                    self.close();
                }
                Err(reason(&error))
            }
        }
    }

    /// Somebody moved or removed the file. One that was emptied is only counted anew.
    fn has_moved(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else { return false };
        if now < open.checked + CHECK_EVERY {
            return false;
        }
        open.checked = now;
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if id(&found) == open.id => {
                open.size = found.len();
                open.line_start |= found.len() == 0;
                false
            }
            Ok(_) => true,
            Err(error) => is_gone(&error),
        }
    }

    /// Starts a new file. When the old one cannot be put away, it is written on.
    fn rotate(&mut self, now: Instant) -> Result<(), String> {
        match self.put_away() {
            Ok(()) => {
                self.stuck = None;
                let old = self.open.take().and_then(|it| it.file.metadata().ok());
                self.reopen(old.as_ref())
            }
            // The folder is gone, and the file with it: they are made anew.
            Err(error) if is_gone(&error) => {
                self.close();
                Ok(())
            }
            Err(error) => {
                *self.names.hold() = None;
                self.stuck = Some((now, reason(&error)));
                Ok(())
            }
        }
    }

    fn put_away(&mut self) -> io::Result<()> {
        let names = Arc::clone(&self.names);
        let mut names = names.hold();
        let numbers = match names.take() {
            Some(numbers) => numbers,
            None => rotate::scan(&self.path)?,
        };
        let steps = rotate::steps(&numbers, self.bounds.keep);
        let mut doomed = rotate::perform(&self.path, &steps)?;
        let mut numbers = rotate::after(&numbers, &steps);
        if let Some(total) = self.bounds.total_max {
            // The new file will take its part of it.
            let room = total.saturating_sub(self.bounds.size_max);
            let beyond = rotate::beyond(&rotate::sizes(&self.path, &numbers), room);
            doomed.extend(rotate::perform(&self.path, &beyond)?);
            numbers = rotate::after(&numbers, &beyond);
        }
        *names = Some(numbers);
        drop(names);
        self.pack();
        self.sweeps.retain(|it| !it.is_finished());
        if !doomed.is_empty() {
            self.await_sweeps(SWEEPS_MAX - 1);
            // Writing need not wait for it. Without a thread it happens here and now.
            self.sweeps.extend(spawn("log sweep", move || drop(doomed)));
        }
        Ok(())
    }

    /// Waits until what was given up is freed, but for the last so many; says whether it waited.
    fn await_sweeps(&mut self, left: usize) -> bool {
        let due = self.sweeps.len().saturating_sub(left);
        self.sweeps.drain(..due).map(JoinHandle::join).count() != 0
    }

    fn reopen(&mut self, model: Option<&Metadata>) -> Result<(), String> {
        let open = self.find(model).map_err(|error| reason(&error))?;
        let continues = self.known || open.line_start;
        self.open = Some(open);
        self.known = true;
        // An earlier keepup's last line has no end: it must not run into our first one.
        if !continues {
            self.known = false;
            if let Err(stopped) = self.write(b"\n") {
                self.close();
                return Err(stopped.why);
            }
            self.known = true;
        }
        Ok(())
    }

    /// Opens and locks the file that carries the name; makes it like `model` where it is missing.
    fn find(&self, model: Option<&Metadata>) -> io::Result<Open> {
        // Another process may replace it between our steps, but not for ever.
        for _ in 0..8 {
            let file = self.open_or_create(model)?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            lock(&file)?;
            match std::fs::symlink_metadata(&self.path) {
                Ok(found) if id(&found) == id(&meta) => {
                    return Open::new(file, &meta, self.bounds.age_max);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("it is replaced again and again"))
    }

    fn open_or_create(&self, model: Option<&Metadata>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // Without O_NONBLOCK the opening of a FIFO would wait for its reader.
        options.read(true).append(true).mode(0o640).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        match options.create_new(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                options.create_new(false).open(&self.path)
            }
            Ok(file) => {
                // After a crash in the middle of a rotation, the newest rotated file is the model.
                let newest = || std::fs::symlink_metadata(rotate::numbered(&self.path, 1)).ok();
                if let Some(model) = model.cloned().or_else(newest).filter(Metadata::is_file) {
                    resemble(&file, &model);
                }
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }
}

impl Open {
    fn new(file: File, meta: &Metadata, age_max: Option<Duration>) -> io::Result<Open> {
        let mut last = [b'\n'];
        if let Some(before) = meta.len().checked_sub(1) {
            file.read_at(&mut last, before)?;
        }
        let (id, size) = (id(meta), meta.len());
        let (line_start, checked) = (last == *b"\n", Instant::now());
        Ok(Open { file, id, size, line_start, checked, old_at: old_at(meta, age_max) })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A process that is being spawned may have the descriptor for a moment longer.
        let _ = flock(&self.file, FlockArg::Unlock);
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// When a file gets too old, which it may be already. An empty one begins now.
fn old_at(meta: &Metadata, age_max: Option<Duration>) -> Option<Instant> {
    let age_max = age_max?;
    let born = meta.created().or_else(|_| meta.modified()).ok().filter(|_| meta.len() != 0);
    let age = born.and_then(|it| SystemTime::now().duration_since(it).ok()).unwrap_or_default();
    Instant::now().checked_add(age_max.saturating_sub(age))
}

/// Gives a new file owner and mode of another, as far as we may.
pub(super) fn resemble(file: &File, model: &Metadata) {
    // Before the mode: a change of owner clears bits of it. Refused unless we are root: then
    // the file stays ours, which is what a rotation by an ordinary user means.
    let _ = fchown(file, Some(model.uid()), Some(model.gid()));
    let mode = PermissionsExt::from_mode(model.mode() & 0o777);
    let _ = file.set_permissions(mode);
}

fn lock(file: &File) -> io::Result<()> {
    match flock(file, FlockArg::LockExclusiveNonblock) {
        Err(Errno::EWOULDBLOCK) => Err(io::Error::other("another keepup writes it")),
        // A file system without locks; then nobody can be kept out.
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(deprecated, reason = "its successor panics in drop when unlocking fails")]
fn flock(file: &File, how: FlockArg) -> nix::Result<()> {
    nix::fcntl::flock(file.as_raw_fd(), how)
}

/// Nothing has this name, and it may be that no folder has.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The file itself is well, it is only that there is no room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The file may not grow, as with `ulimit -f`; another one may.
fn is_too_large(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

/// Why, in the words of this project: lower case, no number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => "it is a symbolic link, which is not followed".to_owned(),
        Some(errno) => {
            let text = errno.desc();
            let mut chars = text.chars();
            let second_is_lower = text.chars().nth(1).is_some_and(char::is_lowercase);
            match chars.next() {
                Some(first) if second_is_lower => first.to_lowercase().chain(chars).collect(),
                Some(_) | None => text.to_owned(),
            }
        }
        None => error.to_string(),
    }
}
