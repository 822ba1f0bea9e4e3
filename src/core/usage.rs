//! What a run uses of memory and processor, against what it may use.

use std::time::Duration;

use super::event::{Bytes, Effect, End, Short, Ticket, Time, Used};
use super::turn::Turn;
use crate::plan::{Resources, Service};

/// From one look to the next.
const PACE: Duration = Duration::from_secs(2);

/// From a look that showed too much memory to the next.
const PACE_ABOVE: Duration = Duration::from_secs(1);

/// Looks in a row that must show too much memory: one alone may be a spike.
const LOOKS_ABOVE: u32 = 2;

/// What is known of a run's use of memory and processor.
#[derive(Debug)]
pub(super) struct Usage {
    look: Look,
    /// The last look that came back, or the start of the run.
    seen: Time,
    /// Looks in a row that showed more memory than it may have.
    above: u32,
    /// Its memory, in bytes, while that is worth a warning.
    much: Option<u64>,
    /// Since when it has used more of the processor than it may.
    busy_since: Option<Time>,
}

/// One look at a time: one that hangs costs a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    At(Time),
    Asked(Ticket),
}

impl Usage {
    /// Nothing where nobody asked for it.
    pub(super) fn new(resources: &Resources, now: Time) -> Option<Usage> {
        let asked = resources.max_memory.is_some()
            || resources.warn_memory.is_some()
            || resources.max_cpu.is_some();
        asked.then(|| Usage {
            look: Look::At(now + PACE),
            seen: now,
            above: 0,
            much: None,
            busy_since: None,
        })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.look {
            Look::At(at) => Some(at),
            Look::Asked(_) => None,
        }
    }

    pub(super) fn ask(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        if let Look::At(at) = self.look
            && at <= turn.now
        {
            let ticket = turn.ticket();
            self.look = Look::Asked(ticket);
            turn.effect(Effect::Measure { name: plan.name.clone(), ticket });
        }
    }

    /// A look came back. Says why the run must end, if it must; nothing if nobody waited for it.
    pub(super) fn used(
        &mut self,
        resources: &Resources,
        ticket: Ticket,
        used: &Used,
        now: Time,
    ) -> Option<End> {
        if self.look != Look::Asked(ticket) {
            return None;
        }
        let before = std::mem::replace(&mut self.seen, now);
        let memory = used.memory.unwrap_or(0);
        let above = resources.max_memory.is_some_and(|max| max < memory);
        self.above = if above { self.above + 1 } else { 0 };
        self.look = Look::At(now + if above { PACE_ABOVE } else { PACE });
        self.much = resources.warn_memory.and_then(|warn| {
            // What was too much stays so until it is clearly less.
            let enough = if self.much.is_some() { warn - warn / 20 } else { warn };
            (enough < memory).then_some(memory)
        });
        if let Some(max) = resources.max_memory
            && LOOKS_ABOVE <= self.above
        {
            let (memory, max) = (Bytes(memory), Bytes(max));
            return Some(End::OverMemory(format!("uses {memory}, max_memory is {max}")));
        }
        let max = resources.max_cpu?;
        let Some(cpu) = used.cpu.filter(|cpu| f64::from(max) < *cpu) else {
            self.busy_since = None;
            return None;
        };
        // It has been so busy since the look before this one.
        let since = *self.busy_since.get_or_insert(before);
        let long = resources.max_cpu_for <= now - since;
        long.then(|| {
            let long = Short(now - since);
            End::OverCpu(format!("uses {cpu:.0}% of a processor, max_cpu is {max}%, for {long}"))
        })
    }

    /// What is worth a warning, in words.
    pub(super) fn trouble(&self, resources: &Resources) -> Option<String> {
        let (much, warn) = (self.much?, resources.warn_memory?);
        Some(format!("memory is {}, warn_memory is {}", Bytes(much), Bytes(warn)))
    }
}
