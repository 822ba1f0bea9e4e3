//! The journal: takes in what people should know, and passes it on to the log, to the events on
//! disk, to those who follow them, and to what the status says of troubles.
//!
//! Cheap to clone. Never blocks the loop, never fails, never grows without a limit.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::book::{Page, Weight};
use super::event_file::EventFile;
use super::line::{self, Other};
use crate::core::event::{Note, Short};
use crate::plan::{Level, Name};
use crate::status::{self, Stamp, Status};

/// Events kept in memory.
const EVENTS_MAX: usize = 10_000;
/// Bytes of events kept in memory, whichever comes first.
const BYTES_MAX: usize = 2 << 20;
/// Events that a follower may be behind before it is dropped.
const FOLLOW_MAX: usize = 1024;

/// The journal.
#[derive(Clone, Debug)]
pub struct Journal {
    memory: Arc<Mutex<Memory>>,
    file: Option<EventFile>,
}

#[derive(Debug, Default)]
struct Memory {
    events: VecDeque<Arc<str>>,
    bytes: usize,
    pages: HashMap<Name, Page>,
    followers: Followers,
}

/// Those who follow; there is nothing of it before the first one. `None`: that was the last event.
#[derive(Debug, Default)]
struct Followers(Option<broadcast::Sender<Option<Arc<str>>>>);

impl Followers {
    fn one_more(&mut self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.0.get_or_insert_with(|| broadcast::Sender::new(FOLLOW_MAX)).subscribe()
    }

    fn send(&mut self, event: Option<Arc<str>>) {
        // Nobody follows any more: that is no failure.
        self.0.take_if(|it| it.send(event).is_err());
    }
}

impl Journal {
    /// A journal that writes nothing to disk.
    pub fn in_memory() -> Journal {
        Journal { memory: Arc::default(), file: None }
    }

    /// A journal that appends to `<state_dir>/events.jsonl`. Fails only if there is no thread to be
    /// had for it; a folder that cannot be written to is a warning of the log.
    pub fn open(state_dir: &Path) -> io::Result<Journal> {
        let file = Some(EventFile::open(state_dir)?);
        Ok(Journal { file, ..Journal::in_memory() })
    }

    /// A note of the core.
    pub fn note(&self, service: &Name, note: &Note) {
        let (at, text) = (Stamp::now(), note.to_string());
        let mut memory = self.memory();
        let page = memory.pages.entry(Name::clone(service)).or_default();
        let weight = page.note(at, note, &text);
        self.keep(memory, line::of_note(at, service, note, &text));
        tell(level(note, weight), service, &text);
    }

    /// The host stood still for so long.
    pub fn stalled(&self, gap: Duration) {
        let text = format!("the host stood still for {}; deadlines were moved", Short(gap));
        let line = line::of_other(Stamp::now(), &Other::Stalled { gap }, &text);
        self.keep(self.memory(), line);
        self.say(Level::Warn, &text);
    }

    /// Memory or disk of the machine reached another level.
    pub(super) fn full(&self, what: &str, used_percent: f64, level: status::Level, text: &str) {
        let other = Other::Full { what, used_percent, level };
        self.keep(self.memory(), line::of_other(Stamp::now(), &other, text));
        self.say(
            match level {
                status::Level::Normal => Level::Info,
                status::Level::Warning | status::Level::Degraded => Level::Warn,
                status::Level::Critical => Level::Error,
            },
            text,
        );
    }

    /// Lines of a service's log were lost.
    pub fn lost_lines(&self, service: &Name, lines: u64, why: &str) {
        let line = line::of_other(Stamp::now(), &Other::LostLines { service, lines, why }, why);
        self.keep(self.memory(), line);
        tell(Level::Warn, service, why);
    }

    /// Something about keepup itself, for the log alone.
    pub fn say(&self, level: Level, text: &str) {
        tell(level, "keepup", text);
    }

    /// Something about a service that is no event, for the log alone.
    pub fn say_of(&self, level: Level, service: &Name, text: &str) {
        tell(level, service, text);
    }

    /// What a service printed last before it failed; and who holds its port, if that is why.
    pub fn last_line(&self, service: &Name, line: &str, port_holder: Option<&str>) {
        if let Some(page) = self.memory().pages.get_mut(service) {
            page.last_line = Some(line.to_owned());
        }
        tell(Level::Info, service, &format!("it printed last: {line}"));
        if let Some(holder) = port_holder {
            tell(Level::Warn, service, &format!("its port is taken: {holder} holds it"));
        }
    }

    /// The last events, oldest first, as lines of JSON.
    pub fn tail(&self, lines: usize) -> Vec<Arc<str>> {
        let memory = self.memory();
        let skipped = memory.events.len().saturating_sub(lines);
        memory.events.iter().skip(skipped).cloned().collect()
    }

    /// The last events, and from there on each as it comes; `None` after the last one.
    pub fn follow(&self, lines: usize) -> (Vec<Arc<str>>, broadcast::Receiver<Option<Arc<str>>>) {
        // Subscribed first, under the lock that `keep` sends under: none is missed, none comes twice.
        let mut memory = self.memory();
        let receiver = memory.followers.one_more();
        let skipped = memory.events.len().saturating_sub(lines);
        (memory.events.iter().skip(skipped).cloned().collect(), receiver)
    }

