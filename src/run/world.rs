//! Everything around the core: where events come from, and where effects go.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::held::Held;
use super::incidents::Incidents;
use super::operator;
use super::reload::{Read, Reloads};
use super::sockets::Sockets;
use super::systemd::Systemd;
use super::tidy::Tidy;
use crate::control::{Outcome, Request};
use crate::core::event::{Answer, Effect, Event, HookKind, Pid, Short, SpawnFailure, Ticket, Time};
use crate::core::waiting::ANSWER_MAX;
use crate::core::{Service, State, Supervisor};
use crate::logs::Logs;
use crate::os::clock::{Alarm, now};
use crate::os::ears::{Ears, Heard};
use crate::os::evidence::Examiner;
use crate::os::signal::Signals;
use crate::os::sockets::{Handed, Passed};
use crate::os::strain::Gauge;
use crate::os::usage::Meter;
use crate::os::{self, Happening, Output, Processes, Stream};
use crate::plan::{Level, Name, ProbeKind, Scope, Signal};
use crate::probe::heartbeat::Looker;
use crate::probe::{Prober, Say, exec};
use crate::report::HostLevel;
use crate::report::journal::Journal;
use crate::report::metrics::Metrics;

/// Answers that may wait for the loop; a prober with one more waits itself.
const ANSWERS_MAX: usize = 256;

/// Error lines are counted for so long before the loop is told: a flood must not keep it awake.
const ERRORS_AFTER: Duration = Duration::from_millis(200);

/// After so many events in a row a deadline that has passed comes first: a flood of answers must
/// not put off a kill for ever.
const EVENTS_BEFORE_TIME: u32 = 64;

/// What one turn of the loop is about.
#[derive(Debug)]
pub(super) enum Turn {
    /// For the core.
    Event(Event),
    /// Somebody told keepup something.
    Signal(Signal),
    /// Somebody asks for something.
    Request(Request),
    /// The file was read anew, or could not be.
    Reload(Box<Read>),
}

/// The world as the loop sees it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) processes: Processes,
    sockets: Sockets,
    pub(super) logs: Arc<Logs>,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    prober: Prober,
    looker: Looker,
    examiner: Examiner,
    meter: Meter,
    gauge: Gauge,
    answers: mpsc::Receiver<Event>,
    signals: Signals,
    pub(super) requests: mpsc::Receiver<Request>,
    alarm: Alarm,
    held: Held,
    ears: Ears,
    pub(super) reloads: Reloads,
    /// Who there is has changed.
    pub(super) reshaped: bool,
    /// What is known already, before anything else.
    known: VecDeque<Event>,
    pub(super) incidents: Incidents,
    pub(super) host: HostLevel,
    /// Whoever started keepup and wants to hear of it.
    pub(super) systemd: Option<Systemd>,
    tidy: Tidy,
    /// Questions put to a process, and since when.
    asked: HashMap<Ticket, (Name, Time)>,
    events_in_row: u32,
}

impl World {
    pub(super) fn new(
        (processes, passed): (Processes, Passed),
        signals: Signals,
        logs: Arc<Logs>,
        (journal, metrics): (Journal, Arc<Metrics>),
        ears: Ears,
        (requests, file): (mpsc::Receiver<Request>, Option<PathBuf>),
    ) -> io::Result<World> {
        let (tell, answers) = mpsc::channel(ANSWERS_MAX);
        let told = journal.clone();
        let remarks: Say = Box::new(move |name, text| told.say_of(Level::Warn, name, text));
        tokio::spawn(count_errors(Arc::clone(&logs), tell.clone()));
        Ok(World {
            processes,
            sockets: Sockets::new(passed),
            incidents: Incidents::new(None, Arc::clone(&logs)),
            logs,
            journal,
            metrics,
            prober: Prober::remarking(tell.clone(), remarks),
            looker: Looker::new(tell.clone()),
            examiner: Examiner::new(tell.clone()),
            meter: Meter::new(tell.clone()),
            gauge: Gauge::new(tell),
            answers,
            signals,
            requests,
            alarm: Alarm::new()?,
            held: Held::new(),
            ears,
            reloads: Reloads::new(file),
            reshaped: false,
            known: VecDeque::new(),
            host: HostLevel::unwatched(),
            systemd: None,
            tidy: Tidy::Starting,
            asked: HashMap::new(),
            events_in_row: 0,
        })
    }

