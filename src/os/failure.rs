//! Why a program did not start: what the child could tell, and the same for people.
//!
//! Each cause has its own words: a missing program, a missing folder, a missing user and a missing
//! interpreter all are "no such file" to the kernel.

use std::ffi::CString;

use nix::errno::Errno;

use super::launch::Launch;
use crate::core::event::SpawnFailure;
use crate::plan::Resource;

/// How much of the file's beginning is told; enough for a `#!` line (execve(2): 255 bytes).
const HEAD: usize = 256;
const FIXED: usize = 12;

/// Where it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Streams,
    OomScore,
    Nice,
    Limit,
    Groups,
    User,
    NoNewPrivileges,
    Directory,
    NotFound,
    Exec,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Streams,
        Step::OomScore,
        Step::Nice,
        Step::Limit,
        Step::Groups,
        Step::User,
        Step::NoNewPrivileges,
        Step::Directory,
        Step::NotFound,
        Step::Exec,
    ];
}

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
    /// Which of several: the candidate or the limit.
    pub(super) place: u16,
}

impl Failure {
    /// Of the system call that has just failed. Called in the child.
    pub(super) fn new(step: Step) -> Failure {
        Failure { step, errno: Errno::last_raw(), place: 0 }
    }

    /// Called in the child.
    pub(super) fn at(self, place: u16) -> Failure {
        Failure { place, ..self }
    }
}

/// What the child writes into the pipe, in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) failure: Failure,
    /// Of the file that could not be run; 0 if it was not looked at.
    pub(super) mode: u32,
    /// How that file begins.
    pub(super) head: [u8; HEAD],
}

impl Report {
    /// Called in the child.
    pub(super) fn of(failure: Failure) -> Report {
        Report { failure, mode: 0, head: [0; HEAD] }
    }

    /// Called in the child.
    pub(super) fn bytes(&self) -> [u8; FIXED + HEAD] {
        let mut bytes = [0; FIXED + HEAD];
        bytes[0] = self.failure.step as u8;
        bytes[2..4].copy_from_slice(&self.failure.place.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.failure.errno.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.mode.to_le_bytes());
        bytes[FIXED..].copy_from_slice(&self.head);
        bytes
    }

    /// What the pipe held; `None` if that is no report.
    pub(super) fn read(bytes: &[u8]) -> Option<Report> {
        let step = *Step::ALL.get(usize::from(*bytes.first()?))?;
        let place = u16::from_le_bytes(bytes.get(2..4)?.try_into().ok()?);
        let errno = i32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        let mode = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        let head = bytes.get(FIXED..)?.try_into().ok()?;
        Some(Report { failure: Failure { step, errno, place }, mode, head })
    }

    /// The same for the core.
    pub(super) fn failure(&self, launch: &Launch) -> SpawnFailure {
        let reason = self.text(launch);
        match self.failure.step {
            Step::NotFound => SpawnFailure { reason, status: 127 },
            Step::Streams
            | Step::OomScore
            | Step::Nice
            | Step::Limit
            | Step::Groups
            | Step::User
            | Step::NoNewPrivileges
            | Step::Directory
            | Step::Exec => SpawnFailure::other(reason),
        }
    }

    /// A whole sentence for people, with what can be done about it.
    fn text(&self, launch: &Launch) -> String {
        let error = self.failure.errno;
        let why = match self.failure.step {
            Step::Streams => format!("cannot arrange its streams: {}", words(error)),
            Step::OomScore => format!(
                "cannot set `oom_score_adj` to {}: {} (only root can lower it)",
                launch.oom_score_adj.as_ref().map(lossy).unwrap_or_default(),
                words(error)
            ),
            Step::Nice => format!(
                "cannot set `nice` to {}: {} (only root can lower it)",
                launch.nice,
                words(error)
            ),
            Step::Limit => self.limit(launch, error),
            Step::Groups => format!("cannot take on its groups: {}", privilege(error)),
            Step::User => format!(
                "cannot become user `{}`: {}",
                launch.user.as_deref().unwrap_or_default(),
                privilege(error)
            ),
            Step::NoNewPrivileges => format!("cannot set `no_new_privileges`: {}", words(error)),
            Step::Directory => directory(launch, error),
            Step::NotFound => match &launch.path {
                Some(path) => format!("not found in PATH ({path})"),
                None => "no such file".to_owned(),
            },
            Step::Exec => self.exec(launch, error),
        };
        format!("cannot start `{}`: {why}", launch.program())
    }

