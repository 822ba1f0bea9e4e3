//! From the start of keepup to N services running, beside a bare loop of `posix_spawn` over the
//! same program: how it grows with N.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{
    Folder, Keepup, itself, millis, now, percentile, stamp, stamps, terminate, wait, wait_until,
};

/// Each kind takes turns, so that what slows the machine slows all.
const TURNS: usize = 3;

fn main() {
    let begun = now();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, path] = &arguments[..]
        && role == "stay"
    {
        stamp(path, &[begun]);
        wait(Duration::MAX);
        return;
    }
    println!("services  bare posix_spawn loop      keepup     ratio   for each   the stop of all");
    for services in [1, 10, 100, 1000] {
        let (mut bare, mut keepup, mut stops) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            bare.push(bare_loop(services));
            let (start, stop) = supervised(services);
            keepup.push(start);
            stops.push(stop);
        }
        let (bare, keepup) = (percentile(&mut bare, 50), percentile(&mut keepup, 50));
        let stop = millis(percentile(&mut stops, 50));
        let each = millis(keepup) / f64::from(u32::try_from(services).unwrap());
        let ratio = millis(keepup) / millis(bare);
        let (bare, keepup) = (millis(bare), millis(keepup));
        println!(
            "{services:8} {bare:19.1} ms {keepup:9.1} ms {ratio:7.2} x {each:7.2} ms {stop:11.1} ms"
        );
    }
}

fn bare_loop(services: usize) -> Duration {
    let folder = Folder::in_memory();
    let path = folder.path("stamps");
    let began = now();
    let mut children: Vec<Child> = (0..services)
        .map(|_| {
            let mut command = Command::new(itself());
            command.args(["stay", path.to_str().unwrap()]).stdin(Stdio::null());
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let last = all_there(&path, services);
    for child in &mut children {
        terminate(child);
    }
    last.saturating_sub(began)
}

fn supervised(services: usize) -> (Duration, Duration) {
    let folder = Folder::in_memory();
    let path = folder.path("stamps");
    let mut text = String::new();
    for nth in 0..services {
        let (program, path) = (itself(), path.display());
        write!(text, "[service.s{nth}]\ncommand = [\"{program}\", \"stay\", \"{path}\"]\n")
            .unwrap();
    }
    let keepup = Keepup::start(Folder::new(), &text);
    let last = all_there(&path, services);
    let began = keepup.began;
    (last.saturating_sub(began), keepup.end())
}

/// When the last of so many was there.
fn all_there(path: &Path, services: usize) -> Duration {
    wait_until(|| stamps(path).len() >= services);
    stamps(path).into_iter().max().unwrap()
}
