//! Another plan while everything runs.

use keepup::core::event::{Event, Exit};
use keepup::core::{State, Want};
use keepup::plan::{Name, Policy, Role, Service, Signal};

use crate::plans::{
    heartbeat, liveness, ms, need, on_failure_at_most, oneshot, probe, s, service, socket,
};
use crate::script::{
    Run, answers, aside, beats, exits, ignores_term, miss, pass, refused, reload, reload_touched,
    restart, start, stop, terminated, well,
};
use crate::world::Sim;

fn api() -> Service {
    service("api", |_| {})
}

/// The same with another environment, for which it takes another process.
fn other(mut service: Service) -> Service {
    service.env.insert("A".to_owned(), "1".to_owned());
    service
}

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn after(name: &str, first: &str) -> Service {
    service(name, |it| it.after = vec![Name::from(first)])
}

/// A world of one service, reloaded at 10 s; what was said from then on.
#[track_caller]
fn told(before: Service, runs: Vec<Run>, new: Service, expected: &str) -> Sim {
    let mut sim = Sim::new([(before, runs)]);
    sim.run_until(ms(9_999));
    sim.forget();
    sim.at(s(10), reload(vec![new])).run_until(s(30));
    sim.says(expected);
    sim
}

#[test]
fn what_did_not_change_is_left_alone() {
    let mut sim = Sim::new([(api(), vec![well()]), (service("web", |_| {}), vec![well()])]);
    sim.run_until(s(5));
    sim.forget();
    sim.at(s(10), reload(vec![api(), other(service("web", |_| {}))])).run_until(s(30));
    sim.says(
        "10.000 web reloaded: restarted (env)
         10.000 web stopping (its configuration changed): sent SIGTERM, KILL follows in 8s
         10.100 web ended after 10s: its configuration changed (killed by SIGTERM)
         10.100 web starting run 2
         10.100 web up, pid 103
         10.100 web ready after 0ms",
    );
}

#[test]
fn a_restart_for_a_change_is_not_counted_and_clears_the_slate() {
    let cap = |it: &mut Service| it.restart.max_restarts = 1;
    let runs = vec![exits(s(1), 1), well(), exits(s(5), 1), well()];
    let mut sim = Sim::new([(service("api", cap), runs)]);
    sim.at(s(10), reload(vec![other(service("api", cap))])).run_until(s(30));
    sim.says_of(
        &["restart in", "given up"],
        "1.000 api restart in 500ms (failure 1 in a row)
         15.100 api restart in 500ms (failure 1 in a row)",
    );
}

#[test]
fn what_needs_no_other_process_is_applied_to_the_run() {
    let before = service("api", |it| it.probes.push(liveness()));
    let new = with(before.clone(), |it| {
        it.stop_timeout = s(2);
        it.restart.delay = s(7);
        it.logs.keep = 3;
    });
    let run = Run { obeys: None, ..well() };
    let mut sim = told(
        before,
        vec![run],
        new,
        "10.000 api reloaded: applied without a restart (stop_timeout, restart, logs)",
    );
    sim.at(s(31), stop("api")).run_until(s(32));
    sim.says("31.000 api stopping (asked by uid 1000): sent SIGTERM, KILL follows in 2s");
}

#[test]
fn a_sliding_budget_goes_on_where_the_policy_changes() {
    let before = service("api", |it| it.restart.max_restarts = 5);
    let new = with(before.clone(), |it| it.restart.max_restarts = 2);
    let runs = vec![exits(s(1), 1), exits(s(1), 1), exits(s(20), 1)];
    let mut sim = Sim::new([(before, runs)]);
    sim.at(s(10), reload(vec![new])).run_until(s(30));
    sim.says_of(
        &["reloaded", "restart in", "given up"],
        "1.000 api restart in 500ms (failure 1 in a row)
         2.500 api restart in 1s (failure 2 in a row)
         10.000 api reloaded: applied without a restart (restart)
         23.500 api given up for now: 2 restarts within 30m did not help; the last run: exit code 1; next attempt in 5m",
    );
}

