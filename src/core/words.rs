//! What a run says of itself, by `sd_notify`, and what comes of it. It dies with the run.

use std::time::Duration;

use super::event::News;
use super::service::{Service, State};
use super::turn::Turn;

/// One message makes a start or a stop no longer than this; whoever needs more says it again.
pub(super) const EXTENSION_MAX: Duration = Duration::from_secs(60 * 60);

/// What is shown of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// How it is.
    pub status: Option<String>,
    /// It is reading its files anew.
    pub reloading: bool,
}

impl Service {
    /// Its run says something.
    pub(super) fn told(&mut self, news: News, turn: &mut Turn<'_>) {
        match &news {
            News::Ready => self.words.reloading = false,
            News::Reloading => self.words.reloading = true,
            News::Status(text) => {
                self.words.status = Some(text.clone()).filter(|it| !it.is_empty());
            }
            News::Stopping | News::Trigger | News::Extend(_) => {}
        }
        match (&mut self.state, news) {
            (State::Up { health, .. }, news) => {
                if let Some(end) = health.hears(&self.plan, &news, turn) {
                    self.terminate(end, turn);
                }
            }
            (State::Stopping(stopping), News::Extend(more)) => {
                stopping.extend(turn.now + more.min(EXTENSION_MAX));
            }
            (
                State::Waiting(_)
                | State::Down
                | State::Backoff { .. }
                | State::Spawning { .. }
                | State::Stopping(_)
                | State::Done
                | State::Failed,
                _,
            ) => {}
        }
    }

    /// Its run says WATCHDOG=1.
    pub(super) fn beat(&mut self, turn: &mut Turn<'_>) {
        if let State::Up { health, .. } = &mut self.state {
            health.beat(&self.plan, turn);
        }
    }
}
