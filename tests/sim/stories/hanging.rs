//! Runs that hang: looked at, asked where they hang, and stopped in time all the same.

use std::time::Duration;

use keepup::core::event::{Event, Exit, Time};
use keepup::plan::{Role, Service, Signal};

use crate::plans::{ms, probe, s, service};
use crate::script::{Run, answers, ignores_term, miss, pass, restart, silence, stop, well};
use crate::world::Sim;

/// It answers until it hangs, at 500 ms, and misses twice then: found to hang at 3.51 s.
fn hangs(change: impl FnOnce(&mut Service)) -> Service {
    service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| {
            (it.interval, it.retry_interval, it.timeout) = (s(2), ms(500), ms(500));
            it.failures = 2;
        }));
        change(it);
    })
}

fn hung(change: impl FnOnce(&mut Run)) -> Run {
    let mut run = answers([(s(0), pass()), (ms(500), silence())]);
    change(&mut run);
    run
}

const WHAT_WAS_SEEN: [&str; 4] = ["unhealthy", "stopping", "killing", "ended"];

#[test]
fn a_hung_run_is_looked_at_before_it_is_stopped_and_the_look_has_a_limit() {
    let seen_in = |takes: Option<Duration>| {
        let api = hangs(|it| it.evidence_timeout = s(2));
        let mut sim = Sim::new([(api, vec![hung(|it| it.examined = takes), well()])]);
        sim.run_until(s(10));
        sim
    };
    seen_in(Some(ms(300))).says_of(
        &WHAT_WAS_SEEN,
        "3.510 api unhealthy: tcp liveness:80: timed out after 500ms
         3.810 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s
         3.910 api ended after 3.5s: unhealthy: tcp liveness:80: timed out after 500ms (killed by SIGTERM)",
    );
    // The kernel does not answer at all.
    seen_in(None).says_of(
        &["stopping", "ended"],
        "5.510 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s
         5.610 api ended after 3.5s: unhealthy: tcp liveness:80: timed out after 500ms (killed by SIGTERM)",
    );
}

#[test]
fn a_hung_run_is_asked_where_it_hangs_and_may_die_of_it() {
    let asks = || hangs(|it| it.hang_signal = Some(Signal::ABRT));
    let aborted = Exit::Signal { signal: Signal::ABRT, core_dumped: true };
    let dies = hung(|it| it.confesses = Some((ms(200), aborted)));
    let mut sim = Sim::new([(asks(), vec![dies, well()])]);
    sim.run_until(s(10));
    sim.says_of(
        &["stopping", "ended"],
        "3.510 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGABRT, SIGTERM follows in 1s
         3.710 api ended after 3.5s: unhealthy: tcp liveness:80: timed out after 500ms (killed by SIGABRT (core dumped))",
    );
    let speaks = hung(|it| it.obeys = None);
    let mut sim = Sim::new([(asks(), vec![speaks, well()])]);
    sim.run_until(s(14));
    sim.says_of(
        &["stopping", "killing", "ended"],
        "3.510 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGABRT, SIGTERM follows in 1s
         4.510 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s
         12.510 api killing: it did not stop in time
         12.560 api ended after 3.5s: unhealthy: tcp liveness:80: timed out after 500ms (killed by SIGKILL)",
    );
}

#[test]
fn whoever_stops_a_hung_run_does_not_wait_for_a_look_at_it() {
    for event in [stop("api"), restart("api"), Event::Shutdown] {
        // While it is looked at, and while it has time to say where it hangs.
        for (examined, at) in [(None, ms(4_000)), (Some(s(0)), ms(4_100))] {
            let api = hangs(|it| {
                it.hang_signal = Some(Signal::ABRT);
                it.evidence_timeout = s(2);
            });
            let mut sim = Sim::new([(api, vec![hung(|it| it.examined = examined), well()])]);
            sim.run_until(ms(3_900));
            sim.forget();
            sim.at(at, event.clone()).run_until(s(5));
            let sent = format!(
                "{} api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s",
                Time(at)
            );
            sim.says_of(&["stopping"], &sent);
        }
    }
}

#[test]
fn a_second_shutdown_kills_from_any_phase() {
    for (examined, at) in [(None, ms(3_600)), (Some(s(0)), ms(3_600))] {
        let api = hangs(|it| it.hang_signal = Some(Signal::ABRT));
        let mut sim = Sim::new([(api, vec![hung(|it| it.examined = examined)])]);
        sim.at(at, Event::Shutdown).at(at, Event::Shutdown).run_until(s(5));
        sim.says_of(
            &["killing", "exit"],
            "3.600 api killing: keepup is ending
             3.650 exit 0",
        );
    }
}

#[test]
fn a_hung_run_that_dies_while_it_is_looked_at_is_over() {
    let api = hangs(|it| it.hang_signal = Some(Signal::ABRT));
    let mut sim = Sim::new([(api, vec![hung(|it| it.examined = Some(ms(900))), well()])]);
    sim.run_until(s(4));
    sim.forget();
    sim.crash("api", Exit::Code(1));
    sim.run_until(ms(4_450));
    sim.says(
        "4.000 api ended after 3.5s: unhealthy: tcp liveness:80: timed out after 500ms (exit code 1)
         4.000 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn what_is_stopped_for_another_reason_is_not_looked_at() {
    let api = hangs(|it| it.hang_signal = Some(Signal::ABRT));
    for event in [stop("api"), restart("api"), Event::Shutdown] {
        let mut sim = Sim::new([(api.clone(), vec![well()])]);
        sim.effects = Some(String::new());
        sim.at(s(1), event).run_until(s(2));
        let effects = sim.effects.unwrap();
        assert!(!effects.contains("Examine") && !effects.contains("Signal(6)"), "{effects}");
        assert!(effects.contains("Signal(15)"), "{effects}");
    }
    // A run that is found to hang while keepup ends is stopped like the others.
    let late = service("late", |it| it.after = vec!["api".into()]);
    let mut fails = answers([(s(0), pass()), (ms(500), miss("503"))]);
    fails.examined = None;
    let mut sim = Sim::new([(api, vec![fails]), (late, vec![ignores_term()])]);
    sim.at(s(2), Event::Shutdown).run_until(s(4));
    sim.says_of(
        &["api unhealthy", "api stopping"],
        "2.530 api unhealthy: tcp liveness:80: 503
         2.530 api stopping (unhealthy: tcp liveness:80: 503): sent SIGTERM, KILL follows in 8s",
    );
}

#[test]
fn a_look_at_an_earlier_run_says_nothing_of_the_next() {
    let api = hangs(|it| {
        it.restart.delay = ms(100);
        it.evidence_timeout = ms(200);
    });
    // The first look comes back at 6.31 s, while the second run is looked at.
    let first = hung(|it| it.examined = Some(ms(2_800)));
    let second = hung(|it| it.examined = None);
    let mut sim = Sim::new([(api, vec![first, second])]);
    sim.run_until(s(9));
    sim.says_of(
        &["api unhealthy", "api stopping"],
        "3.510 api unhealthy: tcp liveness:80: timed out after 500ms
         3.710 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s
         6.183 api unhealthy: tcp liveness:80: timed out after 500ms
         6.383 api stopping (unhealthy: tcp liveness:80: timed out after 500ms): sent SIGTERM, KILL follows in 8s",
    );
}
