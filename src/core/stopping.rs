//! A run on its way out: asked to stop, killed, or found to survive even that.

use std::time::Duration;

use super::event::{Effect, End, Exit, Note, Pid, Time};
use super::service::{Service, State};
use super::turn::Turn;
use crate::plan::{Scope, Signal};

/// How long a killed process may take to disappear before people are told that it hangs.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// A run on its way out.
#[derive(Debug)]
pub struct Stopping {
    /// Its main process, which may have died.
    pub pid: Pid,
    /// Why it ends.
    pub end: End,
    /// How long it was up.
    pub uptime: Duration,
    /// How its main process died, if it has.
    pub(super) exit: Option<Exit>,
    /// The operator who wants the next run as soon as this one is over.
    pub(super) next: Option<u32>,
    phase: Phase,
}

impl Stopping {
    /// Does it survive KILL?
    pub(super) fn is_stuck(&self) -> bool {
        self.phase == Phase::Stuck
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Stop { kill_at } => Some(kill_at),
            Phase::Kill { stuck_at } => Some(stuck_at),
            Phase::Stuck => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked to stop.
    Stop { kill_at: Time },
    /// Killed.
    Kill { stuck_at: Time },
    /// It survives that.
    Stuck,
}

impl Service {
    /// Asks its run to stop, because of `end`; kills it if it does not in time.
    pub(super) fn terminate(&mut self, end: End, turn: &mut Turn<'_>) {
        self.note_if_stable(turn);
        let State::Up { pid, since, health } = &self.state else {
            return;
        };
        let (pid, uptime) = (*pid, turn.now - *since);
        health.abandon(turn);
        if let End::NeverReady(why) | End::Unhealthy(why) | End::HeartbeatLost(why) = &end {
            turn.note(&self.plan.name, Note::Unhealthy { why: why.clone() });
        }
        let (signal, kill_after) = (self.plan.stop_signal, self.plan.stop_timeout);
        let phase = Phase::Stop { kill_at: turn.now + kill_after };
        turn.note(&self.plan.name, Note::Stopping { end: end.clone(), signal, kill_after });
        self.state = State::Stopping(Stopping { pid, end, uptime, exit: None, next: None, phase });
        let to = self.plan.stop_scope;
        turn.effect(Effect::Signal { pid, signal, to });
        // A stopped process cannot heed anything.
        turn.effect(Effect::Signal { pid, signal: Signal::CONT, to });
    }

    /// Kills at once what would be killed in time.
    pub(super) fn kill(&mut self, why: &'static str, turn: &mut Turn<'_>) {
        if let State::Stopping(stopping) = &mut self.state
            && let Phase::Stop { .. } = stopping.phase
        {
            stopping.phase = Phase::Kill { stuck_at: turn.now + STUCK_AFTER };
            let pid = stopping.pid;
            turn.note(&self.plan.name, Note::Killing { why });
            turn.effect(match stopping.exit {
                None => Effect::Signal { pid, signal: Signal::KILL, to: Scope::Group },
                Some(_) => Effect::Sweep { pid },
            });
        }
    }

    pub(super) fn tick_stopping(&mut self, turn: &mut Turn<'_>) {
        let State::Stopping(stopping) = &mut self.state else { return };
        match stopping.phase {
            Phase::Stop { kill_at } if kill_at <= turn.now => {
                let why = match stopping.exit {
                    None => "it did not stop in time",
                    Some(_) => "what its main process left did not stop in time",
                };
                self.kill(why, turn);
            }
            Phase::Kill { stuck_at } if stuck_at <= turn.now => {
                stopping.phase = Phase::Stuck;
                let pid = stopping.pid;
                turn.note(&self.plan.name, Note::Stuck { pid });
            }
            Phase::Stop { .. } | Phase::Kill { .. } | Phase::Stuck => {}
        }
    }

    /// Its main process died. The run is over when nothing of it is left.
    pub(super) fn exited(&mut self, exit: Exit, turn: &mut Turn<'_>) {
        self.note_if_stable(turn);
        let phase = Phase::Kill { stuck_at: turn.now + STUCK_AFTER };
        match &mut self.state {
            State::Up { pid, since, health } => {
                let (pid, uptime) = (*pid, turn.now - *since);
                health.abandon(turn);
                let (end, exit) = (End::Exited(exit), Some(exit));
                self.state =
                    State::Stopping(Stopping { pid, end, uptime, exit, next: None, phase });
                turn.effect(Effect::Sweep { pid });
            }
            State::Stopping(stopping) => {
                stopping.exit = Some(exit);
                let pid = stopping.pid;
                match (stopping.phase, self.plan.stop_scope) {
                    // The rest has what is left of the time.
                    (Phase::Stop { .. }, Scope::Main) => turn.effect(Effect::Await { pid }),
                    (Phase::Stop { .. }, Scope::Group) | (Phase::Kill { .. } | Phase::Stuck, _) => {
                        stopping.phase = phase;
                        turn.effect(Effect::Sweep { pid });
                    }
                }
            }
            State::Waiting
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Done
            | State::Failed => debug_assert!(false, "an exit of a service that was not running"),
        }
    }

    /// Nothing of its run is left.
    pub(super) fn gone(&mut self, turn: &mut Turn<'_>) {
        if let State::Stopping(stopping) = &self.state {
            let Stopping { end, exit, uptime, next, .. } = stopping;
            let (end, exit, uptime) = (end.clone(), *exit, *uptime);
            self.starter = *next;
            self.ended(&end, exit, uptime, turn);
        } else {
            debug_assert!(false, "a service is gone that was not stopping");
        }
    }
}
