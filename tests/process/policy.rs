//! What follows an end: delays, the cap, policies, order, and keepup's own exit code.

use crate::harness::{Keepup, shell};
use crate::world::{at, wait_until};

fn restart(name: &str, keys: &str) -> String {
    format!("[service.{name}.restart]\njitter = 0.0\n{keys}\n")
}

#[test]
fn a_service_that_fails_at_once_is_given_up_after_max_restarts_growing_delays() {
    let keys = "delay = \"400ms\"\nmax_restarts = 3\non_cap = \"fail\"";
    let service = shell("api", "exit 1", &restart("api", keys));
    let mut keepup = Keepup::start(&service);
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.events("api", "starting").len(), 1 + 3);
    assert_eq!(keepup.events("api", "gave-up").len(), 1);
    let backoffs = keepup.events("api", "backoff");
    let delays: Vec<f64> =
        backoffs.iter().map(|it| it["delay_seconds"].as_f64().unwrap()).collect();
    assert_eq!(delays, [0.4, 0.8, 1.6]);
    for (nth, (backoff, start)) in
        backoffs.iter().zip(&keepup.events("api", "starting")[1..]).enumerate()
    {
        let waited = at(start) - at(backoff);
        // An event is dated when it is told, which a busy machine delays.
        assert!(waited >= 200 << nth, "{waited} ms before restart {}", nth + 1);
    }
    assert_eq!(keepup.events("api", "ended").last().unwrap()["exit"]["code"], 1);
}

#[test]
fn delays_grow_no_further_than_max_delay() {
    let keys = "delay = \"10ms\"\nmax_delay = \"20ms\"\nmax_restarts = 4\non_cap = \"fail\"";
    let mut keepup = Keepup::start(&shell("api", "exit 1", &restart("api", keys)));
    assert_eq!(keepup.wait_code(), 4);
    let delays: Vec<f64> = keepup
        .events("api", "backoff")
        .iter()
        .map(|it| it["delay_seconds"].as_f64().unwrap())
        .collect();
    assert_eq!(delays, [0.01, 0.02, 0.02, 0.02]);
}

#[test]
fn a_service_given_up_for_now_comes_up_when_its_cause_is_gone() {
    let keys = "delay = \"5ms\"\nmax_restarts = 2\nretry_after = \"1s\"";
    let script = "test -e database || exit 1; exec sleep 1000";
    let mut keepup = Keepup::start(&shell("api", script, &restart("api", keys)));
    let gave_up = keepup.event("api", "gave-up");
    assert_eq!(gave_up["retry_seconds"], 1.0, "{gave_up}");
    assert_eq!(keepup.events("api", "starting").len(), 1 + 2);
    // Still tried, at its own pace.
    let first = keepup.event("api", "starting");
    let second = keepup.event("api", "starting");
    assert!(at(&first) - at(&gave_up) >= 500, "{gave_up} {first}");
    assert!(at(&second) - at(&first) >= 500, "{first} {second}");
    assert_eq!(keepup.service("api")["want"], "up");
    keepup.folder.write("database", "");
    wait_until("it stays up", || {
        let status = keepup.service("api");
        status["state"] == "up" && status["uptime_seconds"].as_f64() > Some(0.1)
    });
    keepup.end();
}

#[test]
fn with_on_cap_exit_keepup_ends_with_the_code_of_the_service() {
    let keys = "delay = \"5ms\"\nmax_restarts = 1\non_cap = \"exit\"";
    let services =
        shell("api", "exit 23", &restart("api", keys)) + &shell("other", "exec sleep 1000", "");
    let mut keepup = Keepup::start(&services);
    assert_eq!(keepup.wait_code(), 23);
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

#[test]
fn a_given_up_service_leaves_the_others_alone() {
    let keys = "delay = \"5ms\"\nmax_restarts = 1\non_cap = \"fail\"";
    let services =
        shell("api", "exit 1", &restart("api", keys)) + &shell("other", "exec sleep 1000", "");
    let mut keepup = Keepup::start(&services);
    keepup.up("other");
    keepup.wait_status("api", "state", "failed");
    assert_eq!(keepup.service("other")["state"], "up");
    assert_eq!(keepup.status()["supervisor"]["level"], "critical");
}

#[test]
fn a_clean_exit_unasked_is_followed_by_a_restart() {
    let mut keepup = Keepup::start(&shell("api", "exit 0", &restart("api", "delay = \"10ms\"")));
    assert_eq!(keepup.event("api", "ended")["exit"]["code"], 0);
    keepup.event("api", "backoff");
    keepup.event("api", "up");
}

#[test]
fn on_failure_restarts_a_failure_and_is_content_with_a_success() {
    let keys = "policy = \"on-failure\"\ndelay = \"10ms\"";
    let script = "test -e tried && exit 0; touch tried; exit 1";
    let mut keepup = Keepup::start(&shell("job", script, &restart("job", keys)));
    assert_eq!(keepup.wait_code(), 0);
    assert_eq!(keepup.events("job", "starting").len(), 2);
    assert_eq!(keepup.events("job", "done").len(), 1);
}

#[test]
fn on_failure_with_a_number_gives_up_as_docker_does() {
    let keys = "policy = \"on-failure:2\"\ndelay = \"5ms\"";
    let mut keepup = Keepup::start(&shell("job", "exit 1", &restart("job", keys)));
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.events("job", "starting").len(), 1 + 2);
}

