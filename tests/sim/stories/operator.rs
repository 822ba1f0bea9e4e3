//! What operators do, in every state: it is done at once, never counted, and never undone.

use keepup::core::event::Event;
use keepup::core::{State, Want};
use keepup::plan::{Policy, Service};

use crate::plans::{liveness, ms, on_failure_at_most, oneshot, s, service};
use crate::script::{
    Run, answers, exits, ignores_term, miss, pass, restart, start, stop, terminated, unspawnable,
    well,
};
use crate::world::Sim;

fn api() -> Service {
    service("api", |_| {})
}

/// A world with this command at 10 s, and what was said from then on.
#[track_caller]
fn told(service: Service, runs: Vec<Run>, command: Event, expected: &str) {
    let mut sim = Sim::new([(service, runs)]);
    sim.run_until(ms(9_999));
    sim.forget();
    sim.at(s(10), command).run_until(s(20));
    sim.says(expected);
}

#[test]
fn start_when_down() {
    let api = service("api", |it| it.autostart = false);
    told(
        api,
        vec![well()],
        start("api"),
        "10.000 api starting run 1, asked by uid 1000
         10.000 api up, pid 101
         10.000 api ready after 0ms",
    );
}

#[test]
fn stop_when_down() {
    told(service("api", |it| it.autostart = false), vec![well()], stop("api"), "");
}

#[test]
fn restart_when_down() {
    let api = service("api", |it| it.autostart = false);
    told(
        api,
        vec![well()],
        restart("api"),
        "10.000 api starting run 1, asked by uid 1000
         10.000 api up, pid 101
         10.000 api ready after 0ms",
    );
}

#[test]
fn start_when_up() {
    told(api(), vec![well()], start("api"), "");
}

#[test]
fn stop_when_up() {
    told(
        api(),
        vec![well()],
        stop("api"),
        "10.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         10.100 api ended after 10s: asked by uid 1000 (killed by SIGTERM)
         10.100 api down",
    );
}

#[test]
fn restart_when_up() {
    told(
        api(),
        vec![well()],
        restart("api"),
        "10.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         10.100 api ended after 10s: asked by uid 1000 (killed by SIGTERM)
         10.100 api starting run 2, asked by uid 1000
         10.100 api up, pid 102
         10.100 api ready after 0ms",
    );
}

/// It failed just now, and is started again in a minute.
fn in_backoff() -> (Service, Vec<Run>) {
    (service("api", |it| it.restart.delay = s(60)), vec![exits(s(9), 1), well()])
}

#[test]
fn start_in_backoff() {
    let (api, runs) = in_backoff();
    told(
        api,
        runs,
        start("api"),
        "10.000 api starting run 2, asked by uid 1000
         10.000 api up, pid 102
         10.000 api ready after 0ms",
    );
}

#[test]
fn stop_in_backoff() {
    let (api, runs) = in_backoff();
    told(api, runs, stop("api"), "10.000 api down");
}

#[test]
fn restart_in_backoff() {
    let (api, runs) = in_backoff();
    told(
        api,
        runs,
        restart("api"),
        "10.000 api starting run 2, asked by uid 1000
         10.000 api up, pid 102
         10.000 api ready after 0ms",
    );
}

/// It is being spawned when the command comes, and for two seconds more.
fn spawning() -> (Service, Vec<Run>) {
    (api(), vec![Run { spawn_takes: s(12), ..well() }, well()])
}

#[test]
fn start_while_spawning() {
    let (api, runs) = spawning();
    told(api, runs, start("api"), "12.000 api up, pid 101\n12.000 api ready after 0ms");
}

#[test]
fn stop_while_spawning() {
    let (api, runs) = spawning();
    told(
        api,
        runs,
        stop("api"),
        "12.000 api up, pid 101
         12.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         12.100 api ended after 0ms: asked by uid 1000 (killed by SIGTERM)
         12.100 api down",
    );
}

