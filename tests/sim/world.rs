//! The simulated world: it performs the core's effects with scripted processes, moves time to
//! whatever comes next, and writes down every note. Nothing in it waits.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use keepup::core::event::{
    Answer, Effect, Event, Exit, HookKind, HostSample, Pid, Short, Sight, SpawnFailure, Ticket,
    Time, Used,
};
use keepup::core::tell::Tell;
use keepup::core::{Remembered, State, Supervisor};
use keepup::plan::{Name, Plan, Service, Signal};

use crate::plans::plan;
use crate::script::{Aside, Reply, Run, Says, killed, terminated};
use crate::watch::Watch;

/// More of what follows at one moment means that it never ends.
const AT_ONCE_MAX: u32 = 2_000;

pub(crate) struct Sim {
    pub(crate) core: Supervisor,
    pub(crate) now: Time,
    pub(crate) exit: Option<u8>,
    /// One line a note; from `read` on not yet compared.
    pub(crate) trace: String,
    /// Every effect, in words: only where a test compares them.
    pub(crate) effects: Option<String>,
    pub(crate) effects_count: usize,
    /// What was told to systemd last: only where a test compares it.
    pub(crate) told: Option<Tell>,
    read: usize,
    agenda: BTreeMap<(Time, u64), Due>,
    dues: u64,
    /// How what services need answers, whoever asks, and from which moment on.
    needs: BTreeMap<String, Vec<(Duration, Reply)>>,
    actors: BTreeMap<Name, Actor>,
    hooks: BTreeMap<Ticket, (Name, Aside)>,
    processes: BTreeMap<Pid, Process>,
    pids: i32,
    stalled_until: Option<Time>,
    watch: Watch,
}

/// A service as the world sees it.
struct Actor {
    /// The scripts of its runs; the last one is played again and again.
    runs: Vec<Run>,
    begun: usize,
    spawning: bool,
    /// The heartbeat file, if it is there: it is another one after each touch.
    file: Option<u64>,
    /// What the last look saw, or what was there before the run began.
    seen: Option<u64>,
}

#[expect(clippy::struct_excessive_bools, reason = "a process has them all at once")]
pub(crate) struct Process {
    pub(crate) name: Name,
    pub(crate) since: Time,
    pub(crate) main_lives: bool,
    pub(crate) killed: bool,
    pub(crate) swept: bool,
    pub(crate) awaited: bool,
    run: Run,
    /// Sent its hang signal, which is not its stop signal.
    spoke: bool,
    /// Sent its stop signal.
    pub(crate) stopping: bool,
}

enum Due {
    Happens(Event),
    Stalls(Stall),
    Spawns(Name),
    Dies(Pid, Exit),
    HookEnds(Ticket, Result<Exit, String>),
    Goes(Pid),
    Answers { name: Name, ticket: Ticket, answer: Answer, took: Duration },
    Sees { name: Name, ticket: Ticket, sight: Sight },
    Examined { name: Name, ticket: Ticket },
    Measures { name: Name, ticket: Ticket, used: Used },
    Samples { name: Name, ticket: Ticket, sample: HostSample },
    Touches(Pid),
    Says(Pid, Says),
}

/// For how long nothing reaches the core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stall {
    /// keepup alone stood still; what happened meanwhile is there when it goes on.
    Starved(Duration),
    /// The whole machine stood still, and goes on where it was.
    Frozen(Duration),
}

impl Sim {
    /// A world of these services, each with the scripts of its runs.
    pub(crate) fn new<const N: usize>(services: [(Service, Vec<Run>); N]) -> Sim {
        let (services, runs): (Vec<_>, Vec<_>) = services.into_iter().unzip();
        Sim::of(plan(services), runs, 0, &BTreeMap::new())
    }

