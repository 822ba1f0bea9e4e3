//! Deaths that are not told yet, because what the dead wrote last is still on its way to their log.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::event::{Event, Exit, Pid, Time};

/// A disk that hangs must not hold up a restart for longer than this.
const PATIENCE: Duration = Duration::from_millis(100);

/// The deaths, in the order in which they happened.
#[derive(Debug)]
pub(super) struct Held {
    deaths: Vec<(Pid, Exit, Time)>,
    tell: mpsc::UnboundedSender<Pid>,
    // Holds as many as there are deaths at most.
    told: mpsc::UnboundedReceiver<Pid>,
}

impl Held {
    pub(super) fn new() -> Held {
        let (tell, told) = mpsc::unbounded_channel();
        Held { deaths: Vec::new(), tell, told }
    }

    /// Holds a death back until what is returned is called.
    pub(super) fn hold(&mut self, pid: Pid, exit: Exit, now: Time) -> Box<dyn FnOnce() + Send> {
        self.deaths.push((pid, exit, now + PATIENCE));
        let tell = self.tell.clone();
        Box::new(move || {
            // It fails only when keepup has ended.
            let _ = tell.send(pid);
        })
    }

    /// The next death to be told. May be dropped at any time without losing anything.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let Some(pid) = self.told.recv().await else {
                return std::future::pending().await;
            };
            if let Some(nth) = self.deaths.iter().position(|it| it.0 == pid) {
                let (pid, exit, _) = self.deaths.remove(nth);
                return Event::Exited { pid, exit };
            }
        }
    }

    /// When patience with a disk ends.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.deaths.iter().map(|it| it.2).min()
    }

    /// Lets go of what was held for too long.
    pub(super) fn expire(&mut self, now: Time) {
        for (pid, _, _) in self.deaths.iter().filter(|it| it.2 <= now) {
            let _ = self.tell.send(*pid);
        }
    }
}
