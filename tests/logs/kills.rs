//! kill -9, at any moment and at each step of a compression: what was written before is there once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keepup::plan::{self, Compress, LogFormat};

use crate::chance::{Chance, seeds};
use crate::record::{Item, gather, items};
use crate::world::{Folder, World, lines, name, plan, wait_until};

/// Tells a child of these tests where it is to write.
const WHERE: &str = "KEEPUP_TEST_LOGS";
/// And how manieth it is, from 1.
const LIFE: &str = "KEEPUP_TEST_LIFE";

/// What is written, whoever writes it.
fn logs(folder: &Path) -> plan::Logs {
    plan::Logs {
        max_size: 20_000,
        keep: 10_000,
        compress: Compress::Gzip,
        ..plan(folder.join("api.log"))
    }
}

fn line(life: u64, nth: u64) -> String {
    format!("{life} {nth} {}", "x".repeat((nth * 7 % 150) as usize))
}

/// This program again, with this test alone.
fn child(command: &mut Command, test: &str, folder: &Folder, life: u64) -> Child {
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(WHERE, &folder.0).env(LIFE, life.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Writes until it is killed, and says after each drain how many lines it has drained.
#[test]
#[ignore = "it is started by another test, and killed"]
#[expect(clippy::print_stdout, reason = "whoever started it reads it")]
fn write_for_ever() {
    let Some(folder) = std::env::var_os(WHERE) else { return };
    let life: u64 = std::env::var(LIFE).unwrap().parse().unwrap();
    let world = World::new();
    let mut out = world.add("api", &logs(Path::new(&folder)));
    let mut chance = Chance(life);
    let mut nth = 0;
    loop {
        for _ in 0..chance.below(200) {
            let text = line(life, nth);
            // In two pieces, so that it can be killed between them.
            let (head, tail) = text.split_at(chance.size(text.len()));
            out.write_all(head.as_bytes()).unwrap();
            writeln!(out, "{tail}").unwrap();
            nth += 1;
        }
        world.drain("api");
        println!("drained {nth}");
    }
}

#[test]
fn killed_at_any_moment_it_leaves_all_that_was_drained_and_nothing_twice() {
    for seed in seeds(4) {
        let mut chance = Chance(seed);
        let folder = Folder::new();
        let mut drained = Vec::new();
        for life in 1..=8 {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let mut child = child(&mut command, "kills::write_for_ever", &folder, life);
            let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut count = 0;
            let wanted = chance.below(4000);
            while count < wanted {
                let line = said.next().expect("it lives").unwrap();
                if let Some(number) = line.strip_prefix("drained ") {
                    count = number.parse().unwrap();
                }
            }
            // Somewhere in what follows.
            let until = Instant::now() + Duration::from_micros(chance.below(3_000));
            while Instant::now() < until {}
            child.kill().unwrap();
            child.wait().unwrap();
            drained.push(count);
        }
        judge(seed, &items(&gather(&folder.0), LogFormat::Raw), &drained);
    }
}

/// Of each life its first lines, at least those that were drained, and at most a part of one more.
fn judge(seed: u64, items: &[Item], drained: &[u64]) {
    let again = format!("play it again: SEED={seed} cargo test --test logs kills");
    let (mut life, mut nth, mut torn) = (1, 0, false);
    for item in items {
        let Item::Line { text, .. } = item else { panic!("{item:?}: nothing is lost; {again}") };
        let text = std::str::from_utf8(text).unwrap();
        if text == line(life, nth) && !torn {
            nth += 1;
            continue;
        }
        let next = (life + 1..=drained.len() as u64).find(|it| text == line(*it, 0));
        if let Some(next) = next {
            for ended in life..next {
                let wanted = drained[usize::try_from(ended - 1).unwrap()];
                assert!(wanted <= nth, "life {ended}: {nth} lines, {wanted} were drained; {again}");
                nth = 0;
            }
            (life, nth, torn) = (next, 1, false);
            continue;
        }
        let begins = line(life, nth).starts_with(text)
            || (life..=drained.len() as u64).any(|it| line(it, 0).starts_with(text));
        assert!(begins && !torn, "life {life}: {nth} lines, and then `{text}`; {again}");
        torn = true;
    }
    assert!(drained.last().is_none_or(|it| *it <= nth || life < drained.len() as u64), "{again}");
}

/// Compresses what is there, and ends.
#[test]
#[ignore = "it is started by another test, and killed"]
fn compress_and_end() {
    let Some(folder) = std::env::var_os(WHERE) else { return };
    let folder = PathBuf::from(folder);
    let world = World::new();
    let out = world.add("api", &logs(&folder));
    wait_until("all is compressed", || is_packed(&folder));
    drop(out);
    world.finish();
}

fn is_packed(folder: &Path) -> bool {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    let mut names: Vec<_> = names.map(|it| it.into_string().unwrap()).collect();
    names.sort();
    names == ["api.log", "api.log.1.gz", "api.log.2.gz"]
}

/// A tracer kills the compressor at the n-th call of this kind, for every n that there is.
#[test]
fn killed_at_any_call_of_a_compression_it_is_finished_by_the_next() {
    if Command::new("strace").arg("-V").output().is_err() {
        return cannot_trace();
    }
    let (older, newer) = (lines(0..3_000), lines(3_000..6_000));
    let mut kills = 0;
    let calls = ["unlink", "fchown", "fchmod", "fsync", "rename"];
    for call in calls {
        for nth in 1.. {
            let folder = Folder::new();
            fs::write(folder.path("api.log.2"), &older).unwrap();
            fs::write(folder.path("api.log.1"), &newer).unwrap();
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null"]);
            command.arg(format!("--trace={call}"));
            command.arg(format!("--inject={call}:signal=SIGKILL:when={nth}"));
            command.arg(std::env::current_exe().unwrap());
            let whole = child(&mut command, "kills::compress_and_end", &folder, 1).wait().unwrap();
            let world = World::new();
            let out = world.add("api", &logs(&folder.0));
            wait_until("it is finished", || is_packed(&folder.0));
            drop(out);
            world.finish();
            assert!(gather(&folder.0) == [&older[..], &newer].concat(), "{call} {nth}");
            if whole.success() {
                break;
            }
            kills += 1;
            assert!(nth < 100, "{call} is never called so often");
        }
    }
    assert!(kills >= 10, "{kills} kills are not all steps");
}

#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn cannot_trace() {
    eprintln!("not run: this test kills a compression at each of its calls, and needs strace");
}

/// There are no descriptors at first, and then there are.
#[test]
#[ignore = "it is started by another test, since it limits its whole process"]
fn begin_without_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Some(folder) = std::env::var_os(WHERE) else { return };
    let world = World::new();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // What is open stays open.
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let service = name("api");
    let error = world.logs.add(&service, &logs(Path::new(&folder)), None).unwrap_err();
    assert!(error.contains("cannot take the output of `api`: too many open files"), "{error}");
    assert!(world.logs.begin_run(&service, 1).is_err(), "there are none yet");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let [stdout, _stderr] = world.logs.begin_run(&service, 2).unwrap();
    fs::File::from(stdout).write_all(b"taken\n").unwrap();
    world.drain("api");
    assert_eq!(world.texts(), ["its output is taken from now on"]);
    world.finish();
}

#[test]
fn output_that_cannot_be_taken_at_first_is_taken_by_a_later_run() {
    let folder = Folder::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = child(&mut command, "kills::begin_without_descriptors", &folder, 1);
    assert!(child.wait().unwrap().success());
    assert_eq!(folder.read("api.log"), "taken\n");
}
