//! What a service says of itself by `sd_notify`, and what comes of it.

use keepup::core::event::{Exit, News};
use keepup::plan::{Role, Service};

use crate::plans::{liveness, ms, probe, s, service, watchdog};
use crate::script::{
    Run, Says, answers, exits, ignores_term, miss, pass, pass_in, says, stop, well,
};
use crate::world::Sim;

fn notifying() -> Service {
    service("api", |it| it.notify = true)
}

fn watched() -> Service {
    service("api", |it| it.heartbeat = Some(watchdog(s(10), s(20))))
}

/// It says WATCHDOG=1 at each of these seconds.
fn says_beats<const N: usize>(seconds: [u64; N]) -> Run {
    Run { says: seconds.map(|at| (s(at), Says::Beat)).into(), ..well() }
}

fn text(sim: &Sim) -> Option<&str> {
    sim.core.service("api").unwrap().words.status.as_deref()
}

#[test]
fn a_service_that_notifies_has_started_when_it_says_so() {
    let web = service("web", |it| it.after = vec!["api".into()]);
    let mut sim = Sim::new([(notifying(), vec![says([(s(3), News::Ready)])]), (web, vec![well()])]);
    sim.run_until(s(100));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         3.000 api healthy
         3.000 api ready after 3s
         3.000 web starting run 1
         3.000 web up, pid 102
         3.000 web ready after 0ms",
    );
}

