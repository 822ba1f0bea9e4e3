//! Bugs that users of other supervisors suffer from, each told as it must not go.

use keepup::core::event::Event;
use keepup::plan::{OnCap, Role, Service};

use crate::plans::{heartbeat, liveness, ms, probe, s, service};
use crate::script::{
    Run, answers, beats, exits, miss, pass, pass_in, restart, silence, stop, unspawnable, well,
};
use crate::world::{Sim, Stall};

#[test]
fn a_failure_counter_does_not_survive_the_restart_and_kill_the_fresh_process() {
    let api = service("api", |it| it.probes.push(liveness()));
    let first = answers([(s(0), pass()), (s(5), miss("503"))]);
    let second = answers([(s(0), pass()), (s(2), miss("busy")), (s(5), pass())]);
    let mut sim = Sim::new([(api, vec![first, second])]);
    sim.run_until(s(60));
    sim.says_of(
        &["missed", "stopping"],
        "10.020 api liveness missed 1/3: 503
         10.020 api degraded: liveness missed: 503
         13.030 api liveness missed 2/3: 503
         16.040 api liveness missed 3/3: 503
         16.040 api stopping (unhealthy: tcp liveness:80: 503): sent SIGTERM, KILL follows in 8s
         20.479 api liveness missed 1/3: busy
         20.479 api degraded: liveness missed: busy",
    );
}

#[test]
fn a_process_that_lives_just_past_a_threshold_does_not_evade_the_cap() {
    let api = service("api", |it| {
        it.restart.max_restarts = 3;
        it.restart.stable_after = s(10);
        it.restart.on_cap = OnCap::Fail;
    });
    let mut sim = Sim::new([(api, vec![exits(ms(10_001), 1)])]);
    sim.run_until(s(3600));
    assert_eq!(sim.exit, Some(4));
    assert_eq!(sim.core.service("api").unwrap().run, 4);
}

#[test]
fn a_backoff_is_reset_by_a_month_of_health() {
    let month = s(30 * 24 * 3600);
    let crash = || exits(s(1), 1);
    let mut sim = Sim::new([(
        service("api", |_| {}),
        vec![crash(), crash(), crash(), crash(), exits(month, 1), well()],
    )]);
    sim.run_until(month + s(60));
    sim.says_of(
        &["restart in"],
        "1.000 api restart in 500ms (failure 1 in a row)
         2.500 api restart in 1s (failure 2 in a row)
         4.500 api restart in 2s (failure 3 in a row)
         7.500 api restart in 4s (failure 4 in a row)
         2592011.500 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn an_operators_stop_is_not_undone_by_the_policy() {
    let api = service("api", |it| it.probes.push(liveness()));
    // It dies badly of being stopped, and an answer of it comes even later.
    let bad = Run {
        obeys: Some((s(3), keepup::core::event::Exit::Code(1))),
        ..answers([(s(0), pass()), (s(5), pass_in(s(4)))])
    };
    let mut sim = Sim::new([(api, vec![bad])]);
    sim.at(s(11), stop("api")).run_until(s(3600));
    sim.says_of(
        &["starting", "ended", "restart in", "down"],
        "0.000 api starting run 1
         14.000 api ended after 11s: asked by uid 1000 (exit code 1)
         14.000 api down",
    );
}

#[test]
fn a_failed_spawn_is_tried_again() {
    let full = || unspawnable("cannot fork: no memory");
    let mut sim =
        Sim::new([(service("api", |_| {}), vec![exits(s(5), 1), full(), full(), well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["starting", "ended"],
        "0.000 api starting run 1
         5.000 api ended after 5s: exit code 1
         5.500 api starting run 2
         5.500 api ended after 0ms: cannot fork: no memory
         6.500 api starting run 3
         6.500 api ended after 0ms: cannot fork: no memory
         8.500 api starting run 4",
    );
}

#[test]
fn a_late_answer_is_not_counted_for_the_next_run() {
    let api = service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.failures = 1)));
    // Asked at 10.010; it dies at 11; its answer comes at 14.010, when run 2 waits for its own.
    let dies = Run {
        exits: Some((s(11), keepup::core::event::Exit::Code(1))),
        ..answers([(s(0), pass()), (s(5), pass_in(s(4)))])
    };
    let mut sim = Sim::new([(api, vec![dies, answers([(s(0), silence())])])]);
    sim.run_until(s(20));
    sim.says_of(
        &["healthy", "ready", "not yet"],
        "0.010 api healthy
         0.010 api ready after 10ms
         16.500 api liveness not yet: timed out after 5s",
    );
}

#[test]
fn a_manual_restart_is_not_counted_toward_the_cap() {
    let api = service("api", |it| {
        it.restart.max_restarts = 2;
        it.restart.on_cap = OnCap::Fail;
    });
    let mut sim = Sim::new([(api, vec![well()])]);
    for nth in 1..=20 {
        sim.at(s(nth), restart("api"));
    }
    sim.run_until(s(60));
    let api = sim.core.service("api").unwrap();
    assert_eq!((api.run, api.restarts, api.budget.failures()), (21, 0, 0));
}

#[test]
fn nothing_stays_down_because_its_database_was_away_for_five_minutes() {
    let crash = || exits(ms(100), 1);
    let runs = [(); 12].map(|()| crash()).into_iter().chain([well()]).collect();
    let mut sim = Sim::new([(service("api", |_| {}), runs)]);
    sim.run_until(s(3600));
    assert!(sim.ready("api"), "{}", sim.trace);
}

#[test]
fn a_host_that_stood_still_is_no_hang() {
    let api = || service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.failures = 1)));
    // Asked at 10.010; the answer would come at 10.020.
    for stall in [Stall::Frozen(s(100)), Stall::Starved(s(100))] {
        let mut sim = Sim::new([(api(), vec![well()])]);
        sim.stall(ms(10_015), stall).run_until(s(300));
        sim.says_of(&["missed", "stopping"], "");
    }
}

