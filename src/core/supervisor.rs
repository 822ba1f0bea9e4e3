//! All services together: who is spoken to, in which order they start and stop, and when to leave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Asker, Effect, End, Event, Pid, Time};
use super::restart::Budget;
use super::service::{Main, Service, State, Want};
use super::turn::{Numbers, Turn};
use crate::plan::{self, Name, Plan, Policy};

/// A deadline that is heeded so much too late means that the host stood still.
const STALL_MIN: Duration = Duration::from_secs(1);

/// How long keepup stays with processes that survive KILL, when it ends.
const LEAVE_AFTER_KILL: Duration = Duration::from_secs(1);

/// What a service's earlier life, under an earlier keepup, means for this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// An operator had stopped it.
    pub stopped: bool,
    /// A process of an earlier run survives KILL: no second copy is started beside it.
    pub survives: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Restarts by the policy, oldest first.
    pub restarts: Vec<Time>,
}

/// The core: every service, and what keepup itself is about to do.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) plan: plan::Supervisor,
    pub(super) services: Vec<Service>,
    mode: Mode,
    numbers: Numbers,
    last_step: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// Stopping everything, to end with `code`; what still runs is killed at `kill_at`.
    Leaving {
        code: u8,
        kill_at: Time,
    },
    /// Everything was killed; what survives that is left behind at `leave_at`.
    Killing {
        code: u8,
        leave_at: Time,
    },
    Gone,
}

impl Supervisor {
    /// The services of `plan`, none of them started: the first [`Event::Tick`] does that.
    /// Chance (the jitter) comes from `seed` alone.
    pub fn new(plan: Plan, seed: u64, past: &BTreeMap<Name, Remembered>) -> Supervisor {
        let service = |plan: plan::Service| {
            let past = past.get(&plan.name).cloned().unwrap_or_default();
            let stopped = past.stopped && plan.restart.policy == Policy::UnlessStopped;
            let want =
                if plan.autostart && !stopped && !past.survives { Want::Up } else { Want::Down };
            Service::new(plan, Budget::remembered(past.failures, &past.restarts), want)
        };
        Supervisor {
            plan: plan.supervisor,
            services: plan.services.into_iter().map(service).collect(),
            mode: Mode::Running,
            numbers: Numbers::new(seed),
            last_step: Time::default(),
        }
    }

    /// What keepup itself is to be like.
    pub fn plan(&self) -> &plan::Supervisor {
        &self.plan
    }

