//! The files of incidents: written by a thread of their own, read by whoever asks.
//!
//! The loop changes an incident in memory and goes on; the thread waits a moment for more, gathers
//! what lies on a disk (the last lines of the log), and writes both files aside before it renames
//! them. A full disk or a missing folder is told once and tried again, and hurts nobody.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Incident, LogTail, Outcome, cause, text};
use crate::logs::Tail;
use crate::net::client::words::clipped;
use crate::os::evidence::{HostSeen, Look};
use crate::os::listeners;
use crate::status::Stamp;

/// How long an incident waits for more before it is written.
const GATHER: Duration = Duration::from_millis(100);
/// Between two attempts while one cannot be written.
const RETRY: Duration = Duration::from_secs(30);
/// Incidents that are open, or wait for the disk; one more is not kept.
const OPEN_MAX: usize = 1024;
/// Characters of a line of a log.
const LINE_MAX: usize = 400;
/// Characters of the line that is quoted.
const QUOTE_MAX: usize = 200;
/// A file that is larger was written by nobody, in bytes.
const FILE_MAX: u64 = 32 << 20;

/// What the thread has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// About itself, for the log.
    Trouble(String),
    /// What a service printed last before it failed, and who holds its port.
    LastLine {
        /// Whose.
        service: String,
        /// The line, bounded.
        line: String,
        /// Who holds the port that it could not have.
        port_holder: Option<String>,
    },
}

