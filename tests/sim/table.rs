//! Every state and every event, as a table in `table.txt`: what a service becomes, and what is done.
//! `UPDATE=1 cargo test --test sim table` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use keepup::core::event::{
    Answer, Effect, Event, Exit, HostSample, Miss, News, Note, Pid, SpawnFailure, Ticket, Time,
};
use keepup::core::reload::Reload;
use keepup::core::{State, Supervisor, Want};
use keepup::plan::{Class, Policy, Role, Scope, Service, Signal};

use crate::plans::{errors, need, plan, probe, s, service, socket};
use crate::script::{restart, start, stop};

/// What can be done to the service, in the order of the columns.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Start,
    Stop,
    Restart,
    Spawned,
    SpawnFailed,
    ExitZero,
    ExitOne,
    Gone,
    HookPasses,
    HookFails,
    Pass,
    Miss,
    Late,
    Errors,
    Examined,
    Starved,
    NotStarved,
    SaysReady,
    SaysStopping,
    Trigger,
    Extend,
    /// Another plan: the same, one that a run can go by, one that takes another run, and none.
    Same,
    Otherwise,
    Another,
    Touched,
    Without,
    Deadline,
    Shutdown,
}

const DEEDS: [(&str, Deed); 28] = [
    ("start", Deed::Start),
    ("stop", Deed::Stop),
    ("restart", Deed::Restart),
    ("spawned", Deed::Spawned),
    ("spawn failed", Deed::SpawnFailed),
    ("exit 0", Deed::ExitZero),
    ("exit 1", Deed::ExitOne),
    ("gone", Deed::Gone),
    ("hook passes", Deed::HookPasses),
    ("hook fails", Deed::HookFails),
    ("pass", Deed::Pass),
    ("miss", Deed::Miss),
    ("late answer", Deed::Late),
    ("error lines", Deed::Errors),
    ("examined", Deed::Examined),
    ("host starves", Deed::Starved),
    ("host is well", Deed::NotStarved),
    ("says ready", Deed::SaysReady),
    ("says stopping", Deed::SaysStopping),
    ("trigger", Deed::Trigger),
    ("extend", Deed::Extend),
    ("same plan", Deed::Same),
    ("live change", Deed::Otherwise),
    ("other plan", Deed::Another),
    ("files", Deed::Touched),
    ("removed", Deed::Without),
    ("deadline", Deed::Deadline),
    ("shutdown", Deed::Shutdown),
];

/// A core with one service that matters, and what the world knows of it.
struct Bench {
    core: Supervisor,
    now: Time,
    asked: Option<Ticket>,
    examined: Option<Ticket>,
    sampled: Option<Ticket>,
    /// How far its stop has come, if it hangs.
    hung: Option<&'static str>,
    killed: bool,
    swept: bool,
    awaited: bool,
    hook: Option<Ticket>,
    /// What was done about the last deed.
    done: String,
}

fn api(change: impl FnOnce(&mut Service)) -> Service {
    service("api", |it| {
        it.restart.max_restarts = 1;
        it.logs.errors = Some(errors(100));
        it.listen.push(socket());
        it.probes.push(probe(Role::Liveness, |it| it.failures = 2));
        change(it);
    })
}

impl Bench {
    fn new(services: Vec<Service>) -> Bench {
        let mut plan = plan(services);
        plan.supervisor.stay = true;
        let core = Supervisor::new(plan, 0, &BTreeMap::new());
        let mut bench = Bench {
            core,
            now: Time(s(1)),
            asked: None,
            examined: None,
            sampled: None,
            hung: None,
            killed: false,
            swept: false,
            awaited: false,
            hook: None,
            done: String::new(),
        };
        bench.tell(Event::Tick);
        bench
    }

    /// The service after these deeds.
    fn after(change: impl FnOnce(&mut Service), deeds: &[Deed]) -> Bench {
        let mut bench = Bench::new(vec![api(change)]);
        for &deed in deeds {
            assert!(bench.can(deed));
            bench.deed(deed);
        }
        bench
    }

    fn service(&self) -> &keepup::core::Service {
        self.core.service("api").unwrap()
    }

