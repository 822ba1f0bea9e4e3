//! What a run's probes and heartbeat come to. All of it belongs to one run and dies with it: a
//! fresh process never inherits a miss, and an answer meant for its predecessor finds no ticket.

mod adapt;
mod doubt;
mod told;

use std::time::Duration;

use super::errors::Errors;
use super::event::{Answer, Effect, End, Miss, Note, Short, Sight, Ticket, Time, Used};
use super::heartbeat::Beats;
use super::turn::Turn;
use super::usage::Usage;
use crate::plan::{Class, Probe, Role, Service};
use doubt::{Doubts, Subject};
use told::Told;

/// How often a run that has not started is asked, at the least.
const STARTING_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How well a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// It has not started yet.
    Starting,
    /// As it should be.
    Healthy,
    /// Not as it should be, and why; it is not restarted for it.
    Degraded(String),
}

/// The health of one run.
#[derive(Debug)]
pub struct Health {
    since: Time,
    started: Option<Time>,
    ready: bool,
    /// The start is late because the host stood still for so long.
    start_extended: Duration,
    checks: Vec<Check>,
    beats: Option<Beats>,
    errors: Errors,
    told: Told,
    doubts: Doubts,
    usage: Option<Box<Usage>>,
    /// It is degraded for nothing but what it uses.
    uses_much: bool,
    /// What was said of it last.
    said: Level,
}

/// What is known from one probe.
#[derive(Debug)]
pub struct Check {
    asking: Asking,
    /// It passes, it fails, or it is not known yet.
    pub ok: Option<bool>,
    /// Misses in a row.
    pub misses: u32,
    passes: u32,
    /// How long the last answer took.
    pub took: Option<Duration>,
    /// The last answer, if it was a miss.
    pub miss: Option<Miss>,
    slow: bool,
    /// It was asked at its own pace once: it does not keep step with others any more.
    steady: bool,
}

/// When the next question or answer is due.
#[derive(Debug)]
enum Asking {
    /// Not its turn: others must pass first, or it has done its work.
    Idle,
    At(Time),
    Asked {
        ticket: Ticket,
        at: Time,
        answer_by: Time,
        extended: bool,
    },
}

impl Health {
    /// The health of a run that begins now. Call [`Health::tick`] next: it may have started.
    pub(super) fn new(plan: &Service, now: Time) -> Health {
        let gate = gate(plan);
        let check = |probe: &Probe| {
            Check::new(if probe.role == gate {
                Asking::At(now + probe.initial_delay)
            } else {
                Asking::Idle
            })
        };
        Health {
            since: now,
            started: None,
            ready: false,
            start_extended: Duration::ZERO,
            checks: plan.probes.iter().map(check).collect(),
            beats: plan.heartbeat.as_ref().map(|_| Beats::new(now)),
            errors: Errors::default(),
            told: Told::default(),
            doubts: Doubts::default(),
            usage: Usage::new(&plan.resources, now).map(Box::new),
            uses_much: false,
            said: Level::Starting,
        }
    }

    /// When it started, if it has.
    pub fn started(&self) -> Option<Time> {
        self.started
    }

    /// Started, and all its readiness probes pass.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// What is known from its probes, in the order of the plan.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// How long ago its heartbeat was seen to change; `None` before the first beat.
    pub fn heartbeat_age(&self, now: Time) -> Option<Duration> {
        self.beats.as_ref().filter(|beats| beats.beaten).map(|beats| now - beats.last)
    }

    /// How many lines that it printed within the last hour show an error.
    pub fn errors(&self, now: Time) -> u64 {
        self.errors.count(now)
    }

    /// Is it degraded, and for nothing but what it uses?
    pub fn uses_much(&self) -> bool {
        self.uses_much
    }

    /// Is it to be ended for its silence, unless the host turns out to starve?
    pub fn is_doubted(&self) -> bool {
        self.doubts.holds()
    }

    /// How well it is.
    pub fn level(&self) -> &Level {
        &self.said
    }

