//! A look at the core: what it knows of a service, in the words of the status.

use super::{Health, LastEnd, ProbeStatus, ServiceStatus, Stamp, State, Want, seconds};
use crate::core::event::Time;
use crate::core::{self, Service, Supervisor};

impl ServiceStatus {
    /// What the core knows of a service at this moment.
    pub fn of(core: &Supervisor, service: &Service, now: Time) -> ServiceStatus {
        let budget = &service.budget;
        let in_window = budget.recent(&service.plan.restart, now).count();
        let until = match service.state {
            core::State::Backoff { until } => Some(seconds(until - now)),
            core::State::Waiting(_)
            | core::State::Down
            | core::State::Spawning { .. }
            | core::State::Up { .. }
            | core::State::Stopping(_)
            | core::State::Done
            | core::State::Failed => None,
        };
        let up_since = match service.state {
            core::State::Up { since, .. } => Some(since),
            core::State::Waiting(_)
            | core::State::Down
            | core::State::Backoff { .. }
            | core::State::Spawning { .. }
            | core::State::Stopping(_)
            | core::State::Done
            | core::State::Failed => None,
        };
        let health = service.health();
        let age = health.and_then(|health| health.heartbeat_age(now));
        ServiceStatus {
            want: match service.want {
                core::Want::Up => Want::Up,
                core::Want::Down => Want::Down,
            },
            state: State::of(&service.state),
            health: service.health_word().and_then(Health::named),
            ready: health.is_some_and(core::health::Health::ready),
            pid: service.pid().map(|pid| pid.0),
            run: service.run,
            uptime_seconds: up_since.map(|since| seconds(now - since)),
            restarts: service.restarts,
            failures_in_row: budget.failures(),
            restarts_in_window: u32::try_from(in_window).unwrap_or(u32::MAX),
            next_start_in_seconds: until,
            uptime_percent_24h: service.uptime.percent(now).map(thousandth),
            heartbeat_age_seconds: age.map(seconds),
            errors_last_hour: health
                .filter(|_| service.plan.logs.errors.is_some())
                .map(|health| health.errors(now)),
            status_text: words(service),
            last_end: service
                .last_end
                .as_ref()
                .map(|last| LastEnd::of(&last.end, last.exit, Stamp::now().before(now - last.at))),
            probes: probes(service),
            // An attempt that succeeds is well, although it is not stable yet.
            given_up: service.gave_up.is_some() && up_since.is_none(),
            uses_much: health.is_some_and(core::health::Health::uses_much),
            awaits: awaits(core, service),
            ..ServiceStatus::down(&service.plan)
        }
    }
}

fn thousandth(percent: f64) -> f64 {
    (percent * 1e3).round() / 1e3
}

impl State {
    /// The word for a state of the core.
    pub fn of(state: &core::State) -> State {
        match state {
            core::State::Waiting(_) => State::Waiting,
            core::State::Down => State::Down,
            core::State::Backoff { .. } => State::Backoff,
            core::State::Spawning { .. } => State::Starting,
            core::State::Up { .. } => State::Up,
            core::State::Stopping(_) => State::Stopping,
            core::State::Done => State::Done,
            core::State::Failed => State::Failed,
        }
    }
}

/// `reloading: 3 of 5 files read`, or one of both.
fn words(service: &Service) -> Option<String> {
    let words = &service.words;
    let reloading = words.reloading.then(|| "reloading".to_owned());
    let parts: Vec<String> = reloading.into_iter().chain(words.status.clone()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

fn awaits(core: &Supervisor, service: &Service) -> Option<String> {
    let awaited = core.awaited(service).map(|it| match it.state {
        core::State::Failed => format!("{}, which was given up", it.name()),
        core::State::Down => format!("{}, which is down", it.name()),
        core::State::Waiting(_)
        | core::State::Backoff { .. }
        | core::State::Spawning { .. }
        | core::State::Up { .. }
        | core::State::Stopping(_)
        | core::State::Done => it.name().to_string(),
    });
    let mut awaited: Vec<String> = awaited.collect();
    if let core::State::Waiting(waiting) = &service.state {
        awaited.extend(waiting.missing(&service.plan.wait_for));
    }
    (!awaited.is_empty()).then(|| format!("waits for {}", awaited.join("; ")))
}

fn probes(service: &Service) -> Vec<ProbeStatus> {
    let unasked = service.plan.probes.iter().map(ProbeStatus::unasked);
    let Some(health) = service.health() else {
        return unasked.collect();
    };
    let checks = unasked.zip(health.checks());
    checks
        .map(|(probe, check)| match check.took {
            Some(took) => probe.answered(check.miss.as_ref(), check.misses, took),
            None => probe,
        })
        .collect()
}
