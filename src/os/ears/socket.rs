//! The socket of one run, and one message from it.
//!
//! Descriptors that come with a message never get here: there is no room for them where the kernel
//! would put them, so it closes them at once.

#![expect(unsafe_code, reason = "nix knows no way to receive without descriptors")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, chown, geteuid};

use crate::core::event::Pid;

/// Longer messages are not heard. Source: systemd takes as much.
pub(super) const MESSAGE_MAX: usize = 4096;

/// As long as the kernel allows. Source: unix(7).
pub(super) const PATH_MAX: usize = 107;

/// Exactly what the credentials of a sender take; nothing else fits in behind them.
const CONTROL: usize = 32;

/// Who sent a message, as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// 0: not to be seen from here.
    pub(super) pid: Pid,
    pub(super) uid: u32,
}

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes.
    Message(usize, Sender),
    /// More than fits.
    TooLong(Sender),
    /// Without a sender.
    Nameless,
}

/// Makes the socket; nobody but this user and root can send to it, from its first moment on.
pub(super) fn make(path: &Path, uid: u32) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    // A bound socket gets the mode of the unbound one less the umask.
    fchmod(socket.as_fd(), Mode::from_bits_truncate(0o600))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    if uid != geteuid().as_raw() {
        chown(path, Some(Uid::from_raw(uid)), None)?;
    }
    Ok(socket)
}

/// The next message, if there is one; never waits.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8; MESSAGE_MAX]) -> io::Result<Received> {
    #[repr(C, align(8))]
    struct Control([u8; CONTROL]);
    let mut control = Control([0; CONTROL]);
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: MESSAGE_MAX };
    // SAFETY: a message header of zeros is a valid one, without anything.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names a buffer and room for control data, each as long as it says, that
    // live through the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let Some(sender) = sender(&header) else { return Ok(Received::Nameless) };
    let whole = header.msg_flags & libc::MSG_TRUNC == 0;
    Ok(if whole { Received::Message(length, sender) } else { Received::TooLong(sender) })
}

fn sender(header: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel has filled in the header, whose control data still lives; the first entry
    // is null or lies in it with its own length, and credentials are read from one that is as long
    // as they are.
    let credentials = unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        let first = first.as_ref()?;
        let long = libc::CMSG_LEN(u32::try_from(size_of::<libc::ucred>()).ok()?);
        let is_it = first.cmsg_level == libc::SOL_SOCKET
            && first.cmsg_type == libc::SCM_CREDENTIALS
            && first.cmsg_len as usize >= long as usize;
        if !is_it {
            return None;
        }
        libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned()
    };
    Some(Sender { pid: Pid(credentials.pid), uid: credentials.uid })
}
