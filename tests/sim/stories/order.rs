//! Who starts after whom, who stops before whom, and when nothing is left to do.

use std::collections::BTreeMap;

use keepup::core::State;
use keepup::core::event::Event;
use keepup::plan::{Policy, Service};

use crate::plans::{liveness, on_failure_at_most, oneshot, s, service};
use crate::script::{Run, answers, exits, miss, pass, restart, start, stop, well};
use crate::world::Sim;

fn after(name: &str, predecessors: &[&str]) -> Service {
    service(name, |it| it.after = predecessors.iter().map(|&it| it.into()).collect())
}

#[test]
fn a_service_waits_until_its_predecessor_has_started() {
    let db = service("db", |it| it.probes.push(liveness()));
    let slow = answers([(s(0), miss("starting up")), (s(2), pass())]);
    let mut sim = Sim::new([(after("api", &["db"]), vec![well()]), (db, vec![slow])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 db starting run 1
         0.000 db up, pid 101
         0.010 db liveness not yet: starting up
         2.030 db healthy
         2.030 db ready after 2s
         2.030 api starting run 1
         2.030 api up, pid 102
         2.030 api ready after 0ms",
    );
}

#[test]
fn a_service_waits_until_a_oneshot_is_done() {
    let mut sim = Sim::new([
        (oneshot("migrate", |_| {}), vec![exits(s(2), 0)]),
        (after("api", &["migrate"]), vec![well()]),
    ]);
    sim.run_until(s(10));
    sim.says(
        "0.000 migrate starting run 1
         0.000 migrate up, pid 101
         2.000 migrate ended after 2s: exit code 0
         2.000 migrate done
         2.000 api starting run 1
         2.000 api up, pid 102
         2.000 api ready after 0ms",
    );
}

#[test]
fn keepup_ends_with_4_when_all_that_is_left_waits_for_what_failed() {
    let migrate = oneshot("migrate", |it| it.restart.policy = Policy::Never);
    let mut sim = Sim::new([
        (migrate, vec![exits(s(2), 1)]),
        (after("api", &["migrate"]), vec![well()]),
        (after("web", &["api"]), vec![well()]),
    ]);
    sim.run_until(s(10));
    sim.says(
        "0.000 migrate starting run 1
         0.000 migrate up, pid 101
         2.000 migrate ended after 2s: exit code 1
         2.000 migrate given up: its restart policy is never
         2.000 exit 4",
    );
}

#[test]
fn keepup_stays_while_something_else_runs() {
    let migrate = oneshot("migrate", |it| it.restart.policy = Policy::Never);
    let mut sim = Sim::new([
        (migrate, vec![exits(s(2), 1), exits(s(1), 0)]),
        (after("api", &["migrate"]), vec![well()]),
        (service("other", |_| {}), vec![well()]),
    ]);
    sim.run_until(s(10));
    assert_eq!(sim.exit, None);
    assert!(matches!(sim.state("api"), State::Waiting(_)));
    // An operator has mended it.
    sim.at(s(20), start("migrate")).run_until(s(30));
    assert!(matches!(sim.state("api"), State::Up { .. }), "{}", sim.trace);
}

#[test]
fn keepup_stays_if_it_is_told_to_stay() {
    let mut plan = crate::plans::plan(vec![oneshot("migrate", |_| {})]);
    plan.supervisor.stay = true;
    let mut sim = Sim::of(plan, vec![vec![exits(s(1), 0)]], 0, &BTreeMap::new());
    sim.run_until(s(3600));
    assert_eq!(sim.exit, None);
    sim.at(s(3601), Event::Shutdown).run_until(s(3602));
    assert_eq!(sim.exit, Some(0));
}

#[test]
fn a_service_that_an_operator_stopped_keeps_keepup() {
    let mut sim = Sim::new([
        (oneshot("migrate", |_| {}), vec![exits(s(1), 0)]),
        (service("api", |_| {}), vec![well()]),
    ]);
    sim.at(s(2), stop("api")).run_until(s(3600));
    assert_eq!(sim.exit, None, "{}", sim.trace);
}

#[test]
fn a_service_waits_for_one_that_only_an_operator_starts() {
    let db = service("db", |it| it.autostart = false);
    let mut sim = Sim::new([(db, vec![well()]), (after("api", &["db"]), vec![well()])]);
    sim.at(s(5), start("db")).run_until(s(10));
    sim.says_of(
        &["starting", "exit"],
        "5.000 db starting run 1, asked by uid 1000
         5.000 api starting run 1",
    );
}

#[test]
fn only_the_first_start_waits() {
    let db = || service("db", |_| {});
    let mut sim = Sim::new([
        (db(), vec![exits(s(3), 1), Run { spawn_takes: s(5), ..well() }]),
        (after("api", &["db"]), vec![exits(s(4), 1), well()]),
    ]);
    sim.run_until(s(20));
    sim.says_of(
        &["starting"],
        "0.000 db starting run 1
         0.000 api starting run 1
         3.500 db starting run 2
         4.500 api starting run 2",
    );
}

#[test]
fn a_new_run_of_a_predecessor_leaves_the_others_alone() {
    let mut sim =
        Sim::new([(service("db", |_| {}), vec![well()]), (after("api", &["db"]), vec![well()])]);
    sim.at(s(5), restart("db")).run_until(s(10));
    assert_eq!(sim.core.service("db").unwrap().run, 2);
    assert_eq!(sim.core.service("api").unwrap().run, 1);
}

#[test]
fn a_shutdown_stops_in_reverse_order_of_after() {
    let slow = || Run { obeys: Some((s(2), crate::script::terminated())), ..well() };
    let mut sim = Sim::new([
        (service("db", |_| {}), vec![slow()]),
        (after("api", &["db"]), vec![slow()]),
        (after("web", &["api"]), vec![slow()]),
        (service("other", |_| {}), vec![slow()]),
    ]);
    sim.at(s(10), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stopping", "down", "exit"],
        "10.000 other stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         10.000 web stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         12.000 other down
         12.000 web down
         12.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         14.000 api down
         14.000 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         16.000 db down
         16.000 exit 0",
    );
}

#[test]
fn a_plan_whose_services_are_all_done_ends_with_0() {
    let mut sim = Sim::new([
        (service("one", on_failure_at_most(1)), vec![exits(s(1), 0)]),
        (oneshot("two", |_| {}), vec![exits(s(3), 0)]),
    ]);
    sim.run_until(s(10));
    assert_eq!((sim.exit, sim.now.0), (Some(0), s(10)));
    sim.says_of(&["exit 0"], "3.000 exit 0");
}

#[test]
fn the_reverse_order_holds_across_one_that_is_done() {
    let migrate = oneshot("migrate", |it| it.after = vec!["db".into()]);
    let slow = || Run { obeys: Some((s(2), crate::script::terminated())), ..well() };
    let mut sim = Sim::new([
        (service("db", |_| {}), vec![slow()]),
        (migrate, vec![exits(s(1), 0)]),
        (after("api", &["migrate"]), vec![slow()]),
    ]);
    sim.at(s(10), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stopping", "exit 0"],
        "10.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         12.000 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         14.000 exit 0",
    );
}

#[test]
fn an_order_with_many_ways_through_it_is_no_burden() {
    let names: Vec<String> = (0..60).map(|nth| format!("s{nth}")).collect();
    let nth_service = |nth: usize| {
        service(&names[nth], |it| {
            it.after = names[..nth].iter().rev().map(|name| name.as_str().into()).collect();
            it.autostart = nth != 0;
        })
    };
    let plan = crate::plans::plan((0..60).map(nth_service).collect());
    let mut sim = Sim::of(plan, vec![vec![well()]; 60], 0, &BTreeMap::new());
    sim.at(s(1), start("s0")).at(s(2), Event::Shutdown).run_until(s(60));
    assert_eq!(sim.exit, Some(0));
    let stopped: Vec<&str> = sim.trace.lines().filter(|it| it.contains("stopping")).collect();
    let names = stopped.iter().map(|it| it.split(' ').nth(1).unwrap());
    assert!(names.eq((0..60).rev().map(|nth| format!("s{nth}"))), "{stopped:#?}");
}
