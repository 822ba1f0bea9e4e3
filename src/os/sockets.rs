//! Sockets that are held for services: bound once, kept through every run, handed to each.
//!
//! Binding may have to wait for a disk, and finding out who has a port for many processes: nothing
//! here is for the loop but [`Bound::deepen`] and [`handed`].

#![expect(unsafe_code, reason = "listen(2) with a backlog of our own, and descriptors of systemd")]

mod passed;
mod taken;
mod tcp;
mod unix;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

pub use passed::Passed;
pub use unix::File;

use crate::plan::{SOCKETS_MAX, Service, Socket};

/// Connections that may wait; the kernel allows no more by default (`net.core.somaxconn`).
const BACKLOG: libc::c_int = 4096;

/// A socket that is held.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What it was asked for as.
    pub socket: Socket,
    /// One, or all of that name that systemd passed.
    sockets: Vec<Arc<OwnedFd>>,
    file: Option<File>,
    /// Whose file it is: the service's user and group.
    owner: [Option<String>; 2],
}

/// What a run is given, from descriptor 3 on: each with its name.
pub type Handed = Vec<(String, Arc<OwnedFd>)>;

impl Bound {
    /// Is it what this service wants here?
    pub fn fits(&self, service: &Service, socket: &Socket) -> bool {
        self.socket == *socket && (self.file.is_none() || self.owner == owner(service))
    }

    /// Closes it. Its file, to be taken away, if it has one.
    pub fn close(self) -> Option<File> {
        self.file
    }

    /// The service is gone, and may have made the backlog smaller for itself.
    pub fn deepen(&self) {
        if let Socket::Tcp { .. } | Socket::Unix { .. } = self.socket {
            for socket in &self.sockets {
                // A socket that listens already goes on, whatever this comes to.
                let _ = listen(socket);
            }
        }
    }
}

/// Binds what is wanted, in this order, keeping what is held already. What is bound so far, and why
/// that is not all, as a whole sentence.
pub fn bind(
    service: &Service,
    held: &[Bound],
    passed: &Passed,
) -> (Vec<Bound>, Result<(), String>) {
    let mut bound: Vec<Bound> = Vec::new();
    for socket in &service.listen {
        if let Some(kept) = held.iter().find(|it| it.fits(service, socket)) {
            bound.push(kept.clone());
            continue;
        }
        match make(service, socket, passed) {
            Ok(made) => bound.push(made),
            Err(why) => return (bound, Err(format!("cannot hold `{socket}`: {why}"))),
        }
    }
    let count: usize = bound.iter().map(|it| it.sockets.len()).sum();
    if count > SOCKETS_MAX {
        let why = format!("cannot hand over {count} sockets: {SOCKETS_MAX} are the most");
        return (bound, Err(why));
    }
    (bound, Ok(()))
}

fn make(service: &Service, socket: &Socket, passed: &Passed) -> Result<Bound, String> {
    let (sockets, file) = match socket {
        Socket::Tcp { address, v6_only } => (vec![tcp::bind(*address, *v6_only)?.into()], None),
        Socket::Unix { path, mode } => {
            let (socket, file) = unix::bind(path, *mode, service)?;
            (vec![socket.into()], Some(file))
        }
        Socket::Systemd(name) => (passed.named(name)?, None),
    };
    Ok(Bound { socket: socket.clone(), sockets, file, owner: owner(service) })
}

fn owner(service: &Service) -> [Option<String>; 2] {
    [service.user.clone(), service.group.clone()]
}

/// What a run of this service is given.
pub fn handed(service: &Service, bound: &[Bound]) -> Handed {
    let named = |it: &Bound| {
        let name = match &it.socket {
            Socket::Systemd(name) => name.clone(),
            Socket::Tcp { .. } | Socket::Unix { .. } => service.name.to_string(),
        };
        let sockets = it.sockets.clone().into_iter();
        sockets.map(move |socket| (name.clone(), socket)).collect::<Vec<_>>()
    };
    bound.iter().flat_map(named).collect()
}

/// Takes connections from now on.
fn listen(socket: &impl AsRawFd) -> nix::Result<()> {
    // SAFETY: takes integers.
    let result = unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) };
    nix::errno::Errno::result(result).map(drop)
}
