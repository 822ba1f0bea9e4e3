//! One question, one bounded answer: the core says when to ask and judges lateness, this asks.
//!
//! A question must never outlive its abandonment, wait without an end, or end without a reason.

pub mod exec;
mod file;
mod grpc;
pub mod heartbeat;
pub mod http;
mod json;
mod listening;
mod redirect;
pub mod tcp;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::core::event::{Answer, Event, Miss, Pid, Ticket};
use crate::net::client::{Failure, Limits};
use crate::plan::{self, Class, HttpAddress, Name, Probe, ProbeKind, WaitFor};

/// Bytes of a body that are read; more says nothing about a service's health.
const BODY_MAX: usize = 64 * 1024;

/// Asks the questions that need no process of their own: all but `exec`.
#[derive(Debug)]
pub struct Prober {
    answers: mpsc::Sender<Event>,
    pending: Pending,
    ages: file::Ages,
    remarks: Remarks,
}

/// The questions whose answer has not been handed over.
#[derive(Clone, Debug, Default)]
struct Pending(Arc<Mutex<HashMap<Ticket, AbortHandle>>>);

impl Prober {
    /// A prober that sends [`Event::Probed`] to `answers`, and waits where there is no room.
    pub fn new(answers: mpsc::Sender<Event>) -> Prober {
        Prober::remarking(answers, Box::new(|_, _| {}))
    }

    /// One that also has something to say of answers that pass: each thing once a service.
    pub fn remarking(answers: mpsc::Sender<Event>, say: Say) -> Prober {
        Prober {
            answers,
            pending: Pending::default(),
            ages: file::Ages::default(),
            remarks: Remarks(Arc::new((say, Mutex::default()))),
        }
    }

    /// Asks; to be called within a tokio runtime. One answer follows, unless it is abandoned.
    ///
    /// `main` is the main process of the run that is asked, if it lives. `exec` probes need a
    /// process, which `os` spawns and [`exec::judge`] judges: here they miss.
    pub fn ask(&mut self, name: &Name, ticket: Ticket, probe: &Probe, main: Option<Pid>) {
        self.put(name, ticket, What::Probe(probe.kind.clone(), main), probe.timeout);
    }

    /// Asks for something that a service needs, as [`Prober::ask`] does.
    pub fn ask_need(&mut self, name: &Name, ticket: Ticket, need: &WaitFor, timeout: Duration) {
        let what = match &need.question {
            plan::Question::Connect(address) => What::Connect(address.clone()),
            plan::Question::Http(http) => What::Probe(ProbeKind::Http(http.clone()), None),
        };
        self.put(name, ticket, what, timeout);
    }

    fn put(&mut self, name: &Name, ticket: Ticket, what: What, timeout: Duration) {
        let question = Question {
            name: name.clone(),
            ticket,
            what,
            // The core says what is late; this is a backstop of twice the timeout.
            limits: Limits { timeout, slack: timeout, body: BODY_MAX },
            answers: self.answers.clone(),
            ages: self.ages.clone(),
            remarks: self.remarks.clone(),
        };
        let entry = Entry { ticket, pending: self.pending.clone() };
        // The task takes itself off the list, so it must stand there before it runs.
        let mut pending = self.pending.list();
        let task = tokio::spawn(async move {
            let _entry = entry;
            question.put().await;
        });
        pending.insert(ticket, task.abort_handle());
    }

    /// Nobody waits for this answer any more: the connection is closed and nothing is left.
    pub fn abandon(&mut self, ticket: Ticket) {
        let task = self.pending.list().remove(&ticket);
        if let Some(task) = task {
            task.abort();
        }
    }

    /// A service is no more.
    pub fn forget(&self, name: &Name) {
        let mut made = self.remarks.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|it| it.0 != *name);
    }

    /// How many questions have not been answered.
    pub fn pending(&self) -> usize {
        self.pending.list().len()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.pending.list());
        for task in tasks.into_values() {
            task.abort();
        }
    }
}

impl Pending {
    fn list(&self) -> MutexGuard<'_, HashMap<Ticket, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question's place on the list, left when the question ends, in whatever way.
struct Entry {
    ticket: Ticket,
    pending: Pending,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pending.list().remove(&self.ticket);
    }
}

enum What {
    /// A probe's question, of the run with this main process.
    Probe(ProbeKind, Option<Pid>),
    /// Whether somebody takes a connection.
    Connect(HttpAddress),
}

struct Question {
    name: Name,
    ticket: Ticket,
    what: What,
    limits: Limits,
    answers: mpsc::Sender<Event>,
    ages: file::Ages,
    remarks: Remarks,
}

impl Question {
    async fn put(self) {
        let asked = Instant::now();
        let answer = match &self.what {
            What::Probe(kind, main) => self.probe(kind, *main).await,
            What::Connect(address) => tcp::touch(address, self.limits).await,
        };
        let took = asked.elapsed();
        let event = Event::Probed { name: self.name, ticket: self.ticket, answer, took };
        // If nobody listens any more, keepup is ending.
        let _ = self.answers.send(event).await;
    }

    async fn probe(&self, kind: &ProbeKind, main: Option<Pid>) -> Answer {
        match kind {
            ProbeKind::Http(http) => {
                let remark = |text: &str| self.remarks.make(&self.name, text);
                http::ask(http, self.limits, remark).await
            }
            ProbeKind::Tcp(address) => tcp::ask(address, self.limits).await,
            ProbeKind::File(file) => file::ask(file, self.limits, &self.name, &self.ages).await,
            ProbeKind::Listening(address) => listening::ask(*address, self.limits, main).await,
            ProbeKind::Grpc(grpc) => grpc::ask(grpc, self.limits).await,
            ProbeKind::Exec(_) => miss(Class::Other, "cannot ask: a command needs a process"),
        }
    }
}

/// Tells people something of a service.
pub type Say = Box<dyn Fn(&Name, &str) + Send + Sync>;

/// More things are not worth remembering, nor saying.
const REMARKS_MAX: usize = 256;

/// What is to be said once.
#[derive(Clone)]
struct Remarks(Arc<(Say, Mutex<Made>)>);

/// Of which service, and what.
type Made = BTreeSet<(Name, String)>;

impl Remarks {
    fn make(&self, name: &Name, text: &str) {
        let (say, made) = &*self.0;
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() < REMARKS_MAX && made.insert((name.clone(), text.to_owned())) {
            say(name, text);
        }
    }
}

impl fmt::Debug for Remarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remarks")
    }
}

fn miss(class: Class, text: impl Into<String>) -> Answer {
    Answer::Miss(Miss { class, text: text.into() })
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Answer {
        miss(failure.class, failure.text)
    }
}