#[test]
fn a_success_code_is_no_failure() {
    let keys = "policy = \"on-failure\"\nsuccess_codes = [0, 42, \"USR1\"]";
    let services = shell("code", "exit 42", &restart("code", keys))
        + &shell("signal", "kill -USR1 $$", &restart("signal", keys));
    let mut keepup = Keepup::start(&services);
    assert_eq!(keepup.wait_code(), 0);
    assert_eq!(keepup.events("signal", "starting").len(), 1);
}

#[test]
fn never_means_one_run_which_is_done_or_failed() {
    let good = shell("good", "exit 0", &restart("good", "policy = \"never\""));
    let mut keepup = Keepup::start(&good);
    assert_eq!(keepup.wait_code(), 0);
    let bad = shell("bad", "exit 1", &restart("bad", "policy = \"never\""));
    let mut keepup = Keepup::start(&(good + &bad));
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.events("bad", "starting").len(), 1);
    assert_eq!(keepup.events("good", "done").len(), 1);
}

#[test]
fn a_oneshot_that_fails_is_tried_again() {
    let script = "test -e tried && exit 0; touch tried; exit 1";
    let keys = restart("job", "delay = \"10ms\"");
    let mut keepup = Keepup::start(&shell("job", script, &format!("oneshot = true\n{keys}")));
    assert_eq!(keepup.wait_code(), 0);
    assert_eq!(keepup.events("job", "starting").len(), 2);
}

#[test]
fn a_service_starts_after_the_ones_it_names_have_started_or_are_done() {
    let services = [
        shell("third", "echo third >> order; exec sleep 1000", "after = [\"second\"]"),
        shell("second", "echo second >> order; exec sleep 1000", "after = [\"first\"]"),
        shell("first", "echo first >> order", "oneshot = true"),
    ];
    let mut keepup = Keepup::start(&services.concat());
    let third = keepup.event("third", "starting");
    let done = &keepup.events("first", "done")[0];
    let second = &keepup.events("second", "up")[0];
    assert!(at(done) <= at(second) && at(second) <= at(&third), "{done} {second} {third}");
    // A service without probes has started once it is up: its script and the next one's may race.
    wait_until("all have run", || keepup.folder.read("order").lines().count() == 3);
    assert!(keepup.folder.read("order").starts_with("first\n"));
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 0);
    let ended = |keepup: &mut Keepup, name: &str| at(&keepup.events(name, "ended")[0]);
    let (third, second) = (ended(&mut keepup, "third"), ended(&mut keepup, "second"));
    assert!(third <= second, "stopped in reverse order");
}

#[test]
fn what_waits_for_a_setup_that_was_given_up_is_not_waited_for() {
    let keys = restart("setup", "max_restarts = 1\ndelay = \"5ms\"\non_cap = \"fail\"");
    let services = shell("setup", "exit 1", &format!("oneshot = true\n{keys}"))
        + &shell("api", "exec sleep 1000", "after = [\"setup\"]");
    let mut keepup = Keepup::start(&services);
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.events("api", "starting").len(), 0);
}

#[test]
fn the_final_end_of_an_essential_service_ends_keepup_with_its_code() {
    let other = shell("other", "exec sleep 1000", "");
    let end_of = |script: &str, keys: &str| {
        let keys = format!("essential = true\n{}", restart("main", keys));
        let mut keepup = Keepup::start(&(shell("main", script, &keys) + &other));
        let code = keepup.wait_code();
        assert_eq!(keepup.folder.processes(), [0; 0]);
        code
    };
    assert_eq!(end_of("exit 0", "policy = \"on-failure\""), 0);
    assert_eq!(end_of("exit 7", "policy = \"never\""), 7);
    assert_eq!(end_of("kill -9 $$", "policy = \"never\""), 128 + 9);
    let capped = "max_restarts = 1\ndelay = \"5ms\"\non_cap = \"fail\"";
    assert_eq!(end_of("exit 0", capped), 4, "a service given up never looks like a success");
}

#[test]
fn with_stay_keepup_stays_although_nothing_is_left_to_run() {
    let folder = crate::harness::Folder::new();
    let services = shell("job", "exit 0", "oneshot = true");
    let mut keepup = Keepup::start_in(folder, "stay = true", &services);
    keepup.event("job", "done");
    assert_eq!(keepup.service("job")["state"], "done");
    assert!(keepup.child.try_wait().unwrap().is_none());
    keepup.end();
}

#[test]
fn a_service_that_is_not_ready_in_time_is_restarted_for_it() {
    let keys =
        "start_timeout = \"200ms\"\n[service.api.startup]\nexec = [\"test\", \"-e\", \"ok\"]\n";
    let script = "test -e tried && touch ok; touch tried; exec sleep 1000";
    let keys = format!("{keys}{}", restart("api", "delay = \"10ms\""));
    let mut keepup = Keepup::start(&shell("api", script, &keys));
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "never-ready", "{ended}");
    keepup.event("api", "ready");
}