    /// The services, in the order of the plan.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|it| **it.name() == *name)
    }

    /// Is keepup on its way out?
    pub fn is_leaving(&self) -> bool {
        self.mode != Mode::Running
    }

    /// The earliest moment at which a [`Event::Tick`] would do something. Ask again after every
    /// step.
    pub fn deadline(&self) -> Option<Time> {
        let own = match self.mode {
            Mode::Running => None,
            Mode::Leaving { kill_at, .. } => Some(kill_at),
            Mode::Killing { leave_at, .. } => Some(leave_at),
            Mode::Gone => return None,
        };
        self.services.iter().filter_map(Service::deadline).chain(own).min()
    }

    /// Takes in one event and says, in order, what to do about it. Never fails, never waits.
    pub fn step(&mut self, now: Time, event: Event, out: &mut Vec<Effect>) {
        if self.mode == Mode::Gone {
            return;
        }
        if let Some(gap) = self.late(now) {
            out.push(Effect::Stalled { gap });
            self.services.iter_mut().for_each(|it| it.stalled(gap));
        }
        let first = out.len();
        if let Event::Reload(reload) = event {
            self.last_step = now;
            if self.mode == Mode::Running {
                self.reload(now, *reload, out);
                self.settle(now, out);
            }
            return self.hold_sockets(first, out);
        }
        let mut turn = Turn {
            now,
            leaving: self.mode != Mode::Running,
            killing: matches!(self.mode, Mode::Killing { .. }),
            save: false,
            moved: matches!(event, Event::Tick),
            leave: None,
            numbers: &mut self.numbers,
            out,
        };
        take_in(&mut self.services, &mut self.mode, event, &mut turn);
        let (save, moved, leave) = (turn.save, turn.moved, turn.leave);
        self.last_step = now;
        if let Some(code) = leave {
            self.leave(code, now, out);
        }
        if save {
            out.push(Effect::Save);
        }
        if moved || leave.is_some() {
            self.settle(now, out);
        }
        self.hold_sockets(first, out);
    }

    /// Has sockets held or closed before everything else that this step leads to.
    fn hold_sockets(&mut self, first: usize, out: &mut Vec<Effect>) {
        let leaving = self.mode != Mode::Running;
        let sockets = self.services.iter_mut().filter_map(|it| it.hold(leaving));
        out.splice(first..first, sockets);
    }

    /// For how long the host stood still, if a deadline passed so long ago that it must have. The
    /// first event after that need not be the tick: answers come before it.
    fn late(&self, now: Time) -> Option<Duration> {
        let gap = now - self.last_step;
        (STALL_MIN <= gap && self.deadline()? + STALL_MIN <= now).then_some(gap)
    }

    fn leave(&mut self, code: u8, now: Time, out: &mut Vec<Effect>) {
        if self.mode != Mode::Running {
            return;
        }
        // What is killed at last needs a moment to be gone within the limit.
        let limit = self.plan.shutdown_timeout;
        let reserve = (limit / 10).min(Duration::from_millis(500));
        self.mode = Mode::Leaving { code, kill_at: now + limit.saturating_sub(reserve) };
        for nth in 0..self.services.len() {
            self.act(nth, now, out, Service::retire);
        }
    }

    /// Does what follows from all states together: starts what has waited long enough, stops what
    /// is to stop next, and leaves when nothing is left to do.
    fn settle(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.mode == Mode::Running {
            self.stop_replaced(now, out);
            self.forget(out);
            self.start_waiting(now, out);
            if let Some(code) = self.nothing_left() {
                self.leave(code, now, out);
            }
        }
        if let Mode::Leaving { kill_at, .. } = self.mode
            && kill_at <= now
        {
            hurry(&mut self.mode, now);
        }
        match self.mode {
            Mode::Running | Mode::Gone => {}
            Mode::Leaving { code, .. } => {
                self.stop_next(now, out);
                self.exit_if_empty(code, out);
            }
            Mode::Killing { code, leave_at } => {
                self.kill_all(now, out);
                self.exit_if_empty(code, out);
                if leave_at <= now && self.mode != Mode::Gone {
                    self.mode = Mode::Gone;
                    out.push(Effect::Exit { code: code.max(1) });
                }
            }
        }
    }

    fn start_waiting(&mut self, now: Time, out: &mut Vec<Effect>) {
        for nth in 0..self.services.len() {
            let service = &self.services[nth];
            let free = !service.heeds_order()
                || self.predecessors(service).all(Service::lets_others_start);
            if free && self.has_room(service) {
                self.act(nth, now, out, Service::proceed);
            }
        }
    }

    /// Stops everything that nothing running comes after: in reverse order of starting.
    fn stop_next(&mut self, now: Time, out: &mut Vec<Effect>) {
        // What hangs in the kernel must not cost the others their graceful stop.
        let running = self.services.iter().filter(|it| it.is_running() && !it.is_stuck());
        // Those in between may be done or down, and still one comes after the other.
        let needed = self.before(running, |_| true);
        let needed: BTreeSet<Name> = needed.iter().map(|it| it.name().clone()).collect();
        for nth in (0..self.services.len()).rev() {
            let service = &self.services[nth];
            let is_next =
                matches!(service.state, State::Up { .. }) && !needed.contains(service.name());
            // A run that is on its way out already goes on without further looks at it.
            if is_next || service.is_examined() {
                self.act(nth, now, out, |it, turn| it.terminate(End::Asked(Asker::Shutdown), turn));
            }
        }
    }

    fn kill_all(&mut self, now: Time, out: &mut Vec<Effect>) {
        for nth in (0..self.services.len()).rev() {
            self.act(nth, now, out, |it, turn| {
                it.terminate(End::Asked(Asker::Shutdown), turn);
                it.kill("keepup is ending", turn);
                it.kill_hook(turn);
            });
        }
    }

    pub(super) fn act(
        &mut self,
        nth: usize,
        now: Time,
        out: &mut Vec<Effect>,
        what: impl FnOnce(&mut Service, &mut Turn<'_>),
    ) {
        let leaving = self.mode != Mode::Running;
        let numbers = &mut self.numbers;
        let killing = matches!(self.mode, Mode::Killing { .. });
        let mut turn =
            Turn { now, leaving, killing, save: false, moved: false, leave: None, numbers, out };
        what(&mut self.services[nth], &mut turn);
    }

    fn exit_if_empty(&mut self, code: u8, out: &mut Vec<Effect>) {
        if !self.services.iter().any(Service::is_running) {
            self.mode = Mode::Gone;
            out.push(Effect::Exit { code });
        }
    }

    /// Nothing runs, and nothing will be started any more: the code to end with.
    fn nothing_left(&self) -> Option<u8> {
        let over = |it: &Service| match it.state {
            State::Done | State::Failed => true,
            State::Waiting(_) => it.heeds_order() && self.waits_for_ever(it),
            // Down: an operator may start it.
            State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Up { .. }
            | State::Stopping(_) => false,
        };
        let failed = self.services.iter().any(|it| matches!(it.state, State::Failed));
        let over = !self.plan.stay && self.services.iter().all(over);
        over.then_some(if failed { 4 } else { 0 })
    }

    /// Does it wait for one that was given up, or for one that waits for such a one?
    fn waits_for_ever(&self, service: &Service) -> bool {
        let before = self.before([service], Service::heeds_order);
        before.iter().any(|it| matches!(it.state, State::Failed))
    }

    /// Those that services come after, and those that they come after, and so on `through` some.
    pub(super) fn before<'a>(
        &'a self,
        services: impl IntoIterator<Item = &'a Service>,
        through: impl Fn(&Service) -> bool,
    ) -> Vec<&'a Service> {
        let mut found: Vec<&Service> = Vec::new();
        let add = |service: &'a Service, found: &mut Vec<&'a Service>| {
            for it in self.predecessors(service) {
                if !found.iter().any(|&known| std::ptr::eq(known, it)) {
                    found.push(it);
                }
            }
        };
        for service in services {
            add(service, &mut found);
        }
        let mut nth = 0;
        while let Some(&next) = found.get(nth) {
            if through(next) {
                add(next, &mut found);
            }
            nth += 1;
        }
        found
    }

    /// Those that a service comes after.
    pub fn predecessors<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Service> {
        service.plan.after.iter().filter_map(|name| self.service(name))
    }

    /// Those that a waiting service waits for.
    pub fn awaited<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Service> {
        let waits = service.heeds_order();
        self.predecessors(service).filter(move |it| waits && !it.lets_others_start())
    }

    /// What the next keepup should know, if this one dies.
    pub fn remember(&self, now: Time) -> BTreeMap<Name, Remembered> {
        let remember = |it: &Service| Remembered {
            stopped: it.plan.autostart && it.want == Want::Down,
            survives: false,
            failures: it.budget.failures(),
            restarts: it.budget.recent(&it.plan.restart, now).collect(),
        };
        self.services.iter().map(|it| (it.name().clone(), remember(it))).collect()
    }
}

