//! The heartbeat file: first beat, late, lost; and what is no beat.

use keepup::core::event::Exit;
use keepup::plan::Service;

use crate::plans::{heartbeat, ms, s, service};
use crate::script::{Run, beats, exits, well};
use crate::world::Sim;

fn beating() -> Service {
    service("api", |it| it.heartbeat = Some(heartbeat(s(60), s(120))))
}

#[test]
fn a_service_has_started_with_its_first_beat() {
    let mut sim = Sim::new([(beating(), vec![beats(s(5), s(10), 100)])]);
    sim.run_until(s(900));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         5.000 api healthy
         5.000 api ready after 5s",
    );
}

#[test]
fn a_heartbeat_that_stops_degrades_and_then_ends_the_run() {
    let mut sim = Sim::new([(beating(), vec![beats(s(5), s(10), 2), beats(s(1), s(10), 9)])]);
    sim.run_until(s(140));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         5.000 api healthy
         5.000 api ready after 5s
         75.000 api degraded: no heartbeat for 1m: /run/beat does not change
         135.000 api unhealthy: no heartbeat for 2m: /run/beat does not change
         135.000 api stopping (no heartbeat for 2m: /run/beat does not change): sent SIGTERM, KILL follows in 8s
         135.100 api ended after 2m 15s: no heartbeat for 2m: /run/beat does not change (killed by SIGTERM)
         135.100 api restart in 500ms (failure 1 in a row)
         135.600 api starting run 2
         135.600 api up, pid 102
         136.600 api healthy
         136.600 api ready after 1s",
    );
}

#[test]
fn a_late_beat_heals() {
    let run = Run { beats: vec![s(5), s(85), s(100), s(110)], ..well() };
    let mut sim = Sim::new([(beating(), vec![run])]);
    sim.run_until(s(120));
    sim.says_of(
        &["degraded", "healthy"],
        "5.000 api healthy
         65.000 api degraded: no heartbeat for 1m: /run/beat does not change
         85.000 api healthy",
    );
}

#[test]
fn a_file_that_disappears_is_no_beat() {
    let mut sim = Sim::new([(beating(), vec![beats(s(5), s(10), 2)])]);
    sim.run_until(s(16));
    sim.take_heartbeat_file("api");
    sim.run_until(s(136));
    sim.says_of(
        &["degraded", "unhealthy:"],
        "75.000 api degraded: no heartbeat for 1m: /run/beat is not there
         135.000 api unhealthy: no heartbeat for 2m: /run/beat is not there",
    );
}

#[test]
fn probes_and_heartbeat_must_both_come_before_a_run_has_started() {
    let api = service("api", |it| {
        it.heartbeat = Some(heartbeat(s(60), s(120)));
        it.probes.push(crate::plans::liveness());
    });
    let mut sim = Sim::new([(api, vec![beats(s(5), s(10), 100)])]);
    sim.run_until(s(20));
    sim.says_of(&["ready"], "5.000 api ready after 5s");
}

#[test]
fn a_file_system_that_hangs_from_birth_is_named() {
    let run = Run { looks_hang: Some(s(0)), ..beats(s(5), s(10), 100) };
    let mut sim = Sim::new([(beating(), vec![run])]);
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy:"],
        "60.000 api unhealthy: not started within 1m: no first heartbeat: no look at /run/beat came back",
    );
}

#[test]
fn a_heartbeat_on_a_file_system_that_hangs_is_lost_all_the_same() {
    let run = Run { looks_hang: Some(s(20)), ..beats(s(5), s(10), 100) };
    let mut sim = Sim::new([(beating(), vec![run])]);
    sim.run_until(s(138));
    sim.says_of(
        &["degraded", "unhealthy:"],
        "77.000 api degraded: no heartbeat for 1m: no look at /run/beat came back
         137.000 api unhealthy: no heartbeat for 2m 2s: no look at /run/beat came back",
    );
}

#[test]
fn a_service_that_never_beats_is_never_ready() {
    let mut sim = Sim::new([(beating(), vec![well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy:"],
        "60.000 api unhealthy: not started within 1m: no first heartbeat: /run/beat is not there",
    );
}

#[test]
fn a_stale_file_of_an_earlier_life_is_no_beat() {
    let mut sim = Sim::new([(beating(), vec![well()])]);
    sim.leave_heartbeat_file("api");
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy:"],
        "60.000 api unhealthy: not started within 1m: no first heartbeat: /run/beat does not change",
    );
}

#[test]
fn the_last_beat_of_an_earlier_run_is_no_beat_of_the_next() {
    // The last touch comes between the last look and the death.
    let first = Run { beats: vec![s(1), ms(9_990)], ..exits(ms(9_995), 1) };
    let mut sim = Sim::new([(beating(), vec![first, well()])]);
    sim.run_until(ms(70_500));
    sim.says_of(
        &["ready after", "restart in", "unhealthy:"],
        "1.000 api ready after 1s
         9.995 api restart in 500ms (failure 1 in a row)
         70.495 api unhealthy: not started within 1m: no first heartbeat: /run/beat does not change",
    );
}

#[test]
fn a_look_of_an_earlier_run_is_no_beat_of_the_next() {
    // The look of 9.000 sees a beat, and comes back at 10.500, when run 2 waits for its own.
    let first = Run { look_takes: ms(1_500), ..beats(s(1), s(1), 9) };
    let first = Run { exits: Some((ms(9_500), Exit::Code(1))), ..first };
    let mut sim = Sim::new([(beating(), vec![first, Run { look_takes: s(5), ..well() }])]);
    sim.run_until(s(20));
    sim.says_of(
        &["ready after", "ended", "up"],
        "0.000 api up, pid 101
         3.000 api ready after 3s
         9.500 api ended after 9.5s: exit code 1
         10.000 api up, pid 102",
    );
}

#[test]
fn nothing_is_late_before_the_first_beat() {
    let api = service("api", |it| {
        it.heartbeat = Some(heartbeat(s(60), s(120)));
        it.start_timeout = s(300);
    });
    let mut sim = Sim::new([(api, vec![beats(s(200), s(10), 100)])]);
    sim.run_until(s(250));
    sim.says_of(&["degraded", "stopping", "ready"], "200.000 api ready after 3m 20s");
}
