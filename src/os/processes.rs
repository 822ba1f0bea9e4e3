//! Every process that keepup started or inherited: the one table, and the only reaper.
//!
//! A death is handled in one turn: seen, its group killed while the zombie still holds the number,
//! reaped, told. Must never wait for a child, and never signal a number that was reaped.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use signal_hook::SigId;
use tokio::time::Sleep;

use super::capture::Capture;
use super::cgroup::{ControlGroup, ControlGroups};
use super::clock::now;
use super::ending;
use super::files;
use super::group::{Group, Sent};
use super::hunt::{Quarry, hunt};
use super::init::{self, Place};
use super::launch::{self, Launch};
use super::marker::Keepup;
use super::oom::OomKills;
use super::procfs;
use super::remains::{Kind, Manner, Remains};
use super::signal::{self, Bell};
use super::sockets::Handed;
use super::spawner::Spawner;
use super::starting::Starting;
use super::strays::Strays;
use super::sweep::{Living, Sweep};
use super::tag::{Tag, Tags};
use super::wait::{self, Peek, peek};
use crate::core::event::{Event, Exit, Pid, SpawnFailure, Ticket};
use crate::plan::{Name, Resource, Service, Signal};

pub use super::launch::{Output, Stream};

/// Deaths handled in one turn of the loop; the rest wait for the next.
const DEATHS_PER_TURN: usize = 64;

/// So long a start that nobody wants any more may take: a program that runs by then is asked to end.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Something happened to a process.
#[derive(Debug, PartialEq)]
pub enum Happening {
    /// To a service's: Spawned, `SpawnFailed`, Exited or Gone.
    Core(Event),
    /// An exec probe ended, or could not be started.
    ProbeEnded {
        /// As given to [`Processes::spawn_probe`].
        ticket: Ticket,
        /// How, or why it could not be started.
        exit: Result<Exit, String>,
        /// The beginning of what it wrote.
        output: Vec<u8>,
    },
}

/// A run whose main process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRun {
    /// The service.
    pub service: Name,
    /// Its main process, which leads its group and its session.
    pub pid: Pid,
    /// When that was started, in clock ticks since boot, as the kernel counts it.
    pub start_time: u64,
    /// Which run of the service it is.
    pub run: u64,
}

/// The processes. One per process, in the thread that starts it.
#[derive(Debug)]
pub struct Processes {
    table: HashMap<Pid, Child>,
    /// Those whose main process is dead, and how it ended.
    hooks: HashMap<Pid, (Name, Ticket, Exit)>,
    sweep: Sweep,
    outbox: VecDeque<Happening>,
    keepup: Keepup,
    tags: Tags,
    controls: ControlGroups,
    place: Place,
    spawner: Spawner,
    /// The limit on open files that keepup inherited, if it raised its own.
    files: Option<libc::rlimit>,
    dev_null: OwnedFd,
    deaths: Bell,
    registered: SigId,
    /// There may be dead children.
    dying: bool,
    oom_kills: OomKills,
}

#[derive(Debug)]
struct Child {
    service: Name,
    start_time: u64,
    group: Group,
    tag: Option<Tag>,
    control: Option<ControlGroup>,
    role: Role,
    /// It alone was asked to stop: its death leaves the rest untouched.
    alone: bool,
    /// It was sent KILL from here.
    killed: bool,
    /// A number that is another when the variables of its files are.
    files: u64,
    /// Until it is known whether its program runs.
    starting: Option<Starting>,
    /// It is to be killed then if its program does not run yet.
    given_up: Option<Pin<Box<Sleep>>>,
}

impl Child {
    fn is_run_of(&self, name: &Name) -> bool {
        self.service == *name && matches!(self.role, Role::Run(_))
    }
}

#[derive(Debug)]
enum Role {
    Run(u64),
    Hook(Ticket),
    Probe {
        ticket: Ticket,
        /// `None`: nobody waits for it any more.
        capture: Option<Capture>,
    },
}

