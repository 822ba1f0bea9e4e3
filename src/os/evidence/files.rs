//! The open files of a process, and what they are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::time::Instant;

use super::calls;
use crate::core::event::Pid;
use crate::net::client::words::clipped;
use crate::os::listeners;

/// Files that are looked at and shown; the rest is counted.
const FILES_MAX: usize = 64;
/// Sockets of the machine that are known by name; a busy server has hundreds of thousands.
const SOCKETS_MAX: usize = 50_000;
/// Characters of one file.
const SHOWN_MAX: usize = 160;

/// What the sockets of the machine are, by inode.
#[derive(Debug, Default)]
pub(super) struct Sockets(HashMap<u64, String>);

/// The open files of a process.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) count: usize,
    first: Vec<(i32, String)>,
}

impl Sockets {
    /// Those of the network that this process sees; none where they cannot be read.
    pub(super) fn of(pid: Pid, until: Instant) -> Sockets {
        let mut sockets = Sockets::default();
        for kind in ["tcp", "tcp6", "udp", "udp6", "unix"] {
            let Ok(file) = File::open(format!("/proc/{pid}/net/{kind}")) else { continue };
            for (nth, line) in BufReader::new(file).lines().skip(1).enumerate() {
                let late = nth % 1024 == 1023 && until <= Instant::now();
                let Ok(line) = line else { break };
                if late || sockets.0.len() >= SOCKETS_MAX {
                    return sockets;
                }
                let known =
                    if kind == "unix" { unix(&line) } else { listeners::described(&line, kind) };
                sockets.0.extend(known);
            }
        }
        sockets
    }
}

/// Source: `proc_pid_net(5)`: the inode is the seventh field, the path the eighth.
fn unix(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let path = fields.get(7).copied().unwrap_or("without a name");
    Some((fields.get(6)?.parse().ok()?, format!("unix {path}")))
}

/// Nothing where the kernel does not permit to look, or the process is gone.
pub(super) fn of(pid: Pid, sockets: &Sockets) -> Option<Files> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut fds: Vec<i32> =
        entries.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok()).collect();
    fds.sort_unstable();
    let look = |&fd: &i32| {
        let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        Some((fd, clipped(&named(&target.to_string_lossy(), sockets), SHOWN_MAX)))
    };
    let first = fds.iter().take(FILES_MAX).filter_map(look).collect();
    Some(Files { count: fds.len(), first })
}

/// `socket:[123]` and its like in words; a path is one already.
fn named(target: &str, sockets: &Sockets) -> String {
    let inode = |kind: &str| target.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']');
    if let Some(inode) = inode("socket") {
        let known = inode.parse().ok().and_then(|inode: u64| sockets.0.get(&inode));
        return known.map_or_else(|| "socket".to_owned(), |it| format!("socket {it}"));
    }
    if inode("pipe").is_some() {
        return target.replace(":[", " [");
    }
    target.strip_prefix("anon_inode:").map_or(target, |it| it.trim_matches(['[', ']'])).to_owned()
}

impl Files {
    /// `7 → socket tcp …`, one each.
    pub(super) fn shown(&self) -> Vec<String> {
        self.first.iter().map(|(fd, what)| format!("{fd} → {what}")).collect()
    }

    /// A system call, with what its file is.
    pub(super) fn name_in(&self, call: &str) -> String {
        let file = calls::file_of(call);
        match self.first.iter().find(|it| Some(it.0) == file) {
            Some((_, what)) => format!("{call} ({what})"),
            None => call.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_for_people() {
        let sockets = Sockets(HashMap::from([(7, "tcp a → b".to_owned())]));
        let named = |target: &str| named(target, &sockets);
        assert_eq!(named("socket:[7]"), "socket tcp a → b");
        assert_eq!(named("socket:[8]"), "socket");
        assert_eq!(named("pipe:[9]"), "pipe [9]");
        assert_eq!(named("anon_inode:[eventpoll]"), "eventpoll");
        assert_eq!(named("/var/log/x (deleted)"), "/var/log/x (deleted)");
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x.sock";
        assert_eq!(unix(line), Some((12345, "unix /run/x.sock".to_owned())));
        let line = "0000000000000000: 00000003 00000000 00000000 0001 03 99";
        assert_eq!(unix(line), Some((99, "unix without a name".to_owned())));
    }

    #[test]
    fn a_call_says_what_its_file_is() {
        let files = Files { count: 1, first: vec![(7, "pipe [9]".to_owned())] };
        assert_eq!(files.name_in("read of fd 7"), "read of fd 7 (pipe [9])");
        assert_eq!(files.name_in("read of fd 8"), "read of fd 8");
        assert_eq!(files.name_in("futex"), "futex");
        assert_eq!(files.shown(), ["7 → pipe [9]"]);
    }
}
