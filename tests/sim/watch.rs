//! What must hold after every event, whatever happened. It knows the plan, what operators said and
//! what the world did, and none of the core's reasons.

use std::collections::BTreeMap;
use std::time::Duration;

use keepup::core::event::{
    Answer, Effect, End, Event, Exit, HookKind, HostSample, News, Note, Pid, Ticket, Time, Used,
};
use keepup::core::reload::{Reload, What};
use keepup::core::{Remembered, State, Supervisor, Want};
use keepup::plan::{Class, Name, OnCap, Plan, Policy, Probe, Role, Service, Signal, Takes};

use crate::world::Process;

/// More effects than that of one event are no answer but a flood.
const EFFECTS_MAX: usize = 200;

/// What a hung run gets to answer its hang signal.
const HANG_PATIENCE: Duration = Duration::from_secs(1);

/// Questions about what a service needs are counted from here, beside those to its probes.
const NEEDS: usize = 1_000;

/// A question to a probe that is not there any more.
const GONE: usize = 2_000;

pub(crate) type Verdict = Result<(), String>;

pub(crate) struct Watch {
    services: BTreeMap<Name, Watched>,
    /// Questions (by the place of the probe) and looks (`None`) without an answer.
    asked: BTreeMap<Ticket, (Name, Option<usize>)>,
    /// Which hooks run, and were they killed?
    hooks: BTreeMap<Ticket, (Name, HookKind, bool)>,
    /// Looks at the host, and whether it was short of anything or the look did not come back.
    sampled: BTreeMap<Ticket, (Name, Time)>,
    /// Measurements of present runs that have not come back.
    measured: BTreeMap<Ticket, Name>,
    shutdown_timeout: Duration,
    leaving_since: Option<Time>,
    /// keepup was asked to end.
    ending: bool,
    stalled: Duration,
    /// How long the host stood still, everything together.
    gap: Duration,
}

#[expect(clippy::struct_excessive_bools, reason = "a run has them all at once")]
struct Watched {
    plan: Service,
    /// What a reload said of it last, as long as it does not go by that.
    coming: Option<Service>,
    /// A reload does not know it any more.
    removed: bool,
    /// A reload gave reason for a start that nobody asks for.
    renewed: bool,
    /// Sockets were closed or held in this step: that comes before all else.
    bound: bool,
    follows: Follows,
    /// Restarts by the policy since an operator's last start.
    restarts: Vec<Time>,
    stopped: bool,
    stuck: bool,
    /// Its sockets are held.
    held: bool,
    /// Its run was found to hang by another plan.
    excused: bool,
    /// Found to hang, and to be asked to stop by then.
    hung_by: Option<Time>,
    up_at: Time,
    touched: Option<Time>,
    /// The last touch before the look that is under way, and the one before the last that came back:
    /// what the core can know.
    looked: Option<Time>,
    seen: Option<Time>,
    /// It said in this run that it is not well; that it is ending, and by when it must.
    triggered: bool,
    ends_by: Option<Time>,
    /// Since its last sign of life: it was let off once; and the host was short of something, or did
    /// not say, when it was asked last.
    let_off: bool,
    starves: bool,
    /// Measurements of this run that showed too much memory, in a row, and too busy a processor.
    above: (u32, u32),
    /// Of each probe in this run: misses in a row at most, and was the last one definite?
    misses: Vec<(u32, bool)>,
    /// Its `pre_start` passed, and its `post_stop` ended.
    prepared: bool,
    tidied: bool,
    /// Of what it needs, since its last start.
    answered: Vec<bool>,
}

/// What was announced to follow.
#[derive(Clone, Copy, PartialEq)]
enum Follows {
    Nothing,
    Restart { at: Time },
    Attempt { at: Time },
}

/// What an event may lead to.
pub(crate) enum Expect {
    Anything,
    /// It came too late for anybody to care.
    Nothing,
    /// Nothing for these, and their runs.
    NothingFor(Vec<(Name, Option<Pid>)>),
}

