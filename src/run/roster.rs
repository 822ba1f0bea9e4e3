//! Who there is, for those who ask beside the loop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::{Service, Supervisor};
use crate::plan;

/// The plans of all services; a copy knows what the others know.
#[derive(Clone, Debug)]
pub(super) struct Roster(Arc<Mutex<Arc<[plan::Service]>>>);

impl Roster {
    pub(super) fn of(services: &[plan::Service]) -> Roster {
        Roster(Arc::new(Mutex::new(services.into())))
    }

    /// As they are now.
    pub(super) fn services(&self) -> Arc<[plan::Service]> {
        Arc::clone(&self.list())
    }

    /// Somebody is new, gone, or has another plan.
    pub(super) fn follow(&self, core: &Supervisor) {
        let plan = |it: &Service| it.plan.clone();
        *self.list() = core.services().iter().map(plan).collect();
    }

    fn list(&self) -> MutexGuard<'_, Arc<[plan::Service]>> {
        // It is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
