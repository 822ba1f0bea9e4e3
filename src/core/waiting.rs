//! A service that is to run and does not yet: others come first, or what it needs does not answer.
//!
//! What it needs is asked about once a second until it has answered, and only then is it started.
//! So a restart is not used up while a database is away.

use std::time::Duration;

use super::event::{Answer, Effect, Note, Ticket, Time};
use super::service::{Service, State};
use super::turn::Turn;
use crate::plan::{self, WaitFor};

/// From an answer to the next question.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// An answer that takes longer is a miss.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What stands between a service and its start.
#[derive(Debug)]
pub struct Waiting {
    pub(super) start: Start,
    /// What it needs, in the order of the plan; `None`: nobody has been asked yet.
    needs: Option<Vec<Need>>,
}

/// Which start it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The first, or one that an operator asked for: those in `after` come first.
    Fresh,
    /// The next run of a service that an operator asked to restart, or that a reload did.
    Asked,
    /// One by the policy.
    Again,
}

#[derive(Debug)]
struct Need {
    asking: Asking,
    /// What it last missed, as people were told.
    miss: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Asking {
    At(Time),
    Asked { ticket: Ticket, since: Time },
    Answered,
}

impl Waiting {
    pub(super) fn new(start: Start) -> Waiting {
        Waiting { start, needs: None }
    }

    /// From the beginning, because what is needed is something else.
    pub(super) fn anew(&self, turn: &mut Turn<'_>) -> Waiting {
        self.abandon(turn);
        Waiting::new(self.start)
    }

    /// Is it for a restart by the policy?
    pub fn is_restart(&self) -> bool {
        self.start == Start::Again
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let deadline = |need: &Need| match need.asking {
            Asking::At(at) => Some(at),
            Asking::Asked { since, .. } => Some(since + ANSWER_MAX),
            Asking::Answered => None,
        };
        self.needs.iter().flatten().filter_map(deadline).min()
    }

    /// Has all that it needs answered?
    fn is_over(&self) -> bool {
        let answered = |need: &Need| matches!(need.asking, Asking::Answered);
        self.needs.as_ref().is_some_and(|needs| needs.iter().all(answered))
    }

    /// What it needs and misses, in words for people.
    pub fn missing<'a>(&'a self, plan: &'a [WaitFor]) -> impl Iterator<Item = String> + 'a {
        let pairs = plan.iter().zip(self.needs.iter().flatten());
        pairs.filter(|(_, need)| !matches!(need.asking, Asking::Answered)).map(|(plan, need)| {
            match &need.miss {
                Some(miss) => format!("{}: {miss}", plan.written),
                None => plan.written.clone(),
            }
        })
    }

    /// Nobody waits for the answers any more.
    fn abandon(&self, turn: &mut Turn<'_>) {
        for need in self.needs.iter().flatten() {
            if let Asking::Asked { ticket, .. } = need.asking {
                turn.effect(Effect::Abandon { ticket });
            }
        }
    }
}

impl Service {
    /// Does it wait for those that it comes after?
    pub(super) fn heeds_order(&self) -> bool {
        matches!(self.state, State::Waiting(Waiting { start: Start::Fresh, .. }))
    }

    /// Those that it comes after have started: starts it, once all that it needs has answered.
    pub(super) fn proceed(&mut self, turn: &mut Turn<'_>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        let now = turn.now;
        let need = |_: &WaitFor| Need { asking: Asking::At(now), miss: None };
        waiting.needs.get_or_insert_with(|| self.plan.wait_for.iter().map(need).collect());
        self.tick_waiting(turn);
        let State::Waiting(waiting) = &self.state else { return };
        if waiting.is_over() {
            if waiting.is_restart() {
                self.restarts += 1;
                self.budget.restarted(&self.plan.restart, turn.now);
            }
            self.spawn(turn);
        }
    }

    pub(super) fn tick_waiting(&mut self, turn: &mut Turn<'_>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        for (nth, need) in waiting.needs.iter_mut().flatten().enumerate() {
            match need.asking {
                Asking::At(at) if at <= turn.now => {
                    let (name, ticket) = (self.plan.name.clone(), turn.ticket());
                    turn.effect(Effect::Ask { name, need: nth, ticket });
                    need.asking = Asking::Asked { ticket, since: turn.now };
                }
                Asking::Asked { ticket, since } if since + ANSWER_MAX <= turn.now => {
                    turn.effect(Effect::Abandon { ticket });
                    let miss = format!("no answer within {}s", ANSWER_MAX.as_secs());
                    need.missed(&self.plan, nth, miss, turn);
                }
                Asking::At(_) | Asking::Asked { .. } | Asking::Answered => {}
            }
        }
    }

    /// An answer came; one that nobody waits for is ignored.
    pub(super) fn answered(&mut self, asked: Ticket, answer: Answer, turn: &mut Turn<'_>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        let is_it =
            |need: &Need| matches!(need.asking, Asking::Asked { ticket, .. } if ticket == asked);
        let mut needs = waiting.needs.iter_mut().flatten().enumerate();
        let Some((nth, need)) = needs.find(|it| is_it(it.1)) else { return };
        match answer {
            Answer::Pass => {
                need.asking = Asking::Answered;
                turn.moved = true;
            }
            Answer::Miss(miss) => need.missed(&self.plan, nth, miss.text, turn),
        }
    }

    /// Nothing is waited for any more.
    pub(super) fn stop_waiting(&mut self, turn: &mut Turn<'_>) {
        if let State::Waiting(waiting) = &self.state {
            waiting.abandon(turn);
        }
    }
}

impl Need {
    /// People are told once, and again when it is missed in another way.
    fn missed(&mut self, plan: &plan::Service, nth: usize, miss: String, turn: &mut Turn<'_>) {
        self.asking = Asking::At(turn.now + ASK_AGAIN);
        if self.miss.as_ref() != Some(&miss) {
            let what = plan.wait_for.get(nth).map_or("", |it| it.written.as_str());
            turn.note(&plan.name, Note::Waits { what: format!("{what}: {miss}") });
            self.miss = Some(miss);
        }
    }
}
