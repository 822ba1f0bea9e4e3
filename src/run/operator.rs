//! Operators who wait to hear what came of what they asked for.

use tokio::sync::oneshot;

use crate::control::{Act, Outcome};
use crate::core::{Service, State, Supervisor, Want};
use crate::plan::{Name, Signal};
use crate::status;

/// Operators that may wait at once; a further one is answered without waiting.
const WAITING_MAX: usize = 256;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Operators {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    name: Name,
    goal: Goal,
    reply: oneshot::Sender<Outcome>,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    /// This run, or a later one, has started or is done.
    Run(u64),
    /// It does not run.
    Down,
}

impl Operators {
    /// The run that an act is about, to be asked before the core takes the act in.
    pub(super) fn goal(act: Act, service: &Service) -> GoalOf {
        let begun = matches!(service.state, State::Spawning { .. });
        let up = matches!(service.state, State::Up { .. });
        GoalOf(match act {
            Act::Stop => Goal::Down,
            Act::Start if up || begun => Goal::Run(service.run),
            Act::Restart if begun => Goal::Run(service.run),
            Act::Start | Act::Restart => Goal::Run(service.run + 1),
        })
    }

    /// Somebody waits from now on.
    pub(super) fn wait(&mut self, name: Name, goal: GoalOf, reply: oneshot::Sender<Outcome>) {
        self.waiting.retain(|it| !it.reply.is_closed());
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(Waiting { name, goal: goal.0, reply });
        }
    }

    /// Answers those whose goal is reached, or out of reach.
    pub(super) fn answer(&mut self, core: &Supervisor) {
        let reached = |it: &mut Waiting| {
            let Some(service) = core.service(&it.name) else { return true };
            outcome(core, service, it.goal).is_some()
        };
        for waiting in self.waiting.extract_if(.., reached) {
            let told = match core.service(&waiting.name) {
                Some(service) => outcome(core, service, waiting.goal),
                None => Some(removed(&waiting)),
            };
            if let Some(outcome) = told {
                // Nobody may be there any more to hear it.
                let _ = waiting.reply.send(outcome);
            }
        }
    }
}

/// What an operator waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoalOf(Goal);

/// What is told to an operator who does not wait.
pub(super) fn under_way(act: Act, service: &Service) -> Outcome {
    say(service, true, format!("{} of {} is under way", act.name(), service.name()), None)
}

/// What is told to an operator who wanted a signal passed on.
pub(super) fn passed_on(service: &Service, signal: Signal) -> Outcome {
    let name = service.name();
    match (service.pid(), service.plan.rewrite.apply(signal)) {
        (None, _) => {
            let text = format!("cannot send {signal} to {name}: it is not running");
            say(service, false, text, Some(format!("keepup start {name}")))
        }
        (Some(_), None) => {
            say(service, true, format!("{signal} is dropped by `rewrite` of {name}"), None)
        }
        (Some(pid), Some(sent)) if sent == signal => {
            say(service, true, format!("sent {signal} to {name}, pid {pid}"), None)
        }
        (Some(pid), Some(sent)) => {
            say(service, true, format!("sent {sent} for {signal} to {name}, pid {pid}"), None)
        }
    }
}

fn removed(waiting: &Waiting) -> Outcome {
    let ok = matches!(waiting.goal, Goal::Down);
    let text = format!("{} is not in the configuration any more", waiting.name);
    Outcome { ok, text, hint: None, state: status::State::Down }
}

fn outcome(core: &Supervisor, service: &Service, goal: Goal) -> Option<Outcome> {
    let name = service.name();
    match goal {
        Goal::Down if service.want == Want::Up => {
            Some(say(service, false, format!("{name} was started again"), None))
        }
        Goal::Down if service.is_running() => None,
        Goal::Down => Some(say(service, true, format!("{name} is down"), None)),
        Goal::Run(run) => came_up(core, service, run),
    }
}

fn came_up(core: &Supervisor, service: &Service, run: u64) -> Option<Outcome> {
    let name = service.name();
    match &service.state {
        State::Spawning { .. } | State::Stopping(_) => None,
        State::Up { health, pid, .. } => {
            let started = service.run >= run && health.started().is_some() && !service.plan.oneshot;
            started.then(|| say(service, true, format!("{name} is up, pid {pid}"), None))
        }
        State::Done => Some(say(service, true, format!("{name} is done"), None)),
        State::Waiting(_) => {
            let failed =
                core.predecessors(service).find(|it| matches!(it.state, State::Failed))?.name();
            let text = format!("{name} waits for {failed}, which was given up");
            Some(say(service, false, text, Some(format!("keepup start {failed}"))))
        }
        State::Backoff { .. } | State::Failed => {
            let why = service.last_end.as_ref().map(|last| last.end.to_string());
            let text = format!("{name} did not stay up: {}", why.unwrap_or_default());
            let hint = format!("its output is in {}", service.plan.logs.file.display());
            Some(say(service, false, text, Some(hint)))
        }
        State::Down => Some(say(service, false, format!("{name} was stopped again"), None)),
    }
}

fn say(service: &Service, ok: bool, text: String, hint: Option<String>) -> Outcome {
    Outcome { ok, text, hint, state: status::State::of(&service.state) }
}
