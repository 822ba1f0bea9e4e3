//! All remains that are being ended, and when to look at them again.
//!
//! A death is the normal reason to look; a timer runs only while something does not die.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::clock::now;
use super::remains::{Kind, Manner, Remains, Surroundings};
use super::strays::Strays;
use super::tag::Tags;
use crate::core::event::Pid;

/// Between two looks at what does not die, at first and at most.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(2);

/// What is left of dead main processes and probes.
#[derive(Debug)]
pub(super) struct Sweep {
    remains: Vec<Remains>,
    strays: Strays,
    tags: Tags,
    /// Something happened that may have changed what is left.
    news: bool,
    timer: Option<Pin<Box<Sleep>>>,
    delay: Duration,
}

/// The processes that have an owner.
pub(super) struct Living<'a> {
    /// It was started by keepup, and is alive or not reaped.
    pub(super) is_known: &'a dyn Fn(Pid) -> bool,
    /// How many services and hooks run.
    pub(super) runs: usize,
    /// More deaths are about to be reaped: one look after them is enough.
    pub(super) in_burst: bool,
}

impl Sweep {
    pub(super) fn new(strays: Strays, tags: Tags) -> Sweep {
        Sweep { remains: Vec::new(), strays, tags, news: false, timer: None, delay: DELAY_MIN }
    }

    /// Remains of a run wait for `begin`; those of a probe do not.
    pub(super) fn add(&mut self, remains: Remains) {
        self.remains.push(remains);
    }

    /// The remains of this main process are to be ended, or waited for. False: there are none.
    pub(super) fn begin(&mut self, pid: Pid, manner: Manner) -> bool {
        let Some(remains) = self.remains.iter_mut().find(|it| it.pid == pid) else { return false };
        if remains.since.is_none() || remains.manner != manner {
            remains.manner = manner;
            remains.since = Some(now());
        }
        true
    }

    /// This child was reaped, whosever it was.
    pub(super) fn reaped(&mut self, pid: Pid) {
        self.strays.forget(pid);
        self.news = true;
    }

    /// The runs of which nothing is left now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, living: &Living<'_>) -> Vec<Pid> {
        if self.strays.poll_answers(cx).is_ready() {
            self.news = true;
        }
        // A burst that never ends must not put it off for ever.
        let due = self.poll_timer(cx);
        if due {
            self.timer = None;
            self.delay = (self.delay * 2).min(DELAY_MAX);
        }
        let gone =
            if due || (self.news && !living.in_burst) { self.end(living) } else { Vec::new() };
        if self.poll_timer(cx) {
            cx.waker().wake_by_ref();
        }
        gone
    }

    /// Also has the task woken by it.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready())
    }

    /// Kills what is left, and forgets those of which nothing is.
    pub(super) fn end(&mut self, living: &Living<'_>) -> Vec<Pid> {
        self.news = false;
        let mut gone = Vec::new();
        if self.remains.iter().any(|it| it.since.is_some()) {
            let dead_runs = self.remains.iter().filter(|it| it.kind != Kind::Probe).count();
            let alone = living.runs + dead_runs == 1;
            let mut around = Surroundings::new(living.is_known, alone, &self.tags);
            let strays = &mut self.strays;
            let ended = self
                .remains
                .extract_if(.., |it| it.since.is_some() && it.end(&mut around, strays))
                .filter(|it| it.kind != Kind::Probe);
            gone.extend(ended.map(|it| it.pid));
        }
        if self.remains.iter().all(|it| it.since.is_none()) {
            self.timer = None;
            self.delay = DELAY_MIN;
        } else if self.timer.is_none() {
            let at = Instant::now() + self.delay;
            self.timer = Some(Box::pin(tokio::time::sleep_until(at)));
        }
        gone
    }
}
