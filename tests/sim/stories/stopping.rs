//! How runs end when they are to end: asked, killed, stuck; and how keepup itself does.

use std::collections::BTreeMap;

use keepup::core::event::{Event, Exit, Pid, Time};
use keepup::core::{State, Supervisor};
use keepup::plan::{Scope, Service, Signal};

use crate::plans::{ms, plan, s, service};
use crate::script::{Run, exits, ignores_term, restart, start, stop, terminated, well};
use crate::world::Sim;

fn api() -> Service {
    service("api", |_| {})
}

fn after(name: &str, predecessor: &str) -> Service {
    service(name, |it| it.after = vec![predecessor.into()])
}

#[test]
fn a_service_that_ignores_its_stop_signal_is_killed() {
    let mut sim = Sim::new([(api(), vec![ignores_term()])]);
    sim.at(s(1), stop("api")).run_until(s(60));
    sim.says_of(
        &["1000", "kill", "down"],
        "1.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         9.000 api killing: it did not stop in time
         9.050 api ended after 1s: asked by uid 1000 (killed by SIGKILL)
         9.050 api down",
    );
}

#[test]
fn a_service_is_asked_with_its_own_signal_and_killed_after_its_own_time() {
    let api = service("api", |it| {
        it.stop_signal = Signal::parse("INT").unwrap();
        it.stop_timeout = s(3);
    });
    let mut sim = Sim::new([(api, vec![ignores_term()])]);
    sim.at(s(1), stop("api")).run_until(s(60));
    sim.says_of(
        &["stopping", "killing"],
        "1.000 api stopping (asked by uid 1000): sent SIGINT, KILL follows in 3s
         4.000 api killing: it did not stop in time",
    );
}

