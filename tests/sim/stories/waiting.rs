//! What a service needs answers before it is started: the first time, and before every restart.

use std::time::Duration;

use keepup::core::event::Event;
use keepup::plan::{Class, Service};

use crate::plans::{ms, need, oneshot, s, service};
use crate::script::{exits, miss_of, pass, pass_in, refused, restart, silence, start, stop, well};
use crate::world::Sim;

const DB: &str = "tcp:db:5432";
const QUEUE: &str = "tcp:queue:5672";

fn needs(name: &str, written: &[&str]) -> Service {
    service(name, |it| it.wait_for = written.iter().map(|it| need(it)).collect())
}

#[test]
fn a_service_starts_as_soon_as_what_it_needs_answers() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    sim.needs(DB, vec![(s(0), refused()), (s(3), pass())]).run_until(s(60));
    // Told once, and asked once a second.
    sim.says(
        "0.010 api waits for tcp:db:5432: connection refused
         3.040 api starting run 1
         3.040 api up, pid 101
         3.040 api ready after 0ms",
    );
}

#[test]
fn another_reason_is_told_again() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    let unknown = miss_of(Class::Dns, "cannot find db: no such host");
    sim.needs(DB, vec![(s(0), unknown), (s(10), refused()), (s(20), pass())]);
    sim.run_until(s(60));
    sim.says_of(
        &["waits", "starting"],
        "0.010 api waits for tcp:db:5432: cannot find db: no such host
         10.110 api waits for tcp:db:5432: connection refused
         20.210 api starting run 1",
    );
}

#[test]
fn everything_that_it_needs_must_answer() {
    let mut sim = Sim::new([(needs("api", &[DB, QUEUE]), vec![well()])]);
    sim.needs(DB, vec![(s(0), pass()), (s(1), refused())]);
    sim.needs(QUEUE, vec![(s(0), refused()), (s(5), pass())]).run_until(s(60));
    sim.says_of(
        &["waits", "starting"],
        "0.010 api waits for tcp:queue:5672: connection refused
         5.060 api starting run 1",
    );
}

#[test]
fn what_does_not_answer_at_all_is_asked_again() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    sim.needs(DB, vec![(s(0), silence()), (s(6), pass_in(s(2)))]).run_until(s(60));
    sim.says_of(
        &["waits", "starting"],
        "5.000 api waits for tcp:db:5432: no answer within 5s
         8.000 api starting run 1",
    );
}

#[test]
fn no_restart_is_used_up_while_a_database_is_away() {
    // A crash a minute would reach the cap of two; the hour in which it waits costs nothing.
    let api = service("api", |it| {
        it.wait_for = vec![need(DB)];
        it.restart.max_restarts = 2;
        it.restart.window = s(3600);
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 1), exits(s(1), 1), well()])]);
    let away = s(3_000);
    sim.needs(DB, vec![(s(0), pass()), (ms(1_100), refused()), (away, pass())]);
    sim.run_until(s(2_000));
    sim.says(
        "0.010 api starting run 1
         0.010 api up, pid 101
         0.010 api ready after 0ms
         1.010 api ended after 1s: exit code 1
         1.010 api restart in 500ms (failure 1 in a row)
         1.520 api waits for tcp:db:5432: connection refused",
    );
    let api = sim.core.service("api").unwrap();
    assert_eq!((api.restarts, api.run), (0, 1));
    assert_eq!(api.budget.recent(&api.plan.restart, sim.now).count(), 0);
    sim.run_until(s(3_500));
    let api = sim.core.service("api").unwrap();
    assert_eq!((api.restarts, api.run), (2, 3));
    sim.says_of(&["given"], "");
}

#[test]
fn an_attempt_after_the_cap_waits_too() {
    let api = service("api", |it| {
        it.wait_for = vec![need(DB)];
        it.restart.max_restarts = 1;
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.needs(DB, vec![(s(0), pass()), (s(10), refused())]).run_until(s(1_000));
    sim.says_of(
        &["starting", "given", "waits"],
        "0.010 api starting run 1
         1.520 api starting run 2
         2.520 api given up for now: 1 restart within 30m did not help; the last run: exit code 1; next attempt in 5m
         302.530 api waits for tcp:db:5432: connection refused",
    );
}

#[test]
fn a_oneshot_that_needs_something_holds_up_those_after_it() {
    let migrate = oneshot("migrate", |it| it.wait_for = vec![need(DB)]);
    let api = service("api", |it| it.after = vec!["migrate".into()]);
    let mut sim = Sim::new([(migrate, vec![exits(s(1), 0)]), (api, vec![well()])]);
    sim.needs(DB, vec![(s(0), refused()), (s(2), pass())]).run_until(s(60));
    sim.says_of(
        &["starting", "waits"],
        "0.010 migrate waits for tcp:db:5432: connection refused
         2.030 migrate starting run 1
         3.030 api starting run 1",
    );
}

#[test]
fn nobody_is_asked_before_those_that_come_first_have_started() {
    let api = service("api", |it| {
        it.after = vec!["db".into()];
        it.wait_for = vec![need(DB)];
    });
    let slow = crate::script::Run { spawn_takes: s(2), ..well() };
    let db = service("db", |_| {});
    let mut sim = Sim::new([(db, vec![slow]), (api, vec![well()])]);
    sim.needs(DB, vec![(s(0), refused()), (s(2), pass())]).run_until(s(60));
    sim.says_of(
        &["starting", "waits"],
        "0.000 db starting run 1
         2.010 api starting run 1",
    );
}

#[test]
fn an_operator_stops_one_that_waits_and_starts_it_again() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    sim.needs(DB, vec![(s(0), refused()), (s(6), pass())]);
    sim.at(s(2), stop("api")).at(s(4), start("api")).run_until(s(60));
    sim.says_of(
        &["waits", "down", "starting"],
        "0.010 api waits for tcp:db:5432: connection refused
         2.000 api down
         4.010 api waits for tcp:db:5432: connection refused
         6.030 api starting run 1, asked by uid 1000",
    );
}

#[test]
fn an_operators_restart_waits_too_and_counts_as_asked_for() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    sim.needs(DB, vec![(s(0), pass()), (s(1), refused()), (s(5), pass())]);
    sim.at(s(1), restart("api")).run_until(s(60));
    sim.says_of(
        &["waits", "starting"],
        "0.010 api starting run 1
         1.110 api waits for tcp:db:5432: connection refused
         5.150 api starting run 2, asked by uid 1000",
    );
    assert_eq!(sim.core.service("api").unwrap().restarts, 0);
}

#[test]
fn an_operators_start_of_one_that_waits_for_its_restart_clears_the_slate() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![exits(s(1), 1), well()])]);
    sim.needs(DB, vec![(s(0), pass()), (s(1), refused()), (s(8), pass())]);
    sim.at(s(5), start("api")).run_until(s(60));
    sim.says_of(
        &["waits", "starting"],
        "0.010 api starting run 1
         1.520 api waits for tcp:db:5432: connection refused
         5.010 api waits for tcp:db:5432: connection refused
         8.040 api starting run 2, asked by uid 1000",
    );
    assert_eq!(sim.core.service("api").unwrap().restarts, 0);
}

#[test]
fn keepup_ends_at_once_while_a_service_waits() {
    let mut sim = Sim::new([(needs("api", &[DB]), vec![well()])]);
    sim.needs(DB, vec![(Duration::ZERO, silence())]).at(s(2), Event::Shutdown).run_until(s(60));
    sim.says("2.000 exit 0");
}
