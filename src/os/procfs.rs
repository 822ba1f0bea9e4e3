//! What `/proc` says about processes.
//!
//! `stat` and `children` answer at once whatever state a process is in. `environ` waits for a lock
//! that a process stuck in the kernel may hold: it must never be read on the loop.

use std::fs;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use crate::core::event::Pid;
use crate::plan::Signal;

/// More of an environment than this is not looked at, in bytes; the marker stands at its end, and
/// the kernel allows no more than this by default.
const ENVIRON_MAX: u64 = 2 << 20;

/// A list of limits is shorter, in bytes.
const LIMITS_MAX: usize = 4096;

/// A program that is being loaded is looked at again so often, and so much later each time: longer
/// than a load takes that does not hang.
const LOADING_LOOKS_MAX: u32 = 500;
const LOADING_WAIT: Duration = Duration::from_millis(1);

/// The part of `/proc/PID/stat` that matters here. Source: `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `R`, `S`, `D`, `Z` and so on.
    pub(crate) state: u8,
    pub(crate) parent: Pid,
    pub(crate) group: Pid,
    pub(crate) session: Pid,
    /// In clock ticks since boot: with the pid, this names a process for as long as the machine
    /// is up.
    pub(crate) start_time: u64,
}

impl Stat {
    /// Dead, though not reaped.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Those from the third on.
    fn fields(text: &[u8]) -> Option<Vec<&str>> {
        // The program's name stands in parentheses and may contain anything, these included.
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        Some(rest.split_ascii_whitespace().collect())
    }

    fn parse(text: &[u8]) -> Option<Stat> {
        let fields = Stat::fields(text)?;
        let pid = |place: usize| fields.get(place)?.parse().ok().map(Pid);
        Some(Stat {
            state: *fields.first()?.as_bytes().first()?,
            parent: pid(1)?,
            group: pid(2)?,
            session: pid(3)?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

/// What the kernel says about a process; `None` if there is no such process.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The limit on real-time processor time, soft and hard; `None` if there is no such process.
pub(super) fn realtime_limit(pid: Pid) -> Option<(u64, u64)> {
    let mut bytes = [0; LIMITS_MAX];
    // The kernel gives all of it at once.
    let length = fs::File::open(format!("/proc/{pid}/limits")).ok()?.read(&mut bytes).ok()?;
    let limits = std::str::from_utf8(bytes.get(..length)?).ok()?;
    let line = limits.lines().find_map(|it| it.strip_prefix("Max realtime timeout"))?;
    let number = |it: &str| if it == "unlimited" { Some(u64::MAX) } else { it.parse().ok() };
    let mut numbers = line.split_ascii_whitespace();
    Some((number(numbers.next()?)?, number(numbers.next()?)?))
}

/// Does this signal have its default effect on a process, neither caught nor ignored? `false` if
/// there is no such process.
pub(super) fn has_default(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is_in = |key: &str| {
        let mask = status.lines().find_map(|it| it.strip_prefix(key))?.trim();
        Some(u64::from_str_radix(mask, 16).ok()? >> (signal.0 - 1) & 1 == 1)
    };
    is_in("SigCgt:") == Some(false) && is_in("SigIgn:") == Some(false)
}

/// The children of this process, those of all its threads.
pub(super) fn children() -> Vec<Pid> {
    children_as_listed().unwrap_or_else(|_| children_as_searched())
}

/// One small file per thread, where the kernel was built with it.
fn children_as_listed() -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        children.extend(text.split_ascii_whitespace().filter_map(|it| it.parse().ok()).map(Pid));
    }
    Ok(children)
}

/// Those of another process.
pub(super) fn children_of(pid: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(text.split_ascii_whitespace().filter_map(|it| it.parse().ok()).map(Pid));
    }
    children
}

fn children_as_searched() -> Vec<Pid> {
    let own = Pid(nix::unistd::getpid().as_raw());
    all().filter(|&pid| stat(pid).is_some_and(|it| it.parent == own)).collect()
}

/// Every process that can be seen.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid))
}

/// The number that a process or thread was given last, where that is shown. The next is the next
/// free one above it.
///
/// Source: `proc_loadavg(5)`, the last field.
pub(super) fn newest() -> Option<Pid> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(4)?.parse().ok().map(Pid)
}

/// The environment that a process was started with. May hang: not for the loop.
///
/// While the kernel loads another program into a process, that has none for a moment; it is waited
/// for, since whoever is marked must not pass for unmarked.
pub(crate) fn environ(pid: Pid) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..LOADING_LOOKS_MAX {
        fs::File::open(format!("/proc/{pid}/environ"))?
            .take(ENVIRON_MAX)
            .read_to_end(&mut bytes)?;
        if !bytes.is_empty() || has_no_environ(pid) {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells that a program is loaded")]
        thread::sleep(LOADING_WAIT);
    }
    Ok(bytes)
}

/// Is there none, for good? Source: fields 23, 50 and 51 of `proc_pid_stat(5)`.
fn has_no_environ(pid: Pid) -> bool {
    let Ok(text) = fs::read(format!("/proc/{pid}/stat")) else { return true };
    let number = |field: usize| {
        let fields = Stat::fields(&text)?;
        fields.get(field - 3)?.parse::<u64>().ok()
    };
    let (Some(memory), Some(start), Some(end)) = (number(23), number(50), number(51)) else {
        return true;
    };
    let is_dead_or_of_the_kernel = memory == 0;
    let is_loading = end == 0;
    is_dead_or_of_the_kernel || (!is_loading && start == end)
}

/// A name for this boot of the machine; empty if it cannot be known.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// A number for the namespace that our pids belong to; 0 if it cannot be known.
pub(super) fn pid_namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_nothing() {
        let text = b"42 (a) R (b c) S 7 40 41 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2";
        let wanted = Stat {
            state: b'S',
            parent: Pid(7),
            group: Pid(40),
            session: Pid(41),
            start_time: 98765,
        };
        assert_eq!(Stat::parse(text), Some(wanted));
        assert_eq!(Stat::parse(b"42 (a S 7"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn whoever_loads_program_after_program_is_marked_all_the_time() {
        let mut restless = std::process::Command::new("sh")
            .args(["-c", "exec sh -c \"$0\" \"$0\"", "exec sh -c \"$0\" \"$0\""])
            .env_clear()
            .env("MARKED", "yes")
            .spawn()
            .unwrap();
        let pid = Pid(i32::try_from(restless.id()).unwrap());
        let unmarked = (0..20000).filter(|_| {
            let environ = environ(pid).unwrap();
            !environ.split(|&byte| byte == 0).any(|it| it == b"MARKED=yes")
        });
        let unmarked = unmarked.count();
        restless.kill().unwrap();
        restless.wait().unwrap();
        assert_eq!(unmarked, 0);
    }

    #[test]
    fn this_process_is_there() {
        let own = Pid(i32::try_from(std::process::id()).unwrap());
        let stat = stat(own).unwrap();
        assert!(!stat.is_dead());
        assert!(stat.start_time > 0);
        assert!(all().any(|it| it == own));
        assert!(pid_namespace() > 0);
    }
}