#[test]
fn a_probe_that_changed_starts_afresh_and_the_others_keep_what_is_known() {
    let two = |failures: u32| {
        service("api", |it| {
            it.probes.push(probe(Role::Liveness, |it| it.failures = 2));
            it.probes.push(probe(Role::Warning, |it| it.failures = failures));
        })
    };
    // Both miss from 9 s on.
    let bad = || vec![(s(0), pass()), (s(9), refused())];
    let run = Run { replies: vec![bad(), bad()], ..well() };
    let mut sim = Sim::new([(two(5), vec![run, well()])]);
    sim.at(ms(11_000), reload(vec![two(4)])).run_until(s(20));
    sim.says_of(
        &["missed 1", "missed 2", "reloaded"],
        "10.020 api liveness missed 1/2: connection refused
         11.000 api reloaded: applied without a restart (warning)
         11.010 api warning missed 1/4: connection refused
         13.030 api liveness missed 2/2: connection refused",
    );
}

#[test]
fn a_readiness_probe_that_changed_takes_nothing_away_before_its_answer() {
    let with_failures = |failures: u32| {
        service("api", |it| it.probes.push(probe(Role::Readiness, |it| it.failures = failures)))
    };
    let run = answers([(s(0), pass()), (s(9), refused())]);
    let mut sim = Sim::new([(with_failures(3), vec![run])]);
    sim.at(s(5), reload(vec![with_failures(1)])).run_until(ms(5_000));
    assert!(sim.ready("api"), "{}", sim.trace);
    sim.run_until(s(30));
    assert!(!sim.ready("api"), "{}", sim.trace);
}

#[test]
fn a_run_that_has_not_started_is_asked_what_the_new_plan_asks() {
    let broken = service("api", |it| {
        it.probes.push(liveness());
        it.restart.policy = Policy::Never;
    });
    let none = with(broken.clone(), |it| it.probes.clear());
    let run = answers([(s(0), miss("404 Not Found"))]);
    told(
        broken,
        vec![run],
        none,
        "10.000 api reloaded: applied without a restart (liveness)
         10.000 api ready after 10s",
    );
}

#[test]
fn thresholds_of_a_heartbeat_hold_from_now_on() {
    let with_limit =
        |limit: u64| service("api", |it| it.heartbeat = Some(heartbeat(s(limit / 2), s(limit))));
    let mut sim = Sim::new([(with_limit(60), vec![beats(s(1), s(1), 3), well()])]);
    sim.at(s(20), reload(vec![with_limit(10)])).run_until(s(21));
    sim.says_of(
        &["reloaded", "unhealthy"],
        "20.000 api reloaded: applied without a restart (heartbeat)
         20.000 api unhealthy: no heartbeat for 17s: /run/beat does not change",
    );
}

#[test]
fn what_is_removed_is_stopped_in_order_and_forgotten() {
    let (db, api) = (service("db", |_| {}), after("api", "db"));
    let mut sim =
        Sim::new([(db, vec![well()]), (api, vec![well()]), (service("web", |_| {}), vec![well()])]);
    sim.run_until(s(5));
    sim.forget();
    sim.at(s(10), reload(vec![service("web", |_| {})])).run_until(s(30));
    sim.says(
        "10.000 db reloaded: removed
         10.000 api reloaded: removed
         10.000 api stopping (it is not in the configuration any more): sent SIGTERM, KILL follows in 8s
         10.100 api ended after 10s: it is not in the configuration any more (killed by SIGTERM)
         10.100 api down
         10.100 db stopping (it is not in the configuration any more): sent SIGTERM, KILL follows in 8s
         10.100 api (is forgotten)
         10.200 db ended after 10.1s: it is not in the configuration any more (killed by SIGTERM)
         10.200 db down
         10.200 db (is forgotten)",
    );
    assert!(sim.core.service("api").is_none() && sim.core.service("db").is_none());
}

#[test]
fn what_is_restarted_together_stops_and_starts_in_order() {
    let (db, api) = (service("db", |_| {}), after("api", "db"));
    let mut sim = Sim::new([(db.clone(), vec![well()]), (api.clone(), vec![well()])]);
    sim.run_until(s(5));
    sim.forget();
    sim.at(s(10), reload(vec![other(db), other(api)])).run_until(s(30));
    sim.says_of(
        &["stopping", "ended", "starting"],
        "10.000 api stopping (its configuration changed): sent SIGTERM, KILL follows in 8s
         10.100 api ended after 10s: its configuration changed (killed by SIGTERM)
         10.100 db stopping (its configuration changed): sent SIGTERM, KILL follows in 8s
         10.200 db ended after 10.1s: its configuration changed (killed by SIGTERM)
         10.200 db starting run 2
         10.200 api starting run 2",
    );
}

