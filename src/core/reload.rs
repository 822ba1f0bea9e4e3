//! Another plan while everything runs: what changed is applied, and what did not is left alone.
//!
//! A service without a run takes its new plan at once. One that runs takes it at once, too, if that
//! needs no other process; else its run is stopped, and the new plan comes when nothing of that run
//! is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::event::{Asker, Effect, End, Note, Time};
use super::restart::Budget;
use super::service::{Service, State, Want};
use super::supervisor::Supervisor;
use super::turn::Turn;
use super::waiting::{Start, Waiting};
use crate::plan::{self, Name, Plan, Signal, Takes};

/// Another plan, and what is known beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What is to run from now on.
    pub plan: Plan,
    /// Services whose files hold something else than when their runs began.
    pub touched: BTreeSet<Name>,
    /// The operator who asked for it; `None`: a signal did.
    pub by: Option<u32>,
}

/// What a reload does to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub name: Name,
    /// What.
    pub what: What,
    /// The keys whose values are others.
    pub keys: Vec<&'static str>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing.
    Unchanged,
    /// It is new.
    Added,
    /// It is to be no more.
    Removed,
    /// Its run is stopped, and the next has the new plan.
    Restarted,
    /// Its run is told to read its files anew.
    Refreshed(Signal),
    /// It was given up, or waited for a restart; it has a clean slate, and starts.
    Started,
    /// Its run goes on, by the new plan.
    Applied,
    /// It does not run, or not for long; its next start goes by the new plan.
    Kept,
}

impl What {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            What::Unchanged => "unchanged",
            What::Added => "added",
            What::Removed => "removed",
            What::Restarted => "restarted",
            What::Refreshed(_) => "refreshed",
            What::Started => "started",
            What::Applied => "applied",
            What::Kept => "kept",
        }
    }

    /// Does a run begin because of it?
    fn begins_run(self) -> bool {
        match self {
            What::Added | What::Restarted | What::Started => true,
            What::Unchanged | What::Removed | What::Refreshed(_) | What::Applied | What::Kept => {
                false
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Unchanged => f.write_str("unchanged"),
            What::Added => f.write_str("added"),
            What::Removed => f.write_str("removed"),
            What::Restarted => f.write_str("restarted"),
            What::Refreshed(signal) => write!(f, "sent {signal}"),
            What::Started => f.write_str("started with a clean slate"),
            What::Applied => f.write_str("applied without a restart"),
            What::Kept => f.write_str("kept for its next start"),
        }?;
        if self.keys.is_empty() { Ok(()) } else { write!(f, " ({})", self.keys.join(", ")) }
    }
}

/// The plan of a service's next run.
#[derive(Debug)]
pub(super) struct Coming {
    plan: Box<plan::Service>,
    start: Start,
}

impl Supervisor {
    /// What a reload of this plan would do now: in the order of the plan, and what it lacks at last.
    pub fn outlook(&self, plan: &Plan, touched: &BTreeSet<Name>) -> Vec<Change> {
        let change = |new: &plan::Service| match self.service(&new.name) {
            Some(service) => service.outlook(new, touched.contains(&new.name)),
            None => Change { name: new.name.clone(), what: What::Added, keys: Vec::new() },
        };
        let names: BTreeSet<&Name> = plan.services.iter().map(|it| &it.name).collect();
        let gone = self.services.iter().filter(|it| !it.removed && !names.contains(it.name()));
        let removed = |it: &Service| Change {
            name: it.name().clone(),
            what: What::Removed,
            keys: Vec::new(),
        };
        plan.services.iter().map(change).chain(gone.map(removed)).collect()
    }