impl Expect {
    pub(crate) fn judge(&self, effects: &[Effect]) -> Verdict {
        match self {
            Expect::NothingFor(untouched) => {
                let mut theirs = effects.iter().filter(|effect| {
                    untouched.iter().any(|(name, pid)| is_about(effect, name, *pid))
                });
                ensure(theirs.next().is_none(), "a service that did not change is touched")
            }
            Expect::Anything => ensure(effects.len() <= EFFECTS_MAX, "one event begets a flood"),
            Expect::Nothing => {
                let mut rest =
                    effects.iter().filter(|effect| !matches!(effect, Effect::Stalled { .. }));
                ensure(rest.next().is_none(), "an answer that came late is heeded")
            }
        }
    }
}

fn is_about(effect: &Effect, of: &Name, run: Option<Pid>) -> bool {
    match effect {
        Effect::Hold { name }
        | Effect::Release { name }
        | Effect::Adopt { name }
        | Effect::Spawn { name }
        | Effect::Hook { name, .. }
        | Effect::Forget { name }
        | Effect::Note { name, .. } => name == of,
        Effect::Signal { pid, .. } | Effect::Refresh { pid, .. } => Some(*pid) == run,
        Effect::SignalHook { .. }
        | Effect::Await { .. }
        | Effect::Sweep { .. }
        | Effect::Probe { .. }
        | Effect::Ask { .. }
        | Effect::Look { .. }
        | Effect::Examine { .. }
        | Effect::Measure { .. }
        | Effect::SampleHost { .. }
        | Effect::WatchHost { .. }
        | Effect::Abandon { .. }
        | Effect::Answered { .. }
        | Effect::Save
        | Effect::Stalled { .. }
        | Effect::Exit { .. } => false,
    }
}

