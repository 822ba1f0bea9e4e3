//! Log throughput, with rotation, against `cat > file` and the loggers that are installed: in turn,
//! several rounds, same writer.
//!
//! `cargo bench --bench logs -- [MIB] [ROUNDS] [FOLDER] [BYTES A WRITE]`
#![expect(clippy::unwrap_used, reason = "a measurement may fail loudly")]
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use keepup::logs::{Console, Logs};
use keepup::plan::{self, LogFormat, Name};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const LINE: usize = 100;
const FORMATS: [(&str, LogFormat); 3] =
    [("raw", LogFormat::Raw), ("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOGGERS: [&str; 3] = ["svlogd", "s6-log", "multilog"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let number = |at: usize, or: usize| args.get(at).map_or(or, |it| it.parse().unwrap());
    match args.first().map(String::as_str) {
        Some("write") => write(number(1, 0), number(2, 0)),
        Some("cat") => report(cat(Path::new(&args[1]), number(2, 0), number(3, 0))),
        Some(subject) if FORMATS.iter().any(|it| it.0 == subject) => {
            let format = FORMATS.iter().find(|it| it.0 == subject).unwrap().1;
            report(keepup(Path::new(&args[1]), format, number(2, 0), number(3, 0)));
        }
        Some(subject) if LOGGERS.contains(&subject) => {
            report(logger(subject, Path::new(&args[1]), number(2, 0), number(3, 0)));
        }
        _ => {
            let folder = args.get(2).map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str);
            compare(number(0, 1024), number(1, 5), Path::new(folder), number(3, 65536));
            drains(Path::new(folder));
        }
    }
}

/// Wall time, CPU time of the reader, CPU time of the writer.
type Cost = (Duration, Duration, Duration);

fn compare(mib: usize, rounds: usize, folder: &Path, chunk: usize) {
    println!("{mib} MiB of {LINE}-byte lines, {chunk} bytes a write, in {}", folder.display());
    let installed = |it: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(it).exists())
    };
    let ours = FORMATS.map(|it| it.0);
    let subjects: Vec<&str> =
        ["cat"].into_iter().chain(ours).chain(LOGGERS.into_iter().filter(installed)).collect();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for nth in 0..subjects.len() {
            let at = (round + nth) % subjects.len();
            costs[at].push(measure(subjects[at], folder, mib, chunk));
        }
    }
    let mib = f64::from(u32::try_from(mib).unwrap());
    println!("medians    MiB/s   x cat  CPU s/GiB   x cat");
    let [cat_speed, cat_cpu] = [speed(&costs[0], mib), cpu_per_gib(&costs[0], mib)];
    for (subject, costs) in subjects.iter().zip(&costs) {
        let [speed, cpu] = [speed(costs, mib), cpu_per_gib(costs, mib)];
        let [faster, dearer] = [speed / cat_speed, cpu / cat_cpu];
        println!("{subject:<9} {speed:>6.0}  {faster:>6.2} {cpu:>10.2}  {dearer:>6.2}");
    }
}

fn speed(costs: &[Cost], mib: f64) -> f64 {
    median(costs.iter().map(|it| mib / it.0.as_secs_f64()).collect())
}