    /// Fills in what only the journal knows: what is wrong with each service, and since when.
    pub fn fill(&self, status: &mut Status) {
        let memory = self.memory();
        for service in &mut status.services {
            let page = memory.pages.get(service.name.as_str());
            service.trouble = page.and_then(Page::trouble);
        }
    }

    /// A service is no more.
    pub fn forget(&self, service: &Name) {
        self.memory().pages.remove(service);
    }

    /// Tells those who follow that there will be nothing more.
    pub fn dismiss(&self) {
        self.memory().followers.send(None);
    }

    /// Waits until all events are on disk, but no longer than `limit`; for the end of keepup.
    pub fn close(&self, limit: Duration) {
        if let Some(file) = &self.file {
            file.close(limit);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic elsewhere leaves the memory in order: each change to it is complete in itself.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mut memory: MutexGuard<'_, Memory>, line: Arc<str>) {
        if let Some(file) = &self.file {
            file.write(&line);
        }
        memory.followers.send(Some(Arc::clone(&line)));
        memory.bytes += line.len();
        memory.events.push_back(line);
        while memory.events.len() > EVENTS_MAX || memory.bytes > BYTES_MAX {
            let Some(oldest) = memory.events.pop_front() else {
                break;
            };
            memory.bytes -= oldest.len();
        }
    }
}

/// How loud a note is.
fn level(note: &Note, weight: Weight) -> Level {
    match note {
        Note::GaveUp { .. } => Level::Error,
        Note::Unhealthy { .. }
        | Note::Busy { .. }
        | Note::Killing { .. }
        | Note::Stuck { .. }
        | Note::HookStuck { .. }
        | Note::HookFailed { .. }
        | Note::Degraded { .. } => Level::Warn,
        Note::Waits { .. }
        | Note::Starting { .. }
        | Note::Up { .. }
        | Note::Ready { .. }
        | Note::Miss { .. }
        | Note::Healthy
        | Note::Hanging { .. }
        | Note::Stopping { .. }
        | Note::Ended { .. }
        | Note::Backoff { .. }
        | Note::Down
        | Note::Done
        | Note::Reloaded { .. } => match weight {
            Weight::News => Level::Info,
            Weight::Repetition => Level::Debug,
        },
    }
}

fn tell(level: Level, service: &str, text: &str) {
    match level {
        Level::Error => tracing::error!(service, "{text}"),
        Level::Warn => tracing::warn!(service, "{text}"),
        Level::Info => tracing::info!(service, "{text}"),
        Level::Debug => tracing::debug!(service, "{text}"),
        Level::Trace => tracing::trace!(service, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Pid;

    #[test]
    fn memory_keeps_the_last_events_within_both_limits() {
        let journal = Journal::in_memory();
        let name = Name::from("api");
        for pid in 0..10_010 {
            journal.note(&name, &Note::Up { pid: Pid(pid) });
        }
        let events = journal.tail(usize::MAX);
        assert_eq!(events.len(), EVENTS_MAX);
        assert!(events[0].contains(r#""pid":10,"#), "{}", events[0]);
        let why = "x".repeat(BYTES_MAX / 4);
        for _ in 0..8 {
            journal.note(&name, &Note::Unhealthy { why: why.clone() });
        }
        // Each line carries its reason twice, once in words: one fits, two do not.
        assert_eq!(journal.tail(usize::MAX).len(), 1);
    }

    #[test]
    fn a_follower_gets_the_tail_and_then_each_event_once() {
        let journal = Journal::in_memory();
        let name = Name::from("api");
        journal.note(&name, &Note::Up { pid: Pid(1) });
        journal.note(&name, &Note::Up { pid: Pid(2) });
        let (tail, mut events) = journal.follow(1);
        journal.note(&name, &Note::Up { pid: Pid(3) });
        assert_eq!(tail.len(), 1);
        assert!(tail[0].contains(r#""pid":2,"#));
        assert!(events.try_recv().unwrap().unwrap().contains(r#""pid":3,"#));
        assert!(events.try_recv().is_err());
        journal.dismiss();
        assert_eq!(events.try_recv().unwrap(), None);
    }

    #[test]
    fn the_last_line_is_quoted_while_a_service_crashes_and_no_longer() {
        let journal = Journal::in_memory();
        let name = Name::from("api");
        let trouble = || journal.memory().pages.get(&name).and_then(Page::trouble);
        let gave_up = Note::GaveUp { why: "why".to_owned(), retry: None };
        journal.note(&name, &gave_up);
        journal.last_line(&name, "no such module", None);
        let what = "given up: why; it printed last: no such module";
        assert_eq!(trouble().unwrap().what, what);
        journal.note(&name, &Note::Ready { after: Duration::ZERO });
        assert_eq!(trouble(), None);
        journal.note(&name, &gave_up);
        assert_eq!(trouble().unwrap().what, what);
        journal.note(&name, &Note::Degraded { why: "slow".to_owned() });
        assert_eq!(trouble().unwrap().what, "degraded: slow");
    }

    #[test]
    fn a_repetition_is_for_the_debugging_only() {
        let up = Note::Up { pid: Pid(1) };
        assert_eq!(level(&up, Weight::News), Level::Info);
        assert_eq!(level(&up, Weight::Repetition), Level::Debug);
        let gave_up = Note::GaveUp { why: String::new(), retry: None };
        assert_eq!(level(&gave_up, Weight::News), Level::Error);
    }
}
