//! One service: what is wanted of it, what it is doing, and what comes next.
//!
//! ```text
//!              start            spawned           ended of itself, nothing left
//!   Down ────────────▶ Spawning ───────▶ Up ──────────────────────┐
//!    ▲  ▲      ▲  ▲       │ failed        │ stop, unhealthy, …     │
//!    │  │      │  │       │               ▼                        ▼
//!    │  │      │  │       │            Stopping ─gone─▶ judged in `ended`
//!    │ stop    │  │       └───────────────────────────▶   │  │  │  │
//!    │  │  Waiting└──────────── Backoff ◀─────────────────┘  │  │  │
//!    │  │ (for `after`)         (again, later)               ▼  │  ▼
//!    └──┴──────────────────────────────────── not wanted ── Done│ Failed
//!                                                           (Down)
//! ```
//!
//! Each state owns its data, so nothing of it outlives the state. Deadlines are derived from it,
//! never stored beside it.

use std::time::Duration;

use super::event::{
    Answer, Asker, Effect, End, Exit, HostSample, Note, Pid, Sight, SpawnFailure, Ticket, Time,
    Used,
};
use super::health::{Health, Level};
use super::hook::Hook;
use super::reload::Coming;
use super::restart::{Budget, Verdict};
use super::stopping::Stopping;
use super::turn::Turn;
use super::uptime::{Counts, Uptime};
use super::waiting::{Start, Waiting};
use super::words::Words;
use crate::plan::{self, Name, Socket};

/// What is wanted of a service; an operator's word stays until another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To run, or, for a oneshot, to have run.
    Up,
    /// Not to run.
    Down,
}

/// What a service is doing.
#[derive(Debug)]
pub enum State {
    /// Not running, until those it comes `after` have started and what it needs has answered.
    Waiting(Waiting),
    /// Not running, and only an operator starts it.
    Down,
    /// Not running; started again at `until`.
    Backoff { until: Time },
    /// Being started; to be stopped at once if an operator asked for it meanwhile.
    /// First its hook runs, if it has one.
    Spawning { stop: Option<u32>, hook: Option<Hook> },
    /// Running.
    Up { pid: Pid, since: Time, health: Box<Health> },
    /// On its way out because of `end`.
    Stopping(Stopping),
    /// It did what it was meant to.
    Done,
    /// Given up.
    Failed,
}

/// Of a run's main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Main {
    Lives,
    Died,
}

/// The last run that ended.
#[derive(Clone, Debug)]
pub struct LastEnd {
    /// Why it ended.
    pub end: End,
    /// How its main process died, if there was one.
    pub exit: Option<Exit>,
    /// When.
    pub at: Time,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// What it is.
    pub plan: plan::Service,
    /// What is wanted of it.
    pub want: Want,
    /// What it is doing.
    pub state: State,
    /// What it used up of its restarts.
    pub budget: Budget,
    /// When it was up.
    pub uptime: Uptime,
    /// Runs begun; the number of the last one.
    pub run: u64,
    /// Runs that the policy began.
    pub restarts: u64,
    /// The last run that ended.
    pub last_end: Option<LastEnd>,
    /// Why it was given up, for good or for now; cleared by the next stable run.
    pub gave_up: Option<String>,
    /// What its run says of itself.
    pub words: Words,
    /// The operator who asked for the next start.
    pub(super) starter: Option<u32>,
    /// Its plan from its next run on, if that is another.
    pub(super) coming: Option<Coming>,
    /// The plan does not know it any more: it is forgotten once nothing of it is left.
    pub(super) removed: bool,
    /// Its sockets that are held.
    holding: Vec<Socket>,
}

