//! Log throughput, with rotation, against `cat > file` and the loggers that are installed: in turn,
//! several rounds, same writer.
//!
//! `cargo bench --bench logs -- [MIB] [ROUNDS] [FOLDER] [BYTES A WRITE]`; and `-- many [SECONDS] [FOLDER]`
//! for what many services cost that each print a little.
#![expect(clippy::unwrap_used, reason = "a measurement may fail loudly")]
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use keepup::logs::{Console, Logs};
use keepup::plan::{self, LogFormat, Name};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;

const LINE: usize = 100;
const FORMATS: [(&str, LogFormat); 3] =
    [("raw", LogFormat::Raw), ("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOGGERS: [&str; 3] = ["svlogd", "s6-log", "multilog"];
/// The least that a logger with rotation does: reads as `cat` does, writes, renames.
const FLOOR: &str = "rotating cat";
/// What `cat` reads at once, and the usual bounds.
const READ_SIZE: usize = 128 << 10;
const MAX_SIZE: usize = 50_000_000;
const KEEP: u32 = 10;
/// So much is in the files of all of them at the end, with nothing rotated away.
const KEPT_MIB: usize = 128;
/// They start the writer themselves. They take their time, so they are given less to do.
const SUPERVISORS: [&str; 2] = ["supervisord", "horust"];
const SUPERVISORS_PART: usize = 8;
/// Services of `many`, and lines that each of them prints in a second.
const MANY: usize = 100;
const LINES_A_SECOND: u32 = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let number = |at: usize, or: usize| args.get(at).map_or(or, |it| it.parse().unwrap());
    match args.first().map(String::as_str) {
        Some("write") => write(number(1, 0), number(2, 0)),
        Some("cat") => report(cat(Path::new(&args[1]), number(2, 0), number(3, 0))),
        Some(FLOOR) => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg("rotate").arg(Path::new(&args[1]).join("floor.log"));
            report(feed(command, number(2, 0), number(3, 0)));
        }
        Some("rotate") => rotate(Path::new(&args[1])),
        Some(subject) if FORMATS.iter().any(|it| it.0 == subject) => {
            let format = FORMATS.iter().find(|it| it.0 == subject).unwrap().1;
            report(keepup(Path::new(&args[1]), format, number(2, 0), number(3, 0)));
        }
        Some(subject) if LOGGERS.contains(&subject) => {
            report(logger(subject, Path::new(&args[1]), number(2, 0), number(3, 0)));
        }
        Some(subject) if SUPERVISORS.contains(&subject) => {
            report(supervisor(subject, Path::new(&args[1]), number(2, 0), number(3, 0)));
        }
        Some("many") => {
            let folder = args.get(2).map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str);
            many(number(1, 10), Path::new(folder));
        }
        Some("trickle") => trickle(number(1, 0), &args[2..]),
        _ => {
            let folder = args.get(2).map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str);
            compare(number(0, 1024), number(1, 5), Path::new(folder), number(3, 65536));
            drains(Path::new(folder));
            many(5, Path::new(folder));
        }
    }
}

/// What a run took.
#[derive(Clone)]
struct Cost {
    wall: Duration,
    /// Of the reader.
    cpu: Duration,
    /// Of the reader, at most.
    memory_kib: u64,
    mib: f64,
    /// Whole lines in all files, when it was through.
    lines: usize,
}

fn compare(mib: usize, rounds: usize, folder: &Path, chunk: usize) {
    println!("{mib} MiB of {LINE}-byte lines, {chunk} bytes a write, in {}", folder.display());
    let installed = |it: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(it).exists())
    };
    let ours = FORMATS.map(|it| it.0);
    let others = LOGGERS.into_iter().chain(SUPERVISORS).filter(installed);
    let subjects: Vec<&str> = ["cat", FLOOR].into_iter().chain(ours).chain(others).collect();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for nth in 0..subjects.len() {
            let at = (round + nth) % subjects.len();
            let is_slow = SUPERVISORS.contains(&subjects[at]);
            let mib = if is_slow { mib.div_ceil(SUPERVISORS_PART) } else { mib };
            costs[at].push(measure(subjects[at], folder, mib, chunk));
        }
    }
    println!("medians       MiB/s   x cat  CPU s/GiB   x cat    memory  lines lost or torn");
    let [cat_speed, cat_cpu] = [speed(&costs[0]), cpu_per_gib(&costs[0])];
    for (subject, costs) in subjects.iter().zip(&costs) {
        let [speed, cpu, memory] = [speed(costs), cpu_per_gib(costs), memory(costs)];
        let [faster, dearer] = [speed / cat_speed, cpu / cat_cpu];
        let written = (KEPT_MIB << 20) / LINE;
        let lost = written.saturating_sub(measure(subject, folder, KEPT_MIB, chunk).lines);
        println!(
            "{subject:<12} {speed:>6.0}  {faster:>6.2} {cpu:>10.2}  {dearer:>6.2}  {memory:>4.1} MiB  \
             {lost} of {written}"
        );
    }
}