    pub(crate) fn of(
        plan: Plan,
        runs: Vec<Vec<Run>>,
        seed: u64,
        past: &BTreeMap<Name, Remembered>,
    ) -> Sim {
        let actor = |(service, runs): (&Service, Vec<Run>)| {
            let actor = Actor { runs, begun: 0, spawning: false, file: None, seen: None };
            (service.name.clone(), actor)
        };
        let actors = plan.services.iter().zip(runs).map(actor).collect();
        let mut sim = Sim {
            watch: Watch::new(&plan, past),
            core: Supervisor::new(plan, seed, past),
            now: Time::default(),
            exit: None,
            trace: String::new(),
            effects: None,
            effects_count: 0,
            told: None,
            read: 0,
            agenda: BTreeMap::new(),
            dues: 0,
            needs: BTreeMap::new(),
            actors,
            hooks: BTreeMap::new(),
            processes: BTreeMap::new(),
            pids: 100,
            stalled_until: None,
        };
        sim.plan(Duration::ZERO, Due::Happens(Event::Tick));
        sim
    }

    /// A service that a reload may add has these runs.
    pub(crate) fn cast(&mut self, name: &str, runs: Vec<Run>) {
        let actor = Actor { runs, begun: 0, spawning: false, file: None, seen: None };
        self.actors.insert(name.into(), actor);
    }

    /// A file of an earlier life is there before anything starts.
    pub(crate) fn leave_heartbeat_file(&mut self, name: &str) {
        self.actors.get_mut(name).unwrap().file = Some(0);
    }

    /// Somebody removes it.
    pub(crate) fn take_heartbeat_file(&mut self, name: &str) {
        self.actors.get_mut(name).unwrap().file = None;
    }

    /// This answers so, from each of these moments on; what nobody speaks of answers well.
    pub(crate) fn needs(&mut self, written: &str, replies: Vec<(Duration, Reply)>) -> &mut Sim {
        self.needs.insert(written.to_owned(), replies);
        self
    }

    /// This happens then.
    pub(crate) fn at(&mut self, moment: Duration, event: Event) -> &mut Sim {
        self.agenda.insert((Time(moment), self.dues), Due::Happens(event));
        self.dues += 1;
        self
    }

    pub(crate) fn stall(&mut self, moment: Duration, stall: Stall) -> &mut Sim {
        self.agenda.insert((Time(moment), self.dues), Due::Stalls(stall));
        self.dues += 1;
        self
    }

    /// The main process of a service dies now, if it has one.
    pub(crate) fn crash(&mut self, name: &str, exit: Exit) {
        let live = self.processes.iter().find(|it| *it.1.name == *name && it.1.main_lives);
        if let Some(pid) = live.map(|it| *it.0) {
            self.dies(pid, exit);
        }
    }

    /// Lets time pass up to this moment, or until keepup ends.
    pub(crate) fn run_until(&mut self, end: Duration) -> &mut Sim {
        let end = Time(end);
        let (mut moment, mut at_once) = (self.now, 0);
        while self.exit.is_none() {
            let agenda = self.agenda.keys().next().map(|key| key.0);
            let deadline = self.core.deadline();
            let Some(next) = [agenda, deadline].into_iter().flatten().min() else { break };
            if end < next.max(self.now) {
                break;
            }
            self.now = self.now.max(next);
            at_once = if moment == self.now { at_once + 1 } else { 0 };
            moment = self.now;
            self.demand(at_once < AT_ONCE_MAX, "one moment never ends");
            self.demand(
                deadline.is_none_or(|at| self.now <= at) || self.stalled_until == Some(self.now),
                "a deadline passed unheeded",
            );
            // What happened comes before what fell due: an answer in time beats its deadline.
            if agenda.is_some_and(|at| at <= self.now) {
                let (_, due) = self.agenda.pop_first().unwrap();
                self.fall_due(due);
            } else {
                self.send(Event::Tick);
                let moved = self.core.deadline().is_none_or(|at| self.now < at);
                self.demand(moved || self.exit.is_some(), "a tick leaves its deadline: it spins");
            }
        }
        self.now = self.now.max(end);
        self
    }

