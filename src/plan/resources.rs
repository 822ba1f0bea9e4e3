//! What a service may use.

use std::time::Duration;

/// Limits on what a service's processes use together. Above one it is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Anonymous memory and swap, in bytes.
    pub max_memory: Option<u64>,
    /// Above so much memory it is degraded, in bytes.
    pub warn_memory: Option<u64>,
    /// In percent of one processor.
    pub max_cpu: Option<u32>,
    /// For how long it may use more of the processor than `max_cpu`.
    pub max_cpu_for: Duration,
}

impl Default for Resources {
    /// No limits.
    fn default() -> Resources {
        Resources {
            max_memory: None,
            warn_memory: None,
            max_cpu: None,
            max_cpu_for: Duration::from_secs(5 * 60),
        }
    }
}