    fn limit(&self, launch: &Launch, error: i32) -> String {
        let Some(&(resource, libc::rlimit { rlim_max: value, .. })) =
            launch.limits.get(usize::from(self.failure.place))
        else {
            return format!("cannot set its limits: {}", words(error));
        };
        let name = Resource::ALL.iter().find(|it| it.1 == resource).map_or("", |it| it.0);
        let value = match value {
            libc::RLIM_INFINITY => "unlimited".to_owned(),
            value => value.to_string(),
        };
        let hint = match (error, resource) {
            (libc::EPERM, Resource::Nofile) => {
                " (above keepup's own hard limit, or above the sysctl fs.nr_open; raise LimitNOFILE= \
                 in keepup's unit, `--ulimit nofile` of its container)"
            }
            (libc::EPERM, _) => {
                " (above keepup's own hard limit; raise it where keepup is started)"
            }
            _ => "",
        };
        format!("cannot set limit `{name}` to {value}: {}{hint}", words(error))
    }

    fn exec(&self, launch: &Launch, error: i32) -> String {
        let file =
            launch.candidates.get(usize::from(self.failure.place)).map(lossy).unwrap_or_default();
        match error {
            libc::ENOENT | libc::ENOTDIR => format!("`{file}` {}", self.interpreter()),
            libc::EACCES if self.mode & libc::S_IFMT == libc::S_IFDIR => {
                format!("`{file}` is a directory")
            }
            libc::EACCES if self.mode != 0 && self.mode & 0o111 == 0 => {
                format!("`{file}` is not executable (chmod +x)")
            }
            libc::EACCES => format!(
                "`{file}` may not be executed by {}: permission denied (on it, a folder above it, \
                 its interpreter, or its file system is mounted noexec)",
                launch
                    .user
                    .as_ref()
                    .map_or("keepup's user".to_owned(), |it| format!("user `{it}`"))
            ),
            libc::ENOEXEC => {
                format!("`{file}` is no program for this machine, or a script without a `#!` line")
            }
            libc::E2BIG => format!("`{file}`: its arguments and environment are too long"),
            libc::ETXTBSY => format!("`{file}` is still being written by another process"),
            libc::EAGAIN => {
                format!("`{file}`: its user has too many processes (limit `nproc`)")
            }
            error => format!("`{file}`: {}", words(error)),
        }
    }

    /// The file is there, but what it needs to run is not.
    fn interpreter(&self) -> String {
        if let Some(line) = self.head.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let first = line.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or("");
            let hint = if first.ends_with('\r') { " (it has Windows line ends)" } else { "" };
            return format!(
                "needs the interpreter `{}` of its first line, which does not exist{hint}",
                first.trim_end()
            );
        }
        "needs a loader or library loader that does not exist (it was built for another system, \
         as glibc is to Alpine)"
            .to_owned()
    }
}

fn directory(launch: &Launch, error: i32) -> String {
    let directory = launch.directory.as_ref().map(lossy).unwrap_or_default();
    match error {
        libc::ENOENT => format!("its directory `{directory}` does not exist"),
        libc::ENOTDIR => format!("its directory `{directory}` is not a directory"),
        libc::EACCES => {
            let user = launch.user.as_ref().map_or("keepup's user".into(), |it| format!("`{it}`"));
            format!("its directory `{directory}` may not be entered by {user}")
        }
        error => format!("its directory `{directory}`: {}", words(error)),
    }
}

fn privilege(error: i32) -> String {
    match error {
        libc::EPERM => format!(
            "keepup runs as uid {}, and only root (CAP_SETUID, CAP_SETGID) can change it",
            nix::unistd::geteuid()
        ),
        libc::EINVAL => "there is no such id in this user namespace".to_owned(),
        error => words(error),
    }
}

/// In lower case, without a number.
pub(super) fn words(error: i32) -> String {
    let text = Errno::from_raw(error).desc();
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation stays as it is.
        Some(first) if !letters.as_str().starts_with(|it: char| it.is_ascii_uppercase()) => {
            format!("{}{}", first.to_ascii_lowercase(), letters.as_str())
        }
        Some(_) | None => text.to_owned(),
    }
}

fn lossy(text: &CString) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_pipe() {
        for step in Step::ALL {
            let failure = Failure { step, errno: 13, place: 515 };
            let mut report = Report { mode: 0o100_644, ..Report::of(failure) };
            report.head[..4].copy_from_slice(b"#!/x");
            assert_eq!(Report::read(&report.bytes()), Some(report));
        }
        assert_eq!(Report::read(b""), None);
        assert_eq!(Report::read(b"\xff"), None);
    }

    #[test]
    fn an_interpreter_is_named() {
        let text = |head: &[u8]| {
            let mut report = Report::of(Failure::new(Step::Exec));
            report.head[..head.len()].copy_from_slice(head);
            report.interpreter()
        };
        assert!(text(b"#! /usr/bin/pyhton -u\n").contains("`/usr/bin/pyhton` of its first line"));
        assert!(text(b"#!/bin/sh\r\necho").ends_with(
            "`/bin/sh` of its first line, which does not exist (it has Windows line ends)"
        ));
        assert!(text(b"\x7fELF").contains("loader"));
    }
}