fn speed(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|it| it.mib / it.wall.as_secs_f64()).collect())
}

/// CPU seconds of the reader.
fn cpu_per_gib(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|it| it.cpu.as_secs_f64() * 1024.0 / it.mib).collect())
}

/// Peak of the reader's resident memory, in MiB.
fn memory(costs: &[Cost]) -> f64 {
    let kib = |it: &Cost| f64::from(u32::try_from(it.memory_kib).unwrap_or(u32::MAX));
    median(costs.iter().map(|it| kib(it) / 1024.0).collect())
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
    let lines = if mib <= KEPT_MIB { lines(&folder) } else { 0 };
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|it| it.parse::<u64>().unwrap());
    let mut next = || numbers.next().unwrap();
    Cost {
        wall: Duration::from_micros(next()),
        cpu: Duration::from_micros(next()),
        memory_kib: next(),
        mib: f64::from(u32::try_from(mib).unwrap()),
        lines,
    }
}

/// Whole lines in all files of a folder and those below it.
fn lines(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let count = |it: PathBuf| {
        if it.is_dir() {
            lines(&it)
        } else {
            // Piece by piece: the peak of our memory is passed on to those that we start.
            let file = BufReader::new(File::open(it).unwrap());
            file.split(b'\n').filter(|it| LINE <= it.as_ref().unwrap().len() + 1).count()
        }
    };
    entries.map(count).sum()
}

/// Wall time, CPU time and peak memory of the reader.
type Taken = (Duration, Duration, u64);

fn report((wall, cpu, kib): Taken) {
    println!("{} {} {kib}", wall.as_micros(), cpu.as_micros());
}

fn cat(folder: &Path, mib: usize, chunk: usize) -> Taken {
    let mut cat = Command::new("cat");
    cat.stdout(File::create(folder.join("cat.log")).unwrap());
    feed(cat, mib, chunk)
}

/// From stdin into files, as simply as it can be done.
fn rotate(path: &Path) {
    let open = || File::options().append(true).create(true).open(path).unwrap();
    let numbered = |nth: u32| format!("{}.{nth}", path.display());
    let (mut buffer, mut size, mut out) = (vec![0; READ_SIZE], 0, open());
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    loop {
        let count = input.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        out.write_all(&buffer[..count]).unwrap();
        size += count;
        if MAX_SIZE <= size {
            for nth in (1..KEEP).rev() {
                let _ = std::fs::rename(numbered(nth), numbered(nth + 1));
            }
            std::fs::rename(path, numbered(1)).unwrap();
            (size, out) = (0, open());
        }
    }
}

