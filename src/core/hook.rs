//! The commands beside a run: `pre_start` prepares it, and `post_stop` tidies up after it.
//!
//! A hook is waited for until nothing of it is left. One that takes too long is killed with all it
//! started; one that an operator's stop meets is asked first.

use std::time::Duration;

use super::event::{Asker, Effect, End, Exit, HookKind, Note, Short, SpawnFailure, Ticket, Time};
use super::service::{Service, State};
use super::stopping::{STUCK_AFTER, Stopping};
use super::turn::Turn;
use super::waiting::{Start, Waiting};
use crate::plan::{self, Signal};

/// A hook that was started, and is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    kind: HookKind,
    ticket: Ticket,
    phase: Phase,
    /// It was told to end, and not because it took too long.
    pub(super) asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Runs {
        until: Time,
    },
    /// Asked to end.
    Stop {
        kill_at: Time,
    },
    /// Killed.
    Kill {
        stuck_at: Time,
    },
    /// It survives that.
    Stuck,
}

impl Hook {
    fn begin(
        kind: HookKind,
        plan: &plan::Service,
        end: Option<(&End, Option<Exit>)>,
        turn: &mut Turn<'_>,
    ) -> Hook {
        let ticket = turn.ticket();
        let env = end.map(|(end, exit)| environment(end, exit)).unwrap_or_default();
        turn.effect(Effect::Hook { name: plan.name.clone(), kind, ticket, env });
        let phase = Phase::Runs { until: turn.now + limit(kind, plan) };
        Hook { kind, ticket, phase, asked: false }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.phase == Phase::Stuck
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Runs { until: at }
            | Phase::Stop { kill_at: at }
            | Phase::Kill { stuck_at: at } => Some(at),
            Phase::Stuck => None,
        }
    }

    pub(super) fn tick(&mut self, plan: &plan::Service, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Runs { until } if until <= turn.now => self.kill(turn),
            Phase::Stop { kill_at } if kill_at <= turn.now => self.kill(turn),
            Phase::Kill { stuck_at } if stuck_at <= turn.now => {
                self.phase = Phase::Stuck;
                turn.note(&plan.name, Note::HookStuck { kind: self.kind });
            }
            Phase::Runs { .. } | Phase::Stop { .. } | Phase::Kill { .. } | Phase::Stuck => {}
        }
    }

    /// Asks it to end, since nobody wants what it prepares.
    fn stop(&mut self, plan: &plan::Service, turn: &mut Turn<'_>) {
        self.asked = true;
        if let Phase::Runs { .. } = self.phase {
            self.phase = Phase::Stop { kill_at: turn.now + plan.stop_timeout };
            turn.effect(Effect::SignalHook { ticket: self.ticket, signal: Signal::TERM });
            turn.effect(Effect::SignalHook { ticket: self.ticket, signal: Signal::CONT });
        }
    }

    fn kill(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Runs { .. } | Phase::Stop { .. } = self.phase {
            self.phase = Phase::Kill { stuck_at: turn.now + STUCK_AFTER };
            turn.effect(Effect::SignalHook { ticket: self.ticket, signal: Signal::KILL });
        }
    }

    /// How it failed, if it did.
    fn failure(
        &self,
        plan: &plan::Service,
        outcome: Result<Exit, SpawnFailure>,
    ) -> Option<SpawnFailure> {
        let (kind, command) = (self.kind, command(self.kind, plan));
        let (why, status) = match outcome {
            // Its end came by our hand, whatever it looks like.
            _ if matches!(self.phase, Phase::Kill { .. } | Phase::Stuck) && !self.asked => {
                let limit = Short(limit(kind, plan));
                (format!("did not end within {limit}, and was killed"), 126)
            }
            Ok(Exit::Code(0)) => return None,
            Ok(exit) => (format!("failed: {exit}"), exit.status()),
            Err(failure) => {
                let reason = format!("{kind}: {}", failure.reason);
                return Some(SpawnFailure { reason, ..failure });
            }
        };
        Some(SpawnFailure { reason: format!("{kind} `{command}` {why}"), status })
    }
}

fn command(kind: HookKind, plan: &plan::Service) -> String {
    let command = match kind {
        HookKind::PreStart => &plan.pre_start,
        HookKind::PostStop => &plan.post_stop,
    };
    command.join(" ")
}

fn limit(kind: HookKind, plan: &plan::Service) -> Duration {
    match kind {
        HookKind::PreStart => plan.start_timeout,
        HookKind::PostStop => plan.stop_timeout,
    }
}

