//! What systemd is told of keepup: when it is ready, and its line of status.

use std::time::Duration;

use keepup::core::event::Event;
use keepup::plan::{OnCap, Service};

use crate::plans::{liveness, ms, oneshot, s, service};
use crate::script::{Run, answers, exits, miss, pass, start, stop, unspawnable, well};
use crate::world::Sim;

const WORDS: [&str; 2] = ["READY", "STATUS"];

fn probed(name: &str) -> Service {
    service(name, |it| it.probes.push(liveness()))
}

fn passes_from(moment: Duration) -> Run {
    answers([(s(0), miss("503")), (moment, pass())])
}

#[test]
fn ready_when_the_last_has_started() {
    let db = probed("db");
    let api = service("api", |it| {
        it.after = vec!["db".into()];
        it.probes.push(liveness());
    });
    let mut sim = Sim::new([(db, vec![passes_from(s(3))]), (api, vec![passes_from(s(2))])]).tells();
    sim.run_until(s(100));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 2 up; db starting; api waits for db
         3.040 STATUS 1 of 2 up; api starting
         5.070 READY
         5.070 STATUS 2 of 2 up",
    );
}

#[test]
fn a_first_failure_is_waited_for_no_longer_and_shown_with_its_delay() {
    let api = service("api", |it| it.restart.delay = s(4));
    let late = probed("late");
    let mut sim =
        Sim::new([(api, vec![exits(s(1), 1), well()]), (late, vec![passes_from(s(3))])]).tells();
    sim.run_until(s(100));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 2 up; api starting; late starting
         0.000 STATUS 1 of 2 up; late starting
         1.000 STATUS 0 of 2 up; api stopping; late starting
         1.000 STATUS 0 of 2 up; api in backoff 4s; late starting
         3.040 READY
         3.040 STATUS 1 of 2 up; api in backoff 4s
         5.000 STATUS 1 of 2 up; api starting
         5.000 STATUS 2 of 2 up",
    );
}

#[test]
fn whoever_waits_for_one_that_failed_is_not_waited_for() {
    let db = service("db", |it| it.restart.delay = s(30));
    let cache = service("cache", |it| it.after = vec!["db".into()]);
    let api = service("api", |it| it.after = vec!["cache".into()]);
    let down = unspawnable("cannot start `db`: it is not there");
    let mut sim =
        Sim::new([(db, vec![down, well()]), (cache, vec![well()]), (api, vec![well()])]).tells();
    sim.run_until(s(40));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 3 up; db starting; cache waits for db; api waits for cache
         0.000 READY
         0.000 STATUS 0 of 3 up; db in backoff 30s; cache waits for db; api waits for cache
         30.000 STATUS 0 of 3 up; db starting; cache waits for db; api waits for cache
         30.000 not READY
         30.000 STATUS 1 of 3 up; cache starting; api waits for cache
         30.000 STATUS 2 of 3 up; api starting
         30.000 READY
         30.000 STATUS 3 of 3 up",
    );
}

#[test]
fn one_that_never_gets_ready_is_waited_for_until_its_start_timeout() {
    let mut sim = Sim::new([(probed("api"), vec![answers([(s(0), miss("503"))])])]).tells();
    sim.run_until(ms(60_700));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 1 up; api starting
         60.000 READY
         60.000 STATUS 0 of 1 up; api stopping
         60.100 STATUS 0 of 1 up; api in backoff 500ms
         60.600 STATUS 0 of 1 up; api starting",
    );
}

#[test]
fn a_oneshot_is_waited_for_until_it_is_done() {
    let migrate = oneshot("migrate", |_| {});
    let api = service("api", |it| it.after = vec!["migrate".into()]);
    let lazy = service("lazy", |it| it.autostart = false);
    let mut sim =
        Sim::new([(migrate, vec![exits(s(7), 0)]), (api, vec![well()]), (lazy, vec![well()])])
            .tells();
    sim.run_until(s(10));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 2 up; migrate starting; api waits for migrate
         0.000 STATUS 1 of 2 up; api waits for migrate
         7.000 STATUS 0 of 2 up; migrate stopping; api waits for migrate
         7.000 STATUS 0 of 1 up; api starting
         7.000 READY
         7.000 STATUS 1 of 1 up",
    );
    sim.send(start("lazy"));
    sim.run_until(s(11));
    sim.send(stop("api"));
    sim.run_until(s(12));
    sim.says_of(
        &["STATUS"],
        "10.000 STATUS 1 of 2 up; lazy starting
         10.000 STATUS 2 of 2 up
         11.000 STATUS 1 of 1 up",
    );
}