#[test]
fn a_change_does_not_wait_for_what_an_operator_stopped() {
    let (db, api) = (service("db", |_| {}), after("api", "db"));
    let mut sim = Sim::new([(db.clone(), vec![well()]), (api.clone(), vec![well()])]);
    sim.at(s(5), stop("db")).at(s(10), reload(vec![db, other(api)])).run_until(s(30));
    assert!(matches!(sim.state("api"), State::Up { .. }), "{}", sim.trace);
    assert!(matches!(sim.state("db"), State::Down), "{}", sim.trace);
}

#[test]
fn what_is_added_waits_for_what_it_comes_after() {
    let job = oneshot("job", |_| {});
    let mut sim = Sim::new([(api(), vec![well()])]);
    sim.cast("job", vec![exits(s(3), 0)]);
    sim.cast("late", vec![well()]);
    sim.cast("off", vec![well()]);
    let late = service("late", |it| it.after = vec!["job".into()]);
    let off = service("off", |it| it.autostart = false);
    sim.at(s(10), reload(vec![late, api(), job, off])).run_until(s(30));
    sim.says_of(
        &["reloaded", "job", "late", "off"],
        "10.000 late reloaded: added
         10.000 job reloaded: added
         10.000 off reloaded: added
         10.000 job starting run 1
         10.000 job up, pid 102
         13.000 job ended after 3s: exit code 0
         13.000 job done
         13.000 late starting run 1
         13.000 late up, pid 103
         13.000 late ready after 0ms",
    );
    let names: Vec<String> = sim.core.services().iter().map(|it| it.name().to_string()).collect();
    assert_eq!(names, ["late", "api", "job", "off"]);
}

/// It may need the same port.
#[test]
fn what_is_renamed_begins_when_the_old_one_is_gone() {
    let mut sim = Sim::new([(api(), vec![Run { obeys: Some((s(3), terminated())), ..well() }])]);
    sim.cast("web", vec![well()]);
    sim.at(s(10), reload(vec![service("web", |_| {})])).run_until(s(30));
    sim.says_of(
        &["forgotten", "web starting"],
        "13.000 api (is forgotten)
         13.000 web starting run 1",
    );
}

#[test]
fn what_is_removed_and_survives_kill_holds_nobody_up_for_ever() {
    let stuck = Run { kill_takes: None, ..ignores_term() };
    let mut sim = Sim::new([(api(), vec![stuck])]);
    sim.cast("web", vec![well()]);
    sim.at(s(10), reload(vec![service("web", |_| {})])).run_until(s(40));
    sim.says_of(
        &["stuck", "web starting"],
        "23.000 api stuck: process 101 or one of its group survives KILL; it hangs in the kernel (a dead disk or mount?), and no second copy is started
         23.000 web starting run 1",
    );
    assert!(sim.core.service("api").is_some(), "it is still there");
}

#[test]
fn what_comes_back_before_it_is_gone_is_restarted() {
    let slow = Run { obeys: Some((s(3), terminated())), ..well() };
    let web = || service("web", |_| {});
    let mut sim = Sim::new([(web(), vec![well()]), (api(), vec![slow, well()])]);
    sim.at(s(10), reload(vec![web()])).at(s(11), reload(vec![web(), api()])).run_until(s(30));
    sim.says_of(
        &["api reloaded", "api ended", "api starting", "forgotten"],
        "0.000 api starting run 1
         10.000 api reloaded: removed
         11.000 api reloaded: restarted
         13.000 api ended after 10s: it is not in the configuration any more (killed by SIGTERM)
         13.000 api starting run 2",
    );
}

#[test]
fn a_stop_by_an_operator_is_not_undone() {
    let mut sim = Sim::new([(api(), vec![well()]), (service("web", |_| {}), vec![well()])]);
    let new = vec![other(api()), service("web", |_| {})];
    sim.at(s(5), stop("api")).at(s(10), reload(new)).at(s(20), start("api")).run_until(s(30));
    sim.says_of(
        &["api reloaded", "api starting", "api down"],
        "0.000 api starting run 1
         5.100 api down
         10.000 api reloaded: kept for its next start (env)
         20.000 api starting run 2, asked by uid 1000",
    );
    assert!(sim.core.service("api").unwrap().plan.env.contains_key("A"));
}

