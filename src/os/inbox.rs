//! Every signal, taken in one after the other without a handler: for a plain init.
//!
//! Must never lose one: they are blocked from the beginning, and wait in the kernel. Not for the
//! loop, which has [`super::signal`].

#![expect(unsafe_code, reason = "nix knows no real-time signals")]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use crate::plan::Signal;

/// The signals of this process, which has one thread.
#[derive(Debug)]
pub struct Inbox(libc::sigset_t);

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// By whom.
    pub from: Sender,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel: a child died, the terminal is gone.
    Kernel,
    /// A process.
    Process,
}

impl Inbox {
    /// From now on every signal that can be caught arrives here, and has no effect of its own.
    pub fn open() -> io::Result<Inbox> {
        let mut all = MaybeUninit::uninit();
        // SAFETY: sigfillset makes a signal set; a null for the old mask is allowed. With SIGCHLD
        // ignored, as it may have been inherited, children would vanish without a status.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            let all = all.assume_init();
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            Ok(Inbox(all))
        }
    }

    /// Waits for the next one.
    pub fn next(&self) -> Received {
        loop {
            if let Some(received) = self.wait(None) {
                return received;
            }
        }
    }

    /// Waits for the next one, but no longer than this.
    pub(super) fn next_within(&self, limit: Duration) -> Option<Received> {
        let seconds = libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX);
        let limit = libc::timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
        self.wait(Some(&limit))
    }

    fn wait(&self, limit: Option<&libc::timespec>) -> Option<Received> {
        let mut siginfo = MaybeUninit::<libc::siginfo_t>::zeroed();
        let limit = limit.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set was made in `open`, the limit lives through the call or is null, which
        // means none, and the kernel writes a siginfo_t to a place that is one.
        let (signal, code) = unsafe {
            let signal = libc::sigtimedwait(&raw const self.0, siginfo.as_mut_ptr(), limit);
            (signal, siginfo.assume_init().si_code)
        };
        // Positive codes are the kernel's own. Source: sigaction(2).
        let from = if code > 0 { Sender::Kernel } else { Sender::Process };
        (signal > 0).then_some(Received { signal: Signal(signal), from })
    }
}