    /// What happens next: answers to our own effects, then deaths, then what arrived, then time.
    /// Signs of life come before verdicts, and a pid is known before its death can be.
    pub(super) async fn next(&mut self, core: &Supervisor) -> Turn {
        loop {
            if let Some(event) = self.known.pop_front() {
                return Turn::Event(event);
            }
            let deadline = core.deadline();
            if self.events_in_row >= EVENTS_BEFORE_TIME && deadline.is_some_and(|at| at <= now()) {
                self.events_in_row = 0;
                return Turn::Event(Event::Tick);
            }
            self.events_in_row += 1;
            self.incidents.review(core, now());
            let own = self.held.deadline().into_iter().chain(self.ears.deadline());
            self.tidy.turn(core, now());
            let own = own.chain(self.incidents.deadline(core)).chain(self.tidy.deadline());
            let mut wake = deadline.into_iter().chain(own).min();
            if let Some(systemd) = &mut self.systemd {
                systemd.turn(core, now());
                wake = wake.into_iter().chain(systemd.deadline()).min();
            }
            tokio::select! {
                biased;
                happening = self.processes.next() => {
                    if let Some(event) = self.happened(core, happening) {
                        return Turn::Event(event);
                    }
                }
                (name, sockets) = self.sockets.next() => {
                    if let Some(event) = self.has_sockets(core, name, sockets) {
                        return Turn::Event(event);
                    }
                }
                event = self.held.next() => return Turn::Event(event),
                Some(event) = self.answers.recv() => return Turn::Event(event),
                signal = self.signals.next() => return Turn::Signal(signal),
                Some(request) = self.requests.recv() => return Turn::Request(request),
                read = self.reloads.next() => return Turn::Reload(Box::new(read)),
                heard = self.ears.next() => {
                    if let Some(event) = heard.and_then(|it| self.heard(it)) {
                        return Turn::Event(event);
                    }
                }
                () = self.alarm.at(wake) => {
                    let now = now();
                    if deadline.is_some_and(|at| at <= now) {
                        self.events_in_row = 0;
                        return Turn::Event(Event::Tick);
                    }
                    self.held.expire(now);
                }
            }
        }
    }

    fn happened(&mut self, core: &Supervisor, happening: Happening) -> Option<Event> {
        match happening {
            Happening::Core(Event::Exited { pid, exit }) => {
                for heard in self.ears.last_words(pid) {
                    let event = self.heard(heard);
                    self.known.extend(event);
                }
                // What it wrote last is in its log before its end is told.
                match core.services().iter().find(|it| it.pid() == Some(pid)) {
                    Some(service) => {
                        let done = self.held.hold(pid, exit, now());
                        self.logs.drain(service.name(), done);
                        None
                    }
                    None => Some(Event::Exited { pid, exit }),
                }
            }
            Happening::Core(event) => {
                if let Event::Spawned { name, pid } = &event {
                    self.ears.attach(name, *pid);
                } else if let Event::SpawnFailed { name, .. } = &event {
                    self.ears.close(name);
                }
                Some(event)
            }
            Happening::ProbeEnded { ticket, exit, output } => {
                let (name, since) = self.asked.remove(&ticket)?;
                let answer = exec::judge(exit, &output);
                Some(Event::Probed { name, ticket, answer, took: now() - since })
            }
        }
    }

    fn heard(&self, heard: Heard) -> Option<Event> {
        match heard {
            Heard::Event(event) => Some(event),
            Heard::Complaint(name, text) => {
                self.journal.say_of(Level::Warn, &name, &text);
                None
            }
        }
    }