#[test]
fn a_stop_that_is_under_way_is_not_undone() {
    let slow = Run { obeys: Some((s(3), terminated())), ..well() };
    let mut sim = Sim::new([(api(), vec![slow]), (service("web", |_| {}), vec![well()])]);
    let new = vec![other(api()), service("web", |_| {})];
    sim.at(s(10), stop("api")).at(s(11), reload(new)).run_until(s(30));
    let api = sim.core.service("api").unwrap();
    assert!(matches!(api.state, State::Down) && api.want == Want::Down, "{}", sim.trace);
    assert!(api.plan.env.contains_key("A"), "its next start goes by it");
}

#[test]
fn a_stop_after_the_change_has_the_last_word() {
    let slow = Run { obeys: Some((s(3), terminated())), ..well() };
    let mut sim = Sim::new([(api(), vec![slow]), (service("web", |_| {}), vec![well()])]);
    let new = vec![other(api()), service("web", |_| {})];
    sim.at(s(10), reload(new)).at(s(11), stop("api")).run_until(s(30));
    assert!(matches!(sim.state("api"), State::Down), "{}", sim.trace);
}

#[test]
fn backoff_ends_with_any_change() {
    let before = service("api", |it| (it.restart.delay, it.restart.max_delay) = (s(60), s(60)));
    let new = with(before.clone(), |it| it.restart.factor = 3.0);
    told(
        before,
        vec![exits(s(9), 1), well()],
        new,
        "10.000 api reloaded: started with a clean slate (restart)
         10.000 api starting run 2
         10.000 api up, pid 102
         10.000 api ready after 0ms",
    );
}

#[test]
fn what_was_given_up_starts_by_its_new_plan() {
    let before = service("api", on_failure_at_most(1));
    let mut sim = Sim::new([
        (before.clone(), vec![exits(s(1), 1), exits(s(1), 1), well()]),
        (service("web", |_| {}), vec![well()]),
    ]);
    sim.at(s(10), reload(vec![other(before), service("web", |_| {})])).run_until(s(30));
    sim.says_of(
        &["given up", "api reloaded", "starting run 3"],
        "2.500 api given up: 1 restart within 30m did not help; the last run: exit code 1
         10.000 api reloaded: started with a clean slate (env)
         10.000 api starting run 3",
    );
}

#[test]
fn what_is_done_runs_again_if_another_thing_is_to_be_done() {
    let job = oneshot("job", |_| {});
    let other_job = oneshot("job", |it| it.command.push("--more".to_owned()));
    let patient = oneshot("job", |it| it.start_timeout = s(99));
    let mut sim = Sim::new([(job, vec![exits(s(1), 0)]), (api(), vec![well()])]);
    sim.at(s(10), reload(vec![patient.clone(), api()]));
    sim.at(s(20), reload(vec![with(other_job, |it| it.start_timeout = s(99)), api()]));
    sim.run_until(s(30));
    sim.says_of(
        &["job reloaded", "job starting"],
        "0.000 job starting run 1
         10.000 job reloaded: kept for its next start (start_timeout)
         20.000 job reloaded: started with a clean slate (command)
         20.000 job starting run 2",
    );
}

#[test]
fn what_is_done_and_was_stopped_stays_so() {
    let (job, web) = (oneshot("job", |_| {}), || service("web", |_| {}));
    let mut sim = Sim::new([(job.clone(), vec![exits(s(1), 0)]), (web(), vec![well()])]);
    sim.at(s(5), stop("job")).at(s(10), reload(vec![other(job), web()])).run_until(s(30));
    sim.says_of(&["job reloaded"], "10.000 job reloaded: kept for its next start (env)");
}

