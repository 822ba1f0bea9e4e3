//! Who died, and how: the only place that waits for children.
//!
//! In two steps, so that a death can be acted upon while the zombie still holds its number: what
//! is sent to its group then cannot hit a stranger. Must never block.

#![expect(unsafe_code, reason = "nix refuses the exit of a process killed by a real-time signal")]

use std::mem::MaybeUninit;

use crate::core::event::{Exit, Pid};
use crate::plan::Signal;

/// What [`peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peek {
    /// This child is dead.
    Dead { pid: Pid, exit: Exit },
    /// There are children, and none is dead.
    AllAlive,
    /// There are no children.
    NoChildren,
}

/// A dead child; the same one again until it is reaped.
pub(super) fn peek() -> Peek {
    look(libc::WNOWAIT)
}

/// A dead child, which is reaped by this: where nothing is to be done while it holds its number.
pub(super) fn reap_next() -> Peek {
    look(0)
}

fn look(more: libc::c_int) -> Peek {
    let mut siginfo = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | more;
    // SAFETY: the kernel writes one siginfo_t to a place that is one.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, siginfo.as_mut_ptr(), options) };
    if result != 0 {
        return Peek::NoChildren;
    }
    // SAFETY: all bytes zero is a siginfo_t, too; the fields read are those of SIGCHLD, which
    // waitid fills in or leaves zero (waitid(2)).
    let (pid, status, code) = unsafe {
        let siginfo = siginfo.assume_init();
        (siginfo.si_pid(), siginfo.si_status(), siginfo.si_code)
    };
    if pid == 0 {
        return Peek::AllAlive;
    }
    let exit = match code {
        libc::CLD_EXITED => Exit::Code(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        _ => Exit::Signal { signal: Signal(status), core_dumped: code == libc::CLD_DUMPED },
    };
    Peek::Dead { pid: Pid(pid), exit }
}

/// Was this child stopped since it was last asked?
pub(super) fn has_stopped(pid: Pid) -> bool {
    let mut siginfo = MaybeUninit::<libc::siginfo_t>::zeroed();
    let Ok(id) = libc::id_t::try_from(pid.0) else { return false };
    // SAFETY: the kernel writes one siginfo_t to a place that is one.
    let result = unsafe {
        libc::waitid(libc::P_PID, id, siginfo.as_mut_ptr(), libc::WSTOPPED | libc::WNOHANG)
    };
    // SAFETY: all bytes zero is a siginfo_t, too.
    result == 0 && unsafe { siginfo.assume_init().si_pid() } == pid.0
}

/// Lets a zombie go; its number may be used again from here on.
pub(super) fn reap(pid: Pid) {
    // SAFETY: a null status is allowed: the status is known already.
    unsafe { libc::waitpid(pid.0, std::ptr::null_mut(), libc::WNOHANG) };
}