fn ensure(holds: bool, what: &str) -> Verdict {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Watch {
    pub(crate) fn new(plan: &Plan, past: &BTreeMap<Name, Remembered>) -> Watch {
        let watched = |service: &Service| {
            let past = past.get(&service.name).cloned().unwrap_or_default();
            (service.name.clone(), Watched::new(service, past))
        };
        Watch {
            services: plan.services.iter().map(watched).collect(),
            asked: BTreeMap::new(),
            hooks: BTreeMap::new(),
            sampled: BTreeMap::new(),
            measured: BTreeMap::new(),
            shutdown_timeout: plan.supervisor.shutdown_timeout,
            leaving_since: None,
            ending: false,
            stalled: Duration::ZERO,
            gap: Duration::ZERO,
        }
    }

    pub(crate) fn touched(&mut self, now: Time, name: &Name) {
        self.of(name).touched = Some(now);
    }

    pub(crate) fn stalled(&mut self, gap: Duration) {
        self.stalled += gap;
        self.gap += gap;
    }

    fn of(&mut self, name: &Name) -> &mut Watched {
        self.services.get_mut(name).unwrap()
    }

    /// Notes what the core is about to be told.
    pub(crate) fn before(&mut self, now: Time, event: &Event, core: &Supervisor) -> Expect {
        self.services.values_mut().for_each(|it| it.bound = false);
        match event {
            Event::Notified { pid, .. } | Event::Beat { pid } => {
                let service = core.services().iter().find(|it| it.pid() == Some(*pid));
                let Some(service) = service else { return Expect::Nothing };
                // Whose end is decided may say what it likes.
                if !matches!(service.state, State::Up { .. }) {
                    return Expect::Anything;
                }
                let watched = self.of(service.name());
                if let Event::Notified { news, .. } = event {
                    watched.triggered |= *news == News::Trigger;
                    if *news == News::Stopping {
                        watched.ends_by.get_or_insert(now + watched.plan.stop_timeout);
                    }
                } else {
                    watched.let_off = false;
                    watched.seen = Some(now);
                }
            }
            Event::Probed { ticket, answer, .. } => return self.probed(*ticket, answer),
            Event::HookEnded { name, ticket, outcome } => {
                self.hook_ended(name, *ticket, *outcome == Ok(Exit::Code(0)));
            }
            Event::Looked { ticket, .. } => {
                let Some((name, _)) = self.asked.remove(ticket) else { return Expect::Nothing };
                let watched = self.of(&name);
                watched.let_off &= watched.seen >= watched.looked;
                watched.seen = watched.seen.max(watched.looked);
            }
            Event::Usage { ticket, used, .. } => {
                let Some(name) = self.measured.remove(ticket) else { return Expect::Nothing };
                self.of(&name).uses(*used);
            }
            Event::HostSample { ticket, sample, .. } => return self.host_sampled(*ticket, sample),
            Event::Start { name, .. } | Event::Restart { name, .. } if !core.is_leaving() => {
                let again = core.service(name).is_some_and(
                    |it| matches!(&it.state, State::Waiting(waiting) if waiting.is_restart()),
                );
                let Some(watched) = self.services.get_mut(name) else { return Expect::Nothing };
                if watched.removed {
                    return Expect::Anything;
                }
                if again {
                    watched.answered.fill(false);
                }
                watched.stopped = false;
                watched.restarts.clear();
            }
            Event::Stop { name, .. } => {
                let Some(watched) = self.services.get_mut(name) else { return Expect::Nothing };
                (watched.stopped, watched.renewed) = (true, false);
            }
            Event::Reload(_) if core.is_leaving() => return Expect::Nothing,
            Event::Reload(reload) => return self.reloads(reload, core),
            Event::Shutdown => self.ending = true,
            Event::Tick
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Exited { .. }
            | Event::Gone { .. }
            | Event::Examined { .. }
            | Event::Start { .. }
            | Event::Restart { .. }
            | Event::ErrorRate { .. } => {}
        }
        Expect::Anything
    }

    /// May the core want this now?
    #[expect(clippy::too_many_lines, reason = "one arm for each effect")]
    pub(crate) fn effect(
        &mut self,
        now: Time,
        effect: &Effect,
        processes: &BTreeMap<Pid, Process>,
    ) -> Verdict {
        match effect {
            Effect::Hold { name } => {
                let watched = self.of(name);
                watched.bound = true;
                let before = std::mem::replace(&mut watched.held, true);
                let others =
                    watched.coming.as_ref().is_some_and(|it| it.listen != watched.plan.listen);
                ensure(!before || others, "sockets are held twice")
            }
            Effect::Release { name } => {
                let watched = self.of(name);
                watched.bound = true;
                let before = std::mem::replace(&mut watched.held, false);
                ensure(before, "sockets are closed that are not held")
            }
            Effect::Hook { name, kind, ticket, .. } => {
                self.hook_starts(name, *kind, *ticket, processes)
            }
            Effect::SignalHook { ticket, signal } => self.hook_is_told(*ticket, *signal),
            Effect::Adopt { name } => self.adopts(name, processes),
            Effect::Forget { name } => self.forgets(name, processes),
            Effect::Refresh { pid, .. } => {
                let lives = processes.get(pid).is_some_and(|it| it.main_lives && !it.stopping);
                ensure(lives, "a process is to read its files that is gone, or on its way out")
            }
            Effect::Spawn { name } => {
                ensure(!self.has_hook(name), "a service is started beside its hook")?;
                let watched = self.of(name);
                let ready = watched.plan.pre_start.is_empty() || watched.prepared;
                ensure(ready, "a service is started that was not prepared")?;
                ensure(!self.of(name).stopped, "a service that was stopped is started")?;
                let without = !self.of(name).held && !self.of(name).plan.listen.is_empty();
                ensure(!without, "a service is started without its sockets")?;
                let mut left = processes.values().filter(|it| it.name == *name);
                ensure(left.next().is_none(), "a second copy is started")
            }
            Effect::Signal { pid, .. } => {
                let process = processes.get(pid).filter(|it| it.main_lives);
                ensure(process.is_some(), "a signal to a process that is gone")?;
                let (name, leaving) = (&process.unwrap().name, self.ending);
                let watched = self.of(name);
                let waits = watched.held && (watched.stopped || leaving);
                ensure(!waits, "somebody may wait for a service that will not come")
            }
            Effect::Await { pid } => {
                let dead = processes.get(pid).is_some_and(|it| !it.main_lives && !it.awaited);
                ensure(dead, "the rest of a process is waited for that is not dead, or was before")
            }
            Effect::Sweep { pid } => {
                let swept = processes.get(pid).is_none_or(|it| it.main_lives || it.swept);
                ensure(!swept, "a sweep of a process that is not dead, or was swept")
            }
            Effect::Probe { name, probe, ticket } => self.asks(name, Some(*probe), *ticket),
            Effect::Ask { name, need, ticket } => self.asks(name, Some(NEEDS + need), *ticket),
            Effect::Look { name, ticket } => {
                let watched = self.of(name);
                let file = watched.plan.heartbeat.as_ref().and_then(|it| it.file.as_ref());
                ensure(file.is_some(), "a look at a file that nobody named")?;
                watched.looked = watched.touched;
                self.asks(name, None, *ticket)
            }
            Effect::Examine { pid, .. } => {
                let lives = processes.get(pid).is_some_and(|it| it.main_lives && !it.stopping);
                ensure(lives, "a look at a process that is gone, or on its way out")
            }
            Effect::Measure { name, ticket } => self.measures(name, *ticket),
            Effect::SampleHost { name, ticket } => self.samples(now, name, *ticket),
            Effect::Abandon { ticket } => self.abandons(*ticket),
            Effect::Note { name, note } => self.said(now, name, note),
            Effect::Answered { .. }
            | Effect::WatchHost { .. }
            | Effect::Save
            | Effect::Stalled { .. }
            | Effect::Exit { .. } => Ok(()),
        }
    }

    /// Notes what a reload says, and who must not notice it.
    fn reloads(&mut self, reload: &Reload, core: &Supervisor) -> Expect {
        self.shutdown_timeout = reload.plan.supervisor.shutdown_timeout;
        let mut untouched = Vec::new();
        for new in &reload.plan.services {
            let name = &new.name;
            let Some(watched) = self.services.get_mut(name) else {
                self.services.insert(name.clone(), Watched::new(new, Remembered::default()));
                continue;
            };
            let newest = watched.coming.as_ref().unwrap_or(&watched.plan);
            let service = core.service(name).unwrap();
            let same = *newest == *new && !watched.removed && !reload.touched.contains(name);
            if same && watched.coming.is_none() && matches!(service.state, State::Up { .. }) {
                untouched.push((name.clone(), service.pid()));
            }
            if std::mem::take(&mut watched.removed) {
                watched.stopped = !new.autostart;
            }
            if *newest != *new {
                watched.coming = Some(new.clone());
            }
        }
        for (name, watched) in &mut self.services {
            if !reload.plan.services.iter().any(|it| it.name == *name) {
                (watched.removed, watched.stopped) = (true, true);
                (watched.renewed, watched.coming) = (false, None);
            }
        }
        Expect::NothingFor(untouched)
    }

    fn adopts(&mut self, name: &Name, processes: &BTreeMap<Pid, Process>) -> Verdict {
        let runs = processes.values().any(|it| it.name == *name);
        let watched = self.of(name);
        let Some(new) = watched.coming.take() else { return Ok(()) };
        let differences = watched.plan.differences(&new);
        let other_run = differences.iter().any(|it| it.takes == Takes::Run);
        ensure(!runs || !other_run, "a run has a plan that it was not started with")?;
        let old = std::mem::replace(&mut watched.plan, new);
        let new = watched.plan.clone();
        watched.excused |= watched.hung_by.is_some();
        let rebinds = old.listen != new.listen && watched.held;
        ensure(watched.bound || !rebinds, "sockets of an old plan are held")?;
        // What did not count then is not known now.
        if old.restart.max_restarts == 0 || old.restart.window < new.restart.window {
            watched.restarts.clear();
        }
        if old.wait_for != new.wait_for {
            watched.answered = vec![false; new.wait_for.len()];
        }
        if old.resources != new.resources {
            watched.above = (0, 0);
            self.measured.retain(|_, it| it != name);
        }
        if old.probes != new.probes {
            self.asks_otherwise(name, &old.probes, &new.probes);
        }
        Ok(())
    }

    /// What is known of a probe goes with it to its new place.
    fn asks_otherwise(&mut self, name: &Name, old: &[Probe], new: &[Probe]) {
        let mut places = vec![GONE; old.len()];
        for (nth, probe) in new.iter().enumerate() {
            let same = (0..old.len()).find(|&it| old[it] == *probe && places[it] == GONE);
            if let Some(before) = same {
                places[before] = nth;
            }
        }
        for (_, probe) in self.asked.values_mut().filter(|it| it.0 == *name) {
            if let Some(nth) = probe.as_mut().filter(|it| **it < NEEDS) {
                *nth = places[*nth];
            }
        }
        let watched = self.of(name);
        let before = std::mem::replace(&mut watched.misses, vec![(0, false); new.len()]);
        for (misses, place) in before.into_iter().zip(places).filter(|it| it.1 != GONE) {
            watched.misses[place] = misses;
        }
    }

    fn forgets(&mut self, name: &Name, processes: &BTreeMap<Pid, Process>) -> Verdict {
        let left = processes.values().any(|it| it.name == *name) || self.has_hook(name);
        ensure(!left, "a service is forgotten of which something is left")?;
        self.measured.retain(|_, it| it != name);
        self.sampled.retain(|_, it| it.0 != *name);
        let watched = self.services.remove(name);
        ensure(watched.is_some_and(|it| it.removed), "a service is forgotten that is wanted")
    }

    fn probed(&mut self, ticket: Ticket, answer: &Answer) -> Expect {
        let Some((name, probe)) = self.asked.remove(&ticket) else { return Expect::Nothing };
        let watched = self.of(&name);
        let nth = probe.unwrap();
        if let Some(need) = nth.checked_sub(NEEDS) {
            watched.answered[need] = *answer == Answer::Pass;
            return Expect::Anything;
        }
        watched.let_off &= *answer != Answer::Pass;
        watched.misses[nth] = match answer {
            Answer::Pass => (0, false),
            Answer::Miss(miss) => {
                let definite = watched.plan.probes[nth].definite.contains(&miss.class);
                (watched.misses[nth].0 + 1, definite)
            }
        };
        Expect::Anything
    }

    fn host_sampled(&mut self, ticket: Ticket, sample: &HostSample) -> Expect {
        let Some((name, _)) = self.sampled.remove(&ticket) else { return Expect::Nothing };
        let much = |it: Option<f64>| it.is_some_and(|it| 40.0 <= it);
        let parts = [sample.cpu, sample.waited, sample.io];
        self.of(&name).starves = parts.into_iter().any(much);
        Expect::Anything
    }

    fn samples(&mut self, now: Time, name: &Name, ticket: Ticket) -> Verdict {
        self.sampled.retain(|_, it| it.0 != *name);
        let before = self.sampled.insert(ticket, (name.clone(), now));
        ensure(before.is_none(), "a ticket is given out twice")
    }

    fn abandons(&mut self, ticket: Ticket) -> Verdict {
        match self.asked.remove(&ticket) {
            Some((_, None | Some(NEEDS..))) => Ok(()),
            Some((name, Some(nth))) => {
                let watched = self.of(&name);
                watched.misses[nth].0 += 1;
                watched.misses[nth].1 = watched.plan.probes[nth].definite.contains(&Class::Timeout);
                Ok(())
            }
            None => Err("what nobody asked is abandoned".to_owned()),
        }
    }

    fn measures(&mut self, name: &Name, ticket: Ticket) -> Verdict {
        ensure(!self.measured.values().any(|it| it == name), "it is measured twice")?;
        let before = self.measured.insert(ticket, name.clone());
        ensure(before.is_none(), "a ticket is given out twice")
    }

    fn hook_starts(
        &mut self,
        name: &Name,
        kind: HookKind,
        ticket: Ticket,
        processes: &BTreeMap<Pid, Process>,
    ) -> Verdict {
        let mut left = processes.values().filter(|it| it.name == *name);
        ensure(left.next().is_none(), "a hook runs beside its service")?;
        ensure(!self.has_hook(name), "a hook runs beside another")?;
        let stopped = self.of(name).stopped && kind == HookKind::PreStart;
        ensure(!stopped, "a service that was stopped is prepared")?;
        self.hooks.insert(ticket, (name.clone(), kind, false));
        Ok(())
    }

    fn hook_is_told(&mut self, ticket: Ticket, signal: Signal) -> Verdict {
        let Some(known) = self.hooks.get_mut(&ticket) else {
            return Err("a signal to a hook that is over".to_owned());
        };
        known.2 |= signal == Signal::KILL;
        Ok(())
    }

    fn hook_ended(&mut self, name: &Name, ticket: Ticket, passed: bool) {
        let (_, kind, killed) = self.hooks.remove(&ticket).unwrap();
        let watched = self.of(name);
        match kind {
            HookKind::PreStart => watched.prepared = passed && !killed,
            HookKind::PostStop => watched.tidied = true,
        }
    }

    fn has_hook(&self, name: &Name) -> bool {
        self.hooks.values().any(|it| it.0 == *name)
    }

    fn asks(&mut self, name: &Name, probe: Option<usize>, ticket: Ticket) -> Verdict {
        let same = |it: &(Name, Option<usize>)| it.0 == *name && it.1 == probe;
        ensure(!self.asked.values().any(same), "it is asked again before it answered")?;
        let before = self.asked.insert(ticket, (name.clone(), probe));
        ensure(before.is_none(), "a ticket is given out twice")
    }

    fn said(&mut self, now: Time, name: &Name, note: &Note) -> Verdict {
        let leaving = self.ending || self.leaving_since.is_some();
        if let Note::Up { .. } = note {
            self.measured.retain(|_, it| it != name);
            self.sampled.retain(|_, it| it.0 != *name);
        }
        let second = Duration::from_secs(1);
        let unanswered = self.sampled.values().any(|it| it.0 == *name && it.1 + second <= now);
        let watched = self.of(name);
        match note {
            Note::Starting { run, by } => return watched.starts(now, *run, by.is_some()),
            Note::Up { .. } => {
                (watched.tidied, watched.excused) = (false, false);
                watched.up_at = now;
                (watched.touched, watched.looked, watched.seen) = (None, None, None);
                (watched.triggered, watched.ends_by) = (false, None);
                watched.above = (0, 0);
                (watched.let_off, watched.starves) = (false, false);
                watched.misses = vec![(0, false); watched.plan.probes.len()];
            }
            Note::Backoff { delay, .. } => watched.follows = Follows::Restart { at: now + *delay },
            Note::GaveUp { retry: Some(retry), .. } => {
                watched.follows = Follows::Attempt { at: now + *retry };
                let retries = watched.plan.restart.on_cap == OnCap::Retry;
                let after = watched.plan.restart.retry_after;
                return ensure(retries && after <= *retry, "attempts that are not wanted");
            }
            Note::Stuck { .. } | Note::HookStuck { .. } => watched.stuck = true,
            Note::Busy { .. } => {
                ensure(watched.starves || unanswered, "it is let off for nothing")?;
                let before = std::mem::replace(&mut watched.let_off, true);
                return ensure(!before, "it is let off twice in one outage");
            }
            Note::Unhealthy { .. } => {
                let limit = watched.plan.evidence_timeout + HANG_PATIENCE;
                watched.hung_by = Some(now + limit);
            }
            Note::Killing { .. } => watched.hung_by = None,
            Note::Ended { end, exit, .. } => {
                let ran = exit.is_some() && !matches!(end, End::SpawnFailed(_));
                let tidied = watched.plan.post_stop.is_empty() || watched.tidied || leaving;
                ensure(!ran || tidied, "nothing tidied up after a run")?;
                (watched.stuck, watched.hung_by) = (false, None);
                watched.follows = Follows::Nothing;
            }
            Note::Hanging { end, .. } => return watched.has_reason(now, end),
            Note::Stopping { end, .. } => {
                watched.hung_by = None;
                return watched.has_reason(now, end);
            }
            Note::Down => watched.answered.fill(false),
            Note::Reloaded { change, .. } => match change.what {
                What::Restarted | What::Started => {
                    watched.renewed = true;
                    watched.answered.fill(false);
                    watched.follows = Follows::Nothing;
                }
                What::Unchanged => return Err("what did not change is told of".to_owned()),
                What::Added | What::Removed | What::Refreshed(_) | What::Applied | What::Kept => {}
            },
            Note::HookFailed { .. }
            | Note::Waits { .. }
            | Note::Ready { .. }
            | Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Healthy
            | Note::GaveUp { retry: None, .. }
            | Note::Done => {}
        }
        Ok(())
    }

    /// Is everything in order, now that the event has been taken in?
    pub(crate) fn after(
        &mut self,
        now: Time,
        core: &Supervisor,
        processes: &BTreeMap<Pid, Process>,
        spawning: &dyn Fn(&Name) -> bool,
        exited: bool,
    ) -> Verdict {
        if exited {
            let alive = self.hooks.values().any(|it| !it.2);
            ensure(!alive, "keepup ends, and a hook lives")?;
            let mut alive = processes.values().filter(|it| !it.killed && !it.swept);
            return ensure(alive.next().is_none(), "keepup ends, and somebody lives");
        }
        for service in core.services() {
            let name = service.name();
            let of_it = |it: &(&Pid, &Process)| it.1.name == *name;
            let mut left = processes.iter().filter(of_it);
            let process = left.next();
            let named = |verdict: Verdict| verdict.map_err(|what| format!("{name}: {what}"));
            named(ensure(left.next().is_none(), "two processes"))?;
            named(ensure(
                service.pid() == process.map(|it| *it.0),
                "the core and the world know different processes",
            ))?;
            let process = process.map(|it| it.1);
            let busy = spawning(name) || self.has_hook(name);
            named(self.in_order(now, service, core, process, busy))?;
        }
        for (name, watched) in &self.services {
            let known = core.service(name).is_some();
            let left = processes.values().any(|it| it.name == *name) || self.has_hook(name);
            let over = watched.removed && !left && !spawning(name) && !core.is_leaving();
            ensure(known != over, "a service is not forgotten, or too early")?;
        }
        for (name, _) in self.asked.values() {
            let state = core.service(name).map(|it| &it.state);
            let asks = matches!(state, Some(State::Up { .. } | State::Waiting(_)));
            ensure(asks, "an answer is awaited from a service that is not up")?;
        }
        self.leaves_in_time(now, core)
    }

    fn in_order(
        &self,
        now: Time,
        service: &keepup::core::Service,
        core: &Supervisor,
        process: Option<&Process>,
        spawning: bool,
    ) -> Verdict {
        let watched = &self.services[service.name()];
        let deadline = core.deadline();
        let newest = watched.coming.as_ref().unwrap_or(&watched.plan);
        let runs = process.is_some() || spawning;
        ensure(runs || service.plan == *newest, "it goes by an old plan")?;
        let crowded = self.services.values().any(|it| it.removed);
        let sockets = !watched.plan.listen.is_empty();
        let holds = match &service.state {
            State::Waiting(_) | State::Backoff { .. } | State::Up { .. } => sockets,
            State::Down | State::Done | State::Failed => false,
            State::Spawning { .. } => sockets && !watched.stopped,
            State::Stopping(_) => sockets && !watched.stopped && !core.is_leaving(),
        };
        ensure(watched.held == holds, "its sockets are held, or not, against its state")?;
        match &service.state {
            State::Waiting(_) => {
                let unmet = core.predecessors(service).any(|it| !lets_start(it));
                let needy = watched.answered.contains(&false);
                ensure(unmet || needy || crowded, "it waits for nobody")?;
                let asks = deadline.is_some() || crowded;
                ensure(unmet || asks, "nobody asks for what it needs")
            }
            State::Down => {
                ensure(service.want == Want::Down || core.is_leaving(), "it is forgotten")
            }
            State::Backoff { until } => {
                ensure(deadline.is_some_and(|at| at <= *until), "no deadline for its restart")?;
                let announced = match watched.follows {
                    Follows::Nothing => None,
                    Follows::Restart { at } | Follows::Attempt { at } => Some(at),
                };
                ensure(announced == Some(*until), "its restart is at another time than was said")
            }
            State::Spawning { .. } => ensure(spawning, "it is left spawning"),
            State::Up { health, .. } => {
                ensure(process.is_some_and(|it| it.main_lives), "it is up, and dead")?;
                ensure(!health.ready() || health.started().is_some(), "ready before it started")?;
                let later = |probe: &Probe| probe.role != Role::Startup;
                let asks = service.plan.probes.iter().any(later);
                let asks = asks || service.plan.heartbeat.is_some() || health.started().is_none();
                ensure(!asks || deadline.is_some(), "nobody asks it any more")
            }
            State::Stopping(_) => {
                let lives = process.is_some_and(|it| it.main_lives && !it.killed);
                let wanted_down = watched.stopped || core.is_leaving();
                let asked = process.is_some_and(|it| it.stopping);
                ensure(!lives || !wanted_down || asked, "whoever wants it down waits for a look")?;
                let late = watched.hung_by.is_some_and(|by| by + self.gap < now);
                ensure(!lives || !late, "a hung run is looked at for too long")?;
                ensure(
                    spawning || process.is_some_and(|it| it.main_lives || it.swept || it.awaited),
                    "what it left behind is not swept up",
                )?;
                ensure(watched.stuck || deadline.is_some(), "no deadline for its end")
            }
            State::Done | State::Failed => {
                ensure(watched.follows == Follows::Nothing, "no restart follows, though announced")
            }
        }
    }

    fn leaves_in_time(&mut self, now: Time, core: &Supervisor) -> Verdict {
        if !core.is_leaving() {
            self.stalled = Duration::ZERO;
            return Ok(());
        }
        let since = *self.leaving_since.get_or_insert(now);
        let limit = self.shutdown_timeout + Duration::from_secs(2) + self.stalled;
        ensure(now <= since + limit, "a shutdown takes longer than its limit")
    }
}

impl Watched {
    fn new(service: &Service, past: Remembered) -> Watched {
        Watched {
            plan: service.clone(),
            coming: None,
            removed: false,
            renewed: false,
            bound: false,
            follows: Follows::Nothing,
            restarts: past.restarts,
            stopped: past.stopped && service.restart.policy == Policy::UnlessStopped,
            stuck: false,
            held: false,
            excused: false,
            hung_by: None,
            up_at: Time::default(),
            touched: None,
            looked: None,
            seen: None,
            triggered: false,
            ends_by: None,
            let_off: false,
            starves: false,
            above: (0, 0),
            misses: Vec::new(),
            prepared: false,
            tidied: false,
            answered: vec![false; service.wait_for.len()],
        }
    }

    fn starts(&mut self, now: Time, run: u64, asked: bool) -> Verdict {
        let needy = self.answered.contains(&false);
        ensure(!needy, "it is started although something that it needs did not answer")?;
        self.answered.fill(false);
        self.prepared = false;
        let follows = std::mem::replace(&mut self.follows, Follows::Nothing);
        if std::mem::take(&mut self.renewed) {
            self.restarts.clear();
            return Ok(());
        }
        if asked {
            return Ok(());
        }
        match follows {
            Follows::Nothing => ensure(run == 1, "a start that nobody asked for"),
            Follows::Attempt { at } => ensure(at <= now, "an attempt comes too early"),
            Follows::Restart { at } => {
                ensure(at <= now, "a restart comes too early")?;
                self.restarts.push(now);
                let restart = &self.plan.restart;
                let recent = self.restarts.iter().filter(|&&at| now < at + restart.window).count();
                let cap = restart.max_restarts as usize;
                ensure(cap == 0 || recent <= cap, "more restarts than its cap")
            }
        }
    }

    fn uses(&mut self, used: Used) {
        let limits = self.plan.resources;
        let much = limits.max_memory.is_some_and(|max| Some(max) < used.memory);
        let busy = limits.max_cpu.zip(used.cpu).is_some_and(|it| f64::from(it.0) < it.1);
        self.above.0 = if much { self.above.0 + 1 } else { 0 };
        self.above.1 = if busy { self.above.1 + 1 } else { 0 };
    }

    /// Has the world given a reason for this end?
    fn has_reason(&self, now: Time, end: &End) -> Verdict {
        match end {
            _ if self.excused => Ok(()),
            End::Unhealthy(_) => {
                let fails = |it: (&Probe, &(u32, bool))| {
                    it.0.role == Role::Liveness && (it.0.failures <= it.1.0 || it.1.1)
                };
                let failed = self.plan.probes.iter().zip(&self.misses).any(fails);
                let said = self.triggered || self.ends_by.is_some_and(|by| by <= now);
                ensure(failed || said, "a run ends for misses that it did not have")
            }
            End::NeverReady(_) => {
                let over = self.up_at + self.plan.start_timeout <= now;
                ensure(over, "a run ends before its start_timeout")
            }
            End::HeartbeatLost(_) => {
                let limit = self.plan.heartbeat.as_ref().map(|it| it.unhealthy_after);
                let lost = self.seen.zip(limit).is_some_and(|(at, limit)| at + limit <= now);
                ensure(lost, "a run ends for a heartbeat that it had, or never had")
            }
            End::OverMemory(_) => ensure(2 <= self.above.0, "a run ends for one spike of memory"),
            End::OverCpu(_) => {
                let long = self.up_at + self.plan.resources.max_cpu_for <= now;
                ensure(long && 1 <= self.above.1, "a run ends for a processor that was idle")
            }
            End::Exited(_) | End::SpawnFailed(_) | End::Asked(_) => Ok(()),
        }
    }
}

fn lets_start(service: &keepup::core::Service) -> bool {
    let started = service.health().is_some_and(|it| it.started().is_some());
    matches!(service.state, State::Done) || (started && !service.plan.oneshot)
}