/// CPU seconds of the reader.
fn cpu_per_gib(costs: &[Cost], mib: f64) -> f64 {
    median(costs.iter().map(|it| it.1.as_secs_f64() * 1024.0 / mib).collect())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Runs one subject in a process of its own, so that its CPU time is its own.
fn measure(subject: &str, folder: &Path, mib: usize, chunk: usize) -> Cost {
    let folder = folder.join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    nix::unistd::sync();
    let done = Command::new(std::env::current_exe().unwrap())
        .arg(subject)
        .arg(&folder)
        .args([mib.to_string(), chunk.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let mut times = text.split_whitespace().map(|it| Duration::from_micros(it.parse().unwrap()));
    (times.next().unwrap(), times.next().unwrap(), times.next().unwrap())
}

fn report(cost: Cost) {
    println!("{} {} {}", cost.0.as_micros(), cost.1.as_micros(), cost.2.as_micros());
}

fn cat(folder: &Path, mib: usize, chunk: usize) -> Cost {
    let mut cat = Command::new("cat");
    cat.stdout(File::create(folder.join("cat.log")).unwrap());
    feed(cat, mib, chunk)
}

/// Another logger, at the same sizes as far as it goes.
fn logger(name: &str, folder: &Path, mib: usize, chunk: usize) -> Cost {
    let place = folder.join(name);
    std::fs::create_dir_all(&place).unwrap();
    let mut command = Command::new(name);
    match name {
        "svlogd" => std::fs::write(place.join("config"), "s50000000\nn10\n").unwrap(),
        "s6-log" => drop(command.args(["n10", "s50000000"])),
        // Its largest size.
        _ => drop(command.args(["s16777215", "n10"])),
    }
    command.arg(&place);
    feed(command, mib, chunk)
}

fn feed(mut command: Command, mib: usize, chunk: usize) -> Cost {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let start = Instant::now();
    let mut reader = command.stdin(read).spawn().unwrap();
    // It holds the reading end, and must not outlive the start.
    drop(command);
    let mut writer = writer(mib, chunk, write.into());
    assert!(reader.wait().unwrap().success());
    let wall = start.elapsed();
    // The writer is not waited for yet, so this is what the reader took.
    let taken = cpu(UsageWho::RUSAGE_CHILDREN);
    assert!(writer.wait().unwrap().success());
    (wall, taken, cpu(UsageWho::RUSAGE_CHILDREN).checked_sub(taken).unwrap())
}

fn keepup(folder: &Path, format: LogFormat, mib: usize, chunk: usize) -> Cost {
    let logs = Logs::start(Console::none(), Arc::new(|trouble| println!("{}", trouble.text)));
    let name = Name::from("api");
    let file = PathBuf::from(folder).join("api.log");
    let plan = plan::Logs { format, ..plan::Logs::usual(file) };
    logs.add(&name, &plan, None).unwrap();
    let out = File::from(logs.writer(&name).unwrap());
    let start = Instant::now();
    let mut writer = writer(mib, chunk, out.into());
    assert!(writer.wait().unwrap().success());
    let (send, done) = channel();
    logs.drain(&name, Box::new(move || send.send(()).unwrap()));
    done.recv().unwrap();
    let wall = start.elapsed();
    let stats = logs.stats(&name);
    assert_eq!((stats.bytes, stats.lines_lost), ((mib as u64) << 20, 0));
    logs.finish(Duration::from_secs(5));
    (wall, cpu(UsageWho::RUSAGE_SELF), cpu(UsageWho::RUSAGE_CHILDREN))
}

/// How long it takes until a last line is in the file, as at a death.
fn drains(folder: &Path) {
    let folder = folder.join(format!("bench-{}", std::process::id()));
    let logs = Logs::start(Console::none(), Arc::new(|trouble| println!("{}", trouble.text)));
    let name = Name::from("api");
    let (file, max_size) = (folder.join("api.log"), 50_000_000);
    let plan = plan::Logs { max_size, ..plan::Logs::usual(file) };
    logs.add(&name, &plan, None).unwrap();
    let mut out = File::from(logs.writer(&name).unwrap());
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..5000 {
        out.write_all(b"last words\n").unwrap();
        let start = Instant::now();
        let (send, done) = channel();
        logs.drain(&name, Box::new(move || send.send(()).unwrap()));
        done.recv().unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!("drain: median {:.0?}, 99 of 100 below {:.0?}", times[2500], times[4950]);
    logs.finish(Duration::from_secs(5));
    std::fs::remove_dir_all(&folder).unwrap();
}

fn writer(mib: usize, chunk: usize, out: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["write", &mib.to_string(), &chunk.to_string()])
        .stdout(out)
        .spawn()
        .unwrap()
}

fn write(mib: usize, chunk: usize) {
    let mut lines = vec![b'x'; chunk + LINE];
    for end in (LINE - 1..lines.len()).step_by(LINE) {
        lines[end] = b'\n';
    }
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let (mut left, mut at) = (mib << 20, 0);
    while left != 0 {
        let count = chunk.min(left);
        out.write_all(&lines[at..at + count]).unwrap();
        (left, at) = (left - count, (at + count) % LINE);
    }
}

fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap())
}
