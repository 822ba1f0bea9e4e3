//! What answers, and their absence, come to once a run has started.

use std::collections::BTreeMap;

use keepup::plan::{Class, Role, Service};

use crate::plans::{liveness, ms, plan, probe, s, service};
use crate::script::{Run, answers, miss, pass, pass_in, refused, silence, well};
use crate::world::Sim;

fn live() -> Service {
    service("api", |it| it.probes.push(liveness()))
}

#[test]
fn a_hung_service_is_restarted_after_three_misses_in_a_row() {
    let mut sim = Sim::new([(live(), vec![Run { hangs: Some(s(15)), ..well() }, well()])]);
    sim.run_until(s(45));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api healthy
         0.010 api ready after 10ms
         25.020 api liveness missed 1/3: timed out after 5s
         25.020 api degraded: liveness missed: timed out after 5s
         33.020 api liveness missed 2/3: timed out after 5s
         41.020 api liveness missed 3/3: timed out after 5s
         41.020 api unhealthy: tcp liveness:80: timed out after 5s
         41.020 api stopping (unhealthy: tcp liveness:80: timed out after 5s): sent SIGTERM, KILL follows in 8s
         41.120 api ended after 41s: unhealthy: tcp liveness:80: timed out after 5s (killed by SIGTERM)
         41.120 api restart in 500ms (failure 1 in a row)
         41.620 api starting run 2
         41.620 api up, pid 102
         41.630 api healthy
         41.630 api ready after 10ms",
    );
}

#[test]
fn one_good_answer_forgives_the_misses_before_it() {
    let replies = [
        (s(0), pass()),
        (s(5), miss("503")),
        (s(14), pass()),
        (s(20), miss("503")),
        (s(31), pass()),
    ];
    let mut sim = Sim::new([(live(), vec![answers(replies)])]);
    sim.run_until(s(60));
    // Asked at 0, 10.010, 13.020, 16.030 (a pass), 26.040, 29.050, 32.060 (a pass).
    sim.says_of(
        &["missed", "healthy", "stopping"],
        "0.010 api healthy
         10.020 api liveness missed 1/3: 503
         10.020 api degraded: liveness missed: 503
         13.030 api liveness missed 2/3: 503
         16.040 api healthy
         26.050 api liveness missed 1/3: 503
         26.050 api degraded: liveness missed: 503
         29.060 api liveness missed 2/3: 503
         32.070 api healthy",
    );
}

#[test]
fn a_definite_miss_fails_at_once() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.definite = vec![Class::Refused]));
    });
    let replies = [(s(0), pass()), (s(5), miss("503")), (s(12), refused())];
    let mut sim = Sim::new([(api, vec![answers(replies), well()])]);
    sim.run_until(s(20));
    sim.says_of(
        &["missed", "stopping"],
        "10.020 api liveness missed 1/3: 503
         10.020 api degraded: liveness missed: 503
         13.030 api liveness missed 3/3: connection refused
         13.030 api stopping (unhealthy: tcp liveness:80: connection refused): sent SIGTERM, KILL follows in 8s",
    );
}

#[test]
fn a_slow_answer_degrades_and_a_quick_one_heals() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.slow = Some(s(2))));
    });
    let replies = [(s(0), pass()), (s(5), pass_in(s(3))), (s(15), pass_in(s(2)))];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(60));
    sim.says_of(
        &["degraded", "healthy", "ready"],
        "0.010 api healthy
         0.010 api ready after 10ms
         13.010 api degraded: liveness answered after 3s, slow is 2s
         25.010 api healthy",
    );
}

#[test]
fn an_answer_that_comes_too_late_was_a_miss() {
    let late = pass_in(s(6));
    let replies = [(s(0), pass()), (s(5), late), (s(18), pass())];
    let mut sim = Sim::new([(live(), vec![answers(replies)])]);
    sim.run_until(s(30));
    // The answer comes at 16.010, when it is no longer waited for.
    sim.says_of(
        &["missed", "healthy"],
        "0.010 api healthy
         15.010 api liveness missed 1/3: timed out after 5s
         15.010 api degraded: liveness missed: timed out after 5s
         18.020 api healthy",
    );
}

#[test]
fn a_timeout_may_exceed_its_interval_and_still_one_question_is_asked_at_a_time() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| {
            it.interval = s(1);
            it.retry_interval = s(1);
            it.timeout = s(10);
        }));
    });
    let replies = [(s(0), pass_in(s(8))), (s(17), silence())];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(50));
    sim.says_of(
        &["healthy", "missed", "stopping"],
        "8.000 api healthy
         28.000 api liveness missed 1/3: timed out after 10s
         28.000 api degraded: liveness missed: timed out after 10s
         39.000 api liveness missed 2/3: timed out after 10s
         50.000 api liveness missed 3/3: timed out after 10s
         50.000 api unhealthy: tcp liveness:80: timed out after 10s
         50.000 api stopping (unhealthy: tcp liveness:80: timed out after 10s): sent SIGTERM, KILL follows in 8s",
    );
}