    pub(super) fn deadline(&self, plan: &Service) -> Option<Time> {
        if let Some(by) = self.told.gone_by() {
            return Some(by);
        }
        let checks = self.checks.iter().filter_map(|check| match check.asking {
            Asking::Idle => None,
            Asking::At(at) => Some(at),
            Asking::Asked { answer_by, .. } => Some(answer_by),
        });
        let beats = self.beats.iter().zip(&plan.heartbeat).map(|(beats, it)| beats.deadline(it));
        let errors = errors_max(plan).and_then(|limit| self.errors.deadline(limit));
        let usage = self.usage.as_ref().and_then(|it| it.deadline());
        let rest = beats.flatten().chain(errors).chain(usage).chain(self.start_by(plan));
        let rest = rest.chain(self.doubts.deadline());
        checks.chain(rest).min()
    }

    /// Started by then, or it never will be.
    fn start_by(&self, plan: &Service) -> Option<Time> {
        let late = plan.start_timeout + self.start_extended;
        self.started.is_none().then(|| self.told.start_by(self.since + late))
    }

    /// Time has passed. Says why the run must end, if it must.
    pub(super) fn tick(&mut self, plan: &Service, turn: &mut Turn<'_>) -> Option<End> {
        if self.told.gone_by().is_some() {
            return self.told.outstays(turn.now);
        }
        self.excuse_unanswered(plan, turn);
        for nth in 0..self.checks.len() {
            let probe = &plan.probes[nth];
            if let Asking::Asked { ticket, answer_by, at, .. } = self.checks[nth].asking
                && answer_by <= turn.now
            {
                turn.effect(Effect::Abandon { ticket });
                let text = format!("timed out after {}", Short(probe.timeout));
                let answer = Answer::Miss(Miss { class: Class::Timeout, text });
                let took = turn.now - at;
                if let Some(end) = self.answer(plan, nth, answer, took, turn) {
                    return Some(end);
                }
            }
        }
        if let (Some(beats), Some(heartbeat)) = (&mut self.beats, &plan.heartbeat)
            && let Some(end) = beats.tick(heartbeat, turn.now)
            && let Some(end) = self.doubt(plan, Subject::Heart, end, turn)
        {
            return Some(end);
        }
        self.errors.forget(turn.now);
        self.assess(plan, turn);
        if self.start_by(plan).is_some_and(|by| by <= turn.now) {
            return Some(End::NeverReady(self.waited_for(plan)));
        }
        if let (Some(beats), Some(heartbeat)) = (&mut self.beats, &plan.heartbeat) {
            beats.ask(plan, heartbeat, turn);
        }
        if let Some(usage) = &mut self.usage {
            usage.ask(plan, turn);
        }
        self.ask(plan, turn);
        None
    }

    /// An answer came. Says why the run must end, if it must.
    pub(super) fn probed(
        &mut self,
        plan: &Service,
        ticket: Ticket,
        answer: Answer,
        took: Duration,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        let waits = |check: &Check| matches!(check.asking, Asking::Asked { ticket: asked, .. } if asked == ticket);
        // Nobody waits for it any more: it was counted as a miss when it fell due.
        let nth = self.checks.iter().position(waits)?;
        let end = self.answer(plan, nth, answer, took, turn);
        self.unless(end, plan, turn)
    }

    /// A look at the heartbeat file came back. Says why the run must end, if it must.
    pub(super) fn looked(
        &mut self,
        plan: &Service,
        ticket: Ticket,
        sight: Sight,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        let (Some(beats), Some(heartbeat)) = (&mut self.beats, &plan.heartbeat) else {
            return None;
        };
        // Nobody waits for it any more: it was for an earlier run.
        if beats.asked() != Some(ticket) {
            return None;
        }
        let lost = beats.looked(heartbeat, sight, turn.now);
        if !beats.degraded {
            self.doubts.lift(Subject::Heart);
        }
        let end = lost.and_then(|end| self.doubt(plan, Subject::Heart, end, turn));
        self.unless(end, plan, turn)
    }