impl Service {
    pub(super) fn new(plan: plan::Service, budget: Budget, want: Want) -> Service {
        Service {
            plan,
            want,
            state: if want == Want::Up { fresh() } else { State::Down },
            budget,
            uptime: Uptime::default(),
            run: 0,
            restarts: 0,
            last_end: None,
            gave_up: None,
            words: Words::default(),
            starter: None,
            coming: None,
            removed: false,
            holding: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.plan.name
    }

    /// The main process of its run, which may just have died.
    pub fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Up { pid, .. } => Some(*pid),
            State::Stopping(stopping) => stopping.main(),
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Done
            | State::Failed => None,
        }
    }

    /// Its main process, and whether that lives.
    pub(super) fn main(&self) -> Option<(Pid, Main)> {
        let died = matches!(&self.state, State::Stopping(stopping) if stopping.exit.is_some());
        Some((self.pid()?, if died { Main::Died } else { Main::Lives }))
    }

    /// Is a process of it there, or about to be?
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Spawning { .. } | State::Up { .. } | State::Stopping(_))
    }

    /// Is a run being started that is not wanted any more?
    pub fn is_unwanted_start(&self, leaving: bool) -> bool {
        match self.state {
            State::Spawning { stop, hook: None } => stop.is_some() || leaving,
            State::Spawning { hook: Some(_), .. }
            | State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Up { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => false,
        }
    }

    /// Is its run, which hangs, looked at before it is asked to stop?
    pub(super) fn is_examined(&self) -> bool {
        matches!(&self.state, State::Stopping(stopping) if stopping.is_examined())
    }

    /// Does its run survive KILL?
    pub fn is_stuck(&self) -> bool {
        match &self.state {
            State::Stopping(stopping) => stopping.is_stuck(),
            State::Spawning { hook, .. } => hook.is_some_and(|it| it.is_stuck()),
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Up { .. }
            | State::Done
            | State::Failed => false,
        }
    }

    /// The health of its run, while it is up.
    pub fn health(&self) -> Option<&Health> {
        match &self.state {
            State::Up { health, .. } => Some(health),
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => None,
        }
    }

    /// Are its sockets to be held? Connections then wait for its next run, so there must be one.
    fn holds(&self, leaving: bool) -> bool {
        match &self.state {
            State::Waiting(_) | State::Backoff { .. } | State::Up { .. } => true,
            State::Spawning { stop, .. } => stop.is_none() && self.want == Want::Up,
            State::Stopping(_) => self.want == Want::Up && !leaving,
            State::Down | State::Done | State::Failed => false,
        }
    }

    /// What is to be done about its sockets, if anything. Comes before all else that a step leads
    /// to: nobody connects any more to what is about to be stopped for good, and a run is started
    /// with its sockets.
    pub(super) fn hold(&mut self, leaving: bool) -> Option<Effect> {
        let wanted = if self.holds(leaving) { self.plan.listen.as_slice() } else { &[] };
        if wanted == self.holding {
            return None;
        }
        self.holding = wanted.to_vec();
        let name = self.plan.name.clone();
        let none = self.holding.is_empty();
        Some(if none { Effect::Release { name } } else { Effect::Hold { name } })
    }

    /// May those that come after it start?
    pub(super) fn lets_others_start(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Up { health, .. } => !self.plan.oneshot && health.started().is_some(),
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Failed => false,
        }
    }

    /// When this service next needs a tick. Derived from the state, so it is never stale.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Backoff { until } => Some(*until),
            State::Up { health, .. } => {
                health.deadline(&self.plan).into_iter().chain(self.stable_at()).min()
            }
            State::Stopping(stopping) => stopping.deadline(),
            State::Waiting(waiting) => waiting.deadline(),
            State::Spawning { hook, .. } => hook.and_then(|it| it.deadline()),
            State::Down | State::Done | State::Failed => None,
        }
    }

    /// When its run will have been well for `stable_after`, if that would change anything.
    fn stable_at(&self) -> Option<Time> {
        let started = self.health()?.started()?;
        self.budget.strained().then(|| started + self.plan.restart.stable_after)
    }

    pub(super) fn note_if_stable(&mut self, turn: &mut Turn<'_>) {
        if self.stable_at().is_some_and(|at| at <= turn.now) {
            self.budget.stable();
            self.gave_up = None;
            turn.save = true;
        }
    }

    /// An operator wants it up.
    pub(super) fn start(&mut self, by: u32, turn: &mut Turn<'_>) {
        self.want = Want::Up;
        turn.save = true;
        self.clear_slate();
        match &mut self.state {
            State::Down | State::Backoff { .. } | State::Done | State::Failed => {
                self.starter = Some(by);
                self.state = fresh();
                turn.moved = true;
            }
            State::Waiting(waiting) if waiting.is_restart() => {
                self.starter = Some(by);
                self.stop_waiting(turn);
                self.state = fresh();
                turn.moved = true;
            }
            State::Stopping(stopping) => stopping.next = Some(by),
            State::Spawning { stop, hook } => {
                *stop = None;
                if hook.is_some_and(|it| it.asked) {
                    self.starter = Some(by);
                }
            }
            // Running, or it will be.
            State::Waiting(_) | State::Up { .. } => {}
        }
    }

    /// An operator wants it down.
    pub(super) fn stop(&mut self, by: u32, turn: &mut Turn<'_>) {
        self.want = Want::Down;
        turn.save = true;
        match &mut self.state {
            State::Waiting(_) | State::Backoff { .. } | State::Failed => {
                self.stop_waiting(turn);
                self.down(turn);
            }
            State::Up { .. } => self.terminate(End::Asked(Asker::Operator(by)), turn),
            State::Spawning { stop, .. } => {
                *stop = Some(by);
                self.stop_preparing(turn);
            }
            State::Stopping(stopping) => {
                stopping.next = None;
                self.terminate(End::Asked(Asker::Operator(by)), turn);
            }
            State::Down | State::Done => {}
        }
    }

    /// An operator wants a new run.
    pub(super) fn restart(&mut self, by: u32, turn: &mut Turn<'_>) {
        self.terminate(End::Asked(Asker::Operator(by)), turn);
        self.start(by, turn);
    }

    /// What an operator does never counts toward the cap.
    pub(super) fn clear_slate(&mut self) {
        self.budget = Budget::default();
        self.gave_up = None;
    }

    /// keepup is ending: nothing more is started, and what runs is stopped in its turn.
    pub(super) fn retire(&mut self, turn: &mut Turn<'_>) {
        self.budget = Budget::default();
        self.stop_waiting(turn);
        self.stop_preparing(turn);
        if let State::Waiting(_) | State::Backoff { .. } = self.state {
            self.state = State::Down;
        }
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.note_if_stable(turn);
        match &mut self.state {
            State::Backoff { until } if *until <= turn.now => {
                self.state = State::Waiting(Waiting::new(Start::Again));
                turn.moved = true;
            }
            State::Waiting(_) => self.tick_waiting(turn),
            State::Up { health, .. } => {
                if let Some(end) = health.tick(&self.plan, turn) {
                    self.terminate(end, turn);
                }
            }
            State::Spawning { .. } => self.tick_hook(turn),
            State::Stopping(_) => self.tick_stopping(turn),
            State::Down | State::Backoff { .. } | State::Done | State::Failed => {}
        }
    }

    /// Starts a run. Called when it is due: nothing is asked here.
    pub(super) fn spawn(&mut self, turn: &mut Turn<'_>) {
        self.run += 1;
        self.uptime.mark(turn.now, Counts::Down);
        let note = Note::Starting { run: self.run, by: self.starter.take() };
        turn.note(&self.plan.name, note);
        let hook = self.prepare(turn);
        if hook.is_none() {
            turn.effect(Effect::Spawn { name: self.plan.name.clone() });
        }
        self.state = State::Spawning { stop: None, hook };
    }

    pub(super) fn spawned(&mut self, pid: Pid, turn: &mut Turn<'_>) {
        let State::Spawning { stop, hook: None } = self.state else {
            debug_assert!(false, "a run that nobody asked for");
            return;
        };
        let health = Box::new(Health::new(&self.plan, turn.now));
        self.state = State::Up { pid, since: turn.now, health };
        self.uptime.mark(turn.now, Counts::Up);
        turn.save = true;
        turn.moved = true;
        turn.note(&self.plan.name, Note::Up { pid });
        if let Some(by) = stop {
            self.terminate(End::Asked(Asker::Operator(by)), turn);
        } else if !turn.leaving {
            self.tick(turn);
        }
    }

    pub(super) fn spawn_failed(&mut self, failure: SpawnFailure, turn: &mut Turn<'_>) {
        let State::Spawning { hook: None, .. } = self.state else {
            debug_assert!(false, "a failure of a run that nobody asked for");
            return;
        };
        self.ended(&End::SpawnFailed(failure), None, Duration::ZERO, turn);
    }

    pub(super) fn probed(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        took: Duration,
        turn: &mut Turn<'_>,
    ) {
        match &mut self.state {
            State::Up { health, .. } => {
                if let Some(end) = health.probed(&self.plan, ticket, answer, took, turn) {
                    self.terminate(end, turn);
                }
            }
            State::Waiting(_) => self.answered(ticket, answer, turn),
            State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => {}
        }
    }

    pub(super) fn looked(&mut self, ticket: Ticket, sight: Sight, turn: &mut Turn<'_>) {
        if let State::Up { health, .. } = &mut self.state
            && let Some(end) = health.looked(&self.plan, ticket, sight, turn)
        {
            self.terminate(end, turn);
        }
    }

    /// Lines of its run show an error; those of an earlier run are nobody's concern.
    pub(super) fn erred(&mut self, run: u64, lines: u64, turn: &mut Turn<'_>) {
        if let State::Up { health, .. } = &mut self.state
            && run == self.run
        {
            health.erred(&self.plan, lines, turn);
        }
    }

    pub(super) fn used(&mut self, ticket: Ticket, used: &Used, turn: &mut Turn<'_>) {
        if let State::Up { health, .. } = &mut self.state
            && let Some(end) = health.used(&self.plan, ticket, used, turn)
        {
            self.terminate(end, turn);
        }
    }

    pub(super) fn host_sampled(
        &mut self,
        ticket: Ticket,
        sample: &HostSample,
        turn: &mut Turn<'_>,
    ) {
        if let State::Up { health, .. } = &mut self.state
            && let Some(end) = health.host_sampled(&self.plan, ticket, sample, turn)
        {
            self.terminate(end, turn);
        }
    }

    pub(super) fn stalled(&mut self, gap: Duration) {
        if let State::Up { health, .. } = &mut self.state {
            health.stalled(gap);
        }
    }

    /// A run is over: decides, here and nowhere else, what comes next.
    pub(super) fn ended(
        &mut self,
        end: &End,
        exit: Option<Exit>,
        uptime: Duration,
        turn: &mut Turn<'_>,
    ) {
        let note = Note::Ended { end: end.clone(), exit, uptime };
        turn.note(&self.plan.name, note);
        turn.save = true;
        turn.moved = true;
        self.words = Words::default();
        self.uptime.mark(turn.now, Counts::Down);
        self.last_end = Some(LastEnd { end: end.clone(), exit, at: turn.now });
        let renewed = self.renew(turn);
        if turn.leaving || self.want == Want::Down {
            return self.down(turn);
        }
        if let Some(start) = self.starter.map(|_| Start::Asked).or(renewed) {
            self.state = State::Waiting(Waiting::new(start));
            return;
        }
        let status = match end {
            End::SpawnFailed(failure) => failure.status,
            End::Exited(_)
            | End::NeverReady(_)
            | End::Unhealthy(_)
            | End::HeartbeatLost(_)
            | End::OverMemory(_)
            | End::OverCpu(_)
            | End::Asked(_) => exit.map_or(0, Exit::status),
        };
        match self.budget.judge(&self.plan, turn.now, end, turn.numbers) {
            Verdict::Done => {
                self.state = State::Done;
                self.uptime.mark(turn.now, Counts::Nothing);
                turn.note(&self.plan.name, Note::Done);
                if self.plan.essential {
                    turn.leave_with(status);
                }
            }
            Verdict::After(delay) => {
                self.state = State::Backoff { until: turn.now + delay };
                let failures = self.budget.failures();
                turn.note(&self.plan.name, Note::Backoff { delay, failures });
            }
            Verdict::Retry(why) => {
                let retry = self.plan.restart.retry_after;
                self.state = State::Backoff { until: turn.now + retry };
                self.give_up(why, Some(retry), turn);
            }
            Verdict::Fail(why) => {
                self.state = State::Failed;
                self.give_up(why, None, turn);
                if self.plan.essential {
                    turn.leave_with(gave_up_code(status));
                }
            }
            Verdict::Exit(why) => {
                self.state = State::Failed;
                self.give_up(why, None, turn);
                turn.leave_with(gave_up_code(status));
            }
        }
    }

    fn give_up(&mut self, why: String, retry: Option<Duration>, turn: &mut Turn<'_>) {
        self.gave_up = Some(why.clone());
        turn.note(&self.plan.name, Note::GaveUp { why, retry });
    }

    fn down(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Down;
        self.uptime.mark(turn.now, Counts::Nothing);
        turn.moved = true;
        turn.note(&self.plan.name, Note::Down);
    }

    /// How well it is, in one word for people; `None` when there is nothing to be well.
    pub fn health_word(&self) -> Option<&'static str> {
        match &self.state {
            State::Up { health, .. } => Some(match health.level() {
                Level::Starting => "starting",
                Level::Healthy => "healthy",
                Level::Degraded(_) => "degraded",
            }),
            State::Stopping(stopping) => match stopping.end {
                End::Unhealthy(_)
                | End::HeartbeatLost(_)
                | End::NeverReady(_)
                | End::OverMemory(_)
                | End::OverCpu(_) => Some("unhealthy"),
                End::Exited(_) | End::SpawnFailed(_) | End::Asked(_) => None,
            },
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Done
            | State::Failed => None,
        }
    }
}

fn fresh() -> State {
    State::Waiting(Waiting::new(Start::Fresh))
}

/// A service that was given up never looks like a success.
fn gave_up_code(status: u8) -> u8 {
    /// "A service was given up", among keepup's exit codes.
    const GAVE_UP: u8 = 4;
    if status == 0 { GAVE_UP } else { status }
}
