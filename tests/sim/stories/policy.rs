//! Which ends are followed by a restart, and what keepup ends with.

use keepup::core::event::{Exit, Time};
use keepup::core::{Remembered, State};
use keepup::plan::{ExitMatch, OnCap, Policy, Signal};

use crate::plans::{liveness, on_failure_at_most, oneshot, plan, s, service};
use crate::script::{Run, answers, exits, miss, pass, stop, unspawnable, well};
use crate::world::Sim;

fn dies_of(signal: Signal) -> Run {
    Run { exits: Some((s(1), Exit::Signal { signal, core_dumped: false })), ..well() }
}

#[test]
fn always_restarts_even_after_a_success() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![exits(s(2), 0), well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         2.000 api ended after 2s: exit code 0
         2.000 api restart in 500ms (failure 1 in a row)
         2.500 api starting run 2
         2.500 api up, pid 102
         2.500 api ready after 0ms",
    );
}

#[test]
fn on_failure_restarts_after_a_failure_and_is_done_after_a_success() {
    let api = service("api", |it| it.restart.policy = Policy::OnFailure);
    let mut sim = Sim::new([(api, vec![exits(s(2), 1), exits(s(1), 0)])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         2.000 api ended after 2s: exit code 1
         2.000 api restart in 500ms (failure 1 in a row)
         2.500 api starting run 2
         2.500 api up, pid 102
         2.500 api ready after 0ms
         3.500 api ended after 1s: exit code 0
         3.500 api done
         3.500 exit 0",
    );
}

#[test]
fn never_is_done_after_a_success() {
    let api = service("api", |it| it.restart.policy = Policy::Never);
    let mut sim = Sim::new([(api, vec![exits(s(2), 0)])]);
    sim.run_until(s(10));
    sim.says_of(
        &["ended", "done", "given up", "exit"],
        "2.000 api ended after 2s: exit code 0
         2.000 api done
         2.000 exit 0",
    );
}

#[test]
fn never_gives_up_after_a_failure() {
    let api = service("api", |it| it.restart.policy = Policy::Never);
    let mut sim = Sim::new([(api, vec![exits(s(2), 1)])]);
    sim.run_until(s(10));
    sim.says_of(
        &["ended", "done", "given up", "exit"],
        "2.000 api ended after 2s: exit code 1
         2.000 api given up: its restart policy is never
         2.000 exit 4",
    );
}

#[test]
fn never_gives_up_after_a_failed_spawn() {
    let api = service("api", |it| it.restart.policy = Policy::Never);
    let mut sim = Sim::new([(api, vec![unspawnable("cannot find `api`")])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api ended after 0ms: cannot find `api`
         0.000 api given up: its restart policy is never
         0.000 exit 4",
    );
}

#[test]
fn on_failure_3_restarts_three_times_and_gives_up() {
    let api = service("api", on_failure_at_most(3));
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)])]);
    sim.run_until(s(600));
    sim.says_of(
        &["starting", "restart", "given up", "exit 4"],
        "0.000 api starting run 1
         1.000 api restart in 500ms (failure 1 in a row)
         1.500 api starting run 2
         2.500 api restart in 1s (failure 2 in a row)
         3.500 api starting run 3
         4.500 api restart in 2s (failure 3 in a row)
         6.500 api starting run 4
         7.500 api given up: 3 restarts within 30m did not help; the last run: exit code 1
         7.500 exit 4",
    );
}

#[test]
fn unless_stopped_restarts_even_after_a_success() {
    let api = service("api", |it| it.restart.policy = Policy::UnlessStopped);
    let mut sim = Sim::new([(api, vec![exits(s(2), 0), well()])]);
    sim.run_until(s(10));
    sim.says_of(
        &["starting", "restart"],
        "0.000 api starting run 1
         2.000 api restart in 500ms (failure 1 in a row)
         2.500 api starting run 2",
    );
}

/// What a new keepup makes of a service that an operator of the last one stopped.
fn starts_after_a_stop_and_a_new_keepup(policy: Policy) -> bool {
    let api = service("api", |it| it.restart.policy = policy);
    let mut first = Sim::new([(api.clone(), vec![well()])]);
    first.at(s(1), stop("api")).run_until(s(5));
    let past = first.core.remember(first.now);
    let mut second = Sim::of(plan(vec![api]), vec![vec![well()]], 0, &past);
    second.run_until(s(1));
    matches!(second.state("api"), State::Up { .. })
}

#[test]
fn a_stop_outlives_keepup_with_unless_stopped_alone() {
    assert!(!starts_after_a_stop_and_a_new_keepup(Policy::UnlessStopped));
    assert!(starts_after_a_stop_and_a_new_keepup(Policy::Always));
    assert!(starts_after_a_stop_and_a_new_keepup(Policy::OnFailure));
}