/// How the run ended, for the hook that tidies up after it.
fn environment(end: &End, exit: Option<Exit>) -> Vec<(&'static str, String)> {
    let mut env = vec![("KEEPUP_REASON", end.reason().to_owned())];
    match exit {
        Some(Exit::Code(code)) => env.push(("KEEPUP_EXIT_CODE", code.to_string())),
        Some(exit @ Exit::Signal { signal, .. }) => {
            env.push(("KEEPUP_EXIT_CODE", exit.status().to_string()));
            env.push(("KEEPUP_EXIT_SIGNAL", signal.to_string()));
        }
        Some(exit @ Exit::OutOfMemory) => {
            env.push(("KEEPUP_EXIT_CODE", exit.status().to_string()));
            env.push(("KEEPUP_EXIT_SIGNAL", Signal::KILL.to_string()));
        }
        None => {}
    }
    env
}

impl Service {
    /// What prepares a run; `None`: nothing does.
    pub(super) fn prepare(&self, turn: &mut Turn<'_>) -> Option<Hook> {
        let none = self.plan.pre_start.is_empty();
        (!none).then(|| Hook::begin(HookKind::PreStart, &self.plan, None, turn))
    }

    /// What tidies up after a run; `None`: nothing does, or there is no time left for it.
    pub(super) fn tidy(&self, run: &Stopping, turn: &mut Turn<'_>) -> Option<Hook> {
        let none = self.plan.post_stop.is_empty() || turn.killing;
        let end = Some((&run.end, run.exit));
        (!none).then(|| Hook::begin(HookKind::PostStop, &self.plan, end, turn))
    }

    fn hook(&mut self) -> Option<(&mut Hook, &plan::Service)> {
        let hook = match &mut self.state {
            State::Spawning { hook, .. } => hook.as_mut(),
            State::Stopping(stopping) => stopping.hook(),
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Up { .. }
            | State::Done
            | State::Failed => None,
        };
        Some((hook?, &self.plan))
    }

    pub(super) fn tick_hook(&mut self, turn: &mut Turn<'_>) {
        if let Some((hook, plan)) = self.hook() {
            hook.tick(plan, turn);
        }
    }

    /// Nobody wants the run that is being prepared.
    pub(super) fn stop_preparing(&mut self, turn: &mut Turn<'_>) {
        if let State::Spawning { hook: Some(hook), .. } = &mut self.state {
            hook.stop(&self.plan, turn);
        }
    }

    pub(super) fn kill_hook(&mut self, turn: &mut Turn<'_>) {
        if let Some((hook, _)) = self.hook() {
            hook.asked = true;
            hook.kill(turn);
        }
    }

    /// A hook is over, and nothing of it is left.
    pub(super) fn hook_ended(
        &mut self,
        ticket: Ticket,
        outcome: Result<Exit, SpawnFailure>,
        turn: &mut Turn<'_>,
    ) {
        let Some((hook, plan)) = self.hook() else { return };
        if hook.ticket != ticket {
            return;
        }
        let (asked, failure) = (hook.asked, hook.failure(plan, outcome));
        match &self.state {
            State::Spawning { stop, .. } => {
                let stop = *stop;
                self.prepared(stop, asked, failure, turn);
            }
            State::Stopping(stopping) => {
                let stopping = stopping.clone();
                if let Some(failure) = failure {
                    let note = Note::HookFailed { why: failure.reason };
                    turn.note(&self.plan.name, note);
                }
                self.over(&stopping, turn);
            }
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Up { .. }
            | State::Done
            | State::Failed => {}
        }
    }

    fn prepared(
        &mut self,
        stop: Option<u32>,
        asked: bool,
        failure: Option<SpawnFailure>,
        turn: &mut Turn<'_>,
    ) {
        let by = match stop {
            Some(by) => Some(Asker::Operator(by)),
            None if turn.leaving => Some(Asker::Shutdown),
            None => self.removed.then_some(Asker::Removal),
        };
        match (by, failure) {
            (Some(by), _) => self.ended(&End::Asked(by), None, Duration::ZERO, turn),
            // It was told to end, and then an operator wanted the service after all; or it is to be
            // another.
            (None, _) if asked => {
                let start = self.renew(turn).unwrap_or(Start::Asked);
                self.state = State::Waiting(Waiting::new(start));
                turn.moved = true;
            }
            (None, Some(failure)) => {
                self.ended(&End::SpawnFailed(failure), None, Duration::ZERO, turn);
            }
            (None, None) => {
                self.state = State::Spawning { stop: None, hook: None };
                turn.effect(Effect::Spawn { name: self.plan.name.clone() });
            }
        }
    }
}