/// Where incidents are kept.
#[derive(Debug)]
pub struct Shelf {
    desk: Arc<Desk>,
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct Desk {
    works: Mutex<Works>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Works {
    open: BTreeMap<String, Work>,
    ending: bool,
}

/// An incident that is open, or not written yet.
#[derive(Debug)]
struct Work {
    incident: Incident,
    dirty: bool,
    tail: Option<Tail>,
    /// At the first hung run, and at the last.
    looks: Vec<Look>,
    /// Ports that its probes ask at.
    ports: Vec<u16>,
}

impl Shelf {
    /// Opens the shelf in this state folder, which keeps so many; `tell` is called on its thread.
    /// What an earlier keepup left open is marked so.
    pub fn open(
        state_dir: &Path,
        keep: usize,
        tell: impl FnMut(Told) + Send + 'static,
    ) -> io::Result<Shelf> {
        let desk = Arc::new(Desk::default());
        let (ending, ended) = channel();
        let mut writer = Writer {
            folder: folder(state_dir),
            keep,
            desk: Arc::clone(&desk),
            tell: Box::new(tell),
            told: None,
        };
        let thread = std::thread::Builder::new().name("incidents".to_owned());
        thread.stack_size(512 << 10).spawn(move || {
            writer.run();
            // Nobody listens where `close` was not called, or gave up.
            let _ = ending.send(());
        })?;
        Ok(Shelf { desk, ended })
    }

    /// One begins; its id, which may differ from the one it had. `ports`: where it is probed.
    pub fn begin(&self, mut incident: Incident, ports: Vec<u16>) -> Option<String> {
        let mut works = self.desk.lock();
        if works.open.len() >= OPEN_MAX {
            return None;
        }
        let plain = incident.id.clone();
        let mut nth = 2;
        while works.open.contains_key(&incident.id) {
            incident.id = format!("{plain}-{nth}");
            nth += 1;
        }
        let id = incident.id.clone();
        let work = Work { incident, dirty: true, tail: None, looks: Vec::new(), ports };
        works.open.insert(id.clone(), work);
        self.desk.changed.notify_one();
        Some(id)
    }

    /// Something is added.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Incident)) {
        self.with(id, |work| change(&mut work.incident));
    }

    /// What its service printed last is added when it can be read.
    pub fn add_tail(&self, id: &str, tail: Tail) {
        self.with(id, |work| work.tail = Some(tail));
    }

    /// What is being seen of it is added.
    pub fn add_look(&self, id: &str, look: Look) {
        self.with(id, |work| {
            work.looks.truncate(1);
            work.looks.push(look);
        });
    }

    fn with(&self, id: &str, change: impl FnOnce(&mut Work)) {
        let mut works = self.desk.lock();
        if let Some(work) = works.open.get_mut(id) {
            change(work);
            work.dirty = true;
            self.desk.changed.notify_one();
        }
    }

    /// Waits until all is written, or cannot be, but no longer than `limit`.
    pub fn close(self, limit: Duration) {
        self.desk.lock().ending = true;
        self.desk.changed.notify_one();
        let _ = self.ended.recv_timeout(limit);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Works> {
        // A panic cannot leave half an incident behind.
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write; the ids, and whether these are the last.
    fn next(&self, patience: Duration) -> (Vec<String>, bool) {
        let idle = |it: &mut Works| !it.ending && !it.open.values().any(|it| it.dirty);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, idle);
        let (works, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(works, GATHER, |it| !it.ending);
        let (works, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let dirty = works.open.iter().filter(|it| it.1.dirty).map(|it| it.0.clone());
        (dirty.collect(), works.ending)
    }
}

struct Writer {
    folder: PathBuf,
    keep: usize,
    desk: Arc<Desk>,
    tell: Box<dyn FnMut(Told) + Send>,
    /// The trouble that was told last.
    told: Option<String>,
}

impl Writer {
    fn run(&mut self) {
        self.mark_left_open();
        let mut patience = Duration::MAX;
        loop {
            let (ids, ending) = self.desk.next(patience);
            let mut all = true;
            for id in ids {
                all &= self.write(&id);
            }
            if ending {
                return;
            }
            patience = if all { Duration::MAX } else { RETRY };
            if !all {
                // Nothing new may come; then the same is tried again.
                self.rest();
            }
        }
    }

    /// After a failure nothing is tried for a while, whatever comes.
    fn rest(&self) {
        let wait = self.desk.changed.wait_timeout_while(self.desk.lock(), RETRY, |it| !it.ending);
        drop(wait);
    }

    /// Gathers what is missing, and writes it. True if it is written.
    fn write(&mut self, id: &str) -> bool {
        let Some(Work { mut incident, tail, looks, ports, .. }) = self.take(id) else {
            return true;
        };
        if let Some(tail) = tail {
            self.read_log(&mut incident, tail, &ports);
        }
        if !looks.is_empty() {
            incident.evidence = looks.iter().map(Look::seen).collect();
        }
        if incident.host.is_none() && incident.evidence.is_empty() {
            incident.host = Some(HostSeen::now(None));
        }
        incident.conclude();
        let written = put(&self.folder, &incident);
        let is_written = written.is_ok();
        self.tell_of(written);
        self.give_back(incident, is_written);
        if is_written {
            prune(&self.folder, self.keep, &self.desk);
        }
        is_written
    }

    /// What there is to write now; the tail goes with it.
    fn take(&self, id: &str) -> Option<Work> {
        let mut works = self.desk.lock();
        let work = works.open.get_mut(id)?;
        work.dirty = false;
        Some(Work {
            incident: work.incident.clone(),
            dirty: false,
            tail: work.tail.take(),
            looks: work.looks.clone(),
            ports: work.ports.clone(),
        })
    }

    /// Keeps what was gathered; lets go of what is over.
    fn give_back(&self, gathered: Incident, is_written: bool) {
        let mut works = self.desk.lock();
        let Some(work) = works.open.get_mut(&gathered.id) else { return };
        work.dirty |= !is_written;
        if gathered.outcome != Outcome::Open && !work.dirty {
            works.open.remove(&gathered.id);
            return;
        }
        let Incident { log, host, port_holder, .. } = gathered;
        let incident = &mut work.incident;
        (incident.log, incident.host, incident.port_holder) = (log, host, port_holder);
    }

    fn read_log(&mut self, incident: &mut Incident, tail: Tail, ports: &[u16]) {
        let lines = tail.read();
        let shown = |it: &Vec<u8>| clipped(&String::from_utf8_lossy(it), LINE_MAX);
        let lines: Vec<String> = lines.iter().map(shown).collect();
        let before = cause::last_line(incident).cloned();
        if let Some(line) = lines.iter().rev().take(5).find(|it| cause::is_taken_port(it)) {
            incident.port_holder = holder(line, ports);
        }
        incident.log.truncate(1);
        incident.log.push(LogTail { at: Stamp::now(), lines });
        // Of a run that hung they are the middle of a stack at best.
        let crashed = incident.failures.last().is_some_and(|it| it.reason == "exited");
        let last = cause::last_line(incident).filter(|_| crashed);
        // What a crash loop says again and again is told once.
        if let Some(line) = last.filter(|it| before.as_ref() != Some(it)) {
            let (service, line) = (incident.service.clone(), clipped(line, QUOTE_MAX));
            let port_holder = incident.port_holder.clone();
            (self.tell)(Told::LastLine { service, line, port_holder });
        }
    }

    fn tell_of(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.told = None,
            Err(error) => {
                let folder = self.folder.display();
                let text = format!("cannot write an incident to `{folder}`: {error}, retrying");
                if self.told.as_ref() != Some(&text) {
                    (self.tell)(Told::Trouble(text.clone()));
                    self.told = Some(text);
                }
            }
        }
    }

    /// An earlier keepup was killed, or the machine was, before these were over.
    fn mark_left_open(&mut self) {
        for id in ids(&self.folder).unwrap_or_default() {
            let path = self.folder.join(format!("{id}.json"));
            let Ok(text) = read_bounded(&path) else { continue };
            let Ok(mut incident) = serde_json::from_str::<Incident>(&text) else { continue };
            if incident.outcome == Outcome::Open && incident.id == id {
                let at = incident.chronology.last().map_or(incident.began_at, |it| it.at);
                incident.end(Outcome::Unknown, at);
                let written = put(&self.folder, &incident);
                self.tell_of(written);
            }
        }
    }
}

/// Who holds a port that this line names, or at which the service is probed.
fn holder(line: &str, ports: &[u16]) -> Option<String> {
    let numbers = line.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok());
    // The number of the error stands in some lines, too.
    let named = numbers.filter(|it| ![0, 98].contains(it));
    named.chain(ports.iter().copied()).find_map(listeners::holder)
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("incidents")
}

fn put(folder: &Path, incident: &Incident) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    let mut json = serde_json::to_vec_pretty(incident)?;
    json.push(b'\n');
    let id = &incident.id;
    put_file(folder, &format!("{id}.md"), text::markdown(incident).as_bytes())?;
    put_file(folder, &format!("{id}.json"), &json)
}

fn put_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = folder.join(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o640).open(&aside);
    let written = file.and_then(|mut file: File| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match written {
        Ok(()) => fs::rename(&aside, folder.join(name)),
        Err(error) => {
            // A full disk is not made fuller.
            let _ = fs::remove_file(&aside);
            Err(error)
        }
    }
}

/// Removes the oldest ones beyond so many; those that are open stay.
fn prune(folder: &Path, keep: usize, desk: &Desk) {
    let Ok(mut ids) = ids(folder) else { return };
    ids.sort_unstable_by(|a, b| b.cmp(a));
    for id in ids.split_off(keep.min(ids.len())) {
        if !desk.lock().open.contains_key(&id) {
            // What cannot be removed now is tried again with the next one.
            let _ = fs::remove_file(folder.join(format!("{id}.md")));
            let _ = fs::remove_file(folder.join(format!("{id}.json")));
        }
    }
}

fn ids(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.flatten();
    let id = |it: fs::DirEntry| {
        let name = it.file_name().into_string().ok()?;
        Some(name.strip_suffix(".json").filter(|it| !it.starts_with('.'))?.to_owned())
    };
    Ok(entries.filter_map(id).collect())
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_MAX {
        return Err(io::Error::other("it is too large"));
    }
    fs::read_to_string(path)
}

/// An incident in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The name of its files.
    pub id: String,
    /// Whose.
    pub service: String,
    /// Why.
    pub reason: String,
    /// The same in words.
    pub what: String,
    /// When it began.
    pub began_at: Stamp,
    /// When it was over.
    pub ended_at: Option<Stamp>,
    /// What became of it.
    pub outcome: Outcome,
    /// Runs that failed.
    pub failures_count: u64,
}

