//! A plain init: one command, and keepup in front of it as if it were not there.
//!
//! Must never read or write a file, take a lock, give a signal a meaning of its own, or end the
//! command for any reason. What it left behind is ended once it is over.

use std::time::Duration;

use super::Failed;
use crate::os::inbox::{Inbox, Sender};
use crate::os::sole::Sole;
use crate::plan::{Rewrite, Signal};

/// How long what survives KILL is waited for.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Runs a command until it ends. The exit code, or why it could not begin.
pub fn init(command: &[String], rewrite: &Rewrite) -> Result<u8, Failed> {
    let inbox = Inbox::open().map_err(|it| Failed::System("take in signals", it))?;
    let sole = Sole::start(command).map_err(Failed::Start)?;
    let exit = loop {
        let received = inbox.next();
        if received.signal == Signal::CHLD {
            // Whoever sent it: a death may have come meanwhile, and two of a kind are one.
            if let Some(exit) = sole.reap() {
                break exit;
            }
            sole.follow_stop();
        }
        let is_news = received.signal == Signal::CHLD && received.from == Sender::Kernel;
        if !is_news && let Some(signal) = rewrite.apply(received.signal) {
            sole.send(signal);
        }
    };
    sole.finish(&inbox, LAST_WAIT).map_err(Failed::Start)?;
    Ok(exit.status())
}
