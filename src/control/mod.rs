//! What an operator and the world outside may ask of keepup: over a Unix socket everything, over
//! TCP only to look.
//!
//! Never touches the core: it asks the loop, through a queue with a limit, and waits for the loop's
//! answer no longer than its client deserves.

pub mod client;
mod incidents;
mod lock;
mod logs;
pub mod protocol;
mod route;
mod server;
mod socket;

#[cfg(test)]
pub(crate) mod scratch;
#[cfg(test)]
mod tests;

pub use self::lock::{Lock, LockError, lock};
pub use self::logs::{LogLines, NotShown, OpenLog};
pub use self::protocol::{Act, Outcome, Request, Wait};
pub use self::server::{Control, LogCounts, Sources};
pub use self::socket::{Socket, SocketError};