/// Kills at once what would be killed in time.
fn hurry(mode: &mut Mode, now: Time) {
    if let Mode::Leaving { code, .. } = *mode {
        *mode = Mode::Killing { code, leave_at: now + LEAVE_AFTER_KILL };
    }
}

fn with(services: &mut [Service], name: &str, act: impl FnOnce(&mut Service)) {
    if let Some(service) = services.iter_mut().find(|it| **it.name() == *name) {
        act(service);
    }
}

/// What a reload took out of the plan is not started any more.
fn kept(services: &mut [Service], name: &str, act: impl FnOnce(&mut Service)) {
    with(services, name, |it| {
        if !it.removed {
            act(it);
        }
    });
}

fn living(services: &mut [Service], pid: Pid, act: impl FnOnce(&mut Service)) {
    with_pid(services, pid, Main::Lives, act);
}

/// Anything else that died is no service, and nobody's concern here. A pid may be that of a new run
/// while the rest of the old one has not gone yet.
fn with_pid(services: &mut [Service], pid: Pid, main: Main, act: impl FnOnce(&mut Service)) {
    if let Some(service) = services.iter_mut().find(|it| it.main() == Some((pid, main))) {
        act(service);
    }
}

/// What follows for the services it is about.
fn take_in(services: &mut [Service], mode: &mut Mode, event: Event, turn: &mut Turn<'_>) {
    match event {
        Event::Tick => services.iter_mut().for_each(|it| it.tick(turn)),
        Event::Spawned { name, pid } => {
            with(services, &name, |it| it.spawned(pid, turn));
        }
        Event::SpawnFailed { name, failure } => {
            with(services, &name, |it| it.spawn_failed(failure, turn));
        }
        Event::Exited { pid, exit } => living(services, pid, |it| it.exited(exit, turn)),
        Event::Gone { pid } => with_pid(services, pid, Main::Died, |it| it.gone(turn)),
        Event::HookEnded { name, ticket, outcome } => {
            with(services, &name, |it| it.hook_ended(ticket, outcome, turn));
        }
        Event::Probed { name, ticket, answer, took } => {
            with(services, &name, |it| it.probed(ticket, answer, took, turn));
        }
        Event::Notified { pid, news } => living(services, pid, |it| it.told(news, turn)),
        Event::Beat { pid } => living(services, pid, |it| it.beat(turn)),
        Event::Looked { name, ticket, sight } => {
            with(services, &name, |it| it.looked(ticket, sight, turn));
        }
        Event::ErrorRate { name, run, lines } => {
            with(services, &name, |it| it.erred(run, lines, turn));
        }
        Event::Examined { name, ticket } => {
            with(services, &name, |it| it.examined(ticket, turn));
        }
        Event::Usage { name, ticket, used } => {
            with(services, &name, |it| it.used(ticket, &used, turn));
        }
        Event::HostSample { name, ticket, sample } => {
            with(services, &name, |it| it.host_sampled(ticket, &sample, turn));
        }
        Event::Start { .. } | Event::Restart { .. } if turn.leaving => {}
        Event::Start { name, by } => kept(services, &name, |it| it.start(by, turn)),
        Event::Restart { name, by } => kept(services, &name, |it| it.restart(by, turn)),
        Event::Stop { name, by } => with(services, &name, |it| it.stop(by, turn)),
        // Taken in by all together.
        Event::Reload(_) => {}
        Event::Shutdown => match *mode {
            Mode::Running => turn.leave = Some(0),
            Mode::Leaving { .. } | Mode::Killing { .. } | Mode::Gone => {
                hurry(mode, turn.now);
                turn.moved = true;
            }
        },
    }
}
