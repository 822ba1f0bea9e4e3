//! A process group, and a way to signal it that cannot hit a stranger.
//!
//! Held by a pidfd of its leader, which names the group even after the leader was reaped and its
//! number went to somebody else (Linux 6.9 and later; by number before that). Must never be kept
//! once the group was found empty.

#![expect(unsafe_code, reason = "pidfds are not in nix")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::core::event::Pid;
use crate::plan::Signal;

/// Source: `pidfd_send_signal(2)`.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The group that this leader made.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    pidfd: Option<OwnedFd>,
}

/// What became of a signal.
#[derive(Debug)]
pub(super) enum Sent {
    /// It reached one process at least.
    Reached,
    /// There is no process left.
    Empty,
    /// It reached none: they run as somebody else, and keepup is not root.
    Refused,
}

impl Group {
    /// `leader` is a child that was not reaped yet, or was checked by the caller.
    pub(super) fn of(leader: Pid) -> Group {
        Group { leader, pidfd: pidfd(leader).ok() }
    }

    /// To every process of the group.
    pub(super) fn send(&self, signal: Signal) -> Sent {
        let result = match self.send_by_pidfd(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            // An older kernel does not know the flag.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // SAFETY: a system call on two integers.
                check(i64::from(unsafe { libc::killpg(self.leader.0, signal.0) }))
            }
            result => result,
        };
        match result {
            Ok(()) => Sent::Reached,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Sent::Empty,
            Err(_) => Sent::Refused,
        }
    }

    /// The group that the process held by this pidfd may lead.
    pub(super) fn held(leader: Pid, pidfd: &OwnedFd) -> io::Result<Group> {
        Ok(Group { leader, pidfd: Some(pidfd.try_clone()?) })
    }

    /// To the leader alone, by its pidfd and never by its number.
    pub(super) fn send_to_held_leader(&self, signal: Signal) -> io::Result<()> {
        self.send_by_pidfd(signal, 0)
    }

    /// To the leader alone; it must not have been reaped.
    pub(super) fn send_to_leader(&self, signal: Signal) {
        if self.send_by_pidfd(signal, 0).is_err() {
            kill(self.leader, signal).ok();
        }
    }

    fn send_by_pidfd(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => send(pidfd, signal, flags),
            None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

/// To the process that is held by this pidfd.
pub(super) fn send_to_held(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    send(pidfd, signal, 0)
}

fn send(pidfd: &OwnedFd, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the rest are integers.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.0, none, flags)
    })
}

/// A handle on a process that its number's next owner does not inherit. Readable once it is dead.
pub(super) fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call on two integers; CLOEXEC is always set.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// To one process, by its number: only to a child of ours that was not reaped.
pub(super) fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: a system call on two integers.
    check(i64::from(unsafe { libc::kill(pid.0, signal.0) }))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