    /// Can this happen now?
    fn can(&self, deed: Deed) -> bool {
        let state = &self.service().state;
        let runs = matches!(state, State::Up { .. } | State::Stopping(_));
        match deed {
            Deed::Start
            | Deed::Stop
            | Deed::Restart
            | Deed::Late
            | Deed::Errors
            | Deed::Same
            | Deed::Otherwise
            | Deed::Another
            | Deed::Touched
            | Deed::Without
            | Deed::Shutdown => true,
            Deed::Spawned | Deed::SpawnFailed => {
                matches!(state, State::Spawning { .. }) && self.hook.is_none()
            }
            Deed::HookPasses | Deed::HookFails => self.hook.is_some(),
            Deed::ExitZero
            | Deed::ExitOne
            | Deed::SaysReady
            | Deed::SaysStopping
            | Deed::Trigger
            | Deed::Extend => runs && self.hook.is_none() && !self.swept && !self.awaited,
            Deed::Gone => self.swept || self.awaited,
            Deed::Pass | Deed::Miss => self.asked.is_some(),
            Deed::Examined => self.examined.is_some(),
            Deed::Starved | Deed::NotStarved => self.sampled.is_some(),
            Deed::Deadline => self.core.deadline().is_some(),
        }
    }

    fn deed(&mut self, deed: Deed) {
        let (name, pid) = ("api".into(), Pid(7));
        let answer = |answer: Answer, ticket: Option<Ticket>| Event::Probed {
            name: "api".into(),
            ticket: ticket.unwrap_or(Ticket(999)),
            answer,
            took: Duration::ZERO,
        };
        let miss = Miss { class: Class::Http, text: "503".to_owned() };
        let event = match deed {
            Deed::Start => start("api"),
            Deed::Stop => stop("api"),
            Deed::Restart => restart("api"),
            Deed::Spawned => Event::Spawned { name, pid },
            Deed::SpawnFailed => {
                Event::SpawnFailed { name, failure: SpawnFailure::other("cannot fork") }
            }
            Deed::ExitZero => Event::Exited { pid, exit: Exit::Code(0) },
            Deed::ExitOne => Event::Exited { pid, exit: Exit::Code(1) },
            Deed::Gone => Event::Gone { pid },
            Deed::HookPasses | Deed::HookFails => {
                let code = u8::from(deed == Deed::HookFails);
                let (ticket, outcome) = (self.hook.take().unwrap(), Ok(Exit::Code(code)));
                Event::HookEnded { name, ticket, outcome }
            }
            Deed::Pass => answer(Answer::Pass, self.asked.take()),
            Deed::Miss => answer(Answer::Miss(miss), self.asked.take()),
            Deed::Late => answer(Answer::Miss(miss), None),
            Deed::Errors => Event::ErrorRate { name, run: self.service().run, lines: 1_000 },
            Deed::Examined => {
                Event::Examined { name, ticket: self.examined.take().unwrap_or_default() }
            }
            Deed::Starved | Deed::NotStarved => {
                let memory = (deed == Deed::Starved).then_some(80.0);
                let sample = HostSample { memory, ..HostSample::default() };
                Event::HostSample { name, ticket: self.sampled.take().unwrap(), sample }
            }
            Deed::Same | Deed::Otherwise | Deed::Another | Deed::Touched | Deed::Without => {
                self.reload(deed)
            }
            Deed::Shutdown => Event::Shutdown,
            Deed::SaysReady => Event::Notified { pid, news: News::Ready },
            Deed::SaysStopping => Event::Notified { pid, news: News::Stopping },
            Deed::Trigger => Event::Notified { pid, news: News::Trigger },
            Deed::Extend => Event::Notified { pid, news: News::Extend(s(300)) },
            Deed::Deadline => {
                self.now = self.core.deadline().unwrap();
                Event::Tick
            }
        };
        self.tell(event);
    }

    fn reload(&self, deed: Deed) -> Event {
        let mut services: Vec<Service> =
            self.core.services().iter().map(|it| it.plan.clone()).collect();
        let api = services.iter_mut().find(|it| &*it.name == "api").unwrap();
        if deed == Deed::Otherwise {
            api.restart.window = s(77);
        } else if deed == Deed::Another {
            api.env.insert("A".to_owned(), "1".to_owned());
        } else if deed == Deed::Without {
            services.retain(|it| &*it.name != "api");
            services.push(service("other", |it| it.autostart = false));
        }
        let mut plan = plan(services);
        plan.supervisor.stay = true;
        let touched = (deed == Deed::Touched).then(|| "api".into()).into_iter().collect();
        Event::Reload(Box::new(Reload { plan, touched, by: None }))
    }

