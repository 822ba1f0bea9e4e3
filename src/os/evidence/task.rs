//! One process and its threads.
//!
//! Source: `proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_pid_wchan(5)`, `proc_pid_stack(5)`,
//! `proc_pid_cmdline(5)`, `proc_pid_maps(5)`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};

use super::{ProcessSeen, ThreadSeen, calls};
use crate::core::event::Pid;
use crate::net::client::words::clipped;

/// Threads that are looked at; the rest is counted.
const THREADS_MAX: usize = 48;
/// Threads whose kernel stack is read, and frames of each.
const STACKS_MAX: usize = 16;
const FRAMES_MAX: usize = 16;
/// Bytes of a command line, and characters of it that are shown.
const COMMAND_MAX: u64 = 4096;
const COMMAND_SHOWN: usize = 300;
/// Mappings that are read.
const MAPS_MAX: usize = 65_536;
/// Clock ticks in a second, as the kernel shows them. Source: `time(7)`, `USER_HZ`.
const TICKS: f64 = 100.0;

/// What can be seen of a process without waiting for anything; `None` if it is gone.
pub(super) fn process(pid: Pid) -> Option<ProcessSeen> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let status = read(&format!("/proc/{pid}/status"))?;
    let field = |key: &str| status.lines().find_map(|it| it.strip_prefix(key)).map(str::trim);
    let mib = |key: &str| {
        let kib: f64 = field(key)?.split_ascii_whitespace().next()?.parse().ok()?;
        Some((kib / 1024.0 * 10.0).round() / 10.0)
    };
    let number = |key: &str| field(key)?.parse::<i32>().ok();
    let mut tids: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable_by_key(|&tid| main_first(pid, tid));
    let threads = tids.iter().take(THREADS_MAX).enumerate();
    let threads = threads.filter_map(|(nth, &tid)| thread(pid, tid, nth < STACKS_MAX));
    Some(ProcessSeen {
        pid: pid.0,
        parent: number("PPid:").unwrap_or(0),
        name: clipped(field("Name:").unwrap_or_default(), 64),
        state: field("State:").unwrap_or_default().to_owned(),
        memory_mib: mib("RssAnon:"),
        swap_mib: mib("VmSwap:"),
        cpu_seconds: cpu_seconds(&stat).unwrap_or(0.0),
        threads_count: tids.len(),
        threads: threads.collect(),
        ..ProcessSeen::default()
    })
}

/// The main thread says most of what it hangs in. Where numbers have begun anew, its is not the
/// lowest.
fn main_first(pid: Pid, tid: i32) -> (bool, i32) {
    (tid != pid.0, tid)
}

/// From the fields 14 and 15 of `stat`; field 3 is the first behind the name.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |place: usize| rest.get(place)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn thread(pid: Pid, tid: i32, with_stack: bool) -> Option<ThreadSeen> {
    let folder = format!("/proc/{pid}/task/{tid}");
    let stat = read(&format!("{folder}/stat"))?;
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    let waits = matches!(state, 'S' | 'D' | 'T' | 't');
    let wait = read(&format!("{folder}/wchan")).filter(|it| !it.is_empty());
    let wait = match wait.as_deref() {
        // The kernel says 0, too, to those who may not know.
        Some("0") | None if waits => Some("not permitted".to_owned()),
        Some("0") | None => None,
        Some(function) => Some(clipped(function, 64)),
    };
    let name = read(&format!("{folder}/comm")).unwrap_or_default();
    Some(ThreadSeen {
        tid,
        name: clipped(name.trim_end(), 64),
        state: state.to_string(),
        wait,
        call: read(&format!("{folder}/syscall")).and_then(|it| calls::shown(&it)),
        stack: if with_stack { stack(&folder) } else { Vec::new() },
    })
}

/// Without addresses, which say nothing to people.
fn stack(folder: &str) -> Vec<String> {
    match fs::read_to_string(format!("{folder}/stack")) {
        Ok(text) => {
            let frame = |line: &str| clipped(line.split("] ").nth(1).unwrap_or(line).trim(), 96);
            text.lines().take(FRAMES_MAX).map(frame).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            vec!["not permitted".to_owned()]
        }
        // A kernel without them, or a thread that is gone.
        Err(_) => Vec::new(),
    }
}

/// The command line; reading it may hang.
pub(super) fn command(pid: Pid) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(COMMAND_MAX).read_to_end(&mut bytes).ok()?;
    let words: Vec<_> = bytes.split(|&it| it == 0).map(String::from_utf8_lossy).collect();
    let line = words.join(" ");
    (!line.trim().is_empty()).then(|| clipped(line.trim_end(), COMMAND_SHOWN))
}

/// The address space in a line; reading it may hang.
pub(super) fn maps(pid: Pid) -> Option<String> {
    let file = BufReader::new(File::open(format!("/proc/{pid}/maps")).ok()?);
    let (mut count, mut total, mut largest) = (0_usize, 0_u64, (0_u64, String::new()));
    for line in file.lines().take(MAPS_MAX) {
        let line = line.ok()?;
        let Some((size, what)) = mapping(&line) else { continue };
        count += 1;
        total += size;
        if largest.0 < size {
            largest = (size, what);
        }
    }
    let mib = |bytes: u64| bytes >> 20;
    let largest = format!("the largest {} MiB of {}", mib(largest.0), largest.1);
    (count > 0).then(|| format!("{count} mappings of {} MiB, {largest}", mib(total)))
}

fn mapping(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let what = fields.nth(4).unwrap_or("anonymous memory");
    Some((number(end)?.checked_sub(number(start)?)?, clipped(what, 96)))
}

fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_thread_comes_first_though_numbers_began_anew() {
        let mut tids = [366, 32_664, 32_700, 301];
        tids.sort_unstable_by_key(|&tid| main_first(Pid(32_664), tid));
        assert_eq!(tids, [32_664, 301, 366, 32_700]);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) R (b c) S 7 40 41 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 98765 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (a"), None);
    }

    #[test]
    fn mappings_have_a_size_and_a_name() {
        let line = "7f27fc800000-7f27fc900000 r-xp 00000000 fe:00 1234      /usr/lib/libc.so.6";
        assert_eq!(mapping(line), Some((1 << 20, "/usr/lib/libc.so.6".to_owned())));
        let line = "7f27fc800000-7f27fc801000 rw-p 00000000 00:00 0";
        assert_eq!(mapping(line), Some((4096, "anonymous memory".to_owned())));
        assert_eq!(mapping("junk"), None);
    }
}
