//! From up to started and ready.

use keepup::plan::{Class, Role};

use crate::plans::{liveness, ms, probe, s, service};
use crate::script::{Run, answers, miss, miss_of, pass, refused, silence, well};
use crate::world::Sim;

#[test]
fn a_service_without_probes_is_ready_once_it_is_up() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![well()])]);
    sim.run_until(s(1));
    assert!(sim.ready("api"));
    assert_eq!(sim.core.deadline(), None, "nothing wakes keepup up without a need");
}

#[test]
fn a_service_is_asked_at_once_and_then_every_second_until_it_has_started() {
    let api = service("api", |it| it.probes.push(liveness()));
    let mut sim = Sim::new([(api, vec![answers([(s(0), refused()), (s(3), pass())])])]);
    sim.effects = Some(String::new());
    sim.run_until(s(25));
    let effects = sim.effects.take().unwrap();
    let asked = effects.lines().filter(|it| it.contains("Probe"));
    let asked: Vec<&str> = asked.map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(asked, ["0.000", "1.010", "2.020", "3.030", "13.040", "23.050"]);
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api liveness not yet: connection refused
         3.040 api healthy
         3.040 api ready after 3s",
    );
}

#[test]
fn a_short_interval_holds_while_starting_too() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.interval = ms(200)));
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), refused()), (ms(400), pass())])])]);
    sim.run_until(s(1));
    sim.says_of(&["ready"], "0.430 api ready after 430ms");
}

#[test]
fn misses_while_starting_are_told_once_each_and_not_counted() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.definite = vec![Class::Refused]));
    });
    let runs = answers([(s(0), refused()), (s(5), miss("503")), (s(10), pass())]);
    let mut sim = Sim::new([(api, vec![runs])]);
    sim.run_until(s(15));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api liveness not yet: connection refused
         5.060 api liveness not yet: 503
         10.110 api healthy
         10.110 api ready after 10.1s",
    );
}

#[test]
fn a_service_that_does_not_start_in_time_ends_as_never_ready() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.start_timeout = s(20);
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), refused())]), well()])]);
    sim.run_until(s(25));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api liveness not yet: connection refused
         20.000 api unhealthy: not started within 20s: liveness tcp liveness:80: connection refused
         20.000 api stopping (never ready: not started within 20s: liveness tcp liveness:80: connection refused): sent SIGTERM, KILL follows in 8s
         20.100 api ended after 20s: never ready: not started within 20s: liveness tcp liveness:80: connection refused (killed by SIGTERM)
         20.100 api restart in 500ms (failure 1 in a row)
         20.600 api starting run 2
         20.600 api up, pid 102
         20.610 api healthy
         20.610 api ready after 10ms",
    );
}

#[test]
fn a_service_that_never_answers_ends_as_never_ready_and_says_so() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.start_timeout = s(3);
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), silence())])])]);
    sim.run_until(s(3));
    sim.says_of(
        &["unhealthy:"],
        "3.000 api unhealthy: not started within 3s: liveness tcp liveness:80: no answer yet",
    );
}

#[test]
fn an_answer_in_time_beats_the_limit_that_falls_due_with_it() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.start_timeout = ms(10);
    });
    let mut sim = Sim::new([(api, vec![well()])]);
    sim.run_until(s(5));
    sim.says_of(&["healthy", "stopping"], "0.010 api healthy");
}

#[test]
fn start_timeout_bounds_starting_and_nothing_else() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Readiness, |_| {}));
        it.start_timeout = s(5);
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), miss("no database"))])])]);
    sim.run_until(s(3600));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api healthy
         0.010 api readiness missed 1/3: no database
         3.020 api readiness missed 2/3: no database
         6.030 api readiness missed 3/3: no database
         6.030 api degraded: readiness fails: no database",
    );
}