#[test]
fn a_change_while_it_waits_holds_at_once() {
    let needy = service("api", |it| it.wait_for = vec![need("tcp:db:5432")]);
    let mut sim = Sim::new([(needy, vec![well()])]);
    sim.needs("tcp:db:5432", vec![(s(0), refused())]);
    sim.at(s(10), reload(vec![other(api())])).run_until(s(30));
    sim.says(
        "0.010 api waits for tcp:db:5432: connection refused
         10.000 api reloaded: kept for its next start (env, wait_for)
         10.000 api starting run 1
         10.000 api up, pid 101
         10.000 api ready after 0ms",
    );
}

#[test]
fn a_change_while_a_start_is_under_way_follows_it() {
    let slow = Run { spawn_takes: s(12), ..well() };
    told(
        api(),
        vec![slow, well()],
        other(api()),
        "10.000 api reloaded: restarted (env)
         12.000 api up, pid 101
         12.000 api ready after 0ms
         12.000 api stopping (its configuration changed): sent SIGTERM, KILL follows in 8s
         12.100 api ended after 0ms: its configuration changed (killed by SIGTERM)
         12.100 api starting run 2
         12.100 api up, pid 102
         12.100 api ready after 0ms",
    );
}

#[test]
fn a_change_while_it_is_prepared_ends_that() {
    let before = service("api", |it| it.pre_start = vec!["prepare".to_owned()]);
    let run = Run { prepares: aside(None), ..well() };
    told(
        before.clone(),
        vec![run, well()],
        with(before, |it| it.pre_start.clear()),
        "10.000 api reloaded: restarted (pre_start)
         10.100 api starting run 2
         10.100 api up, pid 101
         10.100 api ready after 0ms",
    );
}

#[test]
fn what_is_removed_while_it_is_prepared_does_not_start() {
    let before = service("api", |it| it.pre_start = vec!["prepare".to_owned()]);
    let run = Run { prepares: aside(None), ..well() };
    let web = || service("web", |_| {});
    let mut sim = Sim::new([(before, vec![run]), (web(), vec![well()])]);
    sim.at(s(10), reload(vec![web()])).run_until(s(30));
    sim.says_of(
        &["api "],
        "0.000 api starting run 1
         0.000 api (pre_start)
         10.000 api reloaded: removed
         10.100 api ended after 0ms: it is not in the configuration any more
         10.100 api down
         10.100 api (is forgotten)",
    );
}

#[test]
fn a_change_while_a_crash_is_swept_up_starts_at_once_and_with_the_new_plan() {
    let slow = Run { gone_takes: Some(s(5)), ..exits(s(8), 1) };
    told(
        api(),
        vec![slow, well()],
        other(api()),
        "10.000 api reloaded: restarted (env)
         13.000 api ended after 8s: exit code 1
         13.000 api starting run 2
         13.000 api up, pid 102
         13.000 api ready after 0ms",
    );
}

#[test]
fn two_changes_in_a_row_are_one_restart_with_the_last() {
    let slow = Run { obeys: Some((s(3), terminated())), ..well() };
    let third = with(api(), |it| _ = it.env.insert("B".to_owned(), "2".to_owned()));
    let mut sim = Sim::new([(api(), vec![slow, well()])]);
    sim.at(s(10), reload(vec![other(api())])).at(s(11), reload(vec![third]));
    sim.at(s(20), Event::Tick).run_until(s(30));
    sim.says_of(
        &["reloaded", "starting"],
        "0.000 api starting run 1
         10.000 api reloaded: restarted (env)
         11.000 api reloaded: restarted (env)
         13.000 api starting run 2",
    );
    let env = &sim.core.service("api").unwrap().plan.env;
    assert!(env.contains_key("B") && !env.contains_key("A"));
}

#[test]
fn the_same_plan_twice_is_nothing() {
    let mut sim = Sim::new([(api(), vec![well()])]);
    sim.at(s(10), reload(vec![other(api())])).at(s(20), reload(vec![other(api())]));
    sim.run_until(s(30));
    sim.says_of(&["reloaded"], "10.000 api reloaded: restarted (env)");
}

#[test]
fn nothing_is_reloaded_while_keepup_is_ending() {
    let mut sim = Sim::new([(api(), vec![Run { obeys: Some((s(3), terminated())), ..well() }])]);
    sim.at(s(10), Event::Shutdown).at(s(11), reload(vec![other(api())])).run_until(s(30));
    sim.says_of(&["reloaded", "exit"], "13.000 exit 0");
}