/// The incidents in this state folder, newest first; none where there is no folder. Reads files.
///
/// # Errors
///
/// The folder cannot be read. A file that cannot be is left out.
pub fn list(state_dir: &Path) -> io::Result<Vec<Listed>> {
    let folder = folder(state_dir);
    let ids = newest_first(state_dir)?;
    let read = |id: &String| {
        let text = read_bounded(&folder.join(format!("{id}.json"))).ok()?;
        serde_json::from_str::<Listed>(&text).ok()
    };
    Ok(ids.iter().filter_map(read).collect())
}

/// Their ids. Reads the folder.
///
/// # Errors
///
/// The folder cannot be read; that there is none is no error.
pub fn newest_first(state_dir: &Path) -> io::Result<Vec<String>> {
    match ids(&folder(state_dir)) {
        Ok(mut ids) => {
            ids.sort_unstable_by(|a, b| b.cmp(a));
            Ok(ids)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// One of its files, `json` or `md`; nothing if there is no such incident. Reads a file.
///
/// # Errors
///
/// It is there and cannot be read.
pub fn read(state_dir: &Path, id: &str, form: &str) -> io::Result<Option<String>> {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
    if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
        return Ok(None);
    }
    match read_bounded(&folder(state_dir).join(format!("{id}.{form}"))) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
