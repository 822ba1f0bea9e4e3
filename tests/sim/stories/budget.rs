//! How long to wait before a restart, and when there were too many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepup::core::event::Time;
use keepup::core::{State, restart::delay};
use keepup::plan::Role;

use crate::plans::{liveness, ms, plan, probe, s, service};
use crate::script::{Run, answers, exits, miss, pass, start, stop, well};
use crate::world::Sim;

#[test]
fn the_delay_doubles_up_to_its_ceiling() {
    let api = service("api", |it| it.restart.max_delay = s(4));
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.run_until(s(20));
    sim.says_of(
        &["restart in"],
        "1.000 api restart in 500ms (failure 1 in a row)
         2.500 api restart in 1s (failure 2 in a row)
         4.500 api restart in 2s (failure 3 in a row)
         7.500 api restart in 4s (failure 4 in a row)
         12.500 api restart in 4s (failure 5 in a row)
         17.500 api restart in 4s (failure 6 in a row)",
    );
}

#[test]
fn the_delay_grows_by_its_factor() {
    let api = service("api", |it| it.restart.factor = 3.0);
    assert_eq!(delay(&api.restart, 1), ms(500));
    assert_eq!(delay(&api.restart, 2), ms(1_500));
    assert_eq!(delay(&api.restart, 3), ms(4_500));
    assert_eq!(delay(&api.restart, u32::MAX), s(60));
    let api = service("api", |it| it.restart.factor = 1.0);
    assert_eq!(delay(&api.restart, 1_000_000), ms(500));
}

#[test]
fn the_delay_is_made_longer_by_chance_within_its_jitter() {
    let first_delay = |seed: u64| -> Duration {
        let api = service("api", |it| it.restart.jitter = 0.1);
        let mut sim = Sim::of(plan(vec![api]), vec![vec![exits(s(1), 1)]], seed, &BTreeMap::new());
        sim.run_until(s(1));
        let State::Backoff { until } = sim.state("api") else { panic!("{}", sim.trace) };
        *until - Time(s(1))
    };
    let delays: BTreeSet<Duration> = (0..100).map(first_delay).collect();
    assert!(delays.len() > 90, "chance repeats itself");
    assert!(delays.iter().all(|it| (ms(500)..=ms(550)).contains(it)), "{delays:?}");
    assert!(delays.first().unwrap() < &ms(510) && &ms(540) < delays.last().unwrap());
    assert_eq!(first_delay(7), first_delay(7));
}

#[test]
fn a_crash_every_61_seconds_reaches_the_cap_although_the_row_is_cleared_each_time() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![exits(s(61), 1)])]);
    sim.run_until(s(130));
    sim.says_of(
        &["restart in"],
        "61.000 api restart in 500ms (failure 1 in a row)
         122.500 api restart in 500ms (failure 1 in a row)",
    );
    sim.run_until(s(700));
    sim.says_of(
        &["given up"],
        "676.000 api given up for now: 10 restarts within 30m did not help; the last run: exit code 1; next attempt in 5m",
    );
}

#[test]
fn the_window_slides() {
    let api = service("api", |it| {
        it.restart.factor = 1.0;
        it.restart.max_restarts = 2;
        it.restart.window = s(10);
    });
    let mut sim = Sim::new([(api.clone(), vec![exits(s(6), 1)])]);
    sim.run_until(s(100));
    sim.says_of(&["given up"], "");
    // A little faster, and there are two within ten seconds when the third falls due.
    let mut sim = Sim::new([(api, vec![exits(s(4), 1)])]);
    sim.run_until(s(100));
    sim.says_of(
        &["given up", "restart in"],
        "4.000 api restart in 500ms (failure 1 in a row)
         8.500 api restart in 500ms (failure 2 in a row)
         13.000 api given up for now: 2 restarts within 10s did not help; the last run: exit code 1; next attempt in 5m",
    );
}

#[test]
fn without_a_cap_it_is_restarted_for_ever() {
    let api = service("api", |it| it.restart.max_restarts = 0);
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.run_until(s(24 * 3600));
    sim.says_of(&["given up"], "");
    assert!(sim.core.service("api").unwrap().restarts > 1_400);
}

