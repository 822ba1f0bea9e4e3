//! Every process that keepup started or inherited: the one table, and the only reaper.
//!
//! A death is handled in one turn: seen, its group killed while the zombie still holds the number,
//! reaped, told. Must never wait for a child, and never signal a number that was reaped.

mod start;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
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
use super::launch;
use super::marker::Keepup;
use super::oom::OomKills;
use super::procfs;
use super::remains::{Kind, Manner, Remains};
use super::signal::{self, Bell};
use super::spawner::Spawner;
use super::starting::Starting;
use super::strays::Strays;
use super::sweep::{Living, Sweep};
use super::tag::{Tag, Tags};
use super::wait::{self, Peek, peek};
use crate::core::event::{Event, Exit, Pid, SpawnFailure, Ticket};
use crate::plan::{Name, Signal};

use start::{hook_mark, probe_mark};

pub use super::launch::{Output, Stream};

/// Deaths handled in one turn of the loop; the rest wait for the next.
const DEATHS_PER_TURN: usize = 64;

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

fn own_pid() -> Pid {
    Pid(nix::unistd::getpid().as_raw())
}