impl Processes {
    /// Takes in orphans from now on. Needs a tokio runtime with its I/O and time enabled.
    pub fn new() -> io::Result<Processes> {
        signal::unblock()?;
        let place = init::adopt_orphans()?;
        let (deaths, cord) = Bell::new()?;
        let registered = signal_hook::low_level::pipe::register(libc::SIGCHLD, cord)?;
        let own = own_pid();
        let start_time = procfs::stat(own).map_or(0, |it| it.start_time);
        let keepup = Keepup::new(procfs::pid_namespace(), own, start_time);
        let tags = Tags::of(keepup.number());
        Ok(Processes {
            table: HashMap::new(),
            hooks: HashMap::new(),
            sweep: Sweep::new(Strays::new(keepup.clone()), tags.clone()),
            outbox: VecDeque::new(),
            controls: ControlGroups::of(keepup.name()),
            keepup,
            tags,
            place,
            spawner: Spawner::with_threads(),
            files: files::raise_limit(),
            dev_null: launch::dev_null()?,
            deaths,
            registered,
            dying: true,
            oom_kills: OomKills::new(),
        })
    }

    /// Starts a service's command; `next` tells Spawned or `SpawnFailed`.
    pub fn spawn(&mut self, service: &Service, run: u64, output: Output) {
        self.spawn_with(service, run, output, Vec::new());
    }

    /// The same for a service that is given sockets.
    pub fn spawn_with(&mut self, service: &Service, run: u64, output: Output, sockets: Handed) {
        let in_use = |name: &Name| self.table.values().any(|it| it.service == *name);
        let control = self.controls.get(&service.name, in_use);
        let (command, mark) = (&service.command, run.to_string());
        let started = self.start(service, command, &mark, control, &output, sockets);
        // The service alone has its ends now: the pipes end when it does.
        drop(output);
        match started {
            Ok((pid, child)) => {
                self.table.insert(pid, Child { role: Role::Run(run), ..child });
            }
            Err(reason) => {
                let (name, failure) = (service.name.clone(), SpawnFailure::other(reason));
                self.outbox.push_back(Happening::Core(Event::SpawnFailed { name, failure }));
            }
        }
    }

    /// A start that nobody wants any more: if it hangs, since its program lies on a mount that does
    /// not answer, it is killed. `next` tells Spawned and Exited then.
    pub fn give_up_start(&mut self, service: &Name) {
        let hangs = |it: &&mut Child| {
            it.service == *service && matches!(it.role, Role::Run(_)) && it.starting.is_some()
        };
        for child in self.table.values_mut().filter(hangs) {
            child.given_up.get_or_insert_with(|| Box::pin(tokio::time::sleep(START_PATIENCE)));
        }
    }

    /// Starts a hook of a service, as its user and in its folder; `next` tells `HookEnded` when
    /// nothing of it is left.
    pub fn spawn_hook(
        &mut self,
        ticket: Ticket,
        service: &Service,
        command: &[String],
        output: Output,
    ) {
        let started = self.start(service, command, &hook_mark(ticket), None, &output, Vec::new());
        drop(output);
        match started {
            Ok((pid, child)) => {
                self.table.insert(pid, Child { role: Role::Hook(ticket), ..child });
            }
            Err(reason) => {
                let (name, failure) = (service.name.clone(), SpawnFailure::other(reason));
                self.tell_hook(name, ticket, Err(failure));
            }
        }
    }

    /// Sends a signal to a hook and its group; nothing if its main process is dead.
    pub fn signal_hook(&mut self, asked: Ticket, signal: Signal) {
        let is_it = |it: &&mut Child| matches!(it.role, Role::Hook(ticket) if ticket == asked);
        if let Some(child) = self.table.values_mut().find(is_it) {
            child.killed |= signal == Signal::KILL;
            // It may not have made its group yet.
            if !matches!(child.group.send(signal), Sent::Reached) {
                child.group.send_to_leader(signal);
            }
        }
    }

    fn tell_hook(&mut self, name: Name, ticket: Ticket, outcome: Result<Exit, SpawnFailure>) {
        self.outbox.push_back(Happening::Core(Event::HookEnded { name, ticket, outcome }));
    }

