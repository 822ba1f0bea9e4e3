//! Sockets are held as long as a run lives or is to come, and not a moment longer.

use keepup::core::event::Event;
use keepup::plan::Service;

use crate::plans::{ms, on_failure_at_most, oneshot, s, service, socket};
use crate::script::{Run, exits, restart, start, stop, unspawnable, well};
use crate::world::Sim;

fn api(change: impl FnOnce(&mut Service)) -> Service {
    service("api", |it| {
        it.listen.push(socket());
        change(it);
    })
}

#[test]
fn they_are_bound_before_the_first_start_and_kept_through_crashes() {
    let mut sim = Sim::new([(api(|_| {}), vec![exits(s(1), 1), exits(s(1), 1), well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["sockets", "starting", "ended"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         1.000 api ended after 1s: exit code 1
         1.500 api starting run 2
         2.500 api ended after 1s: exit code 1
         3.500 api starting run 3",
    );
}

#[test]
fn who_comes_early_waits_for_what_the_service_waits_for() {
    let migrate = oneshot("migrate", |_| {});
    let api = api(|it| it.after = vec!["migrate".into()]);
    let mut sim = Sim::new([(migrate, vec![exits(s(5), 0)]), (api, vec![well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["sockets", "api starting"],
        "0.000 api (its sockets are held)
         5.000 api starting run 1",
    );
}

#[test]
fn they_are_kept_through_a_restart_that_an_operator_asks_for() {
    let mut sim = Sim::new([(api(|_| {}), vec![well()])]);
    sim.at(s(1), restart("api")).run_until(s(60));
    sim.says_of(
        &["sockets", "starting"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         1.100 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn they_are_closed_before_the_signal_of_a_stop_and_held_again_at_the_next_start() {
    let mut sim = Sim::new([(api(|_| {}), vec![well()])]);
    sim.at(s(1), stop("api")).at(s(5), start("api")).run_until(s(60));
    sim.says_of(
        &["sockets", "stopping", "down", "starting"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         1.000 api (its sockets are closed)
         1.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         1.100 api down
         5.000 api (its sockets are held)
         5.000 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn a_start_in_the_middle_of_a_stop_holds_them_again() {
    let slow = Run { obeys: well().obeys.map(|it| (s(3), it.1)), ..well() };
    let mut sim = Sim::new([(api(|_| {}), vec![slow])]);
    sim.at(s(1), stop("api")).at(s(2), start("api")).run_until(s(60));
    sim.says_of(
        &["sockets", "starting"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         1.000 api (its sockets are closed)
         2.000 api (its sockets are held)
         4.000 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn a_stop_while_a_start_is_under_way_closes_them_at_once() {
    let slow = Run { spawn_takes: s(3), ..well() };
    let mut sim = Sim::new([(api(|_| {}), vec![slow])]);
    sim.at(s(1), stop("api")).run_until(s(60));
    sim.says_of(
        &["sockets", "starting", "up", "down"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         1.000 api (its sockets are closed)
         3.000 api up, pid 101
         3.100 api down",
    );
}

#[test]
fn nobody_waits_for_a_service_that_is_done_or_given_up() {
    let job = oneshot("job", |it| it.listen.push(socket()));
    let api = api(on_failure_at_most(1));
    let mut sim = Sim::new([(job, vec![exits(s(1), 0)]), (api, vec![exits(s(1), 1)])]);
    sim.run_until(s(60));
    sim.says_of(
        &["sockets", "done", "given up"],
        "0.000 job (its sockets are held)
         0.000 api (its sockets are held)
         1.000 job (its sockets are closed)
         1.000 job done
         2.500 api (its sockets are closed)
         2.500 api given up: 1 restart within 30m did not help; the last run: exit code 1",
    );
}

#[test]
fn they_are_kept_while_it_is_given_up_for_now() {
    let mut sim = Sim::new([(api(|it| it.restart.max_restarts = 1), vec![unspawnable("taken")])]);
    sim.run_until(s(6 * 60));
    sim.says_of(
        &["sockets", "starting"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         0.500 api starting run 2
         300.500 api starting run 3",
    );
}

#[test]
fn a_service_that_is_not_started_holds_none() {
    let mut sim = Sim::new([(api(|it| it.autostart = false), vec![well()])]);
    sim.run_until(s(60));
    sim.says("");
}

/// What stops last is connected to by what stops first.
#[test]
fn at_a_shutdown_they_are_closed_as_each_is_asked_to_stop() {
    let db = service("db", |it| it.listen.push(socket()));
    let api = api(|it| it.after = vec!["db".into()]);
    let mut sim = Sim::new([(db, vec![well()]), (api, vec![well()])]);
    sim.at(s(1), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["sockets", "stopping", "exit"],
        "0.000 db (its sockets are held)
         0.000 api (its sockets are held)
         1.000 api (its sockets are closed)
         1.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         1.100 db (its sockets are closed)
         1.100 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         1.200 exit 0",
    );
}

#[test]
fn a_shutdown_closes_them_for_what_would_have_been_restarted() {
    let mut sim = Sim::new([(api(|_| {}), vec![exits(s(1), 1)])]);
    sim.at(ms(1_200), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["sockets", "exit "],
        "0.000 api (its sockets are held)
         1.000 api ended after 1s: exit code 1
         1.200 api (its sockets are closed)
         1.200 exit 0",
    );
}
