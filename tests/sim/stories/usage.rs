//! What runs use, and what follows from it.

use keepup::core::event::Used;
use keepup::plan::{Resources, Service};

use crate::plans::{liveness, s, service};
use crate::script::{Run, used, well};
use crate::world::Sim;

fn limited(change: impl FnOnce(&mut Resources)) -> Service {
    service("api", |it| change(&mut it.resources))
}

const fn mib(count: u64) -> u64 {
    count << 20
}

#[test]
fn what_is_not_limited_is_not_measured() {
    let mut sim = Sim::new([(service("api", |it| it.probes.push(liveness())), vec![well()])]);
    sim.effects = Some(String::new());
    sim.run_until(s(60));
    assert!(!sim.effects.unwrap().contains("Measure"));
}

#[test]
fn too_much_memory_is_confirmed_after_a_second_and_is_a_failure_like_any_other() {
    let api = limited(|it| it.max_memory = Some(mib(100)));
    let leaks = Run { uses: vec![(s(0), used(40, 0.0)), (s(9), used(101, 0.0))], ..well() };
    let mut sim = Sim::new([(api, vec![leaks, well()])]);
    sim.run_until(s(30));
    // Looked at every 2 s; at 10.05 there is too much, and a second later still.
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         11.060 api unhealthy: uses 101 MiB, max_memory is 100 MiB
         11.060 api stopping (uses 101 MiB, max_memory is 100 MiB): sent SIGTERM, KILL follows in 8s
         11.160 api ended after 11s: uses 101 MiB, max_memory is 100 MiB (killed by SIGTERM)
         11.160 api restart in 500ms (failure 1 in a row)
         11.660 api starting run 2
         11.660 api up, pid 102
         11.660 api ready after 0ms",
    );
}

#[test]
fn one_look_at_a_spike_of_memory_kills_nobody() {
    let api = limited(|it| it.max_memory = Some(mib(100)));
    let spike = vec![
        (s(0), used(40, 0.0)),
        (s(9), used(900, 0.0)),
        (s(11), used(40, 0.0)),
        (s(19), used(900, 0.0)),
        (s(20), Used::default()),
    ];
    let mut sim = Sim::new([(api, vec![Run { uses: spike, ..well() }])]);
    sim.run_until(s(100));
    sim.says_of(&["unhealthy", "stopping"], "");
}

#[test]
fn much_memory_is_a_warning_until_it_is_clearly_less() {
    let api = limited(|it| (it.warn_memory, it.max_memory) = (Some(mib(100)), Some(mib(200))));
    let uses = vec![
        (s(0), used(100, 0.0)),
        (s(9), used(101, 0.0)),
        (s(19), used(98, 0.0)),
        (s(29), used(95, 0.0)),
        (s(39), used(150, 0.0)),
    ];
    let mut sim = Sim::new([(api, vec![Run { uses, ..well() }])]);
    sim.run_until(s(60));
    sim.says_of(
        &["degraded", "healthy", "stopping"],
        "10.050 api degraded: memory is 101 MiB, warn_memory is 100 MiB
         30.150 api healthy
         40.200 api degraded: memory is 150 MiB, warn_memory is 100 MiB",
    );
}

#[test]
fn a_busy_processor_is_borne_for_its_time_and_each_pause_begins_it_anew() {
    let api = limited(|it| (it.max_cpu, it.max_cpu_for) = (Some(95), s(20)));
    let spins = vec![
        (s(0), used(1, 95.0)),
        (s(9), used(1, 99.0)),
        (s(25), used(1, 20.0)),
        (s(29), used(1, 180.0)),
    ];
    let mut sim = Sim::new([(api, vec![Run { uses: spins, ..well() }, well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy"],
        "48.240 api unhealthy: uses 180% of a processor, max_cpu is 95%, for 20.1s",
    );
}

#[test]
fn a_measurement_of_an_earlier_run_says_nothing_of_this_one() {
    let api = service("api", |it| {
        it.resources.max_memory = Some(mib(100));
        it.restart.delay = s(0);
    });
    let first = Run { uses: vec![(s(0), used(900, 0.0))], ..well() };
    let second = Run { uses: vec![(s(0), used(900, 0.0)), (s(3), used(1, 0.0))], ..well() };
    let mut sim = Sim::new([(api, vec![first, second])]);
    // It dies while a look is out that will show too much; the next run lives when that comes back.
    sim.run_until(s(2) + s(1) / 200);
    sim.crash("api", keepup::core::event::Exit::Code(1));
    sim.run_until(s(60));
    sim.says_of(&["unhealthy", "ended"], "2.005 api ended after 2s: exit code 1");
}