    /// Starts a command beside a service, as its user and in its folder; `next` tells its end.
    pub fn spawn_probe(&mut self, ticket: Ticket, service: &Service, command: &[String]) {
        let run = probe_mark(ticket);
        let started = Capture::new().and_then(|(capture, output)| {
            let (pid, child) = self.start(service, command, &run, None, &output, Vec::new())?;
            let role = Role::Probe { ticket, capture: Some(capture) };
            Ok((pid, Child { role, ..child }))
        });
        match started {
            Ok((pid, child)) => _ = self.table.insert(pid, child),
            Err(reason) => {
                let output = Vec::new();
                self.outbox.push_back(Happening::ProbeEnded { ticket, exit: Err(reason), output });
            }
        }
    }

    /// Ends a probe with everything it started. Nothing is told of it any more.
    pub fn kill_probe(&mut self, asked: Ticket) {
        self.outbox
            .retain(|it| !matches!(it, Happening::ProbeEnded { ticket, .. } if *ticket == asked));
        for child in self.table.values_mut() {
            if let Role::Probe { ticket, capture } = &mut child.role
                && *ticket == asked
            {
                *capture = None;
                child.killed = true;
                // It may not have made its group yet.
                child.group.send_to_leader(Signal::KILL);
                child.group.send(Signal::KILL);
            }
        }
    }

    /// Sends a signal to the group of a run whose main process lives, and KILL to whoever strayed
    /// from it, too; nothing otherwise.
    pub fn signal(&mut self, pid: Pid, signal: Signal) {
        let Some(child) = self.table.get_mut(&pid) else { return };
        if !matches!(child.role, Role::Run(_)) {
            return;
        }
        child.group.send(signal);
        if signal == Signal::KILL {
            (child.alone, child.killed) = (false, true);
            // Now, and not at its death: among many who fork it may take long to die.
            match (&child.control, child.tag) {
                (Some(control), _) if control.is_populated() => control.kill(),
                (_, Some(tag)) => _ = hunt(Quarry::Run(tag)),
                (_, None) => {}
            }
        }
    }

    /// Sends one to the main process alone, and changes nothing about its end.
    pub fn signal_leader(&self, pid: Pid, signal: Signal) {
        if let Some(Child { role: Role::Run(_), group, .. }) = self.table.get(&pid) {
            group.send_to_leader(signal);
        }
    }

    /// What stood in the files of variables when this service's run began, as a number; `None`: there
    /// is no run.
    pub fn variables(&self, name: &Name) -> Option<u64> {
        self.table.values().find(|it| it.is_run_of(name)).map(|it| it.files)
    }

    /// Its run knows of other ones by now.
    pub fn renew_variables(&mut self, name: &Name, files: u64) {
        if let Some(child) = self.table.values_mut().find(|it| it.is_run_of(name)) {
            child.files = files;
        }
    }

    /// Sends one to the main process alone: what its death leaves is left to `await_rest` or `sweep`.
    pub fn signal_main(&mut self, pid: Pid, signal: Signal) {
        if let Some(Child { role: Role::Run(_), group, alone, .. }) = self.table.get_mut(&pid) {
            *alone = true;
            group.send_to_leader(signal);
        }
    }

    /// Ends what a dead main process left behind; `next` tells Gone when nothing of it is left,
    /// normally at once.
    pub fn sweep(&mut self, pid: Pid) {
        self.begin(pid, Manner::Kill);
    }

    /// `next` tells Gone when nothing of this dead main process's run is left; nothing is done to it.
    pub fn await_rest(&mut self, pid: Pid) {
        self.begin(pid, Manner::Await);
    }

    fn begin(&mut self, pid: Pid, manner: Manner) {
        if self.table.contains_key(&pid) {
            return;
        }
        if !self.sweep.begin(pid, manner) {
            self.outbox.push_back(Happening::Core(Event::Gone { pid }));
        }
        let Processes { table, sweep, .. } = self;
        let gone = sweep.end(&living(table, &|pid| table.contains_key(&pid)));
        self.tell_gone(gone);
    }

