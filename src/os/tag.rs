//! A number that tells whose a process is, which neither an empty environment nor a session of its
//! own takes from it, and which is read at once, whatever state the process is in.
//!
//! It is the soft limit on the real-time processor time, so little below "unlimited" that it limits
//! nothing: nobody uses this limit, every process has it from its parent, and the hard limit stays
//! as it was. Where keepup was given such a limit, there are no tags, and the mark in the
//! environment alone tells.

#![expect(unsafe_code, reason = "prlimit(2) of another process is not in nix")]

use std::io;
use std::mem::MaybeUninit;

use super::procfs;
use crate::core::event::Pid;

/// Source: `getrlimit(2)`; the same on every architecture, and not in libc.
pub(super) const RLIMIT_RTTIME: u32 = 15;

/// Of a tag, what tells the runs of one keepup apart.
const RUNS: u64 = 1 << 20;
/// And what tells one keepup from others.
const KEEPUPS: u64 = 1 << 40;
const UNLIMITED: u64 = u64::MAX;
/// As microseconds, half a million years.
const LOWEST: u64 = UNLIMITED - KEEPUPS * RUNS;

/// Of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

/// What a process is tagged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagged {
    /// By the keepup that asks.
    Ours(Tag),
    /// By another one, or not at all, or it cannot be seen.
    Unknown,
}

/// Those that one keepup gives out, each once.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    keepup: u64,
    next: u64,
    /// keepup was given a limit, or the kernel has none.
    none: bool,
}

impl Tags {
    /// Of the keepup that this number stands for.
    pub(super) fn of(keepup: u64) -> Tags {
        let own = limit(Pid(0));
        let is_free = |it: &libc::rlimit64| it.rlim_max == UNLIMITED && it.rlim_cur >= LOWEST;
        Tags { keepup: keepup % KEEPUPS, next: 0, none: !own.is_some_and(|it| is_free(&it)) }
    }

    pub(super) fn give(&mut self) -> Option<Tag> {
        self.next += 1;
        (!self.none).then(|| Tag(LOWEST + self.keepup * RUNS + self.next % RUNS))
    }

    pub(super) fn read(&self, pid: Pid) -> Tagged {
        let number = limit(pid).map_or(0, |it| it.rlim_cur);
        let is_ours = LOWEST <= number && (number - LOWEST) / RUNS == self.keepup;
        if is_ours && number != UNLIMITED { Tagged::Ours(Tag(number)) } else { Tagged::Unknown }
    }
}

impl Tag {
    /// For the process that is to bear it.
    pub(super) fn limit(self) -> libc::rlimit64 {
        libc::rlimit64 { rlim_cur: self.0, rlim_max: UNLIMITED }
    }

    /// Does this process bear it? A dead one, too, until it is reaped.
    pub(super) fn is_of(self, pid: Pid) -> bool {
        limit(pid).is_some_and(|it| it.rlim_cur == self.0)
    }
}

/// The limit of a process, 0 for this one; `None`: there is no such process, or it cannot be seen.
fn limit(pid: Pid) -> Option<libc::rlimit64> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    let new = std::ptr::null::<libc::rlimit64>();
    // SAFETY: the kernel writes one rlimit64 to a place that is one, and a null for the new limit
    // changes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid.0, RLIMIT_RTTIME, new, limit.as_mut_ptr())
    };
    if result == 0 {
        // SAFETY: it was written to.
        return Some(unsafe { limit.assume_init() });
    }
    match io::Error::last_os_error().raw_os_error() {
        // Of another user, and root may not do everything in a container; the file is for all.
        Some(libc::EPERM) => procfs::realtime_limit(pid)
            .map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard }),
        _ => None,
    }
}