    /// The core is told now.
    pub(crate) fn send(&mut self, event: Event) {
        if self.exit.is_some() {
            return;
        }
        let expect = self.watch.before(self.now, &event, &self.core);
        let mut effects = Vec::new();
        self.core.step(self.now, event, &mut effects);
        let verdict = expect.judge(&effects);
        self.obey(verdict);
        self.effects_count += effects.len();
        for effect in effects {
            self.demand(self.exit.is_none(), "something follows the exit");
            if let Some(text) = &mut self.effects {
                let _ = writeln!(text, "{} {effect:?}", self.now);
            }
            let verdict = self.watch.effect(self.now, &effect, &self.processes);
            self.obey(verdict);
            self.perform(effect);
        }
        self.tell();
        let spawning = |name: &Name| self.actors[name].spawning;
        let verdict =
            self.watch.after(self.now, &self.core, &self.processes, &spawning, self.exit.is_some());
        self.obey(verdict);
    }

    /// From now on what is told to systemd is written down, too.
    pub(crate) fn tells(mut self) -> Sim {
        self.told = Some(Tell { ready: false, stopping: false, status: String::new() });
        self
    }

    fn tell(&mut self) {
        let tell = self.core.tell();
        let length = tell.status.chars().count();
        self.demand((1..=500).contains(&length), "a status line of no or too many words");
        let Some(told) = self.told.replace(tell.clone()) else {
            self.told = None;
            return;
        };
        for (is, was, word) in
            [(tell.ready, told.ready, "READY"), (tell.stopping, told.stopping, "STOPPING")]
        {
            if is != was {
                self.write(&format!("{}{word}", if is { "" } else { "not " }));
            }
        }
        if tell.status != told.status {
            self.write(&format!("STATUS {}", tell.status));
        }
    }

    /// What was said so far is nobody's concern.
    pub(crate) fn forget(&mut self) {
        self.read = self.trace.len();
    }

    /// What was said since the last time is exactly this.
    #[track_caller]
    pub(crate) fn says(&mut self, expected: &str) {
        let said = self.trace[self.read..].trim().to_owned();
        self.read = self.trace.len();
        compare(&said, expected);
    }

    /// What was said since the last time, of all lines with one of these words in them.
    #[track_caller]
    pub(crate) fn says_of(&mut self, words: &[&str], expected: &str) {
        let lines = self.trace[self.read..].lines();
        let said: Vec<&str> =
            lines.filter(|line| words.iter().any(|word| line.contains(word))).collect();
        let said = said.join("\n");
        self.read = self.trace.len();
        compare(&said, expected);
    }

    pub(crate) fn state(&self, name: &str) -> &State {
        &self.core.service(name).unwrap().state
    }

    pub(crate) fn ready(&self, name: &str) -> bool {
        self.core.service(name).unwrap().health().is_some_and(keepup::core::health::Health::ready)
    }

    fn demand(&self, holds: bool, what: &str) {
        assert!(holds, "{} {what}\n{}", self.now, self.trace);
    }

    fn obey(&self, verdict: Result<(), String>) {
        if let Err(broken) = verdict {
            panic!("{} {broken}\n{}", self.now, self.trace);
        }
    }

    fn plan(&mut self, delay: Duration, due: Due) {
        self.agenda.insert((self.now + delay, self.dues), due);
        self.dues += 1;
    }

