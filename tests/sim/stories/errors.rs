//! Lines that show an error: too many within an hour degrade a service, and nothing else.

use keepup::core::State;
use keepup::core::event::Exit;
use keepup::plan::{Errors, Service};

use crate::plans::{errors, liveness, ms, s, service};
use crate::script::{Run, answers, erred, exits, miss, pass, well};
use crate::world::Sim;

const HOUR: u64 = 3600;

fn api() -> Service {
    service("api", |it| it.logs.errors = Some(errors(100)))
}

#[test]
fn too_many_error_lines_degrade_until_enough_of_them_are_an_hour_old() {
    let mut sim = Sim::new([(api(), vec![well()])]);
    sim.at(s(60), erred("api", 1, 60)).at(s(120), erred("api", 1, 40));
    sim.at(s(180), erred("api", 1, 1)).at(s(200), erred("api", 1, 5));
    sim.run_until(s(3 * HOUR));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         180.000 api degraded: more than 100 error lines within an hour
         3660.000 api healthy",
    );
}

#[test]
fn no_run_ends_for_its_errors_and_it_stays_ready() {
    let mut sim = Sim::new([(api(), vec![well()])]);
    for second in 1..=200 {
        sim.at(s(second), erred("api", 1, 1_000_000));
    }
    sim.run_until(s(300));
    assert!(matches!(sim.state("api"), State::Up { .. }) && sim.ready("api"));
    let health = sim.core.service("api").unwrap().health().unwrap();
    assert_eq!(health.errors(sim.now), 200_000_000);
}

#[test]
fn a_fresh_process_inherits_no_errors_and_a_late_count_is_not_its_own() {
    let mut sim = Sim::new([(api(), vec![exits(s(50), 1), well()])]);
    sim.at(s(10), erred("api", 1, 99)).at(s(52), erred("api", 1, 500));
    sim.at(s(60), erred("api", 2, 100)).at(s(70), erred("api", 2, 1));
    sim.run_until(s(80));
    sim.says_of(
        &["degraded", "healthy", "ended"],
        "50.000 api ended after 50s: exit code 1
         70.000 api degraded: more than 100 error lines within an hour",
    );
}

#[test]
fn a_service_that_is_degraded_already_is_not_told_twice() {
    let api = service("api", |it| {
        it.logs.errors = Some(errors(1));
        it.probes.push(liveness());
    });
    let run = answers([(s(0), pass()), (s(15), miss("503")), (s(22), pass())]);
    let mut sim = Sim::new([(api, vec![run])]);
    sim.at(ms(5), erred("api", 1, 2)).at(s(HOUR + 60), erred("api", 1, 1));
    sim.run_until(s(HOUR + 90));
    sim.says_of(
        &["degraded", "healthy"],
        "0.010 api degraded: more than 1 error lines within an hour
         3600.005 api healthy",
    );
}

#[test]
fn a_flood_in_its_last_moments_is_nobodys_concern() {
    let mut sim = Sim::new([(api(), vec![Run { gone_takes: Some(s(3)), ..well() }])]);
    sim.run_until(s(5));
    sim.crash("api", Exit::Code(1));
    sim.forget();
    sim.send(erred("api", 1, 1_000));
    sim.says("");
}

#[test]
fn without_a_limit_they_are_only_counted() {
    let api = service("api", |it| {
        it.logs.errors = Some(Errors { pattern: "ERROR".to_owned(), per_hour: None });
    });
    let mut sim = Sim::new([(api, vec![well()])]);
    sim.run_until(s(1)).forget();
    sim.send(erred("api", 1, 1_000_000));
    sim.run_until(s(2 * HOUR)).says("");
}
