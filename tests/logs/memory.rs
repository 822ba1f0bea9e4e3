//! What many services cost.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::world::{Folder, World, lines, plan, wait_until};

#[test]
fn further_services_need_no_thread_and_little_memory() {
    // Alone in a process: other tests' memory would be counted, too.
    let test = "memory::a_hundred_services_and_two_hundred_more";
    let done = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn a_hundred_services_and_two_hundred_more() {
    let folder = Folder::new();
    let world = World::new();
    let bare = (anonymous_kib(), threads());
    let mut outs = use_services(&world, &folder, 0..100);
    // A thread for each folder begins; all but one find their file system served, and end.
    wait_until("one for the disk and the watch", || threads() == bare.1 + 2);
    let hundred = (anonymous_kib(), threads());
    outs.extend(use_services(&world, &folder, 100..300));
    let more = (anonymous_kib(), threads());
    assert_eq!(more.1, hundred.1, "no further thread");
    assert!(hundred.0 < bare.0 + 1000, "{bare:?} {hundred:?}");
    assert!(more.0 < hundred.0 + 200 * 4, "4 KiB for each further one: {hundred:?} {more:?}");
    pass(Duration::from_millis(2500));
    let before = wakeups();
    assert!(before.len() >= 2, "{before:?}");
    pass(Duration::from_secs(1));
    assert_eq!(wakeups(), before, "nobody wakes up when nothing is written");
    world.finish();
}

fn pass(time: Duration) {
    let start = Instant::now();
    wait_until("time passes", || time <= start.elapsed());
}

/// How often each log thread went to sleep so far.
fn wakeups() -> Vec<(String, String)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let tasks = tasks.map(|it| std::fs::read_to_string(it.unwrap().path().join("status")).unwrap());
    let line = |task: &str, key: &str| {
        task.lines().find(|it| it.starts_with(key)).unwrap_or_default().to_owned()
    };
    let all = tasks.map(|it| (line(&it, "Name:"), line(&it, "voluntary_ctxt_switches:")));
    all.filter(|it| it.0.contains("log")).collect()
}

fn use_services(world: &World, folder: &Folder, range: std::ops::Range<u32>) -> Vec<std::fs::File> {
    let mut outs = Vec::new();
    for number in range.clone() {
        let file = folder.path(&log(number));
        let mut out = world.add(&format!("api-{number}"), &plan(file));
        out.write_all(&lines(0..500)).unwrap();
        outs.push(out);
    }
    for number in range {
        world.drain(&format!("api-{number}"));
        let text = folder.read(&log(number));
        assert!(text.as_bytes() == lines(0..500));
    }
    outs
}

/// In several folders, which one thread serves all the same.
fn log(number: u32) -> String {
    format!("folder-{}/api-{number}.log", number % 5)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The process's share of all memory it uses.
/// Anonymous memory: what pages of the program are touched says nothing about services.
fn anonymous_kib() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|it| it.starts_with("Pss_Anon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