    fn fall_due(&mut self, due: Due) {
        match due {
            Due::Happens(event) => self.send(event),
            Due::Stalls(stall) => self.stand_still(stall),
            Due::Spawns(name) => self.spawns(&name),
            Due::Dies(pid, exit) => self.dies(pid, exit),
            Due::HookEnds(ticket, outcome) => self.hook_ends(ticket, outcome),
            Due::Goes(pid) => {
                // What was waited for and then killed may go at two times.
                if self.processes.remove(&pid).is_some() {
                    self.send(Event::Gone { pid });
                }
            }
            Due::Answers { name, ticket, answer, took } => {
                self.send(Event::Probed { name, ticket, answer, took });
            }
            Due::Sees { name, ticket, sight } => self.send(Event::Looked { name, ticket, sight }),
            Due::Examined { name, ticket } => self.send(Event::Examined { name, ticket }),
            Due::Says(pid, says) => {
                if self.processes.get(&pid).is_some_and(|it| it.main_lives) {
                    self.send(match says {
                        Says::News(news) => Event::Notified { pid, news },
                        Says::Beat => Event::Beat { pid },
                    });
                }
            }
            Due::Measures { name, ticket, used } => {
                self.send(Event::Usage { name, ticket, used });
            }
            Due::Samples { name, ticket, sample } => {
                self.send(Event::HostSample { name, ticket, sample });
            }
            Due::Touches(pid) => {
                // On a file system that hangs it cannot touch anything either.
                let touches = |it: &&Process| {
                    it.main_lives && it.run.looks_hang.is_none_or(|from| self.now - it.since < from)
                };
                if let Some(process) = self.processes.get(&pid).filter(touches) {
                    let file = &mut self.actors.get_mut(&process.name).unwrap().file;
                    *file = Some(file.unwrap_or(0) + 1);
                    self.watch.touched(self.now, &process.name);
                }
            }
        }
    }

    fn stand_still(&mut self, stall: Stall) {
        let gap = match stall {
            Stall::Starved(gap) | Stall::Frozen(gap) => gap,
        };
        if let Stall::Frozen(_) = stall {
            let agenda = std::mem::take(&mut self.agenda);
            let shift = |((at, nth), due)| match due {
                Due::Happens(_) | Due::Stalls(_) => ((at, nth), due),
                Due::Spawns(_)
                | Due::Dies(..)
                | Due::HookEnds(..)
                | Due::Goes(_)
                | Due::Answers { .. }
                | Due::Sees { .. }
                | Due::Examined { .. }
                | Due::Touches(_)
                | Due::Measures { .. }
                | Due::Samples { .. }
                | Due::Says(..) => ((at + gap, nth), due),
            };
            self.agenda = agenda.into_iter().map(shift).collect();
        }
        self.now = self.now + gap;
        self.stalled_until = Some(self.now);
        self.watch.stalled(gap);
    }

    fn spawns(&mut self, name: &Name) {
        let actor = self.actors.get_mut(name).unwrap();
        actor.spawning = false;
        let run = actor.runs[actor.begun.min(actor.runs.len() - 1)].clone();
        actor.begun += 1;
        if let Some(reason) = run.spawn_fails {
            let failure = SpawnFailure::other(reason);
            self.send(Event::SpawnFailed { name: name.clone(), failure });
            return;
        }
        self.pids += 1;
        let pid = Pid(self.pids);
        let alive = |at: &Duration| run.hangs.is_none_or(|hangs| *at < hangs);
        if let Some((after, exit)) = run.exits.filter(|it| alive(&it.0)) {
            self.plan(after, Due::Dies(pid, exit));
        }
        for &after in run.beats.iter().filter(|at| alive(at)) {
            self.plan(after, Due::Touches(pid));
        }
        for (after, says) in run.says.iter().filter(|it| alive(&it.0)) {
            self.plan(*after, Due::Says(pid, says.clone()));
        }
        let process = Process {
            name: name.clone(),
            since: self.now,
            main_lives: true,
            killed: false,
            swept: false,
            awaited: false,
            run,
            spoke: false,
            stopping: false,
        };
        self.processes.insert(pid, process);
        self.send(Event::Spawned { name: name.clone(), pid });
    }