    /// Does what the core wants done; what comes of it comes back as an event.
    pub(super) fn perform(&mut self, core: &Supervisor, effect: Effect) {
        match effect {
            Effect::Hold { name } => {
                self.with(core, &name, |it, service| it.sockets.hold(&service.plan));
            }
            Effect::Release { name } => self.sockets.release(&name),
            Effect::Adopt { name } => self.with(core, &name, Self::adopt),
            Effect::Forget { name } => self.forget(&name),
            Effect::Spawn { name } => self.with(core, &name, |it, service| {
                if let Some(sockets) = it.sockets.for_start(&service.plan) {
                    it.spawn(service, sockets);
                }
            }),
            Effect::Hook { name, kind, ticket, env } => {
                self.with(core, &name, |it, service| it.hook(service, kind, ticket, env));
            }
            Effect::SignalHook { ticket, signal } => self.processes.signal_hook(ticket, signal),
            Effect::Signal { pid, signal, to: Scope::Group } => self.processes.signal(pid, signal),
            Effect::Signal { pid, signal, to: Scope::Main } => {
                self.processes.signal_main(pid, signal);
            }
            Effect::Refresh { pid, signal } => self.processes.signal_leader(pid, signal),
            Effect::Await { pid } => self.processes.await_rest(pid),
            Effect::Sweep { pid } => self.sweep(core, pid),
            Effect::Probe { name, probe, ticket } => {
                self.with(core, &name, |it, service| it.probe(service, probe, ticket));
            }
            Effect::Ask { name, need, ticket } => self.with(core, &name, |it, service| {
                if let Some(need) = service.plan.wait_for.get(need) {
                    it.prober.ask_need(service.name(), ticket, need, ANSWER_MAX);
                }
            }),
            Effect::Look { name, ticket } => self.with(core, &name, |it, service| {
                if let Some(file) = heartbeat_file(service) {
                    it.looker.look(&service.plan.name, ticket, file);
                }
            }),
            Effect::Examine { name, pid, ticket } => {
                self.with(core, &name, |it, service| it.examine(service, pid, ticket));
            }
            Effect::Measure { name, ticket } => self.with(core, &name, |it, service| {
                if let Some(pid) = service.pid() {
                    it.meter.measure(&service.plan.name, ticket, pid.0);
                }
            }),
            Effect::WatchHost { name } => self.look_at_host(core, &name, None),
            Effect::SampleHost { name, ticket } => self.look_at_host(core, &name, Some(ticket)),
            Effect::Abandon { ticket } => self.abandon(ticket),
            Effect::Answered { name, probe, answer, took } => {
                self.with(core, &name, |it, service| it.answered(service, probe, &answer, took));
            }
            Effect::Note { name, note } => {
                self.metrics.note(&name, &note);
                self.journal.note(&name, &note);
                self.incidents.note(core, &name, &note);
            }
            Effect::Stalled { gap } => self.journal.stalled(gap),
            // The loop does these itself.
            Effect::Save | Effect::Exit { .. } => {}
        }
    }

    fn sweep(&mut self, core: &Supervisor, pid: Pid) {
        if let Some(service) = core.services().iter().find(|it| it.pid() == Some(pid)) {
            self.sockets.deepen(service.name());
        }
        self.processes.sweep(pid);
    }

    /// Nobody waits for this answer any more.
    fn abandon(&mut self, ticket: Ticket) {
        self.prober.abandon(ticket);
        if self.asked.remove(&ticket).is_some() {
            self.processes.kill_probe(ticket);
        }
    }

    /// Its log is to be as it says. The file of a run that goes on stays open.
    fn adopt(&mut self, service: &Service) {
        self.reshaped = true;
        let (name, plan) = (service.name(), &service.plan);
        if let Err(text) = self.logs.add(name, &plan.logs, os::owner(plan)) {
            self.journal.say_of(Level::Error, name, &text);
        }
        self.incidents.asked_otherwise(name);
    }

    /// The service is no more.
    fn forget(&mut self, name: &Name) {
        self.reshaped = true;
        self.sockets.forget(name);
        self.ears.close(name);
        self.looker.forget(name);
        self.prober.forget(name);
        self.gauge.forget(name);
        self.meter.forget(name);
        self.incidents.forget(name);
        self.journal.forget(name);
        self.metrics.forget(name);
        self.logs.remove(name);
    }

    /// Passes on a signal to the service, as an operator wants; what came of it.
    pub(super) fn pass_on(&mut self, service: &Service, signal: Signal, by: u32) -> Outcome {
        let outcome = operator::passed_on(service, signal);
        if let (Some(pid), Some(signal)) = (service.pid(), service.plan.rewrite.apply(signal)) {
            self.processes.signal(pid, signal);
            let text = format!("{}, asked by uid {by}", outcome.text);
            self.journal.say_of(Level::Info, service.name(), &text);
        }
        outcome
    }

    fn with(&mut self, core: &Supervisor, name: &Name, act: impl FnOnce(&mut Self, &Service)) {
        if let Some(service) = core.service(name) {
            act(self, service);
        }
    }

    /// A start has the sockets it waited for, or cannot have them.
    fn has_sockets(
        &mut self,
        core: &Supervisor,
        name: Name,
        sockets: Result<Handed, String>,
    ) -> Option<Event> {
        let service = core.service(&name)?;
        if !matches!(service.state, State::Spawning { .. }) {
            return None;
        }
        match sockets {
            Ok(sockets) => {
                self.spawn(service, sockets);
                None
            }
            Err(why) => Some(Event::SpawnFailed { name, failure: SpawnFailure::other(why) }),
        }
    }