    fn tell(&mut self, event: Event) {
        if let Event::Gone { .. } = event {
            (self.killed, self.swept, self.awaited) = (false, false, false);
        }
        let mut effects = Vec::new();
        self.core.step(self.now, event, &mut effects);
        self.done.clear();
        for effect in effects {
            self.note(&effect);
        }
    }

    fn note(&mut self, effect: &Effect) {
        let what = match effect {
            Effect::Hold { .. } => "hold".to_owned(),
            Effect::Release { .. } => "release".to_owned(),
            Effect::Spawn { .. } => "spawn".to_owned(),
            Effect::Signal { signal: Signal::CONT, .. }
            | Effect::SignalHook { signal: Signal::CONT, .. } => return,
            Effect::Signal { signal, .. } => {
                self.killed |= *signal == Signal::KILL;
                self.hung = (*signal == Signal::ABRT).then_some("hanging");
                signal.to_string().replace("SIG", "")
            }
            Effect::Hook { kind, ticket, .. } => {
                self.hook = Some(*ticket);
                kind.to_string()
            }
            Effect::SignalHook { signal, .. } | Effect::Refresh { signal, .. } => {
                signal.to_string().replace("SIG", "")
            }
            Effect::Await { .. } => {
                self.awaited = true;
                "await".to_owned()
            }
            Effect::Sweep { .. } => {
                self.swept = true;
                "sweep".to_owned()
            }
            Effect::Probe { ticket, .. } | Effect::Ask { ticket, .. } => {
                self.asked = Some(*ticket);
                "ask".to_owned()
            }
            Effect::Examine { ticket, .. } => {
                self.examined = Some(*ticket);
                self.hung = Some("examining");
                "examine".to_owned()
            }
            Effect::WatchHost { .. } => "watch".to_owned(),
            Effect::SampleHost { ticket, .. } => {
                self.sampled = Some(*ticket);
                "sample".to_owned()
            }
            Effect::Abandon { .. } => {
                self.asked = None;
                "abandon".to_owned()
            }
            Effect::Exit { code } => format!("exit {code}"),
            Effect::Note { note: Note::Stuck { .. }, .. } => "tell".to_owned(),
            Effect::Adopt { name } if &**name == "api" => "adopt".to_owned(),
            Effect::Forget { .. } => "forget".to_owned(),
            Effect::Adopt { .. }
            | Effect::Answered { .. }
            | Effect::Look { .. }
            | Effect::Measure { .. }
            | Effect::Save
            | Effect::Note { .. }
            | Effect::Stalled { .. } => {
                return;
            }
        };
        let _ = write!(self.done, " !{what}");
    }