    /// So many more lines of it show an error. No run ends for that.
    pub(super) fn erred(&mut self, plan: &Service, lines: u64, turn: &mut Turn<'_>) {
        self.errors.add(turn.now, lines);
        self.assess(plan, turn);
    }

    /// It is known what the run uses. Says why it must end, if it must.
    pub(super) fn used(
        &mut self,
        plan: &Service,
        ticket: Ticket,
        used: &Used,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        let end = self.usage.as_mut()?.used(&plan.resources, ticket, used, turn.now);
        self.unless(end, plan, turn)
    }

    /// Goes on, unless the run must end.
    fn unless(&mut self, end: Option<End>, plan: &Service, turn: &mut Turn<'_>) -> Option<End> {
        if end.is_none() {
            self.assess(plan, turn);
            self.ask(plan, turn);
        }
        end
    }

    /// The host stood still for `gap`: what is awaited gets that much longer, once.
    pub(super) fn stalled(&mut self, gap: Duration) {
        for check in &mut self.checks {
            if let Asking::Asked { answer_by, extended, .. } = &mut check.asking
                && !*extended
            {
                *answer_by = *answer_by + gap;
                *extended = true;
            }
        }
        if let Some(beats) = &mut self.beats {
            beats.stalled(gap);
        }
        if self.started.is_none() && self.start_extended.is_zero() {
            self.start_extended = gap;
        }
    }

    /// The run is over, or soon will be: nobody waits for its answers any more.
    pub(super) fn abandon(&self, turn: &mut Turn<'_>) {
        for check in &self.checks {
            if let Asking::Asked { ticket, .. } = check.asking {
                turn.effect(Effect::Abandon { ticket });
            }
        }
        if let Some(ticket) = self.beats.as_ref().and_then(Beats::asked) {
            turn.effect(Effect::Abandon { ticket });
        }
    }

    /// Asks what is due.
    fn ask(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        for (nth, (check, probe)) in self.checks.iter_mut().zip(&plan.probes).enumerate() {
            if let Asking::At(at) = check.asking
                && at <= turn.now
            {
                let ticket = turn.ticket();
                let answer_by = turn.now + probe.timeout;
                check.asking = Asking::Asked { ticket, at: turn.now, answer_by, extended: false };
                turn.effect(Effect::Probe { name: plan.name.clone(), probe: nth, ticket });
            }
        }
    }

    fn answer(
        &mut self,
        plan: &Service,
        nth: usize,
        answer: Answer,
        took: Duration,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        let (check, probe) = (&mut self.checks[nth], &plan.probes[nth]);
        let (name, told) = (plan.name.clone(), answer.clone());
        turn.effect(Effect::Answered { name, probe: nth, answer: told, took });
        check.took = Some(took);
        let counted = self.started.is_some();
        let wait = match (counted, &answer) {
            (false, _) => probe.interval.min(STARTING_INTERVAL_MAX),
            (true, Answer::Pass) => check.pace(probe, turn),
            (true, Answer::Miss(_)) => probe.retry_interval,
        };
        check.asking = Asking::At(turn.now + wait);
        match answer {
            Answer::Pass => {
                check.passed(probe, took);
                self.doubts.lift(Subject::Check(nth));
                if probe.role == Role::Startup && check.ok == Some(true) {
                    check.asking = Asking::Idle;
                }
                None
            }
            Answer::Miss(miss) if !counted => {
                check.missed_while_starting(plan, probe, miss, turn);
                None
            }
            Answer::Miss(miss) => {
                let end = check.missed(plan, probe, miss, turn)?;
                self.doubt(plan, Subject::Check(nth), end, turn)
            }
        }
    }

