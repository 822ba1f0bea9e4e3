//! Sockets that systemd passed to keepup itself. Source: `sd_listen_fds(3)`.

use std::collections::BTreeSet;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Where they begin.
const FIRST: RawFd = 3;
/// More than this are not looked at.
const PASSED_MAX: RawFd = 1024;

/// What was passed, each with its name.
#[derive(Clone, Debug, Default)]
pub struct Passed(Vec<(String, Arc<OwnedFd>)>);

impl Passed {
    /// Takes what is meant for this process. To be called once, before keepup opens anything that
    /// could have such a number.
    pub fn take() -> Passed {
        let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
        if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
            return Passed::default();
        }
        let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, PASSED_MAX);
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(|it| if it.is_empty() { "unknown" } else { it });
        let take = |fd: RawFd| {
            let name = names.next().unwrap_or("unknown").to_owned();
            // SAFETY: takes integers. It fails where there is no such descriptor.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
                return None;
            }
            // SAFETY: it is open, and by the protocol it is this process's and nobody else's.
            Some((name, Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
        };
        Passed((FIRST..FIRST + count).filter_map(take).collect())
    }

    /// All of this name.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Arc<OwnedFd>>, String> {
        let of_it = self.0.iter().filter(|it| it.0 == name);
        let found: Vec<Arc<OwnedFd>> = of_it.map(|it| Arc::clone(&it.1)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let names: BTreeSet<&str> = self.0.iter().map(|it| it.0.as_str()).collect();
        if names.is_empty() {
            return Err(format!(
                "systemd passed no sockets to keepup (a .socket unit with FileDescriptorName={name} \
                 and Service= of keepup's unit does)"
            ));
        }
        let names: Vec<&str> = names.into_iter().collect();
        Err(format!(
            "systemd passed no socket of that name, only {} (FileDescriptorName= in the .socket \
             unit sets it)",
            names.join(", ")
        ))
    }
}
