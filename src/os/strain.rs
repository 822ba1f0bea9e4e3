//! Whether the host starves, and a run with it: what its tasks waited for, what its control groups
//! were refused, and what the kernel says of pressure.
//!
//! Never on the loop. Each figure may be missing: in containers, on old kernels, without rights.
//!
//! Sources: the kernel's `Documentation/scheduler/sched-stats.rst` (`/proc/<pid>/schedstat`),
//! `accounting/psi.rst`, `admin-guide/cgroup-v2.rst` and `scheduler/sched-bwc.rst` (`cpu.stat`).

mod groups;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::groups::Throttle;
use super::desk::Desk;
use super::pressure::{Pressure, Stall};
use super::usage::tree_in;
use crate::core::event::{Event, HostSample, Pid, Ticket};
use crate::plan::Name;

/// Between two readings of what only grows, at the least: a period in which the kernel lets a
/// limited group run.
const PAUSE: Duration = Duration::from_millis(100);

/// A reading older than this says nothing of an outage.
const READING_AGE_MAX: Duration = Duration::from_secs(600);

/// Tasks of a run that are looked at.
const TASKS_MAX: usize = 1024;

/// Looks at the host, and answers with [`Event::HostSample`].
#[derive(Debug)]
pub struct Gauge {
    answers: mpsc::Sender<Event>,
    places: Arc<Places>,
    desk: Arc<Desk<Question, Reading>>,
}

/// Where the kernel shows what it knows.
#[derive(Debug)]
struct Places {
    proc: PathBuf,
    cgroup: PathBuf,
}

#[derive(Debug)]
struct Question {
    name: Name,
    /// Nothing: it is enough to look.
    ticket: Option<Ticket>,
    main: Pid,
    asked: Instant,
    lag: Duration,
}

/// What only grows.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    main: Pid,
    /// How long each task has waited for a processor, in nanoseconds.
    waited: HashMap<PathBuf, u64>,
    throttles: HashMap<PathBuf, Throttle>,
}

impl Gauge {
    /// A gauge that sends [`Event::HostSample`] to `answers`, and waits where there is no room.
    pub fn new(answers: mpsc::Sender<Event>) -> Gauge {
        Gauge::at(answers, "/proc".into(), "/sys/fs/cgroup".into())
    }

    fn at(answers: mpsc::Sender<Event>, proc: PathBuf, cgroup: PathBuf) -> Gauge {
        Gauge { answers, places: Arc::new(Places { proc, cgroup }), desk: Arc::new(Desk::new()) }
    }

    /// A service is no more.
    pub fn forget(&self, name: &Name) {
        self.desk.forget(name);
    }