#[test]
fn stop_while_a_spawn_is_about_to_fail() {
    let slow = Run { spawn_takes: s(12), ..unspawnable("cannot fork") };
    told(
        api(),
        vec![slow],
        stop("api"),
        "12.000 api ended after 0ms: cannot fork
         12.000 api down",
    );
}

#[test]
fn restart_while_spawning_is_content_with_the_run_that_comes() {
    let (api, runs) = spawning();
    told(api, runs, restart("api"), "12.000 api up, pid 101\n12.000 api ready after 0ms");
}

#[test]
fn a_start_takes_back_the_stop_of_a_spawn() {
    let (api, runs) = spawning();
    let mut sim = Sim::new([(api, runs)]);
    sim.at(s(10), stop("api")).at(s(11), start("api")).run_until(s(20));
    assert!(matches!(sim.state("api"), State::Up { .. }), "{}", sim.trace);
}

/// It is on its way out when the command comes, because it hung.
fn stopping() -> (Service, Vec<Run>) {
    let api = service("api", |it| {
        it.probes.push(crate::plans::probe(keepup::plan::Role::Liveness, |it| it.failures = 1));
        it.restart.delay = s(60);
    });
    let hung = Run {
        obeys: Some((s(5), terminated())),
        ..answers([(s(0), pass()), (s(5), miss("hung"))])
    };
    (api, vec![Run { hangs: Some(s(30)), ..hung }, Run { replies: Vec::new(), ..well() }])
}

#[test]
fn stop_while_stopping_makes_it_stay_down() {
    let (api, runs) = stopping();
    let mut sim = Sim::new([(api, runs)]);
    sim.at(s(12), stop("api")).run_until(s(100));
    sim.says_of(
        &["stopping", "ended", "starting", "restart in", "down"],
        "0.000 api starting run 1
         10.020 api stopping (unhealthy: tcp liveness:80: hung): sent SIGTERM, KILL follows in 8s
         15.020 api ended after 10s: unhealthy: tcp liveness:80: hung (killed by SIGTERM)
         15.020 api down",
    );
}

