//! What services use: measured of their whole tree, and bounded; and what keepup itself gives back.

use serde_json::Value;

use crate::harness::{Folder, Keepup, shell};
use crate::world::{proc_status, wait_until};

/// Holds this many MiB, in a process of its own.
fn holds(mebibytes: u32) -> String {
    let eat = format!("import time; x = b'x' * ({mebibytes} << 20); time.sleep(1000)");
    format!("python3 -c \"{eat}\" & wait")
}

#[test]
fn a_service_whose_children_take_too_much_memory_is_restarted_with_the_figure_in_the_reason() {
    let script = format!("test -e calm && exec sleep 1000; {}", holds(80));
    let keys = "max_memory = \"60MiB\"\n[service.api.restart]\ndelay = \"10ms\"\n";
    let mut keepup = Keepup::start(&shell("api", &script, keys));
    let unhealthy = keepup.event("api", "unhealthy");
    let why = unhealthy["why"].as_str().unwrap();
    assert!(why.starts_with("uses 8") && why.ends_with("MiB, max_memory is 60 MiB"), "{why}");
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "over-memory");
    assert_eq!(keepup.event("api", "backoff")["failures"], 1);
    keepup.up("api");
    assert_eq!(keepup.service("api")["last_end"]["reason"], "over-memory");
    keepup.end();
}

#[test]
fn much_memory_is_a_warning() {
    let keys = "warn_memory = \"30MiB\"\n";
    let mut keepup = Keepup::start(&shell("api", &holds(40), keys));
    let degraded = keepup.event("api", "degraded");
    assert!(degraded["why"].as_str().unwrap().ends_with("warn_memory is 30 MiB"), "{degraded}");
    let status = keepup.status();
    assert_eq!(status["supervisor"]["level"], "warning");
    let api = &status["services"][0];
    assert_eq!(
        (&api["health"], &api["ready"], &api["run"]),
        (&"degraded".into(), &true.into(), &1.into())
    );
    wait_until("the figures are there", || {
        let api = keepup.service("api");
        // A shell and a python, three streams each.
        let at_least = |key: &str, least: u64| api[key].as_u64().is_some_and(|it| least <= it);
        at_least("memory_bytes", 40 << 20) && at_least("open_files", 6) && at_least("threads", 2)
    });
}

#[test]
fn a_service_that_spins_for_too_long_is_restarted() {
    // On a busy machine it gets but a small part of a processor.
    let keys = "max_cpu = \"5%\"\nmax_cpu_for = \"2s\"\n[service.api.restart]\ndelay = \"10ms\"\n";
    let script =
        "test -e calm && exec sleep 1000; echo > calm; python3 -c 'while True: pass' & wait";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    keepup.up("api");
    let unhealthy = keepup.event("api", "unhealthy");
    let why = unhealthy["why"].as_str().unwrap();
    assert!(why.contains("% of a processor, max_cpu is 5%, for "), "{why}");
    assert_eq!(keepup.event("api", "ended")["reason"], "over-cpu");
    keepup.up("api");
    assert_eq!(keepup.events("api", "unhealthy").len(), 1);
    assert_ne!(keepup.service("api")["pid"], Value::Null);
}

#[test]
fn a_full_machine_is_told_and_is_part_of_the_level() {
    // Of any machine one percent of the memory is used, and of two neither is free.
    let host = "host = { memory = [1, 100] }";
    let mut keepup = Keepup::start_in(Folder::new(), host, &shell("api", "sleep 1000", ""));
    let told = keepup.host_event();
    assert_eq!((&told["what"], &told["level"]), (&"memory".into(), &"warning".into()), "{told}");
    let used = told["used_percent"].as_f64().unwrap();
    assert!((1.0..=100.0).contains(&used), "{told}");
    wait_until("the level follows", || keepup.status()["supervisor"]["level"] == "warning");
    keepup.end();

    let host = "host = { memory = [1, 2], disk = [99, 100] }";
    let mut keepup = Keepup::start_in(Folder::new(), host, &shell("api", "sleep 1000", ""));
    let told = keepup.host_event();
    assert_eq!(told["level"], "critical", "{told}");
    assert!(told["text"].as_str().unwrap().ends_with("% full, critical from 2 % on"), "{told}");
    wait_until("the level follows", || keepup.status()["supervisor"]["level"] == "critical");
    keepup.wait_for(&["ERROR", "memory is", "critical from 2 %"]);
    keepup.end();
}

#[test]
fn what_only_a_start_needs_is_given_back_once_all_has_started() {
    let keys = "[service.api.startup]\nexec = [\"test\", \"-e\", \"ok\"]\ninterval = \"20ms\"\n";
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", keys));
    keepup.event("api", "miss");
    let pages = |pid| {
        let kib = proc_status(pid, "RssFile");
        kib.trim_end_matches(" kB").parse::<u32>().unwrap()
    };
    let before = pages(keepup.pid);
    keepup.folder.write("ok", "");
    keepup.event("api", "ready");
    wait_until("pages of the program are given back", || pages(keepup.pid) < before / 4 * 3);
    // What is needed again comes back.
    keepup.wait_status("api", "ready", true);
    keepup.end();
}
