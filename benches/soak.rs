//! 100 services that are asked 10,000 questions a minute, some of which get no answer: what that costs,
//! and whether anything is left behind. `cargo bench --bench soak -- 3600` goes on for an hour.
//!
//! Ends with 1 if keepup has more files or threads at the end than at the beginning, or was asked to
//! ask and did not.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use common::{Folder, Keepup, now, wait};

const SERVICES: usize = 100;
/// From an answer to the next question: 100 questions a minute to each service.
const INTERVAL: Duration = Duration::from_millis(600);
const PER_MINUTE: f64 = 10_000.0;

/// In seconds; the first argument sets another time.
const SPAN: u64 = 90;
/// What follows a start is over by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Of one processor, in percent.
const CPU_GOAL: f64 = 5.0;
/// What may come and go: a connection, a thread that waits for its next work.
const FILES_MORE_MAX: usize = 8;
const THREADS_MORE_MAX: usize = 3;

/// Of every hundred services so many are asked so.
const QUESTIONS: [(usize, &str, Asks); 6] = [
    (65, "liveness", Asks::Well),
    (15, "liveness", Asks::Tcp),
    (5, "liveness", Asks::File),
    (5, "liveness", Asks::Exec),
    (5, "warning", Asks::Silent),
    (5, "warning", Asks::Refused),
];

#[derive(Clone, Copy)]
enum Asks {
    /// HTTP, answered at once.
    Well,
    Tcp,
    File,
    Exec,
    /// HTTP, and never an answer.
    Silent,
    /// HTTP, where nobody listens.
    Refused,
}

fn main() -> ExitCode {
    let span = std::env::args().skip(1).find_map(|it| it.parse().ok()).unwrap_or(SPAN);
    let (well, silent, nobody) = (serve(true), serve(false), free_port());
    let mut keepup = Keepup::start(Folder::new(), &services(well, silent, nobody));
    fs::write(keepup.folder.path("state.txt"), "{}").unwrap();
    keepup.wait_up(SERVICES);
    wait(SETTLED);
    // What is asked for the first time costs memory once.
    let _ = asked(&keepup);
    let before = look(keepup.pid());
    let (began, cpu_before, asked_before) = (now(), cpu(keepup.pid()), asked(&keepup));
    wait(Duration::from_secs(span));
    let used = cpu(keepup.pid()).saturating_sub(cpu_before).as_secs_f64();
    let (asked_after, seconds) = (asked(&keepup), now().saturating_sub(began).as_secs_f64());
    let after = look(keepup.pid());
    keepup.end();

    let rate = (asked_after - asked_before) * 60.0 / seconds;
    let cpu = 100.0 * used / seconds;
    let each = used * 1e6 / (asked_after - asked_before);
    println!(
        "{SERVICES} services, {seconds:.0} s: {rate:.0} probes a minute (wanted: {PER_MINUTE:.0})"
    );
    println!("                before    after");
    println!("  open files  {:8} {:8}", before.files, after.files);
    println!("  threads     {:8} {:8}", before.threads, after.threads);
    println!("  PSS, KiB    {:8} {:8}", before.pss, after.pss);
    let verdict = if cpu < CPU_GOAL { "within" } else { "MISSED" };
    println!(
        "  CPU of keepup: {cpu:.2} % of one processor (goal: {CPU_GOAL} %: {verdict}), {each:.0} us a probe"
    );
    let mut failures = Vec::new();
    if before.files + FILES_MORE_MAX < after.files {
        failures.push("files are left open");
    }
    if before.threads + THREADS_MORE_MAX < after.threads {
        failures.push("threads are left");
    }
    // Questions that time out come less often.
    if rate < PER_MINUTE * 0.8 {
        failures.push("it asks too rarely");
    }
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("FAILED: {}", failures.join("; "));
    ExitCode::FAILURE
}

fn services(well: u16, silent: u16, nobody: u16) -> String {
    let kinds = QUESTIONS.iter().flat_map(|it| std::iter::repeat_n((it.1, it.2), it.0));
    let mut text = String::new();
    for (nth, (role, asks)) in kinds.take(SERVICES).enumerate() {
        let kind = match asks {
            Asks::Well => format!("http = \"http://127.0.0.1:{well}/\""),
            Asks::Silent => format!("http = \"http://127.0.0.1:{silent}/\""),
            Asks::Refused => format!("http = \"http://127.0.0.1:{nobody}/\""),
            Asks::Tcp => format!("tcp = \"127.0.0.1:{well}\""),
            Asks::File => "file = \"state.txt\"".to_owned(),
            Asks::Exec => "exec = [\"true\"]".to_owned(),
        };
        let interval = INTERVAL.as_millis();
        let retry = if matches!(asks, Asks::Silent) { interval / 2 } else { interval };
        write!(
            text,
            "[service.s{nth}]\ncommand = [\"sleep\", \"1000000\"]\n[service.s{nth}.{role}]\n{kind}\n\
             interval = \"{interval}ms\"\nretry_interval = \"{retry}ms\"\ntimeout = \"300ms\"\n\
             failures = 20\n"
        )
        .unwrap();
    }
    text
}

/// What keepup has, at the least over a while: what comes and goes does not count.
struct Look {
    files: usize,
    threads: usize,
    pss: u64,
}

fn look(pid: u32) -> Look {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let (mut files, mut threads) = (usize::MAX, usize::MAX);
    for _ in 0..100 {
        (files, threads) = (files.min(count("fd")), threads.min(count("task")));
        wait(Duration::from_millis(20));
    }
    Look { files, threads, pss: pss(pid) }
}

fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|it| it.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// User and system time of keepup itself, of threads that are gone, too; not of its children.
///
/// Source: `proc_pid_stat(5)`, fields 14 and 15.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |nth: usize| fields[nth].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Answers that all probes had so far.
fn asked(keepup: &Keepup) -> f64 {
    let metrics = keepup.get("/metrics");
    let counts = metrics.lines().filter(|it| it.starts_with("keepup_probe_duration_seconds_count"));
    counts.map(|it| it.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that answers everything with 200, or nothing at all.
fn serve(answers: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent = std::collections::VecDeque::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !answers {
                // The oldest is closed at last, long after it was given up.
                silent.push_back(stream);
                if silent.len() > 64 {
                    silent.pop_front();
                }
                continue;
            }
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let mut head = [0; 1024];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    port
}