#[test]
fn a_shutdown_in_the_middle_of_a_reload_ends_all_in_order() {
    let (db, api) = (service("db", |_| {}), after("api", "db"));
    let slow = || Run { obeys: Some((s(2), terminated())), ..well() };
    let mut sim = Sim::new([(db.clone(), vec![slow()]), (api, vec![slow()])]);
    sim.cast("new", vec![well()]);
    sim.at(s(10), reload(vec![other(db), service("new", |_| {})])).at(s(11), Event::Shutdown);
    sim.run_until(s(30));
    sim.says_of(
        &["stopping", "starting run 2", "exit 0"],
        "10.000 api stopping (it is not in the configuration any more): sent SIGTERM, KILL follows in 8s
         12.000 db stopping (keepup is ending): sent SIGTERM, KILL follows in 8s
         14.000 exit 0",
    );
}

#[test]
fn files_that_hold_something_else_restart_or_are_told_of() {
    let told = service("api", |it| it.reload_signal = Some(Signal::HUP));
    let web = || service("web", |_| {});
    let mut sim = Sim::new([(told.clone(), vec![well()]), (web(), vec![well()])]);
    let both = reload_touched(vec![told, web()], &["api", "web"]);
    sim.at(s(10), both).run_until(s(30));
    sim.says_of(
        &["reloaded", "sent SIGHUP", "starting run 2"],
        "10.000 api reloaded: sent SIGHUP (env_file)
         10.000 (pid 101 is sent SIGHUP)
         10.000 web reloaded: restarted (env_file)
         10.100 web starting run 2",
    );
}

#[test]
fn sockets_stay_where_they_do_not_change_and_are_others_where_they_do() {
    let http = || service("api", |it| it.listen.push(socket()));
    let none = service("api", |_| {});
    let mut sim = Sim::new([(http(), vec![well()])]);
    sim.at(s(10), reload(vec![other(http())])).at(s(20), reload(vec![none])).run_until(s(30));
    sim.says_of(
        &["sockets", "starting", "reloaded"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         10.000 api reloaded: restarted (env)
         10.100 api starting run 2
         20.000 api reloaded: restarted (env, listen)
         20.100 api (its sockets are closed)
         20.100 api starting run 3",
    );
}

#[test]
fn who_stops_the_last_that_runs_ends_keepup() {
    let job = || oneshot("job", |_| {});
    let mut sim = Sim::new([(api(), vec![well()]), (job(), vec![exits(s(1), 0)])]);
    sim.at(s(10), reload(vec![job()])).run_until(s(30));
    sim.says_of(&["exit "], "1.000 job ended after 1s: exit code 0\n10.100 exit 0");
}

#[test]
fn a_restart_by_an_operator_of_what_is_removed_is_of_no_use() {
    let slow = Run { obeys: Some((s(3), terminated())), ..well() };
    let web = || service("web", |_| {});
    let http = service("api", |it| it.listen.push(socket()));
    let mut sim = Sim::new([(http, vec![slow]), (web(), vec![well()])]);
    sim.at(s(10), reload(vec![web()])).at(s(11), restart("api")).run_until(s(30));
    sim.says_of(
        &["sockets", "api starting", "api down", "forgotten"],
        "0.000 api (its sockets are held)
         0.000 api starting run 1
         10.000 api (its sockets are closed)
         13.000 api down
         13.000 api (is forgotten)",
    );
}

#[test]
fn one_that_hangs_and_is_to_be_another_is_not_looked_at() {
    let hangs = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.failures = 1));
        it.evidence_timeout = s(10);
    });
    let run = Run { examined: None, ..answers([(s(0), pass()), (s(5), miss("hung"))]) };
    let mut sim = Sim::new([(hangs.clone(), vec![run, Run { replies: Vec::new(), ..well() }])]);
    sim.at(s(12), reload(vec![other(hangs)])).run_until(s(13));
    sim.says_of(
        &["unhealthy", "stopping"],
        "10.020 api unhealthy: tcp liveness:80: hung
         12.000 api stopping (unhealthy: tcp liveness:80: hung): sent SIGTERM, KILL follows in 8s
         12.100 api ended after 10s: unhealthy: tcp liveness:80: hung (killed by SIGTERM)",
    );
    sim.crash("api", Exit::Code(1));
}