/// Another logger, at the same sizes as far as it goes.
fn logger(name: &str, folder: &Path, mib: usize, chunk: usize) -> Taken {
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

fn feed(mut command: Command, mib: usize, chunk: usize) -> Taken {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let start = Instant::now();
    let mut reader = command.stdin(read).spawn().unwrap();
    // It holds the reading end, and must not outlive the start.
    drop(command);
    let mut writer = writer(mib, chunk, write.into());
    assert!(reader.wait().unwrap().success());
    let wall = start.elapsed();
    // The writer is not waited for yet, so this is what the reader took.
    let (taken, kib) = (cpu(UsageWho::RUSAGE_CHILDREN), peak(UsageWho::RUSAGE_CHILDREN));
    assert!(writer.wait().unwrap().success());
    (wall, taken, kib)
}

/// A supervisor that starts the writer itself, at the same sizes. It is given half a second to
/// start, which does not count.
fn supervisor(name: &str, folder: &Path, mib: usize, chunk: usize) -> Taken {
    let place = folder.join(name);
    std::fs::create_dir_all(&place).unwrap();
    let (log, started, done) = (place.join("log"), place.join("started"), place.join("done"));
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "sleep 0.5; touch {}; {} write {mib} {chunk}; touch {}; sleep 1000",
        started.display(),
        exe.display(),
        done.display()
    );
    std::fs::write(place.join("script"), script).unwrap();
    let mut command = Command::new(name);
    let config_path = place.join("config.toml");
    let config = if name == "supervisord" {
        command.args(["-n", "-c"]).arg(&config_path);
        format!(
            "[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={0}/pid\n\
                 [program:w]\ncommand=sh {0}/script\nstdout_logfile={1}\n\
                 stdout_logfile_maxbytes=50000000\nstdout_logfile_backups=10\n",
            place.display(),
            log.display()
        )
    } else {
        command.arg("--services-path").arg(&config_path);
        format!(
            "command = \"sh {}/script\"\nstdout = \"{}\"\nstdout-rotate-size = \"50MB\"\n",
            place.display(),
            log.display()
        )
    };
    std::fs::write(config_path, config).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait(&started, &mut child);
    let (start, before) = (Instant::now(), process_cpu(child.id()));
    wait(&done, &mut child);
    // What the pipe holds is no more than that takes.
    let wall = start.elapsed();
    let taken = process_cpu(child.id()).saturating_sub(before);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    let kib = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    (wall, taken, kib)
}

/// Waits until this is there.
fn wait(path: &Path, child: &mut Child) {
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// CPU time of a process that runs, to a hundredth of a second.
fn process_cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = [11, 12].map(|it: usize| fields[it].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10)
}

/// What many services cost that each print a line a millisecond.
fn many(seconds: usize, folder: &Path) {
    let folder = folder.join(format!("bench-{}", std::process::id()));
    for (word, format) in FORMATS {
        let logs = Logs::start(Console::none(), Arc::new(|trouble| println!("{}", trouble.text)));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["trickle", &seconds.to_string()]);
        let mut ends = Vec::new();
        for nth in 0..MANY {
            let name = Name::from(format!("s{nth}"));
            let file = folder.join(format!("{word}/s{nth}.log"));
            logs.add(&name, &plan::Logs { format, ..plan::Logs::usual(file) }, None).unwrap();
            let end = nix::unistd::dup(logs.writer(&name).unwrap()).unwrap();
            command.arg(end.as_raw_fd().to_string());
            ends.push(end);
        }
        let mut child = command.spawn().unwrap();
        drop(ends);
        let (start, before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF));
        assert!(child.wait().unwrap().success());
        let taken = cpu(UsageWho::RUSAGE_SELF).checked_sub(before).unwrap();
        let share = taken.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        logs.finish(Duration::from_secs(5));
        let stats = (0..MANY).map(|nth| logs.stats(&Name::from(format!("s{nth}"))));
        let (bytes, lost) = stats.fold((0, 0), |sum, it| (sum.0 + it.bytes, sum.1 + it.lines_lost));
        let lines = bytes / LINE as u64;
        println!(
            "{MANY} services, {LINES_A_SECOND} lines a second each, {word}: {share:.1}% of a core, \
             {lines} lines, {lost} lost"
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Writes a line a millisecond to each of these descriptors.
fn trickle(seconds: usize, ends: &[String]) {
    const TICKS: usize = 4;
    let mut ends: Vec<File> = ends
        .iter()
        .map(|it| File::options().write(true).open(format!("/proc/self/fd/{it}")).unwrap())
        .collect();
    let mut line = [b'x'; LINE];
    line[LINE - 1] = b'\n';
    let tick = Duration::from_secs(1) / LINES_A_SECOND / u32::try_from(TICKS).unwrap();
    let start = Instant::now();
    for nth in 0..seconds * LINES_A_SECOND as usize * TICKS {
        let due = tick * u32::try_from(nth).unwrap();
        std::thread::park_timeout(due.saturating_sub(start.elapsed()));
        for end in ends.iter_mut().skip(nth % TICKS).step_by(TICKS) {
            end.write_all(&line).unwrap();
        }
    }
}

fn keepup(folder: &Path, format: LogFormat, mib: usize, chunk: usize) -> Taken {
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
    (wall, cpu(UsageWho::RUSAGE_SELF), peak(UsageWho::RUSAGE_SELF))
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

/// Peak of the resident memory, in KiB.
fn peak(who: UsageWho) -> u64 {
    getrusage(who).unwrap().max_rss().try_into().unwrap()
}