#[test]
fn restarts_of_before_keepup_died_count_towards_the_cap() {
    let past = Remembered {
        stopped: false,
        failures: 2,
        restarts: vec![Time(s(0)), Time(s(0)), Time(s(0))],
        ..Remembered::default()
    };
    let api = service("api", on_failure_at_most(3));
    let past = [("api".into(), past)].into();
    let mut sim = Sim::of(plan(vec![api]), vec![vec![exits(s(1), 1)]], 0, &past);
    sim.run_until(s(10));
    sim.says_of(
        &["restart", "given"],
        "1.000 api given up: 3 restarts within 30m did not help; the last run: exit code 1",
    );
}

#[test]
fn success_codes_say_what_a_success_is() {
    let success = vec![ExitMatch::Code(7), ExitMatch::Signal(Signal(10))];
    let api = service("api", |it| {
        it.restart.policy = Policy::OnFailure;
        it.restart.success_codes = success;
    });
    for (run, done) in
        [(exits(s(1), 7), true), (exits(s(1), 0), false), (dies_of(Signal(10)), true)]
    {
        let mut sim = Sim::new([(api.clone(), vec![run])]);
        sim.run_until(s(1));
        assert_eq!(matches!(sim.state("api"), State::Done), done, "{}", sim.trace);
    }
}

#[test]
fn fatal_codes_are_never_followed_by_a_restart() {
    let api = service("api", |it| it.restart.fatal_codes = vec![ExitMatch::Code(3)]);
    let mut sim = Sim::new([(api, vec![exits(s(1), 3)])]);
    sim.run_until(s(10));
    sim.says_of(
        &["given", "exit 4"],
        "1.000 api given up: exit code 3 is among its fatal_codes
         1.000 exit 4",
    );
}

#[test]
fn a_fatal_code_may_be_a_signal() {
    let segv = Signal::parse("SEGV").unwrap();
    let api = service("api", |it| it.restart.fatal_codes = vec![ExitMatch::Signal(segv)]);
    let mut sim = Sim::new([(api, vec![exits(s(1), 11), dies_of(segv)])]);
    sim.run_until(s(10));
    sim.says_of(
        &["restart in", "given"],
        "1.000 api restart in 500ms (failure 1 in a row)
         2.500 api given up: killed by SIGSEGV is among its fatal_codes",
    );
}

#[test]
fn an_exit_that_was_asked_for_is_judged_by_the_asking() {
    let api = service("api", |it| {
        it.restart.fatal_codes = vec![ExitMatch::Code(3)];
        it.probes.push(liveness());
    });
    let hangs = Run { obeys: Some((s(1), Exit::Code(3))), ..answers([(s(5), miss("503"))]) };
    let mut sim = Sim::new([(
        api,
        vec![Run { replies: vec![vec![(s(0), pass()), (s(5), miss("503"))]], ..hangs }, well()],
    )]);
    sim.run_until(s(30));
    sim.says_of(
        &["ended", "restart in", "given"],
        "17.040 api ended after 16s: unhealthy: tcp liveness:80: 503 (exit code 3)
         17.040 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn a_oneshot_is_done_after_a_success_whatever_its_policy() {
    for policy in [Policy::Always, Policy::OnFailure, Policy::UnlessStopped, Policy::Never] {
        let migrate = oneshot("migrate", |it| it.restart.policy = policy);
        let mut sim = Sim::new([(migrate, vec![exits(s(2), 0)])]);
        sim.run_until(s(10));
        sim.says(
            "0.000 migrate starting run 1
             0.000 migrate up, pid 101
             2.000 migrate ended after 2s: exit code 0
             2.000 migrate done
             2.000 exit 0",
        );
    }
}

#[test]
fn a_oneshot_that_fails_is_tried_again() {
    let migrate = oneshot("migrate", |_| {});
    let mut sim = Sim::new([(migrate, vec![exits(s(2), 1), exits(s(2), 0)])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 migrate starting run 1
         0.000 migrate up, pid 101
         2.000 migrate ended after 2s: exit code 1
         2.000 migrate restart in 500ms (failure 1 in a row)
         2.500 migrate starting run 2
         2.500 migrate up, pid 102
         4.500 migrate ended after 2s: exit code 0
         4.500 migrate done
         4.500 exit 0",
    );
}

/// With which code keepup ends when this essential service runs so, beside one that runs well.
fn essential_code(policy: Policy, run: Run) -> Option<u8> {
    let api = service("api", |it| {
        it.essential = true;
        it.restart.policy = policy;
        it.restart.max_restarts = 1;
        it.restart.on_cap = OnCap::Fail;
        it.restart.success_codes = vec![ExitMatch::Code(0), ExitMatch::Code(7)];
    });
    let mut sim = Sim::new([(api, vec![run]), (service("other", |_| {}), vec![well()])]);
    sim.run_until(s(60));
    sim.exit
}

#[test]
fn the_final_end_of_an_essential_service_ends_keepup_with_its_code() {
    assert_eq!(essential_code(Policy::Never, exits(s(1), 0)), Some(0));
    assert_eq!(essential_code(Policy::Never, exits(s(1), 9)), Some(9));
    assert_eq!(essential_code(Policy::Never, dies_of(Signal::KILL)), Some(137));
    assert_eq!(essential_code(Policy::Never, unspawnable("cannot run it")), Some(126));
    assert_eq!(essential_code(Policy::OnFailure, exits(s(1), 0)), Some(0));
    assert_eq!(essential_code(Policy::OnFailure, exits(s(1), 9)), Some(9));
    assert_eq!(essential_code(Policy::OnFailure, exits(s(1), 7)), Some(7), "a success, too");
    assert_eq!(essential_code(Policy::Always, exits(s(1), 0)), Some(4), "0 at the cap");
    assert_eq!(essential_code(Policy::Always, well()), None);
}

#[test]
fn what_runs_beside_an_essential_service_is_stopped_before_keepup_ends() {
    let api = service("api", |it| {
        it.essential = true;
        it.restart.policy = Policy::Never;
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 9)]), (service("other", |_| {}), vec![well()])]);
    sim.run_until(s(60));
    sim.says_of(
        &["1."],
        "1.000 api ended after 1s: exit code 9
         1.000 api given up: its restart policy is never
         1.000 other stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         1.100 other ended after 1s: keepup is ending (killed by SIGTERM)
         1.100 other down
         1.100 exit 9",
    );
}