    fn dies(&mut self, pid: Pid, exit: Exit) {
        if let Some(process) = self.processes.get_mut(&pid)
            && process.main_lives
        {
            process.main_lives = false;
            self.send(Event::Exited { pid, exit });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Hold { name } => self.write(&format!("{name} (its sockets are held)")),
            Effect::Release { name } => self.write(&format!("{name} (its sockets are closed)")),
            Effect::Spawn { name } => {
                let actor = self.actors.get_mut(&name).unwrap();
                actor.spawning = true;
                actor.seen = actor.file;
                let takes = actor.runs[actor.begun.min(actor.runs.len() - 1)].spawn_takes;
                self.plan(takes, Due::Spawns(name));
            }
            Effect::Hook { name, kind, ticket, env } => self.hook(name, kind, ticket, &env),
            Effect::SignalHook { ticket, signal } => self.signal_hook(ticket, signal),
            Effect::Signal { pid, signal, .. } => self.signal(pid, signal),
            Effect::Await { pid } => {
                let process = self.processes.get_mut(&pid).unwrap();
                process.awaited = true;
                if let Some(takes) = process.run.rest_takes {
                    self.plan(takes, Due::Goes(pid));
                }
            }
            Effect::Sweep { pid } => {
                let process = self.processes.get_mut(&pid).unwrap();
                process.swept = true;
                if let Some(takes) = process.run.gone_takes {
                    self.plan(takes, Due::Goes(pid));
                }
            }
            Effect::Probe { name, probe, ticket } => self.asked(name, probe, ticket),
            Effect::Ask { name, need, ticket } => self.asked_need(name, need, ticket),
            Effect::Look { name, ticket } => self.look(name, ticket),
            Effect::Examine { name, pid, ticket } => {
                if let Some(takes) = self.processes[&pid].run.examined {
                    self.plan(takes, Due::Examined { name, ticket });
                }
            }
            Effect::Measure { name, ticket } => self.measure(name, ticket),
            Effect::SampleHost { name, ticket } => self.sample_host(name, ticket),
            Effect::Refresh { pid, signal } => self.write(&format!("(pid {pid} is sent {signal})")),
            Effect::Forget { name } => self.write(&format!("{name} (is forgotten)")),
            Effect::Adopt { .. }
            | Effect::WatchHost { .. }
            | Effect::Abandon { .. }
            | Effect::Answered { .. }
            | Effect::Save => {}
            Effect::Note { name, note } => self.write(&format!("{name} {note}")),
            Effect::Stalled { gap } => self.write(&format!("host stood still: {}", Short(gap))),
            Effect::Exit { code } => {
                self.exit = Some(code);
                self.write(&format!("exit {code}"));
            }
        }
    }

    fn write(&mut self, what: &str) {
        let _ = writeln!(self.trace, "{} {what}", self.now);
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        let process = self.processes.get_mut(&pid).unwrap();
        let plan = &self.core.service(&process.name).unwrap().plan;
        let asks_where = plan.hang_signal == Some(signal) && plan.stop_signal != signal;
        let death = if signal == Signal::KILL {
            process.killed = true;
            process.run.kill_takes.map(|takes| (takes, killed()))
        } else if signal == Signal::CONT {
            None
        } else if asks_where {
            let first = !std::mem::replace(&mut process.spoke, true);
            process.run.confesses.filter(|_| first)
        } else {
            let first = !std::mem::replace(&mut process.stopping, true);
            process.run.obeys.filter(|_| first)
        };
        if let Some((after, exit)) = death {
            self.plan(after, Due::Dies(pid, exit));
        }
    }

    /// The process of a service that is up.
    fn process(&self, name: &Name) -> &Process {
        self.processes.values().find(|it| it.name == *name && it.main_lives).unwrap()
    }

    fn asked(&mut self, name: Name, probe: usize, ticket: Ticket) {
        let process = self.process(&name);
        let age = self.now - process.since;
        if process.run.hangs.is_some_and(|hangs| hangs <= age) {
            return;
        }
        let replies = process.run.replies.get(probe);
        let reply = replies.and_then(|it| it.iter().rev().find(|(from, _)| *from <= age));
        let (answer, took) = match reply {
            Some((_, reply)) => (reply.answer.clone(), reply.took),
            None => (Some(Answer::Pass), Duration::from_millis(10)),
        };
        if let Some(answer) = answer {
            self.plan(took, Due::Answers { name, ticket, answer, took });
        }
    }