#[test]
fn a_process_that_survives_kill_is_named_and_never_doubled() {
    let unkillable = Run { kill_takes: Some(s(60)), ..ignores_term() };
    let mut sim = Sim::new([(api(), vec![unkillable, well()])]);
    sim.at(s(1), restart("api")).run_until(s(100));
    sim.says_of(
        &["kill", "stuck", "starting", "ended"],
        "0.000 api starting run 1
         9.000 api killing: it did not stop in time
         14.000 api stuck: process 101 or one of its group survives KILL; it hangs in the kernel (a dead disk or mount?), and no second copy is started
         69.000 api ended after 1s: asked by uid 1000 (killed by SIGKILL)
         69.000 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn what_a_crash_leaves_behind_is_never_doubled_either() {
    let sticky = Run { gone_takes: None, ..exits(s(1), 1) };
    let mut sim = Sim::new([(api(), vec![sticky])]);
    sim.at(s(20), start("api")).at(s(30), restart("api")).run_until(s(3600));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         6.000 api stuck: process 101 or one of its group survives KILL; it hangs in the kernel (a dead disk or mount?), and no second copy is started",
    );
}

#[test]
fn the_next_run_waits_until_nothing_is_left_of_the_last_one() {
    let slow = Run { gone_takes: Some(s(3)), ..exits(s(1), 1) };
    let mut sim = Sim::new([(api(), vec![slow, well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         4.000 api ended after 1s: exit code 1
         4.000 api restart in 500ms (failure 1 in a row)
         4.500 api starting run 2
         4.500 api up, pid 102
         4.500 api ready after 0ms",
    );
}

#[test]
fn a_shutdown_stops_what_runs_and_nothing_comes_back() {
    let mut sim = Sim::new([(api(), vec![well()])]);
    sim.at(s(5), Event::Shutdown).run_until(s(60));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         5.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         5.100 api ended after 5s: keepup is ending (killed by SIGTERM)
         5.100 api down
         5.100 exit 0",
    );
}

#[test]
fn a_second_shutdown_kills_at_once() {
    let mut sim = Sim::new([
        (service("db", |_| {}), vec![ignores_term()]),
        (after("api", "db"), vec![ignores_term()]),
    ]);
    sim.at(s(5), Event::Shutdown).at(s(6), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stopping", "killing", "down", "exit"],
        "5.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         6.000 api killing: keepup is ending
         6.000 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         6.000 db killing: keepup is ending
         6.050 api down
         6.050 db down
         6.050 exit 0",
    );
}

#[test]
fn a_shutdown_kills_what_is_left_at_its_limit() {
    let mut plan = plan(vec![service("db", |_| {}), after("api", "db")]);
    plan.supervisor.shutdown_timeout = s(6);
    let runs = vec![vec![ignores_term()], vec![ignores_term()]];
    let mut sim = Sim::of(plan, runs, 0, &BTreeMap::new());
    sim.at(s(10), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stopping", "killing", "exit"],
        "10.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         15.500 api killing: keepup is ending
         15.500 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         15.500 db killing: keepup is ending
         15.550 exit 0",
    );
}

#[test]
fn keepup_leaves_a_stuck_process_behind_at_last_and_says_so_with_its_code() {
    let mut sim = Sim::new([(api(), vec![Run { kill_takes: None, ..ignores_term() }])]);
    sim.at(s(10), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stuck", "exit"],
        "23.000 api stuck: process 101 or one of its group survives KILL; it hangs in the kernel (a dead disk or mount?), and no second copy is started
         35.500 exit 1",
    );
}

#[test]
fn a_shutdown_during_a_spawn_stops_it_once_it_is_up() {
    let slow = Run { spawn_takes: s(2), ..well() };
    let mut sim = Sim::new([(api(), vec![slow])]);
    sim.at(s(1), Event::Shutdown).run_until(s(60));
    sim.says(
        "0.000 api starting run 1
         2.000 api up, pid 101
         2.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         2.100 api ended after 0ms: keepup is ending (killed by SIGTERM)
         2.100 api down
         2.100 exit 0",
    );
}

#[test]
fn a_shutdown_ends_the_waiting_for_a_restart_and_for_others() {
    let mut sim = Sim::new([
        (service("db", |it| it.restart.delay = s(30)), vec![exits(s(1), 1)]),
        (service("never", |it| it.autostart = false), vec![well()]),
        (after("api", "never"), vec![well()]),
    ]);
    sim.at(s(5), Event::Shutdown).run_until(s(60));
    sim.says_of(&["5.", "exit 0"], "5.000 exit 0");
}

#[test]
fn commands_during_a_shutdown_change_nothing() {
    let slow = || Run { obeys: Some((s(3), terminated())), ..well() };
    let mut sim = Sim::new([
        (api(), vec![slow()]),
        (service("idle", |it| it.autostart = false), vec![well()]),
    ]);
    sim.at(s(5), Event::Shutdown);
    for event in [start("idle"), restart("api"), start("api"), restart("idle"), stop("idle")] {
        sim.at(s(6), event);
    }
    sim.run_until(s(60));
    sim.says_of(
        &["idle", "starting", "api stopping", "exit"],
        "0.000 api starting run 1
         5.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         8.000 exit 0",
    );
}

#[test]
fn a_crash_while_stopping_is_the_end_of_the_stop() {
    let mut sim = Sim::new([(api(), vec![Run { obeys: None, ..exits(s(3), 1) }])]);
    sim.at(s(1), stop("api")).run_until(s(60));
    sim.says_of(
        &["ended", "down", "kill"],
        "3.000 api ended after 1s: asked by uid 1000 (exit code 1)
         3.000 api down",
    );
    assert!(sim.now.0 == s(60) && sim.exit.is_none());
}

#[test]
fn a_stop_signal_is_followed_by_cont_so_that_a_stopped_process_heeds_it() {
    let mut sim = Sim::new([(api(), vec![well()])]);
    sim.effects = Some(String::new());
    sim.at(s(1), stop("api")).run_until(ms(1_050));
    let signals: Vec<String> = sim
        .effects
        .unwrap()
        .lines()
        .filter(|it| it.contains("Signal {"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        signals,
        [
            "1.000 Signal { pid: Pid(101), signal: Signal(15), to: Group }",
            "1.000 Signal { pid: Pid(101), signal: Signal(18), to: Group }"
        ]
    );
}

#[test]
fn a_stuck_process_does_not_keep_the_others_from_their_graceful_stop() {
    let mut sim = Sim::new([
        (service("db", |_| {}), vec![well()]),
        (after("api", "db"), vec![Run { kill_takes: None, ..ignores_term() }]),
    ]);
    sim.at(s(10), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["db stopping", "db killing", "db ended", "api stuck", "exit"],
        "23.000 api stuck: process 102 or one of its group survives KILL; it hangs in the kernel (a dead disk or mount?), and no second copy is started
         23.000 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         23.100 db ended after 23s: keepup is ending (killed by SIGTERM)
         35.500 exit 1",
    );
}

#[test]
fn a_pid_that_is_used_again_while_the_rest_of_its_old_run_goes_is_not_mistaken() {
    let other = service("other", |it| it.autostart = false);
    let mut core = Supervisor::new(plan(vec![api(), other]), 0, &BTreeMap::new());
    let mut at = |seconds: u64, event: Event| {
        let mut effects = Vec::new();
        core.step(Time(s(seconds)), event, &mut effects);
        let is_up = |name| matches!(core.service(name).unwrap().state, State::Up { .. });
        (is_up("api"), is_up("other"))
    };
    let (pid, exit) = (Pid(7), Exit::Code(1));
    at(0, Event::Tick);
    assert_eq!(at(0, Event::Spawned { name: "api".into(), pid }), (true, false));
    assert_eq!(at(1, Event::Exited { pid, exit }), (false, false));
    at(2, start("other"));
    assert_eq!(at(2, Event::Spawned { name: "other".into(), pid }), (false, true));
    assert_eq!(at(3, Event::Exited { pid, exit }), (false, false));
}

/// Asks its main process alone.
fn main_alone(name: &str) -> Service {
    service(name, |it| it.stop_scope = Scope::Main)
}

#[test]
fn the_rest_keeps_what_is_left_of_the_time_when_the_main_process_alone_was_asked() {
    let workers = Run { rest_takes: Some(s(3)), ..well() };
    let mut sim = Sim::new([(main_alone("api"), vec![workers])]);
    sim.effects = Some(String::new());
    sim.at(s(1), stop("api")).run_until(s(60));
    sim.says_of(
        &["1000", "kill", "ended", "down"],
        "1.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         4.100 api ended after 1s: asked by uid 1000 (killed by SIGTERM)
         4.100 api down",
    );
    let effects = sim.effects.unwrap();
    assert!(!effects.contains("Group") && !effects.contains("Sweep"), "{effects}");
}

#[test]
fn what_the_main_process_leaves_is_killed_when_the_time_of_all_is_over() {
    let workers = Run { rest_takes: None, ..well() };
    let mut sim = Sim::new([(main_alone("api"), vec![workers, well()])]);
    sim.at(s(1), restart("api")).run_until(s(60));
    sim.says_of(
        &["1000", "kill", "ended", "starting"],
        "0.000 api starting run 1
         1.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         9.000 api killing: what its main process left did not stop in time
         9.000 api ended after 1s: asked by uid 1000 (killed by SIGTERM)
         9.000 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn a_crash_spares_nobody_whoever_a_stop_is_for() {
    let workers = Run { rest_takes: None, ..exits(s(1), 1) };
    let mut sim = Sim::new([(main_alone("api"), vec![workers, well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["kill", "ended", "starting"],
        "0.000 api starting run 1
         1.000 api ended after 1s: exit code 1
         1.500 api starting run 2",
    );
}

#[test]
fn keepup_waits_at_its_end_for_what_a_main_process_left_and_no_longer() {
    let workers = Run { rest_takes: None, ..well() };
    let mut sim = Sim::new([(
        service("api", |it| {
            it.stop_scope = Scope::Main;
            it.stop_timeout = s(100);
        }),
        vec![workers],
    )]);
    sim.at(s(1), Event::Shutdown).at(s(5), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["stopping", "kill", "ended", "exit"],
        "1.000 api stopping (keepup is ending): sent SIGTERM, KILL follows in 1m 40s
         5.000 api killing: keepup is ending
         5.000 api ended after 1s: keepup is ending (killed by SIGTERM)
         5.000 exit 0",
    );
}
