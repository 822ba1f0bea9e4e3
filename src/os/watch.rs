//! A descriptor on the loop: the one place that registers them.
//!
//! Must only take what owns its descriptor, so that it cannot be closed while it is watched.

#![expect(unsafe_code, reason = "tokio cannot know that the descriptor stays open")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches for something to read. Needs a tokio runtime with its I/O enabled.
pub(crate) fn readable<T: AsRawFd + Into<OwnedFd>>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what can become an OwnedFd owns the descriptor; `inner` lives in the AsyncFd until
    // that has taken it off the loop, and nothing in keepup replaces the descriptor of a value.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?)
}