#[test]
fn failing_readiness_takes_ready_away_gives_it_back_and_never_restarts() {
    let api = service("api", |it| it.probes.push(probe(Role::Readiness, |_| {})));
    let replies = [(s(0), pass()), (s(5), miss("no database")), (s(3605), pass())];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(13));
    assert!(sim.ready("api"), "one miss is not enough");
    sim.run_until(s(17));
    assert!(!sim.ready("api"));
    sim.run_until(s(3600));
    assert!(!sim.ready("api"));
    sim.run_until(s(3700));
    assert!(sim.ready("api"));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api healthy
         0.010 api ready after 10ms
         10.020 api readiness missed 1/3: no database
         10.020 api degraded: readiness missed: no database
         13.030 api readiness missed 2/3: no database
         16.040 api readiness missed 3/3: no database
         3606.970 api healthy
         3606.970 api ready after 1h",
    );
}

#[test]
fn readiness_comes_back_after_enough_successes() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Readiness, |it| {
            it.failures = 1;
            it.successes = 2;
        }));
    });
    let replies = [(s(0), pass()), (s(15), miss("no database")), (s(21), pass())];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(60));
    // Asked at 0, 10.010 (two passes), 20.020 (a miss), 23.030, 33.040.
    sim.says_of(
        &["ready after", "degraded", "healthy"],
        "0.000 api healthy
         10.020 api ready after 10s
         20.030 api degraded: readiness fails: no database
         33.050 api healthy
         33.050 api ready after 33s",
    );
}

#[test]
fn a_warning_only_degrades() {
    let api = service("api", |it| it.probes.push(probe(Role::Warning, |_| {})));
    let replies = [(s(0), pass()), (s(5), miss("backup is old")), (s(605), pass())];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(600));
    assert!(sim.ready("api"));
    sim.run_until(s(700));
    sim.says_of(
        &["ready", "degraded", "healthy", "stopping"],
        "0.000 api healthy
         0.000 api ready after 0ms
         10.020 api degraded: warning missed: backup is old
         606.000 api healthy",
    );
}

#[test]
fn one_of_several_liveness_probes_is_enough_to_fail() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.probes.push(probe(Role::Liveness, |it| it.failures = 1));
    });
    let second = vec![(s(0), pass()), (s(5), miss("worker is gone"))];
    let run = Run { replies: vec![Vec::new(), second], ..well() };
    let mut sim = Sim::new([(api, vec![run, well()])]);
    sim.run_until(s(14));
    sim.says_of(
        &["missed", "stopping"],
        "13.849 api liveness missed 1/1: worker is gone
         13.849 api stopping (unhealthy: tcp liveness:80: worker is gone): sent SIGTERM, KILL follows in 8s",
    );
}

#[test]
fn many_services_that_start_together_are_not_asked_in_step() {
    const COUNT: usize = 20;
    let services: Vec<Service> = (0..COUNT)
        .map(|nth| service(&format!("s{nth}"), |it| it.probes.push(liveness())))
        .collect();
    let runs = vec![vec![well()]; COUNT];
    let mut sim = Sim::of(plan(services), runs, 0, &BTreeMap::new());
    sim.effects = Some(String::new());
    sim.run_until(s(30));
    let effects = sim.effects.take().unwrap();
    let asked = |from: f64, to: f64| -> Vec<f64> {
        let lines = effects.lines().filter(|it| it.contains("Probe"));
        let times = lines.map(|it| it.split(' ').next().unwrap().parse::<f64>().unwrap());
        times.filter(|at| (from..to).contains(at)).collect()
    };
    assert_eq!(asked(0.0, 0.001).len(), COUNT, "each is asked at once when it starts");
    assert_eq!(asked(0.001, 10.011).len(), COUNT, "and again after its interval at the latest");
    let steady = asked(20.0, 30.0);
    let even = 10.0 / f64::from(u32::try_from(steady.len()).unwrap());
    for pair in steady.windows(2) {
        let gap = (pair[1] - pair[0]) / even;
        assert!((0.3..2.0).contains(&gap), "{gap} of an even gap: {steady:?}");
    }
}

#[test]
fn a_short_retry_interval_confirms_a_hang_fast() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| {
            it.interval = s(60);
            it.retry_interval = ms(100);
        }));
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), pass()), (s(1), refused())])])]);
    sim.run_until(s(61));
    sim.says_of(
        &["missed", "stopping"],
        "60.020 api liveness missed 1/3: connection refused
         60.020 api degraded: liveness missed: connection refused
         60.130 api liveness missed 2/3: connection refused
         60.240 api liveness missed 3/3: connection refused
         60.240 api stopping (unhealthy: tcp liveness:80: connection refused): sent SIGTERM, KILL follows in 8s",
    );
}
