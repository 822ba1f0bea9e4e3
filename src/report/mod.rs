//! What keepup tells: its log, its events, its metrics, its page.
//!
//! The only room that logs through tracing. Nothing here may hold up the loop: what has to be
//! written is handed to threads of its own, through queues with a limit.

mod book;
mod event_file;
pub mod host;
pub mod incident;
pub mod journal;
mod line;
pub mod log;
pub mod metrics;
pub mod page;
pub mod usage;

pub use self::host::HostLevel;
pub use self::journal::Journal;
pub use self::log::{Guard, Options, init};
pub use self::metrics::{LogCount, Metrics};
pub use self::usage::Sampler;