    /// Looks at the host of the run with this main process; to be called within a tokio runtime. With
    /// a ticket, one answer follows, unless the system hangs; without, a later look has something to
    /// compare with.
    pub fn look(&self, name: &Name, ticket: Option<Ticket>, main: Pid) {
        let (name, asked, lag) = (name.clone(), Instant::now(), Duration::ZERO);
        if !self.desk.ask(Question { name, ticket, main, asked, lag }) {
            return;
        }
        let (desk, answers) = (Arc::clone(&self.desk), self.answers.clone());
        let places = Arc::clone(&self.places);
        tokio::task::spawn_blocking(move || {
            let mut first = true;
            while let Some(mut questions) = desk.next() {
                // What came while others were answered has waited for those.
                for question in questions.iter_mut().filter(|_| first) {
                    question.lag = question.asked.elapsed();
                }
                first = false;
                for event in take(&places, &desk, questions) {
                    // Nobody is there any more: keepup ends.
                    if answers.blocking_send(event).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn take(places: &Places, desk: &Desk<Question, Reading>, questions: Vec<Question>) -> Vec<Event> {
    let (asked, watched): (Vec<_>, Vec<_>) =
        questions.into_iter().partition(|it| it.ticket.is_some());
    for question in watched {
        let reading = places.reading(question.main);
        desk.keep(question.name, reading);
    }
    answer(places, desk, asked)
}

/// One pause for all: when a host starves, many ask at once.
fn answer(places: &Places, desk: &Desk<Question, Reading>, questions: Vec<Question>) -> Vec<Event> {
    let known = |question: &Question| {
        let before = desk.last(&question.name);
        before.filter(|it| {
            let age = it.at.elapsed();
            it.main == question.main && (PAUSE..READING_AGE_MAX).contains(&age)
        })
    };
    let mut before: Vec<Option<Reading>> = questions.iter().map(known).collect();
    if before.iter().any(Option::is_none) {
        for (before, question) in before.iter_mut().zip(&questions) {
            before.get_or_insert_with(|| places.reading(question.main));
        }
        pause();
    }
    let pressure = Pressure::in_proc(&places.proc);
    let answer = |(question, before): (Question, Option<Reading>)| {
        let now = places.reading(question.main);
        let sample =
            HostSample { lag: question.lag, ..places.compare(before.as_ref(), &now, pressure) };
        let Question { name, ticket, .. } = question;
        desk.keep(name.clone(), now);
        Some(Event::HostSample { name, ticket: ticket?, sample })
    };
    questions.into_iter().zip(before).filter_map(answer).collect()
}

#[expect(clippy::disallowed_methods, reason = "on a thread of its own, and what grows takes time")]
fn pause() {
    thread::sleep(PAUSE);
}

impl Places {
    fn reading(&self, main: Pid) -> Reading {
        let mut waited = HashMap::new();
        for pid in tree_in(&self.proc, main.0) {
            let Ok(tasks) = fs::read_dir(self.proc.join(format!("{pid}/task"))) else { continue };
            for task in tasks.filter_map(Result::ok).take(TASKS_MAX - waited.len()) {
                if let Some(nanos) = run_delay(&task.path()) {
                    waited.insert(task.path(), nanos);
                }
            }
        }
        let throttle = |folder: PathBuf| Some((folder.clone(), Throttle::read(&folder)?));
        let throttles = self.groups(main).into_iter().filter_map(throttle).collect();
        Reading { at: Instant::now(), main, waited, throttles }
    }

    /// What was short between the two; the pressure is that of the host.
    fn compare(&self, before: Option<&Reading>, now: &Reading, host: Pressure) -> HostSample {
        let groups = self.groups(now.main);
        let all: Vec<Pressure> =
            groups.iter().map(|it| Pressure::of_group(it)).chain([host]).collect();
        let most = |what: fn(&Pressure) -> Option<Stall>| {
            greatest(all.iter().filter_map(what).map(|it| it.some_avg10))
        };
        let span = before.map_or(0.0, |it| now.at.duration_since(it.at).as_secs_f64());
        HostSample {
            cpu: most(|it| it.cpu),
            memory: most(|it| it.memory),
            io: most(|it| it.io),
            throttled: before.and_then(|before| {
                let both = |(folder, now): (&PathBuf, &Throttle)| {
                    before.throttles.get(folder)?.percent_until(now)
                };
                greatest(now.throttles.iter().filter_map(both))
            }),
            waited: before.filter(|_| span > 0.0).and_then(|before| {
                let grown = |(task, now): (&PathBuf, &u64)| {
                    let grown = now.saturating_sub(*before.waited.get(task)?);
                    Some((Duration::from_nanos(grown).as_secs_f64() / span * 100.0).min(100.0))
                };
                greatest(now.waited.iter().filter_map(grown))
            }),
            lag: Duration::ZERO,
        }
    }

    fn groups(&self, main: Pid) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.proc.join(format!("{main}/cgroup")));
        groups::folders(&self.cgroup, &text.unwrap_or_default())
    }
}

fn greatest(figures: impl Iterator<Item = f64>) -> Option<f64> {
    figures.reduce(f64::max)
}

/// How long a task has waited on a run queue, in nanoseconds: the second of three numbers.
fn run_delay(task: &Path) -> Option<u64> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}
