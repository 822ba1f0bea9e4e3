//! What keepup does for the processes of others: orphans come to it.
//!
//! (As PID 1 it may also be started with descriptors 0 to 2 closed; Rust's runtime opens
//! `/dev/null` in their place before `main`.)

#![expect(unsafe_code, reason = "a prctl that nix lacks in the features used")]

use std::io;

/// PATH for commands where keepup was given none, as a bare container's PID 1 is.
pub(super) const PATH_DEFAULT: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What keepup is to the orphans below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// PID 1 of the machine, or of a container: every orphan comes to it.
    Init,
    /// Every orphan among its descendants comes to it.
    Subreaper,
}

/// Has orphans come to this process.
pub(super) fn adopt_orphans() -> io::Result<Place> {
    if nix::unistd::getpid().as_raw() == 1 {
        return Ok(Place::Init);
    }
    // SAFETY: this option takes integers alone.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(Place::Subreaper),
        _ => Err(io::Error::last_os_error()),
    }
}
