//! The way to whoever started keepup and wants to hear of it: systemd, by `NOTIFY_SOCKET`.
//!
//! Must never wait: a message that finds the socket full is for another time.

use std::env::{var, var_os};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Someone who listens.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
}

/// What became of a message.
#[derive(Debug)]
pub enum Sent {
    /// It is on its way.
    Whole,
    /// Nobody reads: try again later.
    Full,
    /// Nobody can be told.
    Failed(io::Error),
}

impl Notifier {
    /// Who is named in the environment; `None` if nobody wants to hear. The error is a whole
    /// sentence.
    pub fn from_environment() -> Option<Result<Notifier, String>> {
        let name = var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty())?;
        let notifier = Notifier::to(&name);
        Some(notifier.map_err(|error| {
            let name = name.display();
            format!("cannot tell systemd how keepup is: NOTIFY_SOCKET is `{name}`: {error}")
        }))
    }

    /// The socket of this name: a path from the root, or `@` and an abstract name.
    ///
    /// Source: `sd_notify(3)`.
    fn to(name: &OsStr) -> io::Result<Notifier> {
        let to = match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => return Err(io::Error::other("not a path from the root, nor `@` and a name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, to })
    }

    /// Sends one message: assignments, one a line.
    pub fn send(&self, message: &str) -> Sent {
        loop {
            return match self.socket.send_to_addr(message.as_bytes(), &self.to) {
                Ok(_) => Sent::Whole,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
                Err(error) => Sent::Failed(error),
            };
        }
    }
}

/// How often keepup must give a sign of life, if it must.
///
/// Source: `sd_watchdog_enabled(3)`, which advises half of what is allowed.
pub fn watchdog_interval() -> Option<Duration> {
    let for_us = |pid: String| pid.parse() == Ok(std::process::id());
    if !var("WATCHDOG_PID").map_or(true, for_us) {
        return None;
    }
    let allowed = var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    Some(allowed / 2).filter(|it| !it.is_zero())
}
