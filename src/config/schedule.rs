//! When restarts come, and when their cap is reached.

use std::time::Duration;

use super::duration;
use crate::core::restart::delay;
use crate::plan::{Class, Probe, Restart, Role, Service};

/// From the first end to the cap, when every run lasts `each`; nothing without a cap.
pub fn time_to_cap(restart: &Restart, each: Duration) -> Option<Duration> {
    (restart.max_restarts > 0).then(|| time_of(restart, restart.max_restarts, each))
}

/// From the first end to the one after this many restarts.
fn time_of(restart: &Restart, restarts: u32, each: Duration) -> Duration {
    let mut total = Duration::ZERO;
    let mut last = None;
    for n in 1..=restarts {
        let delay = delay(restart, n);
        if last == Some(delay) {
            // Delays grow until they do not; all that follow are alike.
            let rest = restarts - n + 1;
            return total.saturating_add(delay.saturating_add(each).saturating_mul(rest));
        }
        total = total.saturating_add(delay).saturating_add(each);
        last = Some(delay);
    }
    total
}

/// Whether the cap is reached when every run lasts `each`; without a cap there is none to miss.
pub fn is_reached(restart: &Restart, each: Duration) -> bool {
    time_to_cap(restart, each).is_none_or(|time| time < restart.window)
}

/// The highest cap that a service that crashes at once reaches.
pub(super) fn most_reachable(restart: &Restart) -> u32 {
    let fits = |restarts: u32| time_of(restart, restarts, Duration::ZERO) < restart.window;
    let (mut low, mut high) = (0, restart.max_restarts);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// The longest time from a hang to the verdict of this probe.
pub fn detection(probe: &Probe) -> Duration {
    let at_once = probe.definite.contains(&Class::Timeout);
    let more = if at_once { 0 } else { probe.failures.saturating_sub(1) };
    let again = probe.retry_interval.saturating_add(probe.timeout).saturating_mul(more);
    probe.interval.saturating_add(probe.timeout).saturating_add(again)
}

/// The longest time until somebody notices that a service hangs.
pub fn hang_noticed(service: &Service) -> Option<Duration> {
    let probes = service.probes.iter().filter(|it| it.role == Role::Liveness).map(detection);
    let heartbeat = service.heartbeat.as_ref().map(|it| it.unhealthy_after);
    probes.chain(heartbeat).min()
}

/// A way to fail again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the service does.
    pub what: String,
    /// How long each of its runs lasts.
    pub each: Duration,
}

/// The ways in which a service can fail for ever, those that are noticed.
pub fn ways(service: &Service) -> Vec<Way> {
    let way = |what: &str, each| Way { what: what.to_owned(), each };
    let mut ways = vec![way("crashes at once", Duration::ZERO)];
    let start = service.start_timeout;
    let waits = |it: &Probe| matches!(it.role, Role::Startup | Role::Liveness);
    if service.notify || service.heartbeat.is_some() || service.probes.iter().any(waits) {
        ways.push(way("never gets ready", start));
        ways.push(way("hangs from birth", start.saturating_add(service.stop_timeout)));
    }
    if let Some(noticed) = hang_noticed(service) {
        let what = format!("hangs once it is up (noticed within {})", duration::print(noticed));
        ways.push(Way { what, each: noticed });
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{OnCap, Policy};

    fn restart(delay: u64, factor: f64, max_delay: u64, cap: u32, window: u64) -> Restart {
        Restart {
            policy: Policy::Always,
            delay: Duration::from_secs(delay),
            max_delay: Duration::from_secs(max_delay),
            factor,
            jitter: 0.0,
            max_restarts: cap,
            window: Duration::from_secs(window),
            stable_after: Duration::from_secs(60),
            on_cap: OnCap::Retry,
            retry_after: Duration::from_secs(300),
            success_codes: Vec::new(),
            fatal_codes: Vec::new(),
        }
    }

    #[test]
    fn delays_grow_to_their_maximum() {
        let restart = restart(1, 2.0, 10, 5, 60);
        let delays: Vec<u64> = (1..=6).map(|n| delay(&restart, n).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        assert_eq!(delay(&restart, u32::MAX).as_secs(), 10);
    }

    #[test]
    fn the_time_to_the_cap_is_the_sum() {
        let growing = restart(1, 2.0, 10, 6, 60);
        assert_eq!(time_to_cap(&growing, Duration::ZERO), Some(Duration::from_secs(35)));
        assert_eq!(time_to_cap(&growing, Duration::from_secs(5)), Some(Duration::from_secs(65)));
        assert_eq!(time_to_cap(&restart(1, 2.0, 10, 0, 60), Duration::ZERO), None);
        let many = time_to_cap(&restart(1, 1.0, 10, 1_000_000, 60), Duration::ZERO);
        assert_eq!(many, Some(Duration::from_secs(1_000_000)));
    }

    #[test]
    fn five_restarts_in_ten_seconds_with_ten_seconds_between_are_never_reached() {
        let never = restart(10, 2.0, 10, 5, 10);
        assert!(!is_reached(&never, Duration::ZERO));
        assert_eq!(most_reachable(&never), 0);
        assert_eq!(most_reachable(&restart(10, 1.0, 10, 5, 35)), 3);
        assert!(is_reached(&restart(10, 1.0, 10, 3, 35), Duration::ZERO));
    }
}
