//! The bugs: what each is, where, and how. Most of them were real ones, in this or another supervisor.

pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// Under `src`.
    pub(crate) file: &'static str,
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
}

const fn restart(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/restart.rs", old, new }
}

const fn health(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/health.rs", old, new }
}

const fn usage(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/usage.rs", old, new }
}

const fn heartbeat(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/heartbeat.rs", old, new }
}

const fn service(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/service.rs", old, new }
}

const fn stopping(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/stopping.rs", old, new }
}

const fn waiting(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/waiting.rs", old, new }
}

const fn hook(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/hook.rs", old, new }
}

const fn supervisor(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/supervisor.rs", old, new }
}

const fn tell(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/tell.rs", old, new }
}

const fn errors(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/errors.rs", old, new }
}

const fn doubt(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/health/doubt.rs", old, new }
}

const fn told(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/health/told.rs", old, new }
}

const fn reload(name: &'static str, old: &'static str, new: &'static str) -> Bug {
    Bug { name, file: "core/reload.rs", old, new }
}

pub(crate) const BUGS: &[Bug] = &[
    doubt(
        "whoever is starved is let off for ever",
        "        self.doubts.spent = true;\n",
        "        self.doubts.spent = false;\n",
    ),
    doubt(
        "a refused connection is excused by a starved host",
        "        Class::Timeout | Class::Stale => true,\n        Class::Refused | Class::Dns",
        "        Class::Timeout | Class::Stale | Class::Refused => true,\n        Class::Dns",
    ),
    doubt(
        "what is definite is excused by a starved host",
        "    silence && !probe.definite.contains(&class)",
        "    silence",
    ),
    doubt(
        "a run that was busy once is never let off again",
        "            self.doubts = Doubts::default();\n",
        "            self.doubts.watched = false;\n",
    ),
    doubt(
        "a deadlock is excused by a host on which others starve",
        "processor = if untouched { None } else { much(it.cpu) };",
        "processor = much(it.cpu);",
    ),
    doubt(
        "a verdict waits for ever for a host that does not answer",
        "        self.held.as_ref().map(|it| it.by)\n",
        "        self.held.as_ref().map(|it| it.by + it.by.0)\n",
    ),
    doubt(
        "an answer comes too late to save a run that is doubted",
        "        self.held.take_if(|it| it.of == of);\n",
        "        self.held.take_if(|it| it.of == of && it.by.0.is_zero());\n",
    ),
    doubt(
        "a busy run is let off one question, and not all",
        "                check.misses = 0;\n",
        "                check.misses = check.misses.saturating_sub(1);\n",
    ),
    doubt(
        "a heartbeat ends a run that was just let off",
        "beats.spare(turn.now + heartbeat.unhealthy_after);",
        "beats.spare(turn.now + heartbeat.degraded_after);",
    ),
    doubt(
        "the host is looked at for every miss",
        "            if !self.doubts.watched && !self.doubts.spent {\n",
        "            if !self.doubts.spent {\n",
    ),
    heartbeat(
        "a beat does not end the time that was given to a busy run",
        "        self.spared_until = Time::default();\n        self.nothing",
        "        self.nothing",
    ),
    reload(
        "a reload restarts what needs no other process",
        "any(|it| it.takes == Takes::Run);",
        "any(|it| it.takes == Takes::Run || it.takes == Takes::Nothing);",
    ),
    reload(
        "a reload undoes the stop of what was done",
        "State::Done if other_run && self.want == Want::Up =>",
        "State::Done if other_run =>",
    ),
    reload(
        "a new plan inherits the failures of the old one",
        "        self.clear_slate();\n        self.adopt(*plan, turn);",
        "        self.adopt(*plan, turn);",
    ),
    reload(
        "a service is forgotten while it runs",
        "let over = it.removed && !it.is_running();",
        "let over = it.removed;",
    ),
    reload(
        "what a reload stops together is stopped in no order",
        "matches!(service.state, State::Up { .. }) && !needed.contains(service.name());",
        "matches!(service.state, State::Up { .. });",
    ),
    reload(
        "what is new starts beside what it takes the place of",
        "!is_new || !self.services.iter().any(|it| it.removed && !it.is_stuck())",
        "!is_new || true",
    ),
    reload(
        "what is new waits for ever for what survives KILL",
        "!is_new || !self.services.iter().any(|it| it.removed && !it.is_stuck())",
        "!is_new || !self.services.iter().any(|it| it.removed)",
    ),
    Bug {
        name: "a probe that did not change begins afresh",
        file: "core/health/adapt.rs",
        old: "same.filter(|_| self.started.is_some())",
        new: "same.filter(|_| self.started.is_none())",
    },
    Bug {
        name: "a question of the old plan is left open",
        file: "core/health/adapt.rs",
        old: "if let Asking::Asked { ticket, .. } = check.asking {",
        new: "if let Asking::Asked { ticket, .. } = check.asking && check.misses > 9 {",
    },
    supervisor(
        "an operator starts what was removed",
        "if !it.removed {",
        "if !it.removed || it.want == Want::Down {",
    ),
    errors(
        "errors of an hour ago are never forgotten",
        "while self.spans.front().is_some_and(|it| it.last + WINDOW <= now) {",
        "while self.spans.len() > 1_000 {",
    ),
    errors(
        "nobody wakes up when enough errors are an hour old",
        "at = Some(oldest.last + WINDOW);",
        "at = Some(oldest.last + WINDOW + WINDOW);",
    ),
    health(
        "as many error lines as are allowed degrade",
        "filter(|limit| *limit < self.errors.count(now))",
        "filter(|limit| *limit <= self.errors.count(now))",
    ),
    health(
        "a service without probes is never healthy again",
        "Level::Healthy if self.said == Level::Starting && asks_nothing(plan)",
        "Level::Healthy if asks_nothing(plan)",
    ),
    service(
        "a fresh run is blamed for the errors of the last one",
        "            && run == self.run\n",
        "            && run <= self.run\n",
    ),
    restart("the cap is off by one", "cap <= self.recent.len()", "cap < self.recent.len()"),
    restart(
        "the window never slides",
        "while self.recent.front().is_some_and(|&at| at + restart.window <= now) {",
        "while self.recent.len() > 1_000 {",
    ),
    restart(
        "a stable run does not clear the row",
        "        self.failures = 0;\n        self.given_up = false;",
        "        self.given_up = false;",
    ),
    restart(
        "a stable run empties the window",
        "        self.failures = 0;\n        self.given_up = false;",
        "        self.failures = 0;\n        self.recent.clear();\n        self.given_up = false;",
    ),
    restart(
        "a service that recovered stays given up",
        "        self.failures = 0;\n        self.given_up = false;",
        "        self.failures = 0;",
    ),
    restart(
        "attempts after the cap count towards it",
        "if !self.given_up && plan.max_restarts > 0 {",
        "if plan.max_restarts > 0 {",
    ),
    restart(
        "fatal codes are restarted",
        "if matches(&restart.fatal_codes, *exit) {",
        "if matches(&restart.fatal_codes, *exit) && plan.oneshot {",
    ),
    restart(
        "always is done after a success",
        "Policy::Never | Policy::OnFailure if success =>",
        "Policy::Never | Policy::OnFailure | Policy::Always if success =>",
    ),
    restart(
        "never restarts after a failed spawn",
        "if restart.policy == Policy::Never {",
        "if restart.policy == Policy::Never && !matches!(end, End::SpawnFailed(_)) {",
    ),
    restart(
        "the delay has no ceiling",
        "if seconds < plan.max_delay.as_secs_f64() {",
        "if seconds < 1e9 {",
    ),
    restart("the delay doubles too early", "nth.saturating_sub(1)", "nth"),
    Bug {
        name: "jitter makes the delay shorter",
        file: "core/turn.rs",
        old: "1.0 + jitter * self.fraction()",
        new: "1.0 - jitter * self.fraction()",
    },
    usage("a spike of memory kills", "const LOOKS_ABOVE: u32 = 2;", "const LOOKS_ABOVE: u32 = 1;"),
    usage(
        "a pause of a busy processor is forgotten",
        "            self.busy_since = None;\n            return None;",
        "            return None;",
    ),
    usage(
        "a warning of memory comes and goes",
        "if self.much.is_some() { warn - warn / 20 } else { warn }",
        "warn",
    ),
    usage("a late measurement is heeded", "if self.look != Look::Asked(ticket) {", "if false {"),
    health(
        "all services are asked in step",
        "            turn.numbers.part(probe.interval)",
        "            probe.interval",
    ),
    health(
        "misses are never forgiven",
        "        self.misses = 0;\n        self.miss = None;",
        "        self.miss = None;",
    ),
    health(
        "a late answer is taken for another",
        "Asking::Asked { ticket: asked, .. } if asked == ticket)",
        "Asking::Asked { ticket: asked, .. } if asked >= ticket)",
    ),
    health(
        "misses while starting are counted",
        "Answer::Miss(miss) if !counted => {",
        "Answer::Miss(miss) if !counted && probe.failures == 0 => {",
    ),
    health(
        "misses while starting are told again and again",
        "if self.miss.as_ref() != Some(&miss) {\n            let note = Note::Miss { role: probe.role, miss: miss.clone(), count: 0",
        "if true {\n            let note = Note::Miss { role: probe.role, miss: miss.clone(), count: 0",
    ),
    health(
        "a starting service is asked at its interval",
        "(false, _) => probe.interval.min(STARTING_INTERVAL_MAX),",
        "(false, _) => probe.interval,",
    ),
    health(
        "no faster question after a miss",
        "(true, Answer::Miss(_)) => probe.retry_interval,",
        "(true, Answer::Miss(_)) => probe.interval,",
    ),
    health("a stall extends a question again and again", "                && !*extended\n", ""),
    health(
        "a stall does not extend a start",
        "            self.start_extended = gap;",
        "            self.start_extended = gap.min(Duration::from_millis(1));",
    ),
    health(
        "failing readiness restarts",
        "(probe.role == Role::Liveness)",
        "(probe.role != Role::Warning)",
    ),
    health("startup is asked for ever", "                    check.asking = Asking::Idle;\n", ""),
    health(
        "slow answers are as good as any",
        "self.slow = probe.slow.is_some_and(|slow| slow < took);",
        "self.slow = probe.slow.is_some_and(|slow| slow < took) && took.is_zero();",
    ),
    health(
        "definite misses are like any",
        "if probe.definite.contains(&miss.class) {",
        "if probe.definite.contains(&miss.class) && probe.failures == 1 {",
    ),
    health(
        "start_timeout bounds everything",
        "self.started.is_none().then(|| self.told.start_by(self.since + late))",
        "Some(self.told.start_by(self.since + late))",
    ),
    health(
        "initial_delay is forgotten",
        "Asking::At(now + probe.initial_delay)",
        "Asking::At(now)",
    ),
    health(
        "ready is never taken back",
        "        self.ready = ready;",
        "        self.ready |= ready;",
    ),
    health(
        "one success is always enough",
        "if probe.successes <= self.passes {",
        "if 1 <= self.passes {",
    ),
    health(
        "the first beat is not waited for",
        "self.beats.as_ref().is_none_or(|beats| beats.beaten)",
        "self.beats.as_ref().is_none_or(|beats| beats.beaten || plan.probes.is_empty())",
    ),
    health(
        "questions outlive their run",
        "            if let Asking::Asked { ticket, .. } = check.asking {\n                turn.effect(Effect::Abandon { ticket });\n            }\n        }\n        if let",
        "            let _ = check;\n        }\n        if let",
    ),
    health(
        "a look of another run counts",
        "        if beats.asked() != Some(ticket) {",
        "        if beats.asked().is_none() {",
    ),
    heartbeat(
        "looks pile up where the file system hangs",
        "if heartbeat.file.is_none() || self.look != Look::Back || turn.now < self.look_at {",
        "if heartbeat.file.is_none() || turn.now < self.look_at {",
    ),
    heartbeat(
        "a heartbeat is lost before the first beat",
        "let lost = self.beaten && overdue(self.lost_at(heartbeat));",
        "let lost = overdue(self.lost_at(heartbeat));",
    ),
    heartbeat(
        "a file system that hangs shields a hang",
        "        lost.then(|| self.lost(heartbeat, now))\n    }\n\n    /// One look",
        "        (lost && self.look == Look::Back).then(|| self.lost(heartbeat, now))\n    }\n\n    /// One look",
    ),
    heartbeat(
        "a stall is taken for a lost heartbeat",
        "            self.last = self.last + gap;",
        "            self.last = self.last + gap / 100;",
    ),
    heartbeat(
        "a stall again and again shields a hang",
        "            self.extended = true;",
        "            self.extended = gap.is_zero();",
    ),
    heartbeat(
        "nothing degrades before it is lost",
        "self.degraded = self.beaten &&",
        "self.degraded = heartbeat.degraded_after.is_zero() &&",
    ),
    service(
        "a failed spawn is forgotten",
        "self.ended(&End::SpawnFailed(failure), None, Duration::ZERO, turn);",
        "let _ = (failure, turn);",
    ),
    stopping("nothing is killed after stop_timeout", "                self.kill(why, turn);\n", ""),
    service(
        "a stop during a spawn is forgotten",
        "                *stop = Some(by);\n",
        "                let _ = (stop, by);\n",
    ),
    service(
        "the policy undoes an operator's stop",
        "if turn.leaving || self.want == Want::Down {",
        "if turn.leaving || (self.want == Want::Down && exit.is_none()) {",
    ),
    service(
        "an operator's restart goes through the policy",
        "        if let Some(start) = self.starter.map(|_| Start::Asked).or(renewed) {",
        "        if let Some(start) = self.starter.map(|_| Start::Asked).or(renewed)\n            && uptime.is_zero()\n        {",
    ),
    service(
        "an operator's start clears nothing",
        "        self.budget = Budget::default();\n        self.gave_up = None;",
        "        self.gave_up = None;",
    ),
    stopping(
        "what a crash leaves is not swept up",
        "phase });\n                turn.effect(Effect::Sweep { pid });\n",
        "phase });\n",
    ),
    stopping(
        "a second copy is started beside a stuck process",
        "                stopping.phase = Phase::Stuck;\n                let pid = stopping.pid;\n                turn.note(&self.plan.name, Note::Stuck { pid });",
        "                let (end, exit) = (stopping.end.clone(), stopping.exit);\n                self.ended(&end, exit, Duration::ZERO, turn);",
    ),
    service(
        "stable from birth, not from having started",
        "        let started = self.health()?.started()?;\n",
        "        let State::Up { since: started, .. } = self.state else { return None };\n",
    ),
    stopping(
        "a crash does not look whether it was stable",
        "    pub(super) fn exited(&mut self, exit: Exit, turn: &mut Turn<'_>) {\n        self.note_if_stable(turn);\n",
        "    pub(super) fn exited(&mut self, exit: Exit, turn: &mut Turn<'_>) {\n",
    ),
    service(
        "a oneshot that runs lets others start",
        "!self.plan.oneshot && health.started().is_some()",
        "health.started().is_some()",
    ),
    service(
        "an essential service's code is lost",
        "                    turn.leave_with(status);\n",
        "                    turn.leave_with(0);\n",
    ),
    waiting(
        "a need: it is told every second",
        "if self.miss.as_ref() != Some(&miss) {",
        "if !miss.is_empty() {",
    ),
    waiting(
        "a need: a restart is used up although it does not answer",
        "            if waiting.is_restart() {",
        "            if waiting.start == Start::Asked {",
    ),
    waiting(
        "a need: one that answers is enough",
        "needs.iter().all(answered)",
        "needs.iter().any(answered) || needs.is_empty()",
    ),
    waiting(
        "a need: who asks is never given up",
        "            waiting.abandon(turn);",
        "            let _ = (waiting, turn);",
    ),
    waiting(
        "a need: silence is waited for, for ever",
        "Asking::Asked { since, .. } => Some(since + ANSWER_MAX),",
        "Asking::Asked { .. } => None,",
    ),
    service(
        "a need: restarts do not ask",
        "                self.state = State::Waiting(Waiting::new(Start::Again));\n                turn.moved = true;",
        "                self.restarts += 1;\n                self.budget.restarted(&self.plan.restart, turn.now);\n                self.spawn(turn);",
    ),
    hook(
        "a hook: one that was killed passes if it ended well",
        "_ if matches!(self.phase, Phase::Kill { .. } | Phase::Stuck) && !self.asked => {",
        "_ if self.phase == Phase::Stuck && !self.asked => {",
    ),
    hook(
        "a hook: it may take for ever",
        "Phase::Runs { until } if until <= turn.now => self.kill(turn),",
        "Phase::Runs { until } if until + STUCK_AFTER <= turn.now => self.kill(turn),",
    ),
    hook(
        "a hook: a run is tidied up although keepup must go",
        "self.plan.post_stop.is_empty() || turn.killing;",
        "self.plan.post_stop.is_empty();",
    ),
    hook(
        "a hook: one that does not heed a stop is waited for",
        "Phase::Stop { kill_at } if kill_at <= turn.now => self.kill(turn),",
        "Phase::Stop { kill_at } if kill_at <= turn.now => self.asked = true,",
    ),
    hook(
        "a hook: a stop meanwhile is forgotten",
        "Some(by) => Some(Asker::Operator(by)),",
        "Some(by) => Some(Asker::Operator(by)).filter(|_| failure.is_some()),",
    ),
    stopping(
        "a hook: nothing tidies up",
        "match self.tidy(&stopping, turn) {",
        "match self.tidy(&stopping, turn).filter(|_| stopping.exit.is_none()) {",
    ),
    stopping(
        "what is left of a run asked in its main process alone has no time",
        "(Phase::Stop { .. }, Scope::Main) => turn.effect(Effect::Await { pid }),",
        "(Phase::Stop { .. }, Scope::Main) => turn.effect(Effect::Sweep { pid }),",
    ),
    stopping(
        "what is left of a run is killed through its dead main process",
        "                Some(_) => Effect::Sweep { pid },",
        "                Some(_) => Effect::Signal { pid, signal: Signal::KILL, to: Scope::Group },",
    ),
    stopping(
        "a stopped process is left stopped",
        "    turn.effect(Effect::Signal { pid, signal: Signal::CONT, to });\n",
        "",
    ),
    service(
        "the end of a run takes the operator's failure",
        "State::Stopping(stopping) => stopping.next = Some(by),",
        "State::Stopping(stopping) => {\n                stopping.end = End::Asked(Asker::Operator(by));\n                stopping.next = Some(by);\n            }",
    ),
    stopping(
        "a look at a hung run has no end",
        "Phase::Evidence { until, .. } | Phase::Hang { until } => Some(until),",
        "Phase::Hang { until } => Some(until),\n            Phase::Evidence { .. } => None,",
    ),
    stopping(
        "a hung run that was asked where it hangs is never asked to stop",
        "Phase::Evidence { until, .. } | Phase::Hang { until } => Some(until),",
        "Phase::Evidence { until, .. } => Some(until),\n            Phase::Hang { .. } => None,",
    ),
    stopping(
        "whoever wants a hung run down waits for the look at it",
        "if stopping.is_examined() {",
        "if stopping.deadline().is_none() {",
    ),
    stopping(
        "the end of keepup waits for a look at a hung run",
        "if end.is_hang() && !turn.leaving && !self.is_replaced() {",
        "if end.is_hang() && !self.is_replaced() {",
    ),
    stopping(
        "a look at an earlier run ends that at the next one",
        "            && asked == ticket\n",
        "            && (asked == ticket || asked != ticket)\n",
    ),
    stopping(
        "a run that a hung look finds gone is asked where it hangs",
        "                stopping.phase = phase;\n",
        "                if !stopping.is_examined() {\n                    stopping.phase = phase;\n                }\n",
    ),
    supervisor(
        "a hung run that is looked at holds up the end of keepup",
        "if is_next || service.is_examined() {",
        "if is_next {",
    ),
    supervisor(
        "a stall is not seen",
        "(STALL_MIN <= gap && self.deadline()? + STALL_MIN <= now)",
        "(STALL_MIN <= gap && self.deadline()? + STALL_MIN * 99 <= now)",
    ),
    supervisor(
        "a stall is measured after the first answer",
        "        if let Some(gap) = self.late(now) {",
        "        if let Some(gap) = self.late(now).filter(|_| matches!(event, Event::Tick)) {",
    ),
    supervisor(
        "keepup ends while some still run",
        "if !self.services.iter().any(Service::is_running) {",
        "if !self.services.iter().any(|it| matches!(it.state, State::Up { .. })) {",
    ),
    supervisor("everything is stopped at once", "&& !needed.contains(service.name())", ""),
    supervisor(
        "the order of stops ends at what is done",
        "let needed = self.before(running, |_| true);",
        "let needed = self.before(running, Service::is_running);",
    ),
    supervisor(
        "a stuck process costs the others their stop",
        "it.is_running() && !it.is_stuck()",
        "it.is_running()",
    ),
    supervisor(
        "a second shutdown is ignored",
        "                hurry(mode, turn.now);\n                turn.moved = true;",
        "                turn.moved = true;",
    ),
    supervisor(
        "what failed does not show in the exit code",
        "if failed { 4 } else { 0 }",
        "if failed { 0 } else { 0 }",
    ),
    supervisor(
        "waiting for ever is seen one step deep",
        "self.before([service], Service::heeds_order)",
        "self.before([service], |_| false)",
    ),
    supervisor(
        "a shutdown can be undone",
        "Event::Start { .. } | Event::Restart { .. } if turn.leaving => {}",
        "Event::Start { .. } | Event::Restart { .. } if turn.leaving && turn.save => {}",
    ),
    supervisor(
        "an operator's stop dies with keepup",
        "past.stopped && plan.restart.policy == Policy::UnlessStopped",
        "past.stopped && plan.restart.policy == Policy::Never",
    ),
    supervisor(
        "a stop outlives keepup with every policy",
        "past.stopped && plan.restart.policy == Policy::UnlessStopped",
        "past.stopped",
    ),
    supervisor("stay is ignored", "!self.plan.stay && ", ""),
    supervisor(
        "a pid used again is taken for the old one",
        "it.main() == Some((pid, main))",
        "it.main().is_some_and(|it| it.0 == pid || it.1 == main && pid.0 == 0)",
    ),
    supervisor(
        "keepup leaves a stuck process with a 0",
        "Effect::Exit { code: code.max(1) }",
        "Effect::Exit { code }",
    ),
    told(
        "READY=1 is not waited for",
        "self.ready || !plan.notify",
        "self.ready || plan.name.len() < 99",
    ),
    told(
        "more time for a start makes it shorter",
        "self.starts_by.map_or(by, |asked| asked.max(by))",
        "self.starts_by.unwrap_or(by)",
    ),
    told(
        "more time for a start is without a limit",
        "self.extend(turn.now + (*more).min(EXTENSION_MAX))",
        "self.extend(turn.now + *more)",
    ),
    told(
        "whoever says that it is stopping is asked on",
        "            check.asking = super::Asking::Idle;",
        "            let _ = &check;",
    ),
    told(
        "whoever says that it is stopping may stay for ever",
        "self.ends.filter(|it| it.by <= now)?",
        "self.ends.filter(|_| false)?",
    ),
    told(
        "saying it again puts off the end",
        "        if self.told.ends.is_some() {\n            return;\n        }\n",
        "",
    ),
    told("a trigger is only noted", "return Some(End::Unhealthy(why.to_owned()));", "let _ = why;"),
    Bug {
        name: "a run that hangs puts off its end",
        file: "core/stopping.rs",
        old: "            && !self.end.is_hang()\n",
        new: "",
    },
    Bug {
        name: "what a run said is shown of the next",
        file: "core/service.rs",
        old: "        self.words = Words::default();\n",
        new: "",
    },
    heartbeat(
        "a beat does not put off the verdict",
        "        self.last = now;\n        self.beaten = true;\n",
        "        self.beaten = true;\n",
    ),
    heartbeat(
        "a watchdog is looked at, too",
        "if heartbeat.file.is_none() || self.look",
        "if self.look",
    ),
    tell(
        "systemd waits for ever for one that waits for a failed one",
        "service.last_end.is_some() || self.waits_in_vain(service),",
        "service.last_end.is_some(),",
    ),
    tell(
        "keepup is ready while a migration runs",
        "(health.started().is_some() && !service.plan.oneshot)",
        "health.started().is_some()",
    ),
    tell(
        "keepup is ready before a service has started",
        "service.last_end.is_some() || (health.started()",
        "service.run > 0 || (health.started()",
    ),
    tell(
        "the limit of a start is that of one service",
        "let limit = limit.saturating_add(service.plan.start_timeout);",
        "let limit = limit.max(service.plan.start_timeout);",
    ),
    tell("the line names everybody", "words.iter().take(NAMED_MAX)", "words.iter()"),
    service(
        "sockets are closed while a run is to follow",
        "State::Stopping(_) => self.want == Want::Up && !leaving,",
        "State::Stopping(_) => false,",
    ),
    service(
        "sockets stay open for a service that will not come",
        "State::Stopping(_) => self.want == Want::Up && !leaving,",
        "State::Stopping(_) => true,",
    ),
    service(
        "sockets of a service that was given up stay open",
        "State::Down | State::Done | State::Failed => false,\n        }\n    }\n\n    /// What is to be done about its sockets",
        "State::Down | State::Done => false,\n            State::Failed => true,\n        }\n    }\n\n    /// What is to be done about its sockets",
    ),
    supervisor(
        "sockets are closed after the signal",
        "out.splice(first..first, sockets);",
        "let _ = first;\n        out.extend(sockets);",
    ),
];