    fn spawn(&mut self, service: &Service, sockets: Handed) {
        let mut plan = Cow::Borrowed(&service.plan);
        if plan.is_heard() {
            match self.ears.open(&plan, service.run) {
                Ok(variables) => plan.to_mut().env.extend(variables),
                Err(reason) => {
                    let (name, failure) = (plan.name.clone(), SpawnFailure::other(reason));
                    return self.known.push_back(Event::SpawnFailed { name, failure });
                }
            }
        }
        if let Some(file) = heartbeat_file(service) {
            self.looker.baseline(&plan.name, file);
        }
        let output = self.output(service);
        self.processes.spawn_with(&plan, service.run, output, sockets);
    }

    fn output(&self, service: &Service) -> Output {
        match self.logs.begin_run(service.name(), service.run) {
            Ok([stdout, stderr]) => {
                Output { stdout: Stream::To(stdout), stderr: Stream::To(stderr) }
            }
            Err(_) => Output { stdout: Stream::Inherit, stderr: Stream::Inherit },
        }
    }

    /// As the service would run, and with these variables more.
    fn hook(
        &mut self,
        service: &Service,
        kind: HookKind,
        ticket: Ticket,
        env: Vec<(&'static str, String)>,
    ) {
        let mut plan = service.plan.clone();
        plan.env.extend(env.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let command = match kind {
            HookKind::PreStart => &service.plan.pre_start,
            HookKind::PostStop => &service.plan.post_stop,
        };
        let output = self.output(service);
        self.processes.spawn_hook(ticket, &plan, command, output);
    }

    fn probe(&mut self, service: &Service, nth: usize, ticket: Ticket) {
        let plan = &service.plan;
        let Some(probe) = plan.probes.get(nth) else { return };
        match &probe.kind {
            ProbeKind::Http(_)
            | ProbeKind::Tcp(_)
            | ProbeKind::File(_)
            | ProbeKind::Listening(_)
            | ProbeKind::Grpc(_) => {
                self.prober.ask(&plan.name, ticket, probe, service.pid());
            }
            ProbeKind::Exec(command) => {
                self.asked.insert(ticket, (plan.name.clone(), now()));
                self.processes.spawn_probe(ticket, plan, command);
            }
        }
    }

    fn examine(&mut self, service: &Service, pid: Pid, ticket: Ticket) {
        let plan = &service.plan;
        let look = self.examiner.examine(&plan.name, ticket, pid, plan.evidence_timeout);
        self.incidents.seen(&plan.name, look);
    }

    fn look_at_host(&mut self, core: &Supervisor, name: &Name, ticket: Option<Ticket>) {
        self.with(core, name, |it, service| {
            if let Some(pid) = service.pid() {
                it.gauge.look(name, ticket, pid);
            }
        });
    }

    fn answered(&mut self, service: &Service, nth: usize, answer: &Answer, took: Duration) {
        let Some(probe) = service.plan.probes.get(nth) else { return };
        let name = &service.plan.name;
        self.metrics.probed(name, probe.role, answer, took);
        self.incidents.answered(name, nth, answer, took);
        if matches!(answer, Answer::Pass) {
            let text = format!("{} {} passed in {}", probe.role, probe.kind, Short(took));
            self.journal.say_of(Level::Debug, name, &text);
        }
    }

    /// At keepup's own end: kills what is left, and says what is left all the same.
    pub(super) async fn end(&mut self, limit: Duration) -> Vec<Pid> {
        self.sockets.close(limit).await;
        self.processes.end_all(limit).await
    }
}

/// Tells of error lines as they are found.
async fn count_errors(logs: Arc<Logs>, tell: mpsc::Sender<Event>) {
    let found = Arc::new(Notify::new());
    let call = Arc::clone(&found);
    logs.on_errors(Box::new(move || call.notify_one()));
    loop {
        found.notified().await;
        tokio::time::sleep(ERRORS_AFTER).await;
        for (name, run, lines) in logs.take_errors() {
            // It fails only when keepup has ended.
            let _ = tell.send(Event::ErrorRate { name, run, lines }).await;
        }
    }
}

fn heartbeat_file(service: &Service) -> Option<&Path> {
    service.plan.heartbeat.as_ref()?.file.as_deref()
}