    /// What happens next; in one turn, what became of starts comes before deaths. May be dropped
    /// at any time without losing anything.
    pub async fn next(&mut self) -> Happening {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The runs whose main process lives, for `state.json`.
    pub fn runs(&self) -> impl Iterator<Item = LiveRun> {
        self.table.iter().filter_map(|(&pid, child)| match child.role {
            Role::Run(run) if child.starting.is_none() => {
                let (service, start_time) = (child.service.clone(), child.start_time);
                Some(LiveRun { service, pid, start_time, run })
            }
            Role::Run(_) | Role::Hook(_) | Role::Probe { .. } => None,
        })
    }

    /// At keepup's own end: kills every process below it, again and again until there is none or
    /// `limit` has passed; as PID 1 every process there is. The pids that are left.
    pub async fn end_all(&mut self, limit: Duration) -> Vec<Pid> {
        self.controls.end();
        let left = ending::end_all(self.place, &mut self.deaths, limit).await;
        // Now that nobody is in them, they can go.
        self.controls.end();
        left
    }

    fn start(
        &mut self,
        service: &Service,
        command: &[String],
        run: &str,
        control: Option<ControlGroup>,
        output: &Output,
        sockets: Handed,
    ) -> Result<(Pid, Child), String> {
        self.oom_kills.look(now());
        let tag = self.tags.give();
        let mut launch = Launch::prepare(service, command, (&self.keepup, run), tag)?;
        launch.hand_over(sockets)?;
        launch.group.clone_from(&control);
        if let Some(inherited) = self.files
            && !service.limits.contains_key(&Resource::Nofile)
        {
            launch.limits.push((Resource::Nofile, inherited));
        }
        let (files, launch) = (launch.files, Arc::new(launch));
        let (pid, told) = launch.start(&mut self.spawner, self.dev_null.as_fd(), output)?;
        let group = Group::of(pid);
        let start_time = procfs::stat(pid).map_or(0, |it| it.start_time);
        match Starting::new(launch, told) {
            // The caller knows what it is for.
            Ok(starting) => {
                let (service, role, alone) = (service.name.clone(), Role::Run(0), false);
                Ok((
                    pid,
                    Child {
                        service,
                        start_time,
                        group,
                        tag,
                        control,
                        role,
                        alone,
                        killed: false,
                        files,
                        starting: Some(starting),
                        given_up: None,
                    },
                ))
            }
            Err(reason) => {
                group.send_to_leader(Signal::KILL);
                Err(reason)
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        loop {
            if let Some(happening) = self.outbox.pop_front() {
                return Poll::Ready(happening);
            }
            self.poll_starting(cx);
            self.poll_captures(cx);
            self.poll_deaths(cx);
            let Processes { table, sweep, .. } = self;
            let is_known = |pid| table.contains_key(&pid);
            let living = Living { in_burst: self.dying, ..living(table, &is_known) };
            let gone = sweep.poll(cx, &living);
            self.tell_gone(gone);
            if self.outbox.is_empty() {
                return Poll::Pending;
            }
        }
    }

    fn poll_starting(&mut self, cx: &mut Context<'_>) {
        let mut settled = Vec::new();
        for (&pid, child) in &mut self.table {
            if let Some(starting) = &mut child.starting
                && let Poll::Ready(outcome) = starting.poll(cx)
            {
                settled.push((pid, outcome));
            } else if let Some(given_up) = &mut child.given_up
                && given_up.as_mut().poll(cx).is_ready()
            {
                (child.given_up, child.killed) = (None, true);
                child.group.send_to_leader(Signal::KILL);
            }
        }
        for (pid, outcome) in settled {
            self.settle(pid, outcome);
        }
    }

    /// It is known whether the program runs.
    fn settle(&mut self, pid: Pid, outcome: Result<(), SpawnFailure>) {
        let Some(child) = self.table.get_mut(&pid) else { return };
        (child.starting, child.given_up) = (None, None);
        let name = child.service.clone();
        match (outcome, &child.role) {
            (Ok(()), Role::Run(_)) => {
                self.outbox.push_back(Happening::Core(Event::Spawned { name, pid }));
            }
            (Ok(()), Role::Hook(_) | Role::Probe { .. }) => {}
            (Err(failure), &Role::Hook(ticket)) => {
                self.tell_hook(name, ticket, Err(failure));
                self.table.remove(&pid);
            }
            (Err(failure), Role::Run(_)) => {
                self.outbox.push_back(Happening::Core(Event::SpawnFailed { name, failure }));
                // What is left of it is about to die, and is nobody's.
                self.table.remove(&pid);
            }
            (Err(failure), Role::Probe { ticket, capture }) => {
                if capture.is_some() {
                    let (ticket, output) = (*ticket, Vec::new());
                    let exit = Err(failure.reason);
                    self.outbox.push_back(Happening::ProbeEnded { ticket, exit, output });
                }
                self.table.remove(&pid);
            }
        }
    }

    /// Keeps probes from waiting for a full pipe.
    fn poll_captures(&mut self, cx: &mut Context<'_>) {
        for child in self.table.values_mut() {
            if let Role::Probe { capture: Some(capture), .. } = &mut child.role {
                capture.poll(cx);
            }
        }
    }

    fn poll_deaths(&mut self, cx: &mut Context<'_>) {
        while self.deaths.poll_rung(cx).is_ready() {
            self.dying = true;
        }
        if !self.dying {
            return;
        }
        for _ in 0..DEATHS_PER_TURN {
            match peek() {
                Peek::Dead { pid, exit } => self.bury(pid, exit),
                Peek::AllAlive | Peek::NoChildren => {
                    self.dying = false;
                    return;
                }
            }
        }
        // The bell does not ring again for those that are dead already.
        cx.waker().wake_by_ref();
    }

    /// A kill that did not come from here, just when the kernel had killed somebody for want of memory.
    fn decode(&mut self, pid: Pid, exit: Exit) -> Exit {
        let killed = Exit::Signal { signal: Signal::KILL, core_dumped: false };
        // Looked at whoever was killed, so that an earlier kill is not taken for a later one's cause.
        let is_new = exit == killed && self.oom_kills.take(now());
        let ours = self.table.get(&pid).is_none_or(|it| it.killed);
        if is_new && !ours { Exit::OutOfMemory } else { exit }
    }

    /// In this order: what it left dies while the zombie still holds the group's number.
    fn bury(&mut self, pid: Pid, exit: Exit) {
        let exit = self.decode(pid, exit);
        if let Some(child) = self.table.get_mut(&pid) {
            if !child.alone {
                child.group.send(Signal::KILL);
            }
            if let Some(starting) = &mut child.starting {
                // A dead process has said all it will.
                let outcome = starting.read().unwrap_or(Ok(()));
                self.settle(pid, outcome);
            }
        }
        wait::reap(pid);
        self.sweep.reaped(pid);
        let Some(child) = self.table.remove(&pid) else { return };
        let (kind, run) = match child.role {
            Role::Run(run) => {
                self.outbox.push_back(Happening::Core(Event::Exited { pid, exit }));
                (Kind::Run, run.to_string())
            }
            Role::Hook(ticket) => {
                self.hooks.insert(pid, (child.service.clone(), ticket, exit));
                (Kind::Hook, hook_mark(ticket))
            }
            Role::Probe { ticket, capture } => {
                if let Some(mut capture) = capture {
                    let output = capture.finish();
                    let exit = Ok(exit);
                    self.outbox.push_back(Happening::ProbeEnded { ticket, exit, output });
                }
                (Kind::Probe, probe_mark(ticket))
            }
        };
        self.sweep.add(Remains {
            pid,
            service: child.service,
            run,
            start_time: child.start_time,
            kind,
            manner: Manner::Kill,
            since: (kind != Kind::Run).then(now),
            group: Some(child.group),
            tag: child.tag,
            control: child.control,
            looks: 0,
            hunted: None,
        });
    }

    fn tell_gone(&mut self, gone: Vec<Pid>) {
        for pid in gone {
            match self.hooks.remove(&pid) {
                Some((name, ticket, exit)) => self.tell_hook(name, ticket, Ok(exit)),
                None => self.outbox.push_back(Happening::Core(Event::Gone { pid })),
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.registered);
    }
}

fn living<'a>(table: &HashMap<Pid, Child>, is_known: &'a dyn Fn(Pid) -> bool) -> Living<'a> {
    let runs = table.values().filter(|it| !matches!(it.role, Role::Probe { .. })).count();
    Living { is_known, runs, in_burst: false }
}

fn probe_mark(ticket: Ticket) -> String {
    format!("probe-{}", ticket.0)
}

fn hook_mark(ticket: Ticket) -> String {
    format!("hook-{}", ticket.0)
}

fn own_pid() -> Pid {
    Pid(nix::unistd::getpid().as_raw())
}
