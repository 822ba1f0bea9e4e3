//! The time, and an alarm.
//!
//! Must never read the wall clock: it jumps. And must never use tokio's timer for a deadline of the
//! core: it counts in whole milliseconds and rounds up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::watch;
use crate::core::event::Time;

/// This moment, counted from the machine's boot (`CLOCK_MONOTONIC`: it stands still while the
/// machine sleeps).
pub fn now() -> Time {
    // The clock exists on every Linux; the call cannot fail.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|it| Time(Duration::from(it)))
        .unwrap_or_default()
}

/// Wakes the loop when a deadline has passed, to the microsecond.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<Timer>,
    armed: Option<Time>,
}

impl Alarm {
    /// Needs a tokio runtime with its I/O enabled.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        Ok(Alarm { timer: watch::readable(timer)?, armed: None })
    }

    /// Resolves when `deadline` has passed; never without one. May be dropped and asked again at
    /// any time, and costs no system call when the deadline is the same as before.
    pub async fn at(&mut self, deadline: Option<Time>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        if deadline <= now() {
            return;
        }
        if self.armed != Some(deadline) {
            self.armed = self.timer.get_ref().set(deadline).is_ok().then_some(deadline);
        }
        loop {
            // A timer that cannot be set or polled is no reason to miss a deadline.
            let ready = if self.armed.is_some() { self.timer.readable().await.ok() } else { None };
            let Some(mut ready) = ready else {
                tokio::time::sleep(deadline - now()).await;
                return;
            };
            // The timer is not read: setting it anew makes it unreadable, too.
            ready.clear_ready();
            if deadline <= now() {
                self.armed = None;
                return;
            }
        }
    }
}

#[derive(Debug)]
struct Timer(TimerFd);

impl Timer {
    fn set(&self, deadline: Time) -> nix::Result<()> {
        let at = Expiration::OneShot(TimeSpec::from_duration(deadline.0));
        self.0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl From<Timer> for OwnedFd {
    fn from(timer: Timer) -> OwnedFd {
        timer.0.into()
    }
}