    /// Goes by another plan from now on.
    pub(super) fn reload(&mut self, now: Time, reload: Reload, out: &mut Vec<Effect>) {
        let Reload { plan, touched, by } = reload;
        let changes = self.outlook(&plan, &touched);
        self.plan = plan.supervisor;
        self.rearrange(&plan.services);
        let begins = |it: &&Change| it.what.begins_run();
        let begun: BTreeSet<Name> =
            changes.iter().filter(begins).map(|it| it.name.clone()).collect();
        let mut plans = plan.services.into_iter();
        for change in changes {
            let Some(nth) = self.services.iter().position(|it| *it.name() == change.name) else {
                continue;
            };
            let new = if change.what == What::Removed { None } else { plans.next() };
            // As if an operator had asked for it, unless one comes after the other.
            let ordered = new.iter().flat_map(|it| &it.after).any(|it| begun.contains(it));
            let start = if ordered { Start::Fresh } else { Start::Asked };
            self.act(nth, now, out, |it, turn| it.reload(new, &change, (by, start), turn));
        }
        out.push(Effect::Save);
    }

    /// In the order of the new plan, with those that are new; what it lacks stands at the end.
    fn rearrange(&mut self, plans: &[plan::Service]) {
        let named = |it: Service| (it.name().clone(), it);
        let mut before: BTreeMap<Name, Service> = self.services.drain(..).map(named).collect();
        let added = |plan: &plan::Service| {
            let want = if plan.autostart { Want::Up } else { Want::Down };
            Service::new(plan.clone(), Budget::default(), want)
        };
        let of_plan = plans.iter().map(|it| before.remove(&it.name).unwrap_or_else(|| added(it)));
        self.services = of_plan.collect();
        self.services.extend(before.into_values());
    }

    /// Stops the runs that are to be no more: each before those that it comes after.
    pub(super) fn stop_replaced(&mut self, now: Time, out: &mut Vec<Effect>) {
        if !self.services.iter().any(Service::is_replaced) {
            return;
        }
        // What hangs in the kernel holds up nobody.
        let leaving =
            self.services.iter().filter(|it| it.is_replaced() && it.is_running() && !it.is_stuck());
        let needed = self.before(leaving, |_| true);
        let needed: BTreeSet<Name> = needed.iter().map(|it| it.name().clone()).collect();
        for nth in (0..self.services.len()).rev() {
            let service = &self.services[nth];
            let is_next =
                matches!(service.state, State::Up { .. }) && !needed.contains(service.name());
            if service.is_replaced() && (is_next || service.is_examined()) {
                let asker = if service.removed { Asker::Removal } else { Asker::Reload };
                self.act(nth, now, out, |it, turn| it.terminate(End::Asked(asker), turn));
            }
        }
    }

    /// Lets go of those that are to be no more, once nothing of them is left.
    pub(super) fn forget(&mut self, out: &mut Vec<Effect>) {
        self.services.retain(|it| {
            let over = it.removed && !it.is_running();
            if over {
                out.push(Effect::Forget { name: it.name().clone() });
            }
            !over
        });
    }

    /// May what is new start? What it takes the place of must be gone.
    pub(super) fn has_room(&self, service: &Service) -> bool {
        let is_new = service.run == 0 && service.heeds_order();
        !is_new || !self.services.iter().any(|it| it.removed && !it.is_stuck())
    }
}

impl Service {
    /// Its run is to be no more because of a reload.
    pub(super) fn is_replaced(&self) -> bool {
        self.removed || self.coming.is_some()
    }

    fn outlook(&self, new: &plan::Service, touched: bool) -> Change {
        let known = self.coming.as_ref().map_or(&self.plan, |it| &it.plan);
        let differences = known.differences(new);
        let mut keys: Vec<&'static str> = differences.iter().map(|it| it.key).collect();
        let other_run = differences.iter().any(|it| it.takes == Takes::Run);
        let under_way = self.is_replaced();
        let touched = touched && !under_way && self.has_read_files();
        if touched && !keys.contains(&"env_file") {
            keys.push("env_file");
        }
        let name = self.name().clone();
        if keys.is_empty() && !self.removed {
            return Change { name, what: What::Unchanged, keys };
        }
        let what = match &self.state {
            State::Backoff { .. } | State::Failed => What::Started,
            State::Waiting(waiting) if waiting.is_restart() => What::Started,
            State::Done if other_run && self.want == Want::Up => What::Started,
            State::Waiting(_) | State::Down | State::Done => What::Kept,
            State::Spawning { .. } | State::Up { .. } | State::Stopping(_) => {
                if self.want == Want::Down && !self.removed {
                    What::Kept
                } else if other_run || under_way {
                    What::Restarted
                } else if !touched {
                    What::Applied
                } else {
                    new.reload_signal.map_or(What::Restarted, What::Refreshed)
                }
            }
        };
        Change { name, what, keys }
    }

