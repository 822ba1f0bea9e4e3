//! Sockets that keepup holds for services.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Sockets of one service; a start hands over all of them at once.
pub const SOCKETS_MAX: usize = 64;

/// A socket that keepup listens at in a service's place: it outlives the service's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// At a port.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// An IPv6 address takes no connections of IPv4.
        v6_only: bool,
    },
    /// At a path.
    Unix {
        /// Where.
        path: PathBuf,
        /// Of the file: who may connect.
        mode: u32,
    },
    /// One that systemd holds, by the name it has there.
    Systemd(String),
}

impl fmt::Display for Socket {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Tcp { address, .. } => write!(f, "tcp:{address}"),
            Socket::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Socket::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}