#[test]
fn the_last_word_while_stopping_counts() {
    let mut sim = Sim::new([(api(), vec![ignores_term(), well()])]);
    sim.at(s(1), stop("api")).at(s(2), restart("api")).at(s(3), stop("api"));
    sim.run_until(s(60));
    assert!(matches!(sim.state("api"), State::Down), "{}", sim.trace);
    let mut sim = Sim::new([(api(), vec![ignores_term(), well()])]);
    sim.at(s(1), restart("api")).at(s(2), stop("api")).at(s(3), start("api"));
    sim.run_until(s(60));
    assert!(matches!(sim.state("api"), State::Up { .. }), "{}", sim.trace);
    sim.says_of(
        &["ended", "starting", "restart in"],
        "0.000 api starting run 1
         9.050 api ended after 1s: asked by uid 1000 (killed by SIGKILL)
         9.050 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn commands_to_one_that_waits() {
    let waiting = || {
        let db = service("db", |it| it.autostart = false);
        let api = service("api", |it| it.after = vec!["db".into()]);
        Sim::new([(db, vec![well()]), (api, vec![well()])])
    };
    for command in [start("api"), restart("api")] {
        let mut sim = waiting();
        sim.at(s(10), command).run_until(s(20));
        assert!(matches!(sim.state("api"), State::Waiting(_)), "{}", sim.trace);
    }
    let mut sim = waiting();
    sim.at(s(10), stop("api")).at(s(15), start("db")).run_until(s(20));
    assert!(matches!(sim.state("api"), State::Down), "{}", sim.trace);
}

#[test]
fn commands_to_one_that_is_done() {
    let other = || (service("other", |_| {}), vec![well()]);
    let done = || (oneshot("api", |_| {}), vec![exits(s(1), 0)]);
    for command in [start("api"), restart("api")] {
        let mut sim = Sim::new([done(), other()]);
        sim.at(s(10), command).run_until(s(20));
        sim.says_of(
            &["api starting", "done"],
            "0.000 api starting run 1
             1.000 api done
             10.000 api starting run 2, asked by uid 1000
             11.000 api done",
        );
    }
    let mut sim = Sim::new([done(), other()]);
    sim.at(s(10), stop("api")).run_until(s(20));
    assert_eq!(sim.core.service("api").unwrap().want, Want::Down);
}

#[test]
fn commands_to_one_that_was_given_up() {
    let other = || (service("other", |_| {}), vec![well()]);
    let failed = || (service("api", on_failure_at_most(1)), vec![exits(s(1), 1)]);
    for command in [start("api"), restart("api")] {
        let mut sim = Sim::new([failed(), other()]);
        sim.run_until(s(9));
        sim.forget();
        sim.at(s(10), command).run_until(s(12));
        sim.says_of(
            &["starting", "restart in"],
            "10.000 api starting run 3, asked by uid 1000
             11.000 api restart in 500ms (failure 1 in a row)
             11.500 api starting run 4",
        );
    }
    let mut sim = Sim::new([failed(), other()]);
    sim.at(s(10), stop("api")).run_until(s(20));
    assert!(matches!(sim.state("api"), State::Down));
}

#[test]
fn a_stop_during_a_restart_by_the_policy_wins() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.restart.policy = Policy::OnFailure;
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.at(ms(1_200), stop("api")).run_until(s(600));
    sim.says_of(&["starting", "down"], "0.000 api starting run 1\n1.200 api down");
}

#[test]
fn a_start_of_one_that_runs_clears_its_slate_too() {
    let api = service("api", |it| it.restart.max_restarts = 1);
    let mut sim = Sim::new([(api, vec![exits(s(1), 1), exits(s(5), 1), well()])]);
    sim.at(s(3), start("api")).run_until(s(10));
    sim.says_of(
        &["restart in", "given up"],
        "1.000 api restart in 500ms (failure 1 in a row)
         6.500 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn restart_while_stopping_starts_at_once_when_it_has_stopped() {
    let (api, runs) = stopping();
    let mut sim = Sim::new([(api, runs)]);
    sim.at(s(12), restart("api")).run_until(s(20));
    sim.says_of(
        &["stopping", "ended", "starting", "restart in"],
        "0.000 api starting run 1
         10.020 api stopping (unhealthy: tcp liveness:80: hung): sent SIGTERM, KILL follows in 8s
         15.020 api ended after 10s: unhealthy: tcp liveness:80: hung (killed by SIGTERM)
         15.020 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn start_while_stopping_starts_at_once_when_it_has_stopped() {
    let (api, runs) = stopping();
    let mut sim = Sim::new([(api, runs)]);
    sim.at(s(12), start("api")).run_until(s(20));
    sim.says_of(
        &["stopping", "ended", "starting", "restart in"],
        "0.000 api starting run 1
         10.020 api stopping (unhealthy: tcp liveness:80: hung): sent SIGTERM, KILL follows in 8s
         15.020 api ended after 10s: unhealthy: tcp liveness:80: hung (killed by SIGTERM)
         15.020 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn stop_and_start_of_a_crash_that_is_being_swept_up() {
    let slow = || Run { gone_takes: Some(s(5)), ..exits(s(8), 1) };
    let (down, up) = ("api down", "api starting run 2, asked by uid 1000");
    for (command, next) in [(stop("api"), down), (start("api"), up), (restart("api"), up)] {
        let mut sim = Sim::new([(api(), vec![slow(), well()])]);
        sim.run_until(s(9));
        sim.forget();
        sim.at(s(10), command).run_until(s(13));
        sim.says_of(
            &["ended", "down", "starting"],
            &format!("13.000 api ended after 8s: exit code 1\n13.000 {next}"),
        );
    }
}
