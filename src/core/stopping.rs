//! A run on its way out: looked at if it hangs, asked to stop, killed, or found to survive even that.

use std::time::Duration;

use super::event::{Effect, End, Exit, Note, Pid, Ticket, Time};
use super::hook::Hook;
use super::service::{Service, State};
use super::turn::Turn;
use crate::plan::{Scope, Signal};

/// How long a killed process may take to disappear before people are told that it hangs.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long a hung run has to say where it hangs once it was sent its `hang_signal`: Python's
/// faulthandler takes milliseconds for hundreds of threads.
const HANG_PATIENCE: Duration = Duration::from_secs(1);

/// A run on its way out.
#[derive(Clone, Debug)]
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
        match &self.phase {
            Phase::Stuck => true,
            Phase::Tidy(hook) => hook.is_stuck(),
            Phase::Evidence { .. }
            | Phase::Hang { .. }
            | Phase::Stop { .. }
            | Phase::Kill { .. } => false,
        }
    }

    /// Its main process, which may just have died; `None`: nothing is left of the run.
    pub(super) fn main(&self) -> Option<Pid> {
        let over = matches!(self.phase, Phase::Tidy(_));
        (!over).then_some(self.pid)
    }

    pub(super) fn hook(&mut self) -> Option<&mut Hook> {
        match &mut self.phase {
            Phase::Tidy(hook) => Some(hook),
            Phase::Evidence { .. }
            | Phase::Hang { .. }
            | Phase::Stop { .. }
            | Phase::Kill { .. }
            | Phase::Stuck => None,
        }
    }

    /// Is it looked at, or left to speak, before it is asked to stop?
    pub(super) fn is_examined(&self) -> bool {
        matches!(self.phase, Phase::Evidence { .. } | Phase::Hang { .. })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Evidence { until, .. } | Phase::Hang { until } => Some(until),
            Phase::Stop { kill_at } => Some(kill_at),
            Phase::Kill { stuck_at } => Some(stuck_at),
            Phase::Stuck => None,
            Phase::Tidy(hook) => hook.deadline(),
        }
    }

    /// It wants until then, and gets it unless it was not well.
    pub(super) fn extend(&mut self, until: Time) {
        if let Phase::Stop { kill_at } = &mut self.phase
            && !self.end.is_hang()
        {
            *kill_at = until.max(*kill_at);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What can be seen of it is being written down, while it still hangs.
    Evidence { ticket: Ticket, until: Time },
    /// Sent its `hang_signal`, to say itself where it hangs.
    Hang { until: Time },
    /// Asked to stop.
    Stop { kill_at: Time },
    /// Killed.
    Kill { stuck_at: Time },
    /// It survives that.
    Stuck,
    /// Nothing of it is left, and this tidies up.
    Tidy(Hook),
}

impl Service {
    /// Ends its run because of `end`: one that hangs is looked at first, then it is asked to stop, and
    /// killed if it does not in time. Whoever asks does not wait for a look.
    pub(super) fn terminate(&mut self, end: End, turn: &mut Turn<'_>) {
        self.note_if_stable(turn);
        if let (State::Stopping(stopping), End::Asked(_)) = (&self.state, &end) {
            if stopping.is_examined() {
                self.go_on(Service::ask_to_stop, turn);
            }
            return;
        }
        let State::Up { pid, since, health } = &self.state else {
            return;
        };
        let (pid, uptime) = (*pid, turn.now - *since);
        health.abandon(turn);
        if let End::NeverReady(why)
        | End::Unhealthy(why)
        | End::HeartbeatLost(why)
        | End::OverMemory(why)
        | End::OverCpu(why) = &end
        {
            turn.note(&self.plan.name, Note::Unhealthy { why: why.clone() });
        }
        let phase = if end.is_hang() && !turn.leaving && !self.is_replaced() {
            self.examine(pid, turn)
        } else {
            self.ask_to_stop(pid, &end, turn)
        };
        self.state = State::Stopping(Stopping { pid, end, uptime, exit: None, next: None, phase });
    }

    fn examine(&self, pid: Pid, turn: &mut Turn<'_>) -> Phase {
        let ticket = turn.ticket();
        turn.effect(Effect::Examine { name: self.plan.name.clone(), pid, ticket });
        Phase::Evidence { ticket, until: turn.now + self.plan.evidence_timeout }
    }

    fn ask_where(&self, pid: Pid, end: &End, turn: &mut Turn<'_>) -> Phase {
        let Some(signal) = self.plan.hang_signal else {
            return self.ask_to_stop(pid, end, turn);
        };
        let (end, stop_after) = (end.clone(), HANG_PATIENCE);
        let stop_signal = self.plan.stop_signal;
        turn.note(&self.plan.name, Note::Hanging { end, signal, stop_signal, stop_after });
        // Whoever hangs may be one of its workers.
        send(pid, signal, Scope::Group, turn);
        Phase::Hang { until: turn.now + HANG_PATIENCE }
    }

    fn ask_to_stop(&self, pid: Pid, end: &End, turn: &mut Turn<'_>) -> Phase {
        let (signal, kill_after) = (self.plan.stop_signal, self.plan.stop_timeout);
        turn.note(&self.plan.name, Note::Stopping { end: end.clone(), signal, kill_after });
        send(pid, signal, self.plan.stop_scope, turn);
        Phase::Stop { kill_at: turn.now + kill_after }
    }

    /// Begins the next phase of its stop.
    fn go_on(
        &mut self,
        phase: fn(&Service, Pid, &End, &mut Turn<'_>) -> Phase,
        turn: &mut Turn<'_>,
    ) {
        if let State::Stopping(stopping) = &self.state {
            let next = phase(self, stopping.pid, &stopping.end, turn);
            if let State::Stopping(stopping) = &mut self.state {
                stopping.phase = next;
            }
        }
    }

    /// Enough was seen of its run. A look at an earlier run bears another ticket.
    pub(super) fn examined(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        if let State::Stopping(stopping) = &self.state
            && let Phase::Evidence { ticket: asked, .. } = stopping.phase
            && asked == ticket
        {
            self.go_on(Service::ask_where, turn);
        }
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
            // The kernel does not show more.
            Phase::Evidence { until, .. } if until <= turn.now => {
                self.go_on(Service::ask_where, turn);
            }
            Phase::Hang { until } if until <= turn.now => self.go_on(Service::ask_to_stop, turn),
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
            Phase::Tidy(_) => self.tick_hook(turn),
            Phase::Evidence { .. }
            | Phase::Hang { .. }
            | Phase::Stop { .. }
            | Phase::Kill { .. }
            | Phase::Stuck => {}
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
                    (Phase::Stop { .. }, Scope::Group)
                    | (
                        Phase::Evidence { .. }
                        | Phase::Hang { .. }
                        | Phase::Kill { .. }
                        | Phase::Stuck
                        | Phase::Tidy(_),
                        _,
                    ) => {
                        stopping.phase = phase;
                        turn.effect(Effect::Sweep { pid });
                    }
                }
            }
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Done
            | State::Failed => debug_assert!(false, "an exit of a service that was not running"),
        }
    }

    /// Nothing of its run is left.
    pub(super) fn gone(&mut self, turn: &mut Turn<'_>) {
        let State::Stopping(stopping) = &self.state else {
            debug_assert!(false, "a service is gone that was not stopping");
            return;
        };
        let stopping = stopping.clone();
        match self.tidy(&stopping, turn) {
            Some(hook) => {
                self.state = State::Stopping(Stopping { phase: Phase::Tidy(hook), ..stopping });
            }
            None => self.over(&stopping, turn),
        }
    }

    /// Nothing is left to be done about its run.
    pub(super) fn over(&mut self, run: &Stopping, turn: &mut Turn<'_>) {
        self.starter = run.next;
        self.ended(&run.end, run.exit, run.uptime, turn);
    }
}

/// Sends a signal that is to be heeded; a stopped process cannot heed anything.
fn send(pid: Pid, signal: Signal, to: Scope, turn: &mut Turn<'_>) {
    turn.effect(Effect::Signal { pid, signal, to });
    turn.effect(Effect::Signal { pid, signal: Signal::CONT, to });
}