#[test]
fn a_service_that_never_says_so_is_never_ready() {
    let mut sim = Sim::new([(notifying(), vec![well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy:"],
        "60.000 api unhealthy: not started within 1m: it has not said READY=1",
    );
}

#[test]
fn ready_is_not_enough_where_probes_must_pass_and_not_needed_where_nobody_asked() {
    let both = service("api", |it| {
        it.notify = true;
        it.probes.push(liveness());
    });
    let run = Run {
        says: vec![(s(3), Says::News(News::Ready))],
        ..answers([(s(0), miss("503")), (s(5), pass())])
    };
    let mut sim = Sim::new([(both, vec![run]), (service("web", |_| {}), vec![well()])]);
    sim.run_until(s(20));
    sim.says_of(
        &["ready after"],
        "0.000 web ready after 0ms
         5.060 api ready after 5s",
    );
}

#[test]
fn the_word_of_an_earlier_run_is_not_that_of_the_next() {
    let first = Run { exits: Some((s(5), Exit::Code(1))), ..says([(s(1), News::Ready)]) };
    let mut sim = Sim::new([(notifying(), vec![first, well()])]);
    sim.run_until(s(70));
    sim.says_of(
        &["ready after", "unhealthy:"],
        "1.000 api ready after 1s
         65.500 api unhealthy: not started within 1m: it has not said READY=1",
    );
}

#[test]
fn a_start_that_asks_for_more_time_gets_it() {
    let run = says([
        (s(1), News::Extend(s(5))),
        (s(50), News::Extend(s(30))),
        // It had more than that already.
        (s(60), News::Extend(s(5))),
        (s(79), News::Ready),
    ]);
    let mut sim = Sim::new([(notifying(), vec![run])]);
    sim.run_until(s(100));
    sim.says_of(&["ready after", "unhealthy"], "79.000 api ready after 1m 19s");
}

#[test]
fn more_time_for_a_start_is_not_for_ever() {
    let run = says([(s(50), News::Extend(s(30))), (s(81), News::Ready)]);
    let mut sim = Sim::new([(notifying(), vec![run])]);
    sim.run_until(s(80));
    sim.says_of(
        &["unhealthy:"],
        "80.000 api unhealthy: not started within 1m: it has not said READY=1",
    );
    let run = says([(s(1), News::Extend(s(1_000_000)))]);
    let mut sim = Sim::new([(notifying(), vec![run])]);
    sim.run_until(s(3601));
    sim.says_of(
        &["unhealthy:"],
        "3601.000 api unhealthy: not started within 1m: it has not said READY=1",
    );
}

#[test]
fn a_stop_that_asks_for_more_time_gets_it() {
    let run = Run { says: vec![(s(15), Says::News(News::Extend(s(20))))], ..ignores_term() };
    let mut sim = Sim::new([(service("api", |_| {}), vec![run])]);
    sim.at(s(10), stop("api")).run_until(s(60));
    sim.says_of(
        &["killing", "ended"],
        "35.000 api killing: it did not stop in time
         35.050 api ended after 10s: asked by uid 1000 (killed by SIGKILL)",
    );
}

#[test]
fn a_run_that_hangs_does_not_put_off_its_end() {
    let run = Run {
        says: vec![(s(1), Says::Beat), (s(22), Says::News(News::Extend(s(500))))],
        ..ignores_term()
    };
    let mut sim = Sim::new([(watched(), vec![run])]);
    sim.run_until(s(30));
    sim.says_of(&["killing"], "29.000 api killing: it did not stop in time");
}

#[test]
fn a_watchdog_that_falls_silent_degrades_and_then_ends_the_run() {
    let mut sim = Sim::new([(watched(), vec![says_beats([1, 8, 16]), says_beats([1])])]);
    sim.run_until(s(38));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         1.000 api healthy
         1.000 api ready after 1s
         26.000 api degraded: no heartbeat for 10s: it does not say WATCHDOG=1
         36.000 api unhealthy: no heartbeat for 20s: it does not say WATCHDOG=1
         36.000 api stopping (no heartbeat for 20s: it does not say WATCHDOG=1): sent SIGTERM, KILL follows in 8s
         36.100 api ended after 36s: no heartbeat for 20s: it does not say WATCHDOG=1 (killed by SIGTERM)
         36.100 api restart in 500ms (failure 1 in a row)
         36.600 api starting run 2
         36.600 api up, pid 102
         37.600 api healthy
         37.600 api ready after 1s",
    );
}

#[test]
fn a_watchdog_heals_and_counts_where_there_is_a_file_too() {
    let run = says_beats([1, 15, 20]);
    let mut sim = Sim::new([(watched(), vec![run])]);
    sim.run_until(s(25));
    sim.says_of(
        &["degraded", "healthy"],
        "1.000 api healthy
         11.000 api degraded: no heartbeat for 10s: it does not say WATCHDOG=1
         15.000 api healthy",
    );
    let both = service("api", |it| it.heartbeat = Some(crate::plans::heartbeat(s(10), s(20))));
    let run = Run { beats: vec![s(1), s(17)], ..says_beats([9, 25]) };
    let mut sim = Sim::new([(both, vec![run])]);
    sim.run_until(s(34));
    sim.says_of(&["degraded", "ready after"], "1.000 api ready after 1s");
}

#[test]
fn a_watchdog_that_was_never_heard_has_not_started() {
    let mut sim = Sim::new([(watched(), vec![well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["unhealthy:"],
        "60.000 api unhealthy: not started within 1m: no first heartbeat: it does not say WATCHDOG=1",
    );
}

#[test]
fn a_beat_that_nobody_wants_changes_nothing() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![says_beats([1, 2])])]);
    sim.run_until(s(1000));
    sim.says_of(&["degraded", "healthy", "stopping"], "");
}

#[test]
fn whoever_says_that_it_is_not_well_is_restarted_at_once() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![says([(s(5), News::Trigger)]), well()])]);
    sim.run_until(s(6));
    sim.says_of(
        &["unhealthy", "restart"],
        "5.000 api unhealthy: it says so itself (WATCHDOG=trigger)
         5.000 api stopping (unhealthy: it says so itself (WATCHDOG=trigger)): sent SIGTERM, KILL follows in 8s
         5.100 api ended after 5s: unhealthy: it says so itself (WATCHDOG=trigger) (killed by SIGTERM)
         5.100 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn whoever_says_that_it_is_stopping_is_asked_no_more_and_its_exit_counts() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.probes.push(probe(Role::Readiness, |_| {}));
        it.heartbeat = Some(watchdog(s(3), s(4)));
    });
    let words = vec![(s(1), Says::Beat), (s(3), Says::News(News::Stopping))];
    let run = Run { says: words, ..exits(s(9), 0) };
    let mut sim = Sim::new([(api, vec![run, well()])]);
    sim.run_until(s(8));
    sim.forget();
    assert!(!sim.ready("api"));
    sim.run_until(ms(9_100));
    sim.says(
        "9.000 api ended after 9s: exit code 0
         9.000 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn an_answer_of_whoever_says_that_it_is_stopping_comes_too_late() {
    let api = service("api", |it| it.probes.push(liveness()));
    // Asked at 10.010, and answered after it said so.
    let replies = answers([(s(0), pass()), (s(10), pass_in(s(2)))]);
    let says = vec![(s(11), Says::News(News::Stopping))];
    let run = Run { says, exits: Some((s(15), Exit::Code(0))), ..replies };
    let mut sim = Sim::new([(api, vec![run])]);
    sim.run_until(s(15));
    sim.says_of(&["ended"], "15.000 api ended after 15s: exit code 0");
}

#[test]
fn whoever_says_that_it_is_stopping_and_stays_is_stopped() {
    let run = says([(s(3), News::Stopping), (s(4), News::Extend(s(10))), (s(12), News::Stopping)]);
    let mut sim = Sim::new([(service("api", |_| {}), vec![run])]);
    sim.run_until(s(14));
    sim.says_of(
        &["degraded", "unhealthy:", "stopping"],
        "3.000 api degraded: it says that it is stopping (STOPPING=1)
         14.000 api unhealthy: it said 11s ago that it is stopping, and still runs
         14.000 api stopping (unhealthy: it said 11s ago that it is stopping, and still runs): sent SIGTERM, KILL follows in 8s",
    );
}

#[test]
fn a_stop_before_the_start_was_over_is_no_start() {
    let run = Run {
        exits: Some((s(5), Exit::Code(0))),
        ..says([(s(1), News::Stopping), (s(2), News::Ready)])
    };
    let mut sim = Sim::new([(notifying(), vec![run])]);
    sim.run_until(s(5));
    sim.says_of(&["ready", "ended"], "5.000 api ended after 5s: exit code 0");
}

#[test]
fn its_status_is_shown_until_another_comes_or_the_run_is_over() {
    let run = Run {
        exits: Some((s(9), Exit::Code(1))),
        ..says([
            (s(1), News::Status("loading".to_owned())),
            (s(3), News::Status("serving".to_owned())),
            (s(4), News::Reloading),
            (s(5), News::Ready),
            (s(7), News::Status(String::new())),
            (s(8), News::Status("about to die".to_owned())),
        ])
    };
    let mut sim = Sim::new([(service("api", |_| {}), vec![run])]);
    let reloads = |sim: &Sim| sim.core.service("api").unwrap().words.reloading;
    let mut shown = Vec::new();
    for second in 0..10 {
        sim.run_until(s(second));
        shown.push(text(&sim).unwrap_or("-").to_owned());
        assert_eq!(reloads(&sim), second == 4, "{second}");
    }
    let expected = [
        "-",
        "loading",
        "loading",
        "serving",
        "serving",
        "serving",
        "serving",
        "-",
        "about to die",
        "-",
    ];
    assert_eq!(shown, expected);
}
