//! What the processes of the simulated world do.

use std::time::Duration;

use keepup::core::event::{Answer, Event, Exit, HostSample, Miss, News, Used};
use keepup::core::reload::Reload;
use keepup::plan::{Class, Service, Signal};

use crate::plans::{ms, plan, s};

/// The operator of all stories.
pub(crate) const OPERATOR: u32 = 1000;

/// One run, from its spawn to its last process.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) spawn_takes: Duration,
    pub(crate) spawn_fails: Option<String>,
    /// Of itself.
    pub(crate) exits: Option<(Duration, Exit)>,
    /// What the stop signal leads to, and after how long.
    pub(crate) obeys: Option<(Duration, Exit)>,
    /// What its hang signal leads to, if that is another one; `None`: it says where it hangs, and lives.
    pub(crate) confesses: Option<(Duration, Exit)>,
    /// How long it takes to see all of it while it hangs; `None`: for ever.
    pub(crate) examined: Option<Duration>,
    /// How long a killed process takes to die; `None`: it hangs in the kernel.
    pub(crate) kill_takes: Option<Duration>,
    /// How long the rest of it takes to go; `None`: it hangs in the kernel.
    pub(crate) gone_takes: Option<Duration>,
    /// How long the rest takes where nobody kills it; `None`: it stays.
    pub(crate) rest_takes: Option<Duration>,
    /// What its `pre_start` and its `post_stop` do.
    pub(crate) prepares: Aside,
    pub(crate) tidies: Aside,
    /// How its probes are answered, by their place in the plan: from when on, and how.
    pub(crate) replies: Vec<Vec<(Duration, Reply)>>,
    /// When it touches its heartbeat file.
    pub(crate) beats: Vec<Duration>,
    /// What it says, and when.
    pub(crate) says: Vec<(Duration, Says)>,
    /// From then on it does nothing of itself: no answer, no beat, no exit.
    pub(crate) hangs: Option<Duration>,
    /// How long a look at its heartbeat file takes.
    pub(crate) look_takes: Duration,
    /// What its processes use: from when on, and how much.
    pub(crate) uses: Vec<(Duration, Used)>,
    /// What a look at the host shows: from when on, and what; `None`: it does not come back.
    pub(crate) host: Vec<(Duration, Option<HostSample>)>,
    /// From then on the file system of its heartbeat file hangs.
    pub(crate) looks_hang: Option<Duration>,
}

/// By `sd_notify`.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    News(News),
    Beat,
}

/// An answer, or none, and how long it takes.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Option<Answer>,
    pub(crate) took: Duration,
}

/// A command beside a run.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    /// Of itself.
    pub(crate) ends: Option<(Duration, Result<Exit, String>)>,
    /// How long it takes to heed TERM; `None`: it does not.
    pub(crate) obeys: Option<Duration>,
    /// How long it takes to die; `None`: it hangs in the kernel.
    pub(crate) kill_takes: Option<Duration>,
}

/// It exits then, with this code; or runs for ever. It heeds TERM.
pub(crate) fn aside(exits: Option<(Duration, u8)>) -> Aside {
    Aside {
        ends: exits.map(|(after, code)| (after, Ok(Exit::Code(code)))),
        obeys: Some(ms(100)),
        kill_takes: Some(ms(50)),
    }
}

/// It runs, and obeys, and passes its probes.
pub(crate) fn well() -> Run {
    Run {
        spawn_takes: Duration::ZERO,
        spawn_fails: None,
        exits: None,
        obeys: Some((ms(100), terminated())),
        confesses: None,
        examined: Some(Duration::ZERO),
        kill_takes: Some(ms(50)),
        gone_takes: Some(Duration::ZERO),
        rest_takes: Some(Duration::ZERO),
        prepares: aside(Some((ms(200), 0))),
        tidies: aside(Some((ms(300), 0))),
        replies: Vec::new(),
        beats: Vec::new(),
        says: Vec::new(),
        hangs: None,
        look_takes: Duration::ZERO,
        uses: Vec::new(),
        host: Vec::new(),
        looks_hang: None,
    }
}

/// Some task waits for a processor for so much of the time, and the run's own for so much.
pub(crate) fn loaded(cpu: f64, waited: f64) -> HostSample {
    HostSample { cpu: Some(cpu), waited: Some(waited), ..HostSample::default() }
}

/// Memory in MiB, and percent of a processor.
pub(crate) fn used(memory: u64, cpu: f64) -> Used {
    Used { memory: Some(memory << 20), cpu: Some(cpu) }
}

pub(crate) fn exits(after: Duration, code: u8) -> Run {
    Run { exits: Some((after, Exit::Code(code))), ..well() }
}

pub(crate) fn unspawnable(reason: &str) -> Run {
    Run { spawn_fails: Some(reason.to_owned()), ..well() }
}

/// It answers its first probe so, from each of these moments on.
pub(crate) fn answers<const N: usize>(replies: [(Duration, Reply); N]) -> Run {
    Run { replies: vec![Vec::from(replies)], ..well() }
}

pub(crate) fn ignores_term() -> Run {
    Run { obeys: None, ..well() }
}

/// It touches its heartbeat file `count` times, once every `every`.
pub(crate) fn beats(first: Duration, every: Duration, count: u32) -> Run {
    Run { beats: (0..count).map(|nth| first + every * nth).collect(), ..well() }
}

/// It says these things, each then.
pub(crate) fn says<const N: usize>(words: [(Duration, News); N]) -> Run {
    Run { says: words.map(|(at, news)| (at, Says::News(news))).into(), ..well() }
}

pub(crate) fn pass() -> Reply {
    pass_in(ms(10))
}

pub(crate) fn pass_in(took: Duration) -> Reply {
    Reply { answer: Some(Answer::Pass), took }
}

pub(crate) fn miss(text: &str) -> Reply {
    miss_of(Class::Http, text)
}

pub(crate) fn miss_of(class: Class, text: &str) -> Reply {
    Reply { answer: Some(Answer::Miss(Miss { class, text: text.to_owned() })), took: ms(10) }
}

pub(crate) fn refused() -> Reply {
    miss_of(Class::Refused, "connection refused")
}

pub(crate) fn silence() -> Reply {
    Reply { answer: None, took: s(0) }
}

pub(crate) fn terminated() -> Exit {
    Exit::Signal { signal: Signal::TERM, core_dumped: false }
}

pub(crate) fn killed() -> Exit {
    Exit::Signal { signal: Signal::KILL, core_dumped: false }
}

/// A signal asks for this plan.
pub(crate) fn reload(services: Vec<Service>) -> Event {
    reload_touched(services, &[])
}

/// The same, and the files of these services hold something else.
pub(crate) fn reload_touched(services: Vec<Service>, touched: &[&str]) -> Event {
    let touched = touched.iter().map(|&it| it.into()).collect();
    Event::Reload(Box::new(Reload { plan: plan(services), touched, by: None }))
}

pub(crate) fn erred(name: &str, run: u64, lines: u64) -> Event {
    Event::ErrorRate { name: name.into(), run, lines }
}

pub(crate) fn start(name: &str) -> Event {
    Event::Start { name: name.into(), by: OPERATOR }
}

pub(crate) fn stop(name: &str) -> Event {
    Event::Stop { name: name.into(), by: OPERATOR }
}

pub(crate) fn restart(name: &str) -> Event {
    Event::Restart { name: name.into(), by: OPERATOR }
}