#[test]
fn a_host_that_stood_still_gives_a_start_its_time() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.start_timeout = s(30);
    });
    let slow = answers([(s(0), miss("warming up")), (s(120), pass())]);
    let mut sim = Sim::new([(api, vec![slow])]);
    sim.stall(s(10), Stall::Frozen(s(100))).run_until(s(300));
    sim.says_of(&["stopping", "ready"], "120.110 api ready after 2m");
}

#[test]
fn a_stall_again_and_again_does_not_shield_a_real_hang_for_ever() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.heartbeat = Some(heartbeat(s(60), s(120)));
    });
    let asked = Service { heartbeat: None, ..api.clone() };
    let beating = Service { probes: Vec::new(), ..api };
    // Still for three seconds of every five, and for twenty of every twenty-one.
    for (gap, period) in [(3, 5), (20, 21)] {
        for api in [&asked, &beating] {
            let hung = Run { hangs: Some(s(15)), ..beats(s(1), s(1), 1000) };
            let mut sim = Sim::new([(api.clone(), vec![hung])]);
            for nth in 0..300 {
                sim.stall(s(20 + period * nth), Stall::Frozen(s(gap)));
            }
            sim.run_until(s(600));
            assert!(sim.trace.contains("stopping"), "{}", sim.trace);
        }
    }
}

#[test]
fn a_late_tick_among_many_events_is_no_stall() {
    // Busy, not still: something happens all the time, and a deadline is heeded late.
    let mut sim = Sim::new([(service("api", |_| {}), vec![exits(s(1), 1), well()])]);
    sim.stall(s(1), Stall::Starved(ms(1_400))).run_until(s(10));
    sim.says_of(&["stood"], "");
}

#[test]
fn a_host_that_stood_still_is_no_hang_of_those_who_answer_second() {
    let live =
        |name| service(name, |it| it.probes.push(probe(Role::Liveness, |it| it.failures = 1)));
    let slow = || answers([(s(0), pass()), (s(5), pass_in(s(4)))]);
    let mut sim = Sim::new([(live("quick"), vec![well()]), (live("slow"), vec![slow()])]);
    sim.stall(ms(10_015), Stall::Frozen(s(100)));
    // Whatever comes first when keepup goes on.
    sim.at(s(20), Event::Start { name: "quick".into(), by: 0 });
    sim.run_until(s(130));
    sim.says_of(&["missed", "stopping", "stood"], "110.015 host stood still: 1m 40s");
}

#[test]
fn a_host_that_stood_still_has_not_lost_its_heartbeats() {
    let api = service("api", |it| it.heartbeat = Some(heartbeat(s(6), s(12))));
    // A look takes 100 ms, and is asked for every 600 ms.
    for millis in (10_000..11_000).step_by(50) {
        for stall in [Stall::Frozen(s(100)), Stall::Starved(s(100))] {
            let run = Run { look_takes: ms(100), ..beats(s(1), s(1), 1000) };
            let mut sim = Sim::new([(api.clone(), vec![run])]);
            sim.stall(ms(millis), stall).run_until(s(300));
            sim.says_of(&["degraded", "stopping"], "");
        }
    }
}