#[test]
fn a_stable_run_clears_the_row_of_failures() {
    let runs = vec![exits(s(1), 1), exits(s(1), 1), exits(ms(59_999), 1), exits(s(60), 1)];
    let mut sim = Sim::new([(service("api", |_| {}), runs)]);
    sim.run_until(s(130));
    sim.says_of(
        &["restart in"],
        "1.000 api restart in 500ms (failure 1 in a row)
         2.500 api restart in 1s (failure 2 in a row)
         63.499 api restart in 2s (failure 3 in a row)
         125.499 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn a_run_is_stable_from_when_it_started_on() {
    let api = service("api", |it| it.probes.push(liveness()));
    // It is up for 65 seconds, and started for 59 of them.
    let late = Run {
        exits: Some((s(65), keepup::core::event::Exit::Code(1))),
        ..answers([(s(0), miss("not yet")), (s(6), pass())])
    };
    let mut sim = Sim::new([(api, vec![exits(s(1), 1), late])]);
    sim.run_until(s(70));
    sim.says_of(
        &["restart in"],
        "1.000 api restart in 500ms (failure 1 in a row)
         66.500 api restart in 1s (failure 2 in a row)",
    );
}

#[test]
fn a_degraded_run_is_stable_too() {
    let api = service("api", |it| it.probes.push(probe(Role::Warning, |_| {})));
    let degraded = Run {
        exits: Some((s(65), keepup::core::event::Exit::Code(1))),
        ..answers([(s(0), miss("disk nearly full"))])
    };
    let mut sim = Sim::new([(api, vec![exits(s(1), 1), degraded])]);
    sim.run_until(s(67));
    sim.says_of(
        &["restart in", "degraded"],
        "1.000 api restart in 500ms (failure 1 in a row)
         1.510 api degraded: warning missed: disk nearly full
         66.500 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn an_operators_start_clears_row_and_window() {
    let api = service("api", |it| {
        it.restart.max_restarts = 2;
        it.restart.delay = s(1);
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    // In its last backoff before the cap.
    sim.at(ms(4_000), start("api")).run_until(s(12));
    sim.says_of(
        &["starting", "restart in", "given up"],
        "0.000 api starting run 1
         1.000 api restart in 1s (failure 1 in a row)
         2.000 api starting run 2
         3.000 api restart in 2s (failure 2 in a row)
         4.000 api starting run 3, asked by uid 1000
         5.000 api restart in 1s (failure 1 in a row)
         6.000 api starting run 4
         7.000 api restart in 2s (failure 2 in a row)
         9.000 api starting run 5
         10.000 api given up for now: 2 restarts within 30m did not help; the last run: exit code 1; next attempt in 5m",
    );
}

#[test]
fn an_operators_start_brings_back_what_was_given_up() {
    let api = service("api", crate::plans::on_failure_at_most(1));
    let runs = vec![exits(s(1), 1), exits(s(1), 1), well()];
    let mut sim = Sim::new([(api, runs), (service("other", |_| {}), vec![well()])]);
    sim.at(s(10), start("api")).run_until(s(20));
    sim.says_of(
        &["api starting", "given up"],
        "0.000 api starting run 1
         1.500 api starting run 2
         2.500 api given up: 1 restart within 30m did not help; the last run: exit code 1
         10.000 api starting run 3, asked by uid 1000",
    );
    assert!(sim.core.service("api").unwrap().gave_up.is_none());
}

#[test]
fn a_failed_spawn_is_an_end_like_any_other() {
    let gone = || crate::script::unspawnable("cannot find `api` in PATH");
    let mut sim = Sim::new([(service("api", |_| {}), vec![gone(), gone(), well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api ended after 0ms: cannot find `api` in PATH
         0.000 api restart in 500ms (failure 1 in a row)
         0.500 api starting run 2
         0.500 api ended after 0ms: cannot find `api` in PATH
         0.500 api restart in 1s (failure 2 in a row)
         1.500 api starting run 3
         1.500 api up, pid 101
         1.500 api ready after 0ms",
    );
}

#[test]
fn what_a_stopped_service_used_up_is_forgotten_with_its_next_start() {
    let api = service("api", |it| it.restart.max_restarts = 1);
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.at(s(2), stop("api")).at(s(5), start("api")).run_until(s(7));
    sim.says_of(
        &["restart in", "given up"],
        "1.000 api restart in 500ms (failure 1 in a row)
         6.000 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn uptime_is_counted_of_the_time_in_which_it_was_to_be_up() {
    let api = service("api", |it| {
        it.restart.delay = s(10);
        it.restart.factor = 1.0;
    });
    let mut sim = Sim::new([(api, vec![exits(s(90), 1)])]);
    let percent = |sim: &Sim| {
        let api = sim.core.service("api").unwrap();
        api.uptime.percent(sim.now).map(|it| (it * 10.0).round() / 10.0)
    };
    assert_eq!(percent(&sim), None, "it was not to be up yet");
    sim.run_until(s(90));
    assert_eq!(percent(&sim), Some(100.0));
    sim.run_until(s(100));
    assert_eq!(percent(&sim), Some(90.0));
    // What an operator wants down is not down.
    sim.at(s(140), stop("api")).run_until(s(1_000));
    assert_eq!(percent(&sim), Some(92.9), "130 of 140 seconds");
    // Only the last day counts.
    sim.at(s(1_000), start("api")).run_until(s(1_050));
    assert_eq!(percent(&sim), Some(94.7), "180 of 190 seconds");
    sim.at(s(1_060), stop("api")).run_until(s(2 * 24 * 3600));
    assert_eq!(percent(&sim), None);
}