    /// Its run began with what its files held then.
    fn has_read_files(&self) -> bool {
        match self.state {
            State::Up { .. } => true,
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => false,
        }
    }

    /// Takes its new plan, or none.
    fn reload(
        &mut self,
        new: Option<plan::Service>,
        change: &Change,
        (by, start): (Option<u32>, Start),
        turn: &mut Turn<'_>,
    ) {
        if change.what == What::Unchanged {
            return;
        }
        turn.note(&self.plan.name, Note::Reloaded { change: change.clone(), by });
        let Some(new) = new else { return self.remove(turn) };
        match change.what {
            What::Unchanged | What::Removed => {}
            What::Added => turn.effect(Effect::Adopt { name: self.plan.name.clone() }),
            What::Restarted => self.replace(new, start, turn),
            What::Kept if self.is_running() => self.await_end(new, start),
            What::Applied | What::Kept => self.adopt(new, turn),
            What::Refreshed(signal) => {
                self.adopt(new, turn);
                if let State::Up { pid, .. } = self.state {
                    turn.effect(Effect::Refresh { pid, signal });
                }
            }
            What::Started => {
                self.want = Want::Up;
                self.clear_slate();
                self.stop_waiting(turn);
                self.state = State::Waiting(Waiting::new(Start::Fresh));
                self.adopt(new, turn);
            }
        }
    }

    fn remove(&mut self, turn: &mut Turn<'_>) {
        self.removed = true;
        self.want = Want::Down;
        self.coming = None;
        self.stop_waiting(turn);
        self.stop_preparing(turn);
        if !self.is_running() {
            self.state = State::Down;
        }
    }

    fn replace(&mut self, new: plan::Service, start: Start, turn: &mut Turn<'_>) {
        if std::mem::replace(&mut self.removed, false) {
            self.want = if new.autostart { Want::Up } else { Want::Down };
        }
        self.await_end(new, start);
        self.stop_preparing(turn);
    }

    /// The new plan comes when nothing is left of its run. What comes after what must be of one
    /// plan for all, or it might go round in a circle.
    fn await_end(&mut self, new: plan::Service, start: Start) {
        self.plan.after.clone_from(&new.after);
        self.coming = Some(Coming { plan: Box::new(new), start });
    }

    /// Nothing is left of its run: the new plan, if there is one, and how to start by it.
    pub(super) fn renew(&mut self, turn: &mut Turn<'_>) -> Option<Start> {
        let Coming { plan, start } = self.coming.take()?;
        self.clear_slate();
        self.adopt(*plan, turn);
        Some(start)
    }

    /// Goes by the new plan from now on.
    fn adopt(&mut self, new: plan::Service, turn: &mut Turn<'_>) {
        let old = std::mem::replace(&mut self.plan, new);
        turn.effect(Effect::Adopt { name: self.plan.name.clone() });
        match &mut self.state {
            State::Up { health, .. } => {
                health.adapt(&old, &self.plan, turn);
                self.tick(turn);
            }
            State::Waiting(waiting) if old.wait_for != self.plan.wait_for => {
                let again = waiting.anew(turn);
                self.state = State::Waiting(again);
            }
            State::Waiting(_)
            | State::Down
            | State::Backoff { .. }
            | State::Spawning { .. }
            | State::Stopping(_)
            | State::Done
            | State::Failed => {}
        }
    }
}