#[test]
fn the_others_wait_until_startup_has_passed_and_startup_is_not_asked_again() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Startup, |_| {}));
        it.probes.push(liveness());
        it.probes.push(probe(Role::Readiness, |_| {}));
        it.probes.push(probe(Role::Warning, |it| it.initial_delay = s(15)));
    });
    let startup =
        vec![(s(0), miss("migrating")), (s(2), pass()), (s(4), miss("it is asked again"))];
    let mut sim = Sim::new([(api, vec![Run { replies: vec![startup], ..well() }])]);
    sim.effects = Some(String::new());
    sim.run_until(s(20));
    let effects = sim.effects.take().unwrap();
    let asked = effects.lines().filter(|it| it.contains("Probe"));
    let asked: Vec<(&str, &str)> = asked
        .map(|it| {
            (
                it.split(' ').next().unwrap(),
                it.split("probe: ").nth(1).unwrap().split(',').next().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("0.000", "0"),
        ("1.010", "0"),
        ("2.020", "0"),
        ("2.030", "1"),
        ("2.030", "2"),
        // The first time only a part of the interval, so that they do not keep step.
        ("5.859", "2"),
        ("12.040", "1"),
        ("15.000", "3"),
        ("15.869", "2"),
    ];
    assert_eq!(asked, expected);
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api startup not yet: migrating
         2.030 api healthy
         2.040 api ready after 2s",
    );
}

#[test]
fn all_startup_probes_must_pass() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Startup, |_| {}));
        it.probes.push(probe(Role::Startup, |_| {}));
    });
    let late = vec![(s(0), miss("not yet")), (s(4), pass())];
    let mut sim = Sim::new([(api, vec![Run { replies: vec![Vec::new(), late], ..well() }])]);
    sim.run_until(s(10));
    sim.says_of(&["ready"], "4.050 api ready after 4s");
}

#[test]
fn a_startup_probe_that_never_passes_is_named() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Startup, |_| {}));
        it.probes.push(liveness());
        it.start_timeout = s(5);
    });
    let mut sim = Sim::new([(api, vec![answers([(s(0), miss("migrating"))])])]);
    sim.run_until(s(5));
    sim.says_of(
        &["unhealthy:"],
        "5.000 api unhealthy: not started within 5s: startup tcp startup:80: migrating",
    );
}

#[test]
fn a_probe_passes_after_enough_successes_in_a_row() {
    let api = service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.successes = 3)));
    let replies = [(s(0), pass()), (s(2), miss("flaps")), (s(3), pass())];
    let mut sim = Sim::new([(api, vec![answers(replies)])]);
    sim.run_until(s(10));
    // Asked at 0, 1.010, 2.020 (a miss), 3.030, 4.040, 5.050.
    sim.says_of(
        &["not yet", "ready"],
        "2.030 api liveness not yet: flaps
         5.060 api ready after 5s",
    );
}

#[test]
fn the_first_question_waits_for_initial_delay() {
    let api =
        service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.initial_delay = s(7))));
    let mut sim = Sim::new([(api, vec![answers([(s(0), refused()), (s(6), pass())])])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         7.010 api healthy
         7.010 api ready after 7s",
    );
}

#[test]
fn a_question_without_an_answer_is_a_miss_while_starting_too() {
    let api = service("api", |it| it.probes.push(liveness()));
    let mut sim = Sim::new([(api, vec![answers([(s(0), silence()), (s(5), pass())])])]);
    sim.run_until(s(10));
    sim.says_of(
        &["liveness", "ready"],
        "5.000 api liveness not yet: timed out after 5s
         6.010 api ready after 6s",
    );
}

#[test]
fn a_crash_while_starting_is_a_crash() {
    let api = service("api", |it| it.probes.push(liveness()));
    let dies = Run {
        exits: Some((s(2), keepup::core::event::Exit::Code(3))),
        ..answers([(s(0), miss_of(Class::Dns, "no such host"))])
    };
    let mut sim = Sim::new([(api, vec![dies])]);
    sim.run_until(ms(2_100));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.010 api liveness not yet: no such host
         2.000 api ended after 2s: exit code 3
         2.000 api restart in 500ms (failure 1 in a row)",
    );
}
