//! The commands beside a run: what prepares it, and what tidies up after it.

use keepup::core::event::{Event, Exit};
use keepup::plan::{Policy, Service};

use crate::plans::{ms, s, service};
use crate::script::{Aside, Run, aside, exits, restart, start, stop, unspawnable, well};
use crate::world::Sim;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn prepared(change: impl FnOnce(&mut Service)) -> Service {
    service("api", |it| {
        it.pre_start = words("./migrate --check");
        change(it);
    })
}

fn tidied() -> Service {
    service("api", |it| it.post_stop = words("./clean"))
}

fn prepares(hook: Aside) -> Run {
    Run { prepares: hook, ..well() }
}

fn tidies(hook: Aside) -> Run {
    Run { tidies: hook, ..well() }
}

#[test]
fn a_run_starts_when_what_prepares_it_has_succeeded() {
    let mut sim = Sim::new([(prepared(|_| {}), vec![well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api (pre_start)
         0.200 api up, pid 101
         0.200 api ready after 0ms",
    );
}

#[test]
fn a_run_that_could_not_be_prepared_is_a_failed_start() {
    let fails = prepares(aside(Some((s(1), 3))));
    let mut sim = Sim::new([(prepared(|_| {}), vec![fails.clone(), fails, well()])]);
    sim.run_until(s(4));
    sim.says_of(
        &["pre_start", "restart"],
        "0.000 api (pre_start)
         1.000 api ended after 0ms: pre_start `./migrate --check` failed: exit code 3
         1.000 api restart in 500ms (failure 1 in a row)
         1.500 api (pre_start)
         2.500 api ended after 0ms: pre_start `./migrate --check` failed: exit code 3
         2.500 api restart in 1s (failure 2 in a row)
         3.500 api (pre_start)",
    );
}

#[test]
fn what_prepares_for_too_long_is_killed_and_says_so() {
    let hangs = prepares(aside(None));
    let mut sim = Sim::new([(prepared(|it| it.start_timeout = s(7)), vec![hangs])]);
    sim.run_until(s(8));
    sim.says_of(
        &["ended", "restart"],
        "7.050 api ended after 0ms: pre_start `./migrate --check` did not end within 7s, and was killed
         7.050 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn a_hook_that_cannot_be_started_says_why() {
    let ends = Some((ms(0), Err("cannot start `./migrate`: it is not there".to_owned())));
    let missing = prepares(Aside { ends, ..aside(None) });
    let mut sim = Sim::new([(prepared(|_| {}), vec![missing])]);
    sim.run_until(ms(100));
    sim.says_of(
        &["ended"],
        "0.000 api ended after 0ms: pre_start: cannot start `./migrate`: it is not there",
    );
}

#[test]
fn an_operators_stop_ends_what_prepares_and_nothing_is_started() {
    let hangs = prepares(aside(None));
    let mut sim = Sim::new([(prepared(|_| {}), vec![hangs])]);
    sim.at(s(1), stop("api")).run_until(s(100));
    sim.says(
        "0.000 api starting run 1
         0.000 api (pre_start)
         1.100 api ended after 0ms: asked by uid 1000
         1.100 api down",
    );
}

#[test]
fn what_prepares_and_ignores_its_stop_is_killed_in_time() {
    let stubborn = prepares(Aside { obeys: None, ..aside(None) });
    let mut sim = Sim::new([(prepared(|_| {}), vec![stubborn])]);
    sim.at(s(1), stop("api")).run_until(s(100));
    sim.says_of(&["ended"], "9.050 api ended after 0ms: asked by uid 1000");
}

#[test]
fn what_prepares_to_its_end_though_it_was_asked_to_stop_is_followed_by_no_run() {
    let deaf = prepares(Aside { obeys: None, ..aside(Some((ms(1_500), 0))) });
    let mut sim = Sim::new([(prepared(|_| {}), vec![deaf])]);
    sim.at(s(1), stop("api")).run_until(s(100));
    sim.says(
        "0.000 api starting run 1
         0.000 api (pre_start)
         1.500 api ended after 0ms: asked by uid 1000
         1.500 api down",
    );
}

#[test]
fn a_start_after_such_a_stop_prepares_again() {
    let hangs = prepares(aside(None));
    let mut sim = Sim::new([(prepared(|_| {}), vec![hangs])]);
    sim.at(s(1), stop("api")).at(ms(1_050), start("api")).run_until(s(2));
    sim.says(
        "0.000 api starting run 1
         0.000 api (pre_start)
         1.100 api starting run 2, asked by uid 1000
         1.100 api (pre_start)",
    );
}

#[test]
fn a_hook_that_survives_kill_is_told_and_nothing_is_started_beside_it() {
    let stuck = prepares(Aside { obeys: None, kill_takes: None, ..aside(None) });
    let mut sim = Sim::new([(prepared(|it| it.start_timeout = s(2)), vec![stuck])]);
    sim.run_until(s(1_000));
    sim.says(
        "0.000 api starting run 1
         0.000 api (pre_start)
         7.000 api stuck: pre_start survives KILL; it hangs in the kernel (a dead disk or mount?), and nothing is started beside it",
    );
}

#[test]
fn a_run_is_tidied_up_after_a_crash_before_its_successor_is_planned() {
    let mut sim = Sim::new([(tidied(), vec![exits(s(1), 3), well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         1.000 api (post_stop KEEPUP_REASON=exited KEEPUP_EXIT_CODE=3)
         1.300 api ended after 1s: exit code 3
         1.300 api restart in 500ms (failure 1 in a row)
         1.800 api starting run 2
         1.800 api up, pid 102
         1.800 api ready after 0ms",
    );
}

#[test]
fn a_run_is_tidied_up_after_a_stop_and_a_failure_is_told_and_changes_nothing() {
    let fails = tidies(aside(Some((ms(100), 1))));
    let mut sim = Sim::new([(tidied(), vec![fails])]);
    sim.at(s(1), stop("api")).run_until(s(10));
    sim.says_of(
        &["post_stop", "ended", "down"],
        "1.100 api (post_stop KEEPUP_REASON=asked KEEPUP_EXIT_CODE=143 KEEPUP_EXIT_SIGNAL=SIGTERM)
         1.200 api post_stop `./clean` failed: exit code 1
         1.200 api ended after 1s: asked by uid 1000 (killed by SIGTERM)
         1.200 api down",
    );
}

#[test]
fn what_tidies_for_too_long_is_killed() {
    let mut sim = Sim::new([(tidied(), vec![tidies(aside(None))])]);
    sim.at(s(1), restart("api")).run_until(ms(9_200));
    sim.says_of(
        &["1000", "killed", "starting run 2"],
        "1.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 8s
         9.150 api post_stop `./clean` did not end within 8s, and was killed
         9.150 api ended after 1s: asked by uid 1000 (killed by SIGTERM)
         9.150 api starting run 2, asked by uid 1000",
    );
}

#[test]
fn nothing_is_tidied_up_where_nothing_was_spawned() {
    let api = service("api", |it| {
        it.post_stop = words("./clean");
        it.restart.policy = Policy::Never;
    });
    let mut sim = Sim::new([(api, vec![unspawnable("cannot fork")])]);
    sim.run_until(s(10));
    sim.says_of(&["post_stop", "ended"], "0.000 api ended after 0ms: cannot fork");
}

#[test]
fn keepup_tidies_up_at_its_end_and_no_longer_than_its_limit() {
    let mut sim = Sim::new([(tidied(), vec![tidies(aside(None))])]);
    sim.at(s(1), Event::Shutdown).at(s(3), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["post_stop", "ended", "exit"],
        "1.100 api (post_stop KEEPUP_REASON=asked KEEPUP_EXIT_CODE=143 KEEPUP_EXIT_SIGNAL=SIGTERM)
         3.050 api post_stop `./clean` failed: killed by SIGKILL
         3.050 api ended after 1s: keepup is ending (killed by SIGTERM)
         3.050 exit 0",
    );
}

#[test]
fn keepup_does_not_begin_to_tidy_up_when_it_must_go() {
    let deaf = Run { obeys: None, ..well() };
    let mut sim = Sim::new([(tidied(), vec![deaf])]);
    sim.at(s(1), Event::Shutdown).at(s(3), Event::Shutdown).run_until(s(60));
    sim.says_of(&["post_stop", "exit"], "3.050 exit 0");
}

#[test]
fn keepup_ends_while_a_run_is_prepared() {
    let hangs = prepares(aside(None));
    let mut sim = Sim::new([(prepared(|_| {}), vec![hangs])]);
    sim.at(s(1), Event::Shutdown).run_until(s(60));
    sim.says_of(
        &["ended", "exit"],
        "1.100 api ended after 0ms: keepup is ending
         1.100 exit 0",
    );
}

#[test]
fn a_crash_of_a_prepared_service_prepares_again() {
    let mut sim = Sim::new([(prepared(|_| {}), vec![well()])]);
    sim.run_until(s(1));
    sim.crash("api", Exit::Code(1));
    sim.run_until(s(3));
    sim.says_of(
        &["pre_start", "up"],
        "0.000 api (pre_start)
         0.200 api up, pid 101
         1.500 api (pre_start)
         1.700 api up, pid 102",
    );
}
