//! Another plan for a run that goes on: what is asked otherwise is asked afresh.

use super::{Asking, Check, Health, gate};
use crate::core::event::Effect;
use crate::core::turn::Turn;
use crate::core::usage::Usage;
use crate::plan::{Probe, Role, Service};

impl Health {
    /// Goes by the new plan from now on. Call [`Health::tick`] next: there is something to ask.
    pub(in crate::core) fn adapt(&mut self, old: &Service, new: &Service, turn: &mut Turn<'_>) {
        if old.probes != new.probes {
            self.ask_otherwise(&old.probes, new, turn);
        }
        if old.resources != new.resources {
            self.usage = Usage::new(&new.resources, turn.now).map(Box::new);
        }
    }

    /// A probe that is the same keeps what is known from it; a run that has not started begins to ask
    /// anew.
    fn ask_otherwise(&mut self, old: &[Probe], new: &Service, turn: &mut Turn<'_>) {
        let mut before: Vec<Option<Check>> = self.checks.drain(..).map(Some).collect();
        let (mut checks, mut places) = (Vec::new(), vec![None; old.len()]);
        for probe in &new.probes {
            let same = (0..old.len()).find(|&nth| old[nth] == *probe && before[nth].is_some());
            let same = same.filter(|_| self.started.is_some());
            if let Some(nth) = same {
                places[nth] = Some(checks.len());
            }
            let kept = same.and_then(|nth| before[nth].take());
            checks.push(kept.unwrap_or_else(|| self.fresh(probe, new, turn)));
        }
        self.checks = checks;
        self.doubts.follow(|nth| places[nth]);
        for check in before.into_iter().flatten() {
            if let Asking::Asked { ticket, .. } = check.asking {
                turn.effect(Effect::Abandon { ticket });
            }
        }
    }

    fn fresh(&self, probe: &Probe, plan: &Service, turn: &Turn<'_>) -> Check {
        let its_turn = match self.started {
            Some(_) => probe.role != Role::Startup,
            None => probe.role == gate(plan),
        };
        let asks = its_turn && self.told.gone_by().is_none();
        let at = turn.now.max(self.since + probe.initial_delay);
        let mut check = Check::new(if asks { Asking::At(at) } else { Asking::Idle });
        // Nobody is sent away before there is an answer.
        check.ok = (probe.role == Role::Readiness && self.ready).then_some(true);
        check
    }
}
