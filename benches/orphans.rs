//! 5,000 orphans that exit at once, below keepup as PID 1, and below tini, dumb-init and catatonit:
//! from the moment they exit until the last of them is reaped.
//!
//! Two ways: as it happens, where exits and reaping share the processors; and with the init held
//! while they exit, so that reaping alone is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]
#![expect(unsafe_code, reason = "thousands of processes, by nothing but fork")]

mod common;

use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Folder, itself, millis, now, percentile, stamp, stamps, wait, wait_until};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, close, pipe};

const ORPHANS: usize = 5000;
/// Each init takes turns, so that what slows the machine slows all.
const TURNS: usize = 12;
/// What keepup may take, as a multiple of the fastest of the others.
const GOAL: f64 = 1.1;

/// How each is told to run a command as its init.
const INITS: [(&str, &[&str]); 5] = [
    ("tini", &["tini", "--"]),
    ("dumb-init", &["dumb-init", "--"]),
    ("catatonit", &["catatonit", "--"]),
    ("keepup, plain init", &[env!("CARGO_BIN_EXE_keepup"), "run", "--restart", "never", "--"]),
    ("keepup, supervisor", &[env!("CARGO_BIN_EXE_keepup"), "run", "--restart", "on-failure", "--"]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, folder] = &arguments[..]
        && let "free" | "held" = role.as_str()
    {
        command(role == "held", Path::new(folder));
        return;
    }
    for role in ["free", "held"] {
        measure(role);
    }
}

fn measure(role: &str) {
    let what = if role == "held" { "reaped, once all have exited" } else { "from exit to reaped" };
    println!("{ORPHANS} orphans, {what}, {TURNS} rounds");
    println!("{:47} best     median        p90   its CPU, median", "");
    let mut samples: Vec<(Vec<Duration>, Vec<Duration>)> = vec![Default::default(); INITS.len()];
    for _ in 0..TURNS {
        for ((_, init), (took, cpu)) in INITS.iter().zip(&mut samples) {
            if let Some(round) = run(init, role) {
                took.push(round.took);
                cpu.push(round.cpu);
            }
        }
    }
    let mut medians = Vec::new();
    for ((name, _), (took, cpu)) in INITS.iter().zip(&mut samples) {
        if took.is_empty() {
            println!("  {name:<40} not installed");
            continue;
        }
        let [best, median, late] = [0, 50, 90].map(|it| millis(percentile(took, it)));
        let cpu = millis(percentile(cpu, 50));
        println!("  {name:<40} {best:7.2} ms {median:7.2} ms {late:7.2} ms {cpu:14.2} ms");
        medians.push((*name, median));
    }
    let others = medians.iter().filter(|it| !it.0.starts_with("keepup")).map(|it| it.1);
    let fastest = others.fold(f64::INFINITY, f64::min);
    for (name, median) in medians.iter().filter(|it| it.0.starts_with("keepup")) {
        let ratio = median / fastest;
        let verdict = if ratio <= GOAL { "within" } else { "MISSED" };
        println!("  {name}: {ratio:.2} x the fastest (goal: {GOAL} x: {verdict})");
    }
    println!();
}

struct Round {
    /// From the moment the orphans exit, or the init may go on, to the last one reaped.
    took: Duration,
    /// Of the init, meanwhile: what a busy machine does not change.
    cpu: Duration,
}

/// One round; nothing if there is no such init.
fn run(init: &[&str], role: &str) -> Option<Round> {
    let path = std::env::var("PATH").unwrap();
    if !init[0].contains('/') && !path.split(':').any(|it| Path::new(it).join(init[0]).exists()) {
        return None;
    }
    let folder = Folder::in_memory();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).args(init);
    command.args([itself().as_str(), role, folder.0.to_str().unwrap()]);
    for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY"] {
        command.env(name, folder.path(name));
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    let mut held = None;
    if role == "held" {
        wait_until(|| folder.path("there").exists());
        let init = init_of(&child);
        // From outside of its namespace even PID 1 can be stopped.
        kill(init, Signal::SIGSTOP).unwrap();
        fs::write(folder.path("go"), "").unwrap();
        wait_until(|| folder.path("dead").exists());
        held = Some(now());
        kill(init, Signal::SIGCONT).unwrap();
    }
    wait_until(|| child.try_wait().unwrap().is_some());
    let moments = stamps(&folder.path("stamps"));
    let [begin, end, cpu] = moments[..] else { panic!("{init:?}: {moments:?}") };
    Some(Round { took: end.saturating_sub(held.unwrap_or(begin)), cpu })
}

fn init_of(unshare: &Child) -> Pid {
    let pid = unshare.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap())
}

/// What runs below the init.
fn command(held: bool, folder: &Path) {
    let (waiting, open) = pipe().unwrap();
    let (waiting, open) = (waiting.as_raw_fd(), open.into_raw_fd());
    // SAFETY: one thread; the child and its children call nothing that allocates or locks.
    let parent = unsafe { libc::fork() };
    assert!(parent >= 0);
    if parent == 0 {
        // SAFETY: system calls on integers, and one byte to read into.
        unsafe {
            libc::setpgid(0, 0);
            for _ in 0..ORPHANS {
                match libc::fork() {
                    0 => {
                        libc::close(open);
                        let mut byte = 0u8;
                        libc::read(waiting, (&raw mut byte).cast(), 1);
                        libc::_exit(0);
                    }
                    1.. => {}
                    _ => libc::_exit(1),
                }
            }
            libc::_exit(0);
        }
    }
    let mut status = 0;
    // SAFETY: the status is written to a place that is one.
    unsafe { libc::waitpid(parent, &raw mut status, 0) };
    assert_eq!(status, 0, "cannot make so many processes");
    let group = Pid::from_raw(parent);
    let folder = folder.to_str().unwrap();
    if held {
        fs::write(format!("{folder}/there"), "").unwrap();
        wait_until(|| Path::new(&format!("{folder}/go")).exists());
    }
    let (begin, cpu) = (now(), cpu_of_init());
    close(open).unwrap();
    if held {
        wait_until(|| zombies() == ORPHANS);
        fs::write(format!("{folder}/dead"), "").unwrap();
    }
    // Seldom enough not to be in the way of the one that is measured.
    while killpg(group, None) != Err(Errno::ESRCH) {
        wait(Duration::from_micros(200));
    }
    let end = now();
    let cpu = cpu_of_init().saturating_sub(cpu);
    stamp(&format!("{folder}/stamps"), &[begin, end, cpu]);
}

/// Source: proc(5), `/proc/PID/schedstat`: the time on a processor, in nanoseconds.
fn cpu_of_init() -> Duration {
    let threads = fs::read_dir("/proc/1/task").unwrap().filter_map(Result::ok);
    let nanos = threads.map(|it| {
        let text = fs::read_to_string(it.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

fn zombies() -> usize {
    let dead = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|it| it.starts_with('Z'))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|it| it.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .map(dead)
        .filter(|it| *it)
        .count()
}
