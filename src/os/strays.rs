//! Children that keepup did not start: orphans from below its services.
//!
//! Whose they are is told by their mark, which stands in their environment. Reading it may hang, so
//! a thread does that, and the loop never waits for it.

use std::collections::{HashMap, HashSet};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::clock::now;
use super::marker::Keepup;
use super::procfs;
use crate::core::event::{Pid, Time};

/// How long one may take to be read, before it counts as not marked.
const PATIENCE: Duration = Duration::from_secs(1);
/// Threads that may be reading, or hanging, at once.
const READERS_MAX: usize = 4;

/// Whose a stray is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of this service's run.
    Run { service: String, run: String },
    /// It bears no mark of ours, or none that can be read.
    Unmarked,
}

#[derive(Debug)]
enum Knowledge {
    Known(Whose),
    /// To be asked about since this time, and nobody was free to do it.
    Waiting(Time),
    /// Asked at this time; the number tells the answer from one about an earlier owner of the pid.
    Asked(u64, Time),
}

/// What is known about children that nobody started. An entry lives until its pid is reaped, and
/// since nobody else reaps, it is never about somebody else.
#[derive(Debug)]
pub(super) struct Strays {
    keepup: Keepup,
    known: HashMap<Pid, Knowledge>,
    asked: u64,
    readers: usize,
    answers: UnboundedReceiver<Answer>,
    answering: UnboundedSender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Read { pid: Pid, number: u64, whose: Whose },
    ReaderDone,
}

impl Strays {
    pub(super) fn new(keepup: Keepup) -> Strays {
        let (answering, answers) = unbounded_channel();
        Strays { keepup, known: HashMap::new(), asked: 0, readers: 0, answers, answering }
    }

    /// Whose each of these is; without those that are being asked about, for whom `poll_answers`
    /// will wake the task.
    pub(super) fn whose(&mut self, strays: &HashSet<Pid>) -> (Vec<(Pid, Whose)>, Asking) {
        let now = now();
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        let mut asking = Asking::Nobody;
        for &pid in strays {
            match self.known.get(&pid) {
                Some(Knowledge::Known(whose)) => known.push((pid, whose.clone())),
                Some(Knowledge::Asked(_, since) | Knowledge::Waiting(since))
                    if *since + PATIENCE <= now =>
                {
                    self.known.insert(pid, Knowledge::Known(Whose::Unmarked));
                    known.push((pid, Whose::Unmarked));
                }
                Some(Knowledge::Asked(..)) => asking = Asking::Somebody,
                Some(Knowledge::Waiting(_)) | None => unknown.push(pid),
            }
        }
        if !unknown.is_empty() {
            asking = Asking::Somebody;
            self.ask(&unknown, now);
        }
        (known, asking)
    }

    fn ask(&mut self, strays: &[Pid], now: Time) {
        for &pid in strays {
            self.known.entry(pid).or_insert(Knowledge::Waiting(now));
        }
        if self.readers >= READERS_MAX {
            return;
        }
        self.asked += 1;
        let number = self.asked;
        let (pids, keepup, answering) =
            (strays.to_vec(), self.keepup.clone(), self.answering.clone());
        let reader = std::thread::Builder::new().name("strays".to_owned()).stack_size(128 << 10);
        let reading = reader.spawn(move || {
            for pid in pids {
                let environ = procfs::environ(pid).unwrap_or_default();
                let whose = keepup
                    .find(&environ)
                    .map_or(Whose::Unmarked, |(service, run)| Whose::Run { service, run });
                // Nobody listens when keepup is ending.
                answering.send(Answer::Read { pid, number, whose }).ok();
            }
            answering.send(Answer::ReaderDone).ok();
        });
        // Without a thread they wait for the next check.
        if reading.is_ok() {
            self.readers += 1;
            for &pid in strays {
                self.known.insert(pid, Knowledge::Asked(number, now));
            }
        }
    }

    /// Takes in what was read meanwhile; ready if there was anything.
    pub(super) fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut learned = Poll::Pending;
        while let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) {
            learned = Poll::Ready(());
            match answer {
                Answer::ReaderDone => self.readers -= 1,
                Answer::Read { pid, number, whose } => {
                    if let Some(Knowledge::Asked(asked, _)) = self.known.get(&pid)
                        && *asked == number
                    {
                        self.known.insert(pid, Knowledge::Known(whose));
                    }
                }
            }
        }
        learned
    }

    /// This pid was reaped: what is known about it is of no use any more.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.known.remove(&pid);
    }
}

/// Whether an answer is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// All are known.
    Nobody,
    /// For one at least.
    Somebody,
}