    /// Draws the conclusions: started? ready? how well? And says what has changed.
    fn assess(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        // Is it well, or does it end? That is about to be known.
        if self.doubts.holds() {
            return;
        }
        let ends = self.told.gone_by().is_some();
        if self.started.is_none() && !ends && self.nothing_awaited(plan) {
            self.start(plan, turn);
        }
        let mut level = self.conclude(plan, turn.now);
        let much = self.usage.as_ref().and_then(|it| it.trouble(&plan.resources));
        self.uses_much = level == Level::Healthy && much.is_some();
        if let (Some(much), true) = (much, self.uses_much) {
            level = Level::Degraded(much);
        }
        let changed = std::mem::discriminant(&level) != std::mem::discriminant(&self.said);
        if changed {
            match &level {
                Level::Starting => {}
                // Nothing is known of it but that it runs, and that was said.
                Level::Healthy if self.said == Level::Starting && asks_nothing(plan) => {}
                Level::Healthy => turn.note(&plan.name, Note::Healthy),
                Level::Degraded(why) => turn.note(&plan.name, Note::Degraded { why: why.clone() }),
            }
        }
        self.said = level;
        let passes = self.started.is_some() && !ends && self.all_pass(plan, Role::Readiness);
        // A oneshot is waited for until it is done.
        let ready = passes && !plan.oneshot;
        if ready && !self.ready {
            turn.note(&plan.name, Note::Ready { after: turn.now - self.since });
        }
        self.ready = ready;
        self.watch_host(plan, turn);
    }

    fn start(&mut self, plan: &Service, turn: &mut Turn<'_>) {
        self.started = Some(turn.now);
        turn.moved = true;
        for (check, probe) in self.checks.iter_mut().zip(&plan.probes) {
            match (probe.role, &check.asking) {
                // It waited for the others.
                (Role::Liveness | Role::Readiness | Role::Warning, Asking::Idle) => {
                    check.asking = Asking::At(turn.now.max(self.since + probe.initial_delay));
                }
                // It was one of those that had to pass: it goes on at its own pace.
                (Role::Liveness | Role::Readiness | Role::Warning, Asking::At(_)) => {
                    check.asking = Asking::At(turn.now + check.pace(probe, turn));
                }
                // Startup probes have done their work.
                (Role::Startup, _) | (_, Asking::Asked { .. }) => {}
            }
        }
    }

    fn nothing_awaited(&self, plan: &Service) -> bool {
        self.told.lets_start(plan)
            && self.all_pass(plan, gate(plan))
            && self.beats.as_ref().is_none_or(|beats| beats.beaten)
    }

    fn all_pass(&self, plan: &Service, role: Role) -> bool {
        let mut of_role = self.checks.iter().zip(&plan.probes).filter(|it| it.1.role == role);
        of_role.all(|(check, _)| check.ok == Some(true))
    }

    /// What a run that has not started is waited for, in words.
    fn waited_for(&self, plan: &Service) -> String {
        let gate = gate(plan);
        let checks = self.checks.iter().zip(&plan.probes);
        let missing = checks.filter(|(check, probe)| probe.role == gate && check.ok != Some(true));
        let mut waits: Vec<String> = missing
            .map(|(check, probe)| {
                let answer = check.miss.as_ref().map_or("no answer yet", |miss| &miss.text);
                format!("{} {}: {answer}", probe.role, probe.kind)
            })
            .collect();
        if !self.told.lets_start(plan) {
            waits.push("it has not said READY=1".to_owned());
        }
        if let (Some(beats), Some(heartbeat)) = (&self.beats, &plan.heartbeat)
            && !beats.beaten
        {
            waits.push(format!("no first heartbeat: {}", beats.trouble(heartbeat)));
        }
        format!("not started within {}: {}", Short(plan.start_timeout), waits.join("; "))
    }

    fn conclude(&self, plan: &Service, now: Time) -> Level {
        if self.started.is_none() {
            return Level::Starting;
        }
        if self.told.gone_by().is_some() {
            return Level::Degraded("it says that it is stopping (STOPPING=1)".to_owned());
        }
        if let (Some(beats), Some(heartbeat)) = (&self.beats, &plan.heartbeat)
            && beats.degraded
        {
            let trouble = beats.trouble(heartbeat);
            return Level::Degraded(format!(
                "no heartbeat for {}: {trouble}",
                Short(heartbeat.degraded_after)
            ));
        }
        let checks = self.checks.iter().zip(&plan.probes);
        let troubles = checks.filter_map(|(check, probe)| check.trouble(probe));
        let many = errors_max(plan).filter(|limit| *limit < self.errors.count(now));
        let errors = many.map(|limit| format!("more than {limit} error lines within an hour"));
        troubles.chain(errors).next().map_or(Level::Healthy, Level::Degraded)
    }
}

