//! keepup's own limit on open files: it needs a few for each service, and the usual soft limit of
//! 1024 is there for programs that use select(2). Services get the one that keepup inherited.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. The limit of before, if that changed anything.
pub(super) fn raise_limit() -> Option<libc::rlimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft == hard {
        return None;
    }
    // Where it cannot be raised, the inherited one has to do.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some(libc::rlimit { rlim_cur: soft, rlim_max: hard })
}