    fn hook(&mut self, name: Name, kind: HookKind, ticket: Ticket, env: &[(&'static str, String)]) {
        let actor = &self.actors[&name];
        let nth = match kind {
            HookKind::PreStart => actor.begun,
            HookKind::PostStop => actor.begun - 1,
        };
        let run = &actor.runs[nth.min(actor.runs.len() - 1)];
        let aside = match kind {
            HookKind::PreStart => run.prepares.clone(),
            HookKind::PostStop => run.tidies.clone(),
        };
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.write(&format!("{name} ({})", [vec![kind.to_string()], env].concat().join(" ")));
        if let Some((after, outcome)) = aside.ends.clone() {
            self.plan(after, Due::HookEnds(ticket, outcome));
        }
        self.hooks.insert(ticket, (name, aside));
    }

    fn signal_hook(&mut self, ticket: Ticket, signal: Signal) {
        let Some((_, aside)) = self.hooks.get(&ticket) else { return };
        let (after, exit) = match signal {
            Signal::KILL => (aside.kill_takes, killed()),
            Signal::TERM => (aside.obeys, terminated()),
            _ => return,
        };
        if let Some(after) = after {
            self.plan(after, Due::HookEnds(ticket, Ok(exit)));
        }
    }

    fn hook_ends(&mut self, ticket: Ticket, outcome: Result<Exit, String>) {
        // It may have ended before: killed just as it was to end of itself.
        if let Some((name, _)) = self.hooks.remove(&ticket) {
            let outcome = outcome.map_err(SpawnFailure::other);
            self.send(Event::HookEnded { name, ticket, outcome });
        }
    }

    fn asked_need(&mut self, name: Name, need: usize, ticket: Ticket) {
        let written = &self.core.service(&name).unwrap().plan.wait_for[need].written;
        let replies = self.needs.get(written);
        let now = self.now.0;
        let reply = replies.and_then(|it| it.iter().rev().find(|(from, _)| *from <= now));
        let (answer, took) = match reply {
            Some((_, reply)) => (reply.answer.clone(), reply.took),
            None => (Some(Answer::Pass), Duration::ZERO),
        };
        if let Some(answer) = answer {
            self.plan(took, Due::Answers { name, ticket, answer, took });
        }
    }

    fn measure(&mut self, name: Name, ticket: Ticket) {
        let process = self.process(&name);
        let age = self.now - process.since;
        let used = process.run.uses.iter().rev().find(|(from, _)| *from <= age);
        let used = used.map(|it| it.1).unwrap_or_default();
        self.plan(Duration::from_millis(10), Due::Measures { name, ticket, used });
    }

    fn sample_host(&mut self, name: Name, ticket: Ticket) {
        let process = self.process(&name);
        let age = self.now - process.since;
        let sample = process.run.host.iter().rev().find(|(from, _)| *from <= age);
        if let Some(sample) = sample.map_or(Some(HostSample::default()), |it| it.1) {
            self.plan(Duration::ZERO, Due::Samples { name, ticket, sample });
        }
    }

    fn look(&mut self, name: Name, ticket: Ticket) {
        let process = self.process(&name);
        let age = self.now - process.since;
        if process.run.looks_hang.is_some_and(|from| from <= age) {
            return;
        }
        let takes = process.run.look_takes;
        let actor = self.actors.get_mut(&name).unwrap();
        let before = std::mem::replace(&mut actor.seen, actor.file);
        let sight = match actor.file {
            None => Sight::Nothing("/run/beat is not there".to_owned()),
            Some(_) if before == actor.file => Sight::Still,
            Some(_) => Sight::Beat,
        };
        self.plan(takes, Due::Sees { name, ticket, sight });
    }
}

/// Line by line, whatever the indentation.
#[track_caller]
fn compare(said: &str, expected: &str) {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let (said, expected) = (lines(said), lines(expected));
    let same = said.iter().zip(&expected).take_while(|it| it.0 == it.1).count();
    assert!(
        said == expected,
        "what was said differs from line {} on\n--- expected\n{}\n--- said\n{}\n",
        same + 1,
        expected.join("\n"),
        said.join("\n"),
    );
}