#[test]
fn a_oneshot_that_nobody_comes_after_is_waited_for_too() {
    let job = oneshot("job", |_| {});
    let mut sim =
        Sim::new([(job, vec![exits(s(7), 0)]), (service("api", |_| {}), vec![well()])]).tells();
    sim.run_until(s(10));
    sim.says_of(&["READY"], "7.000 READY");
}

#[test]
fn what_was_given_up_is_shown_for_now_and_for_good() {
    let retried = service("a", |it| it.restart.max_restarts = 1);
    let failed = service("b", |it| {
        it.restart.max_restarts = 1;
        it.restart.on_cap = OnCap::Fail;
    });
    let mut sim = Sim::new([
        (retried, vec![exits(s(1), 1)]),
        (failed, vec![exits(s(1), 1)]),
        (service("c", |_| {}), vec![well()]),
    ])
    .tells();
    sim.run_until(s(3));
    sim.says_of(
        &["2.500 STATUS"],
        "2.500 STATUS 2 of 3 up; a stopping
         2.500 STATUS 1 of 3 up; a stopping; b stopping
         2.500 STATUS 1 of 3 up; a given up, retried in 5m; b stopping
         2.500 STATUS 1 of 3 up; a given up, retried in 5m; b given up",
    );
}

#[test]
fn of_many_troubles_three_are_named() {
    let services = ["a", "b", "c", "d", "e"].map(|name| (probed(name), vec![passes_from(s(9))]));
    let mut sim = Sim::new(services).tells();
    sim.run_until(s(1));
    sim.says_of(
        &["STATUS"],
        "0.000 STATUS 0 of 5 up; a starting; b starting; c starting; and 2 more",
    );
}

#[test]
fn trouble_without_a_restart_is_shown() {
    let replies = [(s(0), pass()), (s(5), miss("503")), (s(12), pass())];
    let mut sim = Sim::new([(probed("api"), vec![answers(replies)])]).tells();
    sim.run_until(s(30));
    sim.says_of(
        &WORDS,
        "0.000 STATUS 0 of 1 up; api starting
         0.010 READY
         0.010 STATUS 1 of 1 up
         10.020 STATUS 1 of 1 up; api degraded
         13.030 STATUS 1 of 1 up",
    );
}

#[test]
fn on_its_way_out_it_says_who_still_runs() {
    let stubborn = Run { obeys: None, ..well() };
    let mut sim = Sim::new([
        (service("db", |_| {}), vec![well()]),
        (service("api", |it| it.after = vec!["db".into()]), vec![stubborn]),
    ])
    .tells();
    sim.run_until(s(1));
    sim.forget();
    sim.send(Event::Shutdown);
    sim.run_until(s(20));
    sim.says_of(
        &["STOPPING", "STATUS", "READY"],
        "1.000 STOPPING
         1.000 STATUS stopping; 2 still run; db; api
         9.050 STATUS stopping; db still runs
         9.150 STATUS stopped",
    );
}

#[test]
fn the_limit_of_a_start_is_that_of_the_longest_chain() {
    let timed = |name: &str, seconds, after: &str| {
        service(name, |it| {
            it.start_timeout = s(seconds);
            it.after = after.split_whitespace().map(Into::into).collect();
        })
    };
    let sim = Sim::new([
        (timed("api", 7, "db cache"), vec![well()]),
        (timed("db", 20, "disk"), vec![well()]),
        (timed("cache", 22, ""), vec![well()]),
        (timed("disk", 5, ""), vec![well()]),
    ]);
    assert_eq!(sim.core.start_limit(), s(32));
}
