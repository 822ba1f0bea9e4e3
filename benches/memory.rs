//! How much memory keepup takes (PSS, from `/proc/PID/smaps_rollup`), by number of services: each
//! with a captured log, and the HTTP endpoint on.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::fmt::Write;
use std::time::Duration;

use common::{Folder, Keepup, wait};

/// Numbers of services, and what keepup may take with so many, in MiB.
const GOALS: [(usize, Option<u64>); 4] = [(1, None), (10, Some(4)), (100, Some(6)), (1000, None)];

/// What follows a start is over by then, and what only a start needs is given back.
const SETTLED: Duration = Duration::from_secs(4);

/// For each further service, in KiB.
const FURTHER_GOAL: u64 = 20;

fn main() {
    println!("services       PSS   of it anonymous   PSS after status, metrics and page were read");
    let mut measured = Vec::new();
    for (services, goal) in GOALS {
        let mut text = String::new();
        for nth in 0..services {
            write!(text, "[service.s{nth}]\ncommand = [\"sleep\", \"1000000\"]\n").unwrap();
        }
        let mut keepup = Keepup::start(Folder::new(), &text);
        keepup.wait_up(services);
        wait(SETTLED);
        let (pss, anonymous) = settled(keepup.pid());
        for path in ["/v1/status", "/metrics", "/"] {
            assert!(keepup.get(path).starts_with("HTTP/1.1 200"), "{path}");
        }
        let (read, _) = settled(keepup.pid());
        let verdict = match goal {
            Some(goal) if pss <= goal * 1024 => format!("  (goal: {goal} MiB: within)"),
            Some(goal) => format!("  (goal: {goal} MiB: MISSED)"),
            None => String::new(),
        };
        println!("{services:8} {pss:7} KiB {anonymous:13} KiB {read:8} KiB{verdict}");
        measured.push((services, pss));
        keepup.end();
    }
    for pair in measured.windows(2).skip(1) {
        let ((few, less), (many, more)) = (pair[0], pair[1]);
        let further = more.saturating_sub(less) / u64::try_from(many - few).unwrap();
        let verdict = if further <= FURTHER_GOAL { "within" } else { "MISSED" };
        println!(
            "from {few} to {many}: {further} KiB for each further one (goal: {FURTHER_GOAL}: {verdict})"
        );
    }
}

/// PSS and its anonymous part in KiB, once they do not change any more.
fn settled(pid: u32) -> (u64, u64) {
    let mut last = (0, 0);
    for _ in 0..20 {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let field = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|it| it.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let now = (field("Pss:"), field("Pss_Anon:"));
        if now == last {
            break;
        }
        last = now;
        wait(Duration::from_millis(300));
    }
    last
}
