//! What keepup does while there is nothing to do: CPU time and context switches, over 10 s.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Folder, Keepup, wait};

const SPAN: Duration = Duration::from_secs(10);
/// What follows a start is over by then.
const SETTLED: Duration = Duration::from_secs(3);
const SERVICES: usize = 100;

fn main() {
    println!("over 10 s, with {SERVICES} services             CPU   wake-ups   preempted");
    let (idle, _) = measure("nothing that needs time", &services(""), || 0);
    let verdict = if idle.wakeups == 0 && idle.cpu.is_zero() { "within" } else { "MISSED" };
    println!("  goal: no wake-ups, no CPU: {verdict}");
    let server = Server::start();
    let probe = format!("http = \"http://127.0.0.1:{}/\"\ninterval = \"1s\"\n", server.port);
    let count = || server.asked.load(Ordering::Relaxed);
    let (probed, asked) = measure("100 http probes, one a second each", &services(&probe), count);
    let each = probed.cpu / asked;
    println!("  {asked} answers, {} us of CPU for each", each.as_micros());
}

/// Sleepers, each with these keys of a liveness probe.
fn services(probe: &str) -> String {
    let mut text = String::new();
    for nth in 0..SERVICES {
        write!(text, "[service.s{nth}]\ncommand = [\"sleep\", \"1000000\"]\n").unwrap();
        if !probe.is_empty() {
            write!(text, "[service.s{nth}.liveness]\n{probe}").unwrap();
        }
    }
    text
}

/// What a process has used up so far, all its threads together.
#[derive(Clone, Copy, Default)]
struct Used {
    cpu: Duration,
    wakeups: u64,
    preempted: u64,
}

fn used(pid: u32) -> Used {
    let mut used = Used::default();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        // Nanoseconds on a CPU come first.
        let Ok(schedstat) = fs::read_to_string(task.join("schedstat")) else { continue };
        let nanos = schedstat.split(' ').next().unwrap().parse().unwrap();
        used.cpu += Duration::from_nanos(nanos);
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|it| it.strip_prefix(name));
            line.map_or(0, |it| it.trim().parse().unwrap())
        };
        used.wakeups += field("voluntary_ctxt_switches:");
        used.preempted += field("nonvoluntary_ctxt_switches:");
    }
    used
}

/// What keepup used up over the span, and by how much a count grew.
fn measure(name: &str, services: &str, count: impl Fn() -> u64) -> (Used, u32) {
    let mut keepup = Keepup::start(Folder::new(), services);
    keepup.wait_up(SERVICES);
    wait(SETTLED);
    let (before, count_before) = (used(keepup.pid()), count());
    wait(SPAN);
    let after = used(keepup.pid());
    let used = Used {
        cpu: after.cpu.saturating_sub(before.cpu),
        wakeups: after.wakeups - before.wakeups,
        preempted: after.preempted - before.preempted,
    };
    let cpu = common::millis(used.cpu);
    println!("  {name:<32} {cpu:8.3} ms {:8} {:11}", used.wakeups, used.preempted);
    let counted = u32::try_from(count() - count_before).unwrap();
    keepup.end();
    (used, counted)
}

/// Answers every request with 200.
struct Server {
    port: u16,
    asked: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let mut head = [0; 1024];
                if stream.read(&mut head).is_ok_and(|read| read > 0) {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        Server { port, asked }
    }
}
