//! The end of those who fork faster than they can be killed: all are stopped first, so that nobody
//! is left to fork, and then killed.
//!
//! Takes a bounded time of the loop. Must never touch a process that is not proven to be meant, at
//! the moment it is touched: numbers change hands quickly here.

#![expect(unsafe_code, reason = "the scheduler is not in nix")]

use std::collections::HashSet;
use std::time::Duration;

use super::clock::now;
use super::group::{self, pidfd};
use super::procfs;
use super::tag::{Tag, Tagged, Tags};
use crate::core::event::Pid;
use crate::plan::Signal;

/// Rounds of looking for whoever is not stopped yet, of which the last finds nobody. So many at
/// least, however long they take; then as many as there is time for.
const ROUNDS_MIN: usize = 4;
const PATIENCE: Duration = Duration::from_millis(20);

/// What `pidfd_open(2)` says of a number that is given to no process: at most to a thread.
const NOBODY: [i32; 3] = [libc::ESRCH, libc::EINVAL, libc::ENOENT];

/// Numbers of the newly born that are looked at in a round.
const BORN_MAX: i32 = 1000;

/// Who is hunted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quarry<'a> {
    /// Those of one run.
    Run(Tag),
    /// Those of every run of one keepup, without these.
    Runs(&'a Tags, &'a HashSet<Pid>),
    /// Everybody below this process.
    Below,
}

/// Kills them all, and says how many; `None`: some still run, though fewer than before.
pub(super) fn hunt(quarry: Quarry<'_>) -> Option<usize> {
    let _ahead = Ahead::of_others();
    let deadline = now() + PATIENCE;
    let mut held = HashSet::new();
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || now() < deadline {
        rounds += 1;
        if !quarry.stop_new(&mut held) {
            for &pid in &held {
                quarry.send(pid, &held, Signal::KILL);
            }
            return Some(held.len());
        }
    }
    None
}

/// While it lives, this thread runs before those of others, where that is allowed: among hundreds
/// who want to run, its turn would come seldom.
struct Ahead(bool);

impl Ahead {
    fn of_others() -> Ahead {
        // SAFETY: 0 is this thread.
        let is_usual = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
            == i64::from(libc::SCHED_OTHER);
        Ahead(is_usual && schedule(libc::SCHED_FIFO, 1))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.0 {
            schedule(libc::SCHED_OTHER, 0);
        }
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    // SAFETY: all bytes zero is a sched_param, too.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = priority;
    // The kernel is asked itself: musl's wrapper refuses.
    // SAFETY: 0 is this thread, and the kernel reads one sched_param.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    result == 0
}

impl Quarry<'_> {
    /// Stops whoever is not held yet, at once when it is seen. False: nobody.
    fn stop_new(self, held: &mut HashSet<Pid>) -> bool {
        let before = held.len();
        match self {
            Quarry::Run(_) | Quarry::Runs(..) => {
                let newest = procfs::newest();
                let mut all: Vec<Pid> = procfs::all().collect();
                // The youngest, which fork, have the highest numbers as a rule.
                all.sort_unstable_by_key(|it| std::cmp::Reverse(it.0));
                for pid in all {
                    self.stop(pid, held);
                }
                if let Some(newest) = newest {
                    self.stop_born_since(newest, held);
                }
            }
            Quarry::Below => {
                let mut line = procfs::children();
                while let Some(pid) = line.pop() {
                    self.stop(pid, held);
                    line.extend(procfs::children_of(pid));
                }
            }
        }
        before < held.len()
    }

    /// Whoever forked and died before it was looked at has its successor among these: a chain of
    /// such is outrun only by going from one to the next.
    fn stop_born_since(self, mut last: Pid, held: &mut HashSet<Pid>) {
        let mut left = BORN_MAX;
        while let Some(newest) = procfs::newest()
            // After the highest number comes a low one: the next round sees it.
            && (1..=left).contains(&(newest.0 - last.0))
        {
            for pid in last.0 + 1..=newest.0 {
                self.stop(Pid(pid), held);
            }
            left -= newest.0 - last.0;
            last = newest;
        }
    }

    fn stop(self, pid: Pid, held: &mut HashSet<Pid>) {
        if !held.contains(&pid) && self.send(pid, held, Signal::STOP) {
            held.insert(pid);
        }
    }

    /// False: it is not meant, or is not there any more.
    fn send(self, pid: Pid, held: &HashSet<Pid>, signal: Signal) -> bool {
        // Most processes are not meant, and are not worth a descriptor.
        if !self.is_meant(pid, held) {
            return false;
        }
        match pidfd(pid) {
            // The number may have changed hands before it was held.
            Ok(it) => self.is_meant(pid, held) && group::send_to_held(&it, signal).is_ok(),
            Err(error) if error.raw_os_error().is_some_and(|it| NOBODY.contains(&it)) => false,
            // An old kernel has none, and at the limit on open files there is none to be had.
            Err(_) => group::kill(pid, signal).is_ok(),
        }
    }

    fn is_meant(self, pid: Pid, held: &HashSet<Pid>) -> bool {
        match self {
            Quarry::Run(tag) => tag.is_of(pid),
            Quarry::Runs(tags, spared) => {
                // Whoever reaps them may take its time.
                matches!(tags.read(pid), Tagged::Ours(_))
                    && !spared.contains(&pid)
                    && procfs::stat(pid).is_some_and(|it| !it.is_dead())
            }
            Quarry::Below => procfs::stat(pid).is_some_and(|it| {
                held.contains(&it.parent) || it.parent.0 == nix::unistd::getpid().as_raw()
            }),
        }
    }
}
