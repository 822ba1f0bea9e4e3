//! keepup's terminal, and whose turn it is to read from it.
//!
//! Must only be used with TTOU blocked, as it is by [`super::inbox`]: who is not in the foreground
//! would be stopped for asking. Source: `tcsetpgrp(3)`.

#![expect(unsafe_code, reason = "nix lacks these calls in the features used")]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use super::launch::{Ground, Session};
use crate::core::event::Pid;

/// What keepup's terminal is to its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// There is none.
    None,
    /// There is one, but stdin is something else.
    Aside,
    /// It is stdin, and so the command's own.
    Stdin,
}

impl Terminal {
    pub(super) fn of_keepup() -> Terminal {
        // Only of one's own terminal can this be asked.
        if foreground().is_some() {
            return Terminal::Stdin;
        }
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open("/dev/tty");
        if open.is_ok() { Terminal::Aside } else { Terminal::None }
    }

    /// Where a command belongs that is started now.
    pub(super) fn session(self) -> Session {
        match self {
            Terminal::None | Terminal::Aside => Session::Own,
            Terminal::Stdin if is_ours() => Session::Shared(Ground::Fore),
            Terminal::Stdin => Session::Shared(Ground::Back),
        }
    }

    /// Gives it to the group of the command, if keepup was given it.
    pub(super) fn give(self, to: Pid) {
        match self {
            Terminal::None | Terminal::Aside => {}
            Terminal::Stdin => {
                if is_ours() {
                    set(to);
                }
            }
        }
    }

    /// Takes it back from the group of the command, for whoever started keepup.
    pub(super) fn take_back(self, from: Pid) {
        match self {
            Terminal::None | Terminal::Aside => {}
            Terminal::Stdin => {
                if foreground() == Some(from) {
                    set(own_group());
                }
            }
        }
    }
}

fn is_ours() -> bool {
    foreground() == Some(own_group())
}

fn own_group() -> Pid {
    Pid(nix::unistd::getpgrp().as_raw())
}

/// The group whose turn it is at keepup's terminal, if stdin is that.
fn foreground() -> Option<Pid> {
    // SAFETY: takes and returns integers.
    let group = unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) };
    (group >= 0).then_some(Pid(group))
}

/// It fails where the terminal is gone; then nobody misses it.
fn set(group: Pid) {
    // SAFETY: takes integers.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group.0) };
}
