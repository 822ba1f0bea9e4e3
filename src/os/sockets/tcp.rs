//! TCP sockets, of IPv4, of IPv6, and of both.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_to, setsockopt, socket,
    sockopt,
};

use super::taken;
use crate::os::failure::words;

/// The first port that needs no right, where the kernel does not say.
const UNPRIVILEGED_USUAL: u16 = 1024;

/// The error says why not, and what to do.
pub(super) fn bind(address: SocketAddr, v6_only: bool) -> Result<OwnedFd, String> {
    open(address, v6_only).map_err(|errno| why(errno, address))
}

fn open(address: SocketAddr, v6_only: bool) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // What the last one's connections left in TIME_WAIT is in nobody's way.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        setsockopt(&socket, sockopt::Ipv6V6Only, &v6_only)?;
    }
    bind_to(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    super::listen(&socket)?;
    Ok(socket)
}

fn why(errno: Errno, address: SocketAddr) -> String {
    match errno as i32 {
        libc::EADDRINUSE => taken::who(address),
        libc::EACCES => {
            let first = unprivileged();
            format!(
                "port {} needs a right that keepup does not have (give it CAP_NET_BIND_SERVICE: \
                 AmbientCapabilities= in its unit, `--cap-add` of a container; or lower \
                 net.ipv4.ip_unprivileged_port_start; or use a port from {first})",
                address.port()
            )
        }
        libc::EADDRNOTAVAIL => {
            format!("this machine has no address {} (yet?)", address.ip())
        }
        libc::EAFNOSUPPORT => "there is no IPv6 here".to_owned(),
        errno => words(errno),
    }
}

fn unprivileged() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|it| it.trim().parse().ok()).unwrap_or(UNPRIVILEGED_USUAL)
}
