//! What systemd, or whoever else set `NOTIFY_SOCKET`, is told of keepup itself.
//!
//! Signs of life come from the loop, and stop when it does. Where nobody listens there is nothing
//! of this, and no wake-up for it.

use std::time::Duration;

use crate::core::Supervisor;
use crate::core::event::Time;
use crate::core::tell::Tell;
use crate::os::notify::{Notifier, Sent, watchdog_interval};
use crate::plan::Level;
use crate::report::journal::Journal;

/// What is added to the time that keepup asks for: it may be late for it.
const MARGIN: Duration = Duration::from_secs(10);

/// When a message that found the socket full is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The one who listens, and what was told so far.
#[derive(Debug)]
pub(super) struct Systemd {
    notifier: Notifier,
    journal: Journal,
    told: Tell,
    began: bool,
    /// By when all has started, or never will.
    ready_by: Time,
    reload: Reload,
    again_at: Option<Time>,
    watchdog: Option<Watchdog>,
    failed: bool,
}

/// What was told of the file that is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    No,
    /// That it is.
    Told,
    /// And not yet that this is over.
    Over,
}

#[derive(Debug)]
struct Watchdog {
    every: Duration,
    next: Time,
}

impl Systemd {
    /// `None`: nobody listens.
    pub(super) fn from_environment(
        core: &Supervisor,
        journal: &Journal,
        now: Time,
    ) -> Option<Systemd> {
        let notifier = Notifier::from_environment()?;
        let notifier =
            notifier.map_err(|text| journal.say(Level::Warn, &format!("{text}, ignoring"))).ok()?;
        Some(Systemd {
            notifier,
            journal: journal.clone(),
            told: Tell { ready: false, stopping: false, status: String::new() },
            began: false,
            ready_by: now + core.start_limit() + MARGIN / 2,
            reload: Reload::No,
            again_at: None,
            watchdog: watchdog_interval().map(|every| Watchdog { every, next: now }),
            failed: false,
        })
    }

    /// When there is something to tell though nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        let ready_by = (!self.told.ready).then_some(self.ready_by);
        let ping = self.watchdog.as_ref().map(|it| it.next);
        self.again_at.into_iter().chain(ready_by).chain(ping).min()
    }

    /// In every turn of the loop: gives a sign of life if one is due, and tells what is new.
    pub(super) fn turn(&mut self, core: &Supervisor, now: Time) {
        self.ping(now);
        if self.again_at.is_none_or(|at| at <= now) {
            self.tell(core, now);
        }
    }

    /// The file is being read anew; [`Systemd::reloaded`] must follow. Whoever waits for the first
    /// READY=1 must not take the one that ends this for it.
    pub(super) fn reloading(&mut self, now: Time) {
        if self.told.ready && !self.told.stopping {
            self.reload = Reload::Told;
            let moment = now.0.as_micros();
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={moment}"));
        }
    }

    /// It was, or could not be; that is told in the next turn, with the status.
    pub(super) fn reloaded(&mut self) {
        if self.reload == Reload::Told {
            self.reload = Reload::Over;
        }
    }

    fn ping(&mut self, now: Time) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.next <= now {
            watchdog.next = now + watchdog.every;
            if !self.send("WATCHDOG=1")
                && let Some(watchdog) = &mut self.watchdog
            {
                watchdog.next = now + AGAIN_AFTER.min(watchdog.every);
            }
        }
    }

    fn tell(&mut self, core: &Supervisor, now: Time) {
        let mut tell = core.tell();
        // What was said once is not taken back.
        tell.ready |= self.told.ready || self.ready_by <= now;
        if self.began && tell == self.told && self.reload != Reload::Over {
            self.again_at = None;
            return;
        }
        let message = self.message(core, &tell, now);
        if self.send(&message) {
            self.began = true;
            if self.reload == Reload::Over {
                self.reload = Reload::No;
            }
            self.again_at = None;
            self.told = tell;
        } else {
            self.again_at = Some(now + AGAIN_AFTER);
        }
    }

    /// Only what is new.
    fn message(&self, core: &Supervisor, tell: &Tell, now: Time) -> String {
        let mut lines = Vec::new();
        let extend = |limit: Duration| format!("EXTEND_TIMEOUT_USEC={}", limit.as_micros());
        if !self.began && !tell.ready {
            lines.push(extend(self.ready_by - now + MARGIN));
        }
        if (tell.ready && !self.told.ready) || self.reload == Reload::Over {
            lines.push("READY=1".to_owned());
        }
        if tell.stopping && !self.told.stopping {
            lines.push("STOPPING=1".to_owned());
            lines.push(extend(core.plan().shutdown_timeout + MARGIN));
        }
        if tell.status != self.told.status {
            lines.push(format!("STATUS={}", tell.status));
        }
        lines.join("\n")
    }

    /// False if it is worth another try.
    fn send(&mut self, message: &str) -> bool {
        match self.notifier.send(message) {
            Sent::Whole => {
                self.failed = false;
                true
            }
            Sent::Full => false,
            Sent::Failed(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    let text = format!("cannot tell systemd how keepup is: {error}, ignoring");
                    self.journal.say(Level::Warn, &text);
                }
                true
            }
        }
    }
}
