//! Questions about runs for a thread that is there only while something is asked: what is asked
//! meanwhile waits for the same thread, and what was read last of each service stays here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plan::Name;

/// Questions `Q`, and of each service a reading `R`.
#[derive(Debug)]
pub(super) struct Desk<Q, R> {
    state: Mutex<State<Q, R>>,
}

#[derive(Debug)]
struct State<Q, R> {
    waiting: Vec<Q>,
    /// A thread is at it, and takes what is waiting next.
    at_work: bool,
    last: HashMap<Name, R>,
}

impl<Q, R> Desk<Q, R> {
    pub(super) fn new() -> Desk<Q, R> {
        let state = State { waiting: Vec::new(), at_work: false, last: HashMap::new() };
        Desk { state: Mutex::new(state) }
    }

    /// Says whether a thread must be sent: none is at work.
    #[must_use = "nobody answers without a thread"]
    pub(super) fn ask(&self, question: Q) -> bool {
        let mut state = self.lock();
        state.waiting.push(question);
        !std::mem::replace(&mut state.at_work, true)
    }

    /// For the thread: what is waiting; nothing: the work is done, and the next that asks sends
    /// another.
    pub(super) fn next(&self) -> Option<Vec<Q>> {
        let mut state = self.lock();
        let questions = std::mem::take(&mut state.waiting);
        state.at_work = !questions.is_empty();
        state.at_work.then_some(questions)
    }

    /// What was read last of a service.
    pub(super) fn last(&self, name: &Name) -> Option<R>
    where
        R: Clone,
    {
        self.lock().last.get(name).cloned()
    }

    pub(super) fn keep(&self, name: Name, reading: R) {
        self.lock().last.insert(name, reading);
    }

    /// A service is no more.
    pub(super) fn forget(&self, name: &Name) {
        self.lock().last.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State<Q, R>> {
        // Each field is valid on its own, whatever panicked between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
