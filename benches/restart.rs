//! From the crash of a service to the first instruction of its successor, beside a bare loop of
//! `posix_spawn` and `waitpid` over the same program.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use common::{
    Folder, Keepup, itself, millis, now, percentile, stamp, stamps, terminate, wait, wait_until,
};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

/// Each kind of loop takes turns, so that what slows the machine slows all.
const TURNS: usize = 8;
const ROUNDS: usize = 60;
/// The first runs after a start are warmer or colder than the rest.
const SKIPPED: usize = 5;

/// Configured, and no part of the figure.
const DELAY: Duration = Duration::from_millis(1);

/// What keepup may take longer than the bare loop.
const GOAL: Duration = Duration::from_micros(250);

/// How long the service of the other comparison lives, and how often it is killed.
const LIFE: Duration = Duration::from_millis(1200);
const KILLS: usize = 5;

fn main() -> ExitCode {
    let begun = now();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, path] = &arguments[..] {
        play(role, path, begun);
        return ExitCode::FAILURE;
    }
    for role in ["crash", "killed"] {
        measure(role);
    }
    others();
    ExitCode::SUCCESS
}

/// What is supervised is this program, too.
fn play(role: &str, path: &str, begun: Duration) {
    match role {
        "crash" => stamp(path, &[begun, now()]),
        "killed" => {
            stamp(path, &[begun, now()]);
            raise(Signal::SIGKILL).unwrap();
        }
        "live" => {
            let pid = std::process::id().to_string();
            std::fs::write(Path::new(path).with_extension("pid"), pid).unwrap();
            stamp(path, &[begun]);
            wait(Duration::MAX);
        }
        other => panic!("no role: {other}"),
    }
}

fn measure(role: &str) {
    let (mut bare, mut keepup) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.extend(bare_loop(role));
        keepup.extend(supervised(role));
    }
    let over = |it: &Duration| it.saturating_sub(DELAY);
    let mut keepup: Vec<Duration> = keepup.iter().map(over).collect();
    println!(
        "crash to successor ({role}), {} rounds each    best 10%    median       p95",
        bare.len()
    );
    let floor = row("posix_spawn and waitpid, in a loop", &mut bare);
    let ours = row("keepup, without its delay of 1 ms", &mut keepup);
    let (added, ratio) = (ours.saturating_sub(floor), millis(ours) / millis(floor));
    let verdict = if added <= GOAL { "within" } else { "MISSED" };
    let added = millis(added);
    println!("  added {added:.3} ms, {ratio:.2} x (goal: 0.250 ms, about 1.5 x: {verdict})\n");
}

/// Prints what was measured, and gives the median.
fn row(name: &str, samples: &mut [Duration]) -> Duration {
    let [best, median, late] = [10, 50, 95].map(|it| percentile(samples, it));
    let [best, middle, late] = [best, median, late].map(millis);
    println!("  {name:<40} {best:7.3} ms {middle:7.3} ms {late:7.3} ms");
    median
}

/// The floor: nothing but what every supervisor must do.
fn bare_loop(role: &str) -> Vec<Duration> {
    let folder = Folder::in_memory();
    let path = folder.path("stamps");
    for _ in 0..=ROUNDS + SKIPPED {
        let mut command = Command::new(itself());
        command.args([role, path.to_str().unwrap()]).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().unwrap().wait().unwrap();
    }
    gaps(&path)
}

fn supervised(role: &str) -> Vec<Duration> {
    let folder = Folder::in_memory();
    let path = folder.path("stamps");
    let service = format!(
        "[service.it]\ncommand = [\"{}\", \"{role}\", \"{}\"]\n[service.it.restart]\n\
         delay = \"1ms\"\nmax_delay = \"1ms\"\nfactor = 1.0\njitter = 0.0\nmax_restarts = 0\n",
        itself(),
        path.display()
    );
    let keepup = Keepup::start(Folder::new(), &service);
    wait_until(|| stamps(&path).len() > 2 * (ROUNDS + SKIPPED));
    let gaps = gaps(&path);
    keepup.end();
    gaps
}

/// From each end to the next begin.
fn gaps(path: &Path) -> Vec<Duration> {
    let moments = stamps(path);
    let runs: Vec<&[Duration]> = moments.chunks_exact(2).collect();
    let gaps = runs.windows(2).map(|it| it[1][0].saturating_sub(it[0][1]));
    gaps.skip(SKIPPED).take(ROUNDS).collect()
}

/// Writes what a supervisor needs into a folder, and gives the arguments.
type Arguments = fn(&Path) -> Vec<String>;

/// How each of the others is told to run the program `run` in this folder.
const OTHERS: [(&str, Arguments); 4] = [
    ("s6-supervise", |folder| vec![folder.display().to_string()]),
    ("runsv", |folder| vec![folder.display().to_string()]),
    ("supervisord", |folder| {
        let program = "[program:it]\ncommand=./run\nautorestart=true\n";
        std::fs::write(folder.join("conf"), format!("[supervisord]\nnodaemon=true\n{program}"))
            .unwrap();
        vec!["-c".to_owned(), "conf".to_owned()]
    }),
    ("horust", |folder| {
        let run = folder.join("run");
        let text = format!("command = \"{}\"\n[restart]\nstrategy = \"always\"\n", run.display());
        std::fs::write(folder.join("it.toml"), text).unwrap();
        vec!["--services-path".to_owned(), folder.display().to_string()]
    }),
];

/// Other supervisors, where they are installed. Most of them hold back the restart of a service
/// that lived for less than a second, so here it lives for longer.
fn others() {
    println!("kill to successor, of a service that lived for {} s  median", millis(LIFE) / 1e3);
    let path = std::env::var("PATH").unwrap();
    for (name, arguments) in OTHERS {
        if !path.split(':').any(|it| Path::new(it).join(name).exists()) {
            println!("  {name:<43} not installed");
            continue;
        }
        let folder = living();
        let mut command = Command::new(name);
        command.args(arguments(&folder.0)).current_dir(&folder.0).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        report(name, &folder);
        terminate(&mut child);
    }
    let service = "[service.it]\ncommand = [\"./run\"]\n[service.it.restart]\ndelay = \"1ms\"\n\
        max_delay = \"1ms\"\nmax_restarts = 0\n";
    let keepup = Keepup::start(living(), service);
    report("keepup, with its delay of 1 ms", &keepup.folder);
}

/// A folder with a program `run` that lives until it is killed.
fn living() -> Folder {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let (run, stamps) = (folder.path("run"), folder.path("stamps"));
    let script = format!("#!/bin/sh\nexec {} live {}\n", itself(), stamps.display());
    std::fs::write(&run, script).unwrap();
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn report(name: &str, folder: &Folder) {
    let path = folder.path("stamps");
    let mut gaps = Vec::new();
    for nth in 1..=KILLS {
        wait_until(|| stamps(&path).len() >= nth);
        wait(LIFE);
        let pid = std::fs::read_to_string(path.with_extension("pid")).unwrap();
        let killed = now();
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        wait_until(|| stamps(&path).len() > nth);
        gaps.push(stamps(&path)[nth].saturating_sub(killed));
    }
    println!("  {name:<43} {:9.3} ms", millis(percentile(&mut gaps, 50)));
}