#[test]
fn at_the_cap_fail_leaves_the_others_alone() {
    let api = service("api", on_failure_at_most(1));
    let mut sim = Sim::new([(api, vec![exits(s(1), 1)]), (service("other", |_| {}), vec![well()])]);
    sim.run_until(s(3600));
    sim.says_of(
        &["given up", "other"],
        "0.000 other starting run 1
         0.000 other up, pid 102
         0.000 other ready after 0ms
         2.500 api given up: 1 restart within 30m did not help; the last run: exit code 1",
    );
    assert!(matches!(sim.state("api"), State::Failed));
}

#[test]
fn at_the_cap_exit_ends_keepup_with_the_services_code() {
    let api = service("api", |it| {
        it.restart.max_restarts = 1;
        it.restart.on_cap = OnCap::Exit;
    });
    let mut sim = Sim::new([(api, vec![exits(s(1), 9)]), (service("other", |_| {}), vec![well()])]);
    sim.run_until(s(3600));
    sim.says_of(
        &["given up", "other ended", "exit 9"],
        "2.500 api given up: 1 restart within 30m did not help; the last run: exit code 9
         2.600 other ended after 2.5s: keepup is ending (killed by SIGTERM)
         2.600 exit 9",
    );
}

#[test]
fn at_the_cap_retry_tries_every_five_minutes_until_it_recovers() {
    let api = service("api", |it| it.restart.max_restarts = 1);
    let crash = || exits(s(1), 1);
    let mut sim = Sim::new([(api, vec![crash(), crash(), crash(), well()])]);
    sim.run_until(s(663));
    sim.says_of(
        &["starting", "restart in", "given up"],
        "0.000 api starting run 1
         1.000 api restart in 500ms (failure 1 in a row)
         1.500 api starting run 2
         2.500 api given up for now: 1 restart within 30m did not help; the last run: exit code 1; next attempt in 5m
         302.500 api starting run 3
         303.500 api given up for now: the attempt failed: exit code 1; next attempt in 5m
         603.500 api starting run 4",
    );
    let api = sim.core.service("api").unwrap();
    assert_eq!((api.budget.failures(), api.gave_up.is_some()), (3, true));
    // It is well for `stable_after`.
    sim.run_until(s(664));
    let api = sim.core.service("api").unwrap();
    assert_eq!((api.budget.failures(), api.gave_up.is_some()), (0, false));
}

#[test]
fn attempts_after_the_cap_do_not_use_up_the_restarts_that_come_after_it() {
    let api = service("api", |it| {
        it.restart.max_restarts = 2;
        it.restart.window = s(10 * 60);
    });
    let crash = || exits(s(1), 1);
    let runs = vec![crash(), crash(), crash(), crash(), exits(s(100), 1), well()];
    let mut sim = Sim::new([(api, runs)]);
    sim.run_until(s(800));
    // The two restarts are forgotten by then, and the two attempts never counted.
    sim.says_of(
        &["starting", "restart in"],
        "0.000 api starting run 1
         1.000 api restart in 500ms (failure 1 in a row)
         1.500 api starting run 2
         2.500 api restart in 1s (failure 2 in a row)
         3.500 api starting run 3
         304.500 api starting run 4
         605.500 api starting run 5
         705.500 api restart in 500ms (failure 1 in a row)
         706.000 api starting run 6",
    );
}