impl Check {
    fn new(asking: Asking) -> Check {
        Check {
            asking,
            ok: None,
            misses: 0,
            passes: 0,
            took: None,
            miss: None,
            slow: false,
            steady: false,
        }
    }

    /// From a good answer to the next question: the interval, and the first time a part of it.
    fn pace(&mut self, probe: &Probe, turn: &mut Turn<'_>) -> Duration {
        if std::mem::replace(&mut self.steady, true) {
            probe.interval
        } else {
            turn.numbers.part(probe.interval)
        }
    }

    fn passed(&mut self, probe: &Probe, took: Duration) {
        self.misses = 0;
        self.miss = None;
        self.passes = self.passes.saturating_add(1);
        self.slow = probe.slow.is_some_and(|slow| slow < took);
        if probe.successes <= self.passes {
            self.ok = Some(true);
        }
    }

    /// Until a run has started its misses are told, each text once, and not counted.
    fn missed_while_starting(
        &mut self,
        plan: &Service,
        probe: &Probe,
        miss: Miss,
        turn: &mut Turn<'_>,
    ) {
        self.passes = 0;
        self.ok = None;
        if self.miss.as_ref() != Some(&miss) {
            let note = Note::Miss { role: probe.role, miss: miss.clone(), count: 0, of: None };
            turn.note(&plan.name, note);
        }
        self.miss = Some(miss);
    }

    fn missed(
        &mut self,
        plan: &Service,
        probe: &Probe,
        miss: Miss,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        self.passes = 0;
        self.slow = false;
        self.misses = self.misses.saturating_add(1);
        if probe.definite.contains(&miss.class) {
            self.misses = self.misses.max(probe.failures);
        }
        // Once it fails, only what is new is told: it may go on for days.
        if self.ok != Some(false) || self.miss.as_ref() != Some(&miss) {
            let (count, of) = (self.misses.min(probe.failures), Some(probe.failures));
            let note = Note::Miss { role: probe.role, miss: miss.clone(), count, of };
            turn.note(&plan.name, note);
        }
        let text = miss.text.clone();
        self.miss = Some(miss);
        if self.misses < probe.failures {
            return None;
        }
        self.ok = Some(false);
        (probe.role == Role::Liveness).then(|| End::Unhealthy(format!("{}: {text}", probe.kind)))
    }

    /// What is wrong with it, in words, once the run has started.
    fn trouble(&self, probe: &Probe) -> Option<String> {
        let role = probe.role;
        if let Some(miss) = &self.miss {
            // It never passed in this run: not ready yet is no trouble.
            if self.ok.is_none() && role == Role::Readiness {
                return None;
            }
            return Some(match self.ok {
                Some(false) => format!("{role} fails: {}", miss.text),
                Some(true) | None => format!("{role} missed: {}", miss.text),
            });
        }
        match (self.slow, self.took, probe.slow) {
            (true, Some(took), Some(slow)) => {
                Some(format!("{role} answered after {}, slow is {}", Short(took), Short(slow)))
            }
            _ if self.ok == Some(false) => Some(format!("{role} has not passed often enough yet")),
            _ => None,
        }
    }
}

/// More error lines than that within an hour degrade a service.
fn errors_max(plan: &Service) -> Option<u64> {
    plan.logs.errors.as_ref()?.per_hour.map(u64::from)
}

/// Nothing tells how well it is.
fn asks_nothing(plan: &Service) -> bool {
    plan.probes.is_empty() && plan.heartbeat.is_none() && !plan.notify
}

/// The role whose probes must pass before a run has started.
fn gate(plan: &Service) -> Role {
    let has_startup = plan.probes.iter().any(|probe| probe.role == Role::Startup);
    if has_startup { Role::Startup } else { Role::Liveness }
}
