//! Whether the kernel killed a process for want of memory: a counter of the control group that
//! keepup and its services are in says so.
//!
//! Never needed: where there is no such counter, a kill stays a kill. The file is the kernel's own
//! and is answered at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::event::Time;

/// Bytes of such a file that are read; it has a few short lines.
const READ_MAX: usize = 1024;

/// So long a killed process may take to die and be reaped here.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many processes of the group the kernel has killed.
#[derive(Debug)]
pub(super) struct OomKills {
    counter: Option<File>,
    seen: u64,
    /// Kills whose dead did not come here yet, and when the last of them was seen.
    pending: u64,
    seen_at: Time,
}

impl OomKills {
    pub(super) fn new() -> OomKills {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        OomKills::at(&candidates(&groups))
    }

    fn at(candidates: &[PathBuf]) -> OomKills {
        let usable = |path: &PathBuf| {
            let file = File::open(path).ok()?;
            read(&file).ok().flatten().map(|count| (file, count))
        };
        match candidates.iter().find_map(usable) {
            Some((file, seen)) => {
                OomKills { counter: Some(file), seen, pending: 0, seen_at: Time::default() }
            }
            None => OomKills { counter: None, seen: 0, pending: 0, seen_at: Time::default() },
        }
    }

    /// Looks how many there are now. To be done now and then: the dead of many kills never come here,
    /// since others reap them.
    pub(super) fn look(&mut self, now: Time) {
        let count = self.counter.as_ref().and_then(|file| read(file).ok().flatten());
        let new = count.unwrap_or(self.seen).saturating_sub(self.seen);
        if new > 0 {
            (self.seen, self.seen_at) = (self.seen + new, now);
            self.pending += new;
        } else if self.seen_at + PATIENCE <= now {
            self.pending = 0;
        }
    }

    /// Was somebody who died now killed so? Each kill has one dead.
    pub(super) fn take(&mut self, now: Time) -> bool {
        self.look(now);
        let any = self.pending > 0;
        self.pending = self.pending.saturating_sub(1);
        any
    }
}

fn read(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0; READ_MAX];
    let length = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).unwrap_or_default();
    Ok(parse(&String::from_utf8_lossy(text)))
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the counter may be, for the groups of this process as `/proc/self/cgroup` lists them. In
/// a container the group's own folder may be what is mounted.
///
/// Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst (`memory.events`) and
/// cgroup-v1/memory.rst (`memory.oom_control`).
fn candidates(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut add = |mount: &str, group: &str, file: &str| {
        let mount = Path::new(mount);
        found.push(mount.join(group.trim_start_matches('/')).join(file));
        found.push(mount.join(file));
    };
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (parts.next(), parts.next()) else { continue };
        if kinds.is_empty() {
            add("/sys/fs/cgroup", group, "memory.events");
        } else if kinds.split(',').any(|kind| kind == "memory") {
            add("/sys/fs/cgroup/memory", group, "memory.oom_control");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_that_of_the_own_group_or_of_what_is_mounted() {
        let paths = |groups| -> Vec<String> {
            candidates(groups).iter().map(|it| it.display().to_string()).collect()
        };
        assert_eq!(
            paths("0::/system.slice/keepup.service\n"),
            [
                "/sys/fs/cgroup/system.slice/keepup.service/memory.events",
                "/sys/fs/cgroup/memory.events"
            ]
        );
        assert_eq!(
            paths("9:cpu,memory:/docker/ab\n8:pids:/docker/ab\n"),
            [
                "/sys/fs/cgroup/memory/docker/ab/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control"
            ]
        );
        assert!(candidates("").is_empty() && candidates("1:x").is_empty());
    }

    #[test]
    fn a_kill_is_new_once() {
        let path = std::env::temp_dir().join(format!("keepup-oom-{}", std::process::id()));
        std::fs::write(&path, "low 0\noom 3\noom_kill 1\noom_group_kill 7\n").unwrap();
        let mut kills = OomKills::at(&[PathBuf::from("/nonexistent/x"), path.clone()]);
        let at = |seconds| Time(Duration::from_secs(seconds));
        let count =
            |kills: u64| std::fs::write(&path, format!("oom 9\noom_kill {kills}\n")).unwrap();
        assert!(!kills.take(at(1)), "what was before is nobody's");
        count(2);
        kills.look(at(10));
        assert!(kills.take(at(11)) && !kills.take(at(11)));
        count(4);
        assert!(kills.take(at(20)));
        kills.look(at(26));
        assert!(!kills.take(at(26)), "the other one was reaped by somebody else");
        std::fs::remove_file(&path).unwrap();
        assert!(!OomKills::at(&[]).take(at(1)));
    }

    #[test]
    fn only_the_count_of_kills_is_read() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(parse("oom_kill x"), None);
    }
}