    fn word(&self) -> &'static str {
        let Some(service) = self.core.service("api") else { return "forgotten" };
        match &service.state {
            State::Waiting(_) if self.asked.is_some() => "asking",
            State::Waiting(_) => "waiting",
            State::Down => "down",
            State::Backoff { .. } if service.budget.given_up() => "retry",
            State::Backoff { .. } => "backoff",
            State::Spawning { stop: None, .. } if self.hook.is_some() => "preparing",
            State::Spawning { stop: None, .. } => "spawning",
            State::Spawning { stop: Some(_), .. } => "unwanted",
            State::Stopping(_) if self.hook.is_some() => "tidying",
            State::Up { health, .. } if health.started().is_none() => "starting",
            State::Up { health, .. } if health.is_doubted() => "doubted",
            State::Up { .. } if self.asked.is_some() => "asked",
            State::Up { .. } => "up",
            State::Stopping(_) if service.is_stuck() => "stuck",
            State::Stopping(_) if self.swept => "sweeping",
            State::Stopping(_) if self.killed => "killing",
            State::Stopping(_) if self.awaited => "lingering",
            State::Stopping(_) => self.hung.unwrap_or("stopping"),
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    /// What becomes of it, and what is done.
    fn cell(mut self, deed: Deed) -> String {
        if !self.can(deed) {
            return String::new();
        }
        let (before, want) = (self.word(), self.service().want);
        self.deed(deed);
        let wanted = match self.core.service("api").map(|it| it.want) {
            None => "",
            Some(now) if now == want => "",
            Some(Want::Up) => " -> up",
            Some(Want::Down) => " -> down",
        };
        if before == self.word() && self.done.is_empty() && wanted.is_empty() {
            return "·".to_owned();
        }
        format!("{}{}{wanted}", self.word(), self.done)
    }
}

/// How each state is reached.
fn state(word: &str) -> Option<Bench> {
    use Deed::{Deadline, Examined, ExitOne, ExitZero, Gone, Miss, Pass, Spawned, Stop};
    let any = |_: &mut Service| {};
    let asks_where = |it: &mut Service| it.hang_signal = Some(Signal::ABRT);
    let needs_db = |it: &mut Service| it.wait_for = vec![need("tcp:db:5432")];
    let prepared = |it: &mut Service| it.pre_start = vec!["prepare".to_owned()];
    let tidied = |it: &mut Service| it.post_stop = vec!["tidy".to_owned()];
    let up = [Spawned, Pass];
    Some(match word {
        "waiting" => {
            let db = service("db", |it| it.autostart = false);
            Bench::new(vec![db, api(|it| it.after = vec!["db".into()])])
        }
        "asking" => Bench::after(needs_db, &[]),
        "down" => Bench::after(|it| it.autostart = false, &[]),
        "spawning" => Bench::after(any, &[]),
        "unwanted" => Bench::after(any, &[Stop]),
        "preparing" => Bench::after(prepared, &[]),
        "tidying" => Bench::after(tidied, &[Spawned, Pass, ExitOne, Gone]),
        "starting" => Bench::after(any, &[Spawned]),
        "up" => Bench::after(any, &up),
        "asked" => Bench::after(any, &[Spawned, Pass, Deadline]),
        "doubted" => Bench::after(any, &[&up[..], &[Deadline; 4]].concat()),
        "stopping" => Bench::after(any, &[Spawned, Pass, Stop]),
        "lingering" => {
            Bench::after(|it| it.stop_scope = Scope::Main, &[Spawned, Pass, Stop, ExitZero])
        }
        "examining" => Bench::after(asks_where, &[Spawned, Pass, Deadline, Miss, Deadline, Miss]),
        "hanging" => {
            Bench::after(asks_where, &[Spawned, Pass, Deadline, Miss, Deadline, Miss, Examined])
        }
        "killing" => Bench::after(any, &[Spawned, Pass, Stop, Deadline]),
        "stuck" => Bench::after(any, &[Spawned, Pass, Stop, Deadline, Deadline]),
        "sweeping" => Bench::after(any, &[Spawned, Pass, ExitOne]),
        "backoff" => Bench::after(any, &[Spawned, Pass, ExitOne, Gone]),
        "retry" => Bench::after(
            any,
            &[Spawned, Pass, ExitOne, Gone, Deadline, Spawned, Pass, ExitOne, Gone],
        ),
        "done" => Bench::after(
            |it| it.restart.policy = Policy::OnFailure,
            &[Spawned, Pass, ExitZero, Gone],
        ),
        "failed" => {
            Bench::after(|it| it.restart.policy = Policy::Never, &[Spawned, Pass, ExitOne, Gone])
        }
        _ => return None,
    })
}

const STATES: [&str; 22] = [
    "waiting",
    "asking",
    "down",
    "preparing",
    "spawning",
    "unwanted",
    "starting",
    "up",
    "asked",
    "doubted",
    "examining",
    "hanging",
    "stopping",
    "lingering",
    "killing",
    "stuck",
    "sweeping",
    "tidying",
    "backoff",
    "retry",
    "done",
    "failed",
];

fn table() -> String {
    let head = std::iter::once(String::new()).chain(DEEDS.iter().map(|it| it.0.to_owned()));
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    for word in STATES {
        assert_eq!(state(word).unwrap().word(), word);
        let cells = DEEDS.iter().map(|it| state(word).unwrap().cell(it.1));
        rows.push(std::iter::once(word.to_owned()).chain(cells).collect());
    }
    let mut text = String::from(
        "State by state: what each event makes of a service, what is done (!), and what is wanted of\n\
         it from then on (->). A dot: nothing. What cannot happen in a state is left out. The cap is\n\
         one restart; two misses fail.\n",
    );
    for row in &rows[1..] {
        let _ = writeln!(text, "\n{}", row[0]);
        for (event, cell) in rows[0].iter().zip(row).skip(1).filter(|it| !it.1.is_empty()) {
            let _ = writeln!(text, "  {event:<14}{cell}");
        }
    }
    text
}

#[test]
fn the_table_of_states_and_events_is_that_of_the_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/table.txt");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    assert!(table == known, "the table has changed (UPDATE=1 writes it anew):\n{table}");
}
