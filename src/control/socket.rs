//! The control socket: made, guarded, and taken away again.
//!
//! It never stands open to others, not even for a moment: its mode is set before it has a name.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{error, fmt};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group, Uid, chown};

/// The control socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) admission: Admission,
    path: PathBuf,
    /// Device and inode: what is removed must be this very file.
    identity: Option<(u64, u64)>,
}

/// Who may come in, once the mode of the file let them connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Root and keepup's own user.
    Owner,
    /// The members of the control group, too: the mode of the file let nobody else through.
    Group,
}

impl Admission {
    pub(super) fn admits(self, uid: Uid, own: Uid) -> bool {
        match self {
            Admission::Owner => uid.is_root() || uid == own,
            Admission::Group => true,
        }
    }
}

/// Why there is no control socket.
#[derive(Debug)]
pub enum SocketError {
    /// Somebody answers there already; its pid, if the kernel knows it.
    Taken { path: PathBuf, pid: Option<i32> },
    /// There is something else of this name.
    NoSocket { path: PathBuf },
    /// There is no such group.
    UnknownGroup { group: String },
    /// A call failed.
    Failed { path: PathBuf, source: io::Error },
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketError::Taken { path, pid } => {
                write!(f, "cannot listen on `{}`: another keepup", path.display())?;
                if let Some(pid) = pid {
                    write!(f, ", pid {pid},")?;
                }
                f.write_str(" answers there")
            }
            SocketError::NoSocket { path } => {
                write!(
                    f,
                    "cannot listen on `{}`: there is a file that is no socket",
                    path.display()
                )
            }
            SocketError::UnknownGroup { group } => {
                write!(f, "cannot find the group `{group}` (`control_group`)")
            }
            SocketError::Failed { path, source } => {
                write!(f, "cannot listen on `{}`: {source}", path.display())
            }
        }
    }
}

impl error::Error for SocketError {}

impl Socket {
    /// Makes the socket, and the folder it is in. A stale one is replaced. `group`: its members may
    /// use it, too; by name or number.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Socket, SocketError> {
        let group = group.map(find_group).transpose()?;
        let failed = |source: io::Error| SocketError::Failed { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        clear(path)?;
        let (mode, admission) = match group {
            Some(_) => (Mode::from_bits_truncate(0o660), Admission::Group),
            None => (Mode::from_bits_truncate(0o600), Admission::Owner),
        };
        let listener = make(path, mode).map_err(|it| failed(it.into()))?;
        let identity = fs::symlink_metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let socket =
            Socket { listener: listener.into(), admission, path: path.to_owned(), identity };
        if let Some(group) = group {
            chown(path, None, Some(group)).map_err(|it| failed(it.into()))?;
            // The umask may have taken the group's bits.
            fs::set_permissions(path, Permissions::from_mode(mode.bits())).map_err(failed)?;
        }
        listen(&socket.listener, Backlog::MAXALLOWABLE).map_err(|it| failed(it.into()))?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).ok().map(|it| (it.dev(), it.ino()));
        if now.is_some() && now == self.identity {
            // A socket that stays behind is replaced by the next keepup.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn find_group(group: &str) -> Result<Gid, SocketError> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(group).ok().flatten();
    found.map(|it| it.gid).ok_or_else(|| SocketError::UnknownGroup { group: group.to_owned() })
}

fn unbound() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// A socket with this mode at most from its first moment. On Linux a bound socket gets the mode of
/// the unbound one less the umask; unlike the umask, that is nobody else's.
fn make(path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let socket = unbound()?;
    fchmod(socket.as_fd(), mode)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Takes away a socket that nobody answers at any more.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source: io::Error| SocketError::Failed { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = unbound().map_err(|it| failed(it.into()))?;
    let address = UnixAddr::new(path).map_err(|it| failed(it.into()))?;
    match connect(probe.as_raw_fd(), &address) {
        Ok(()) => {
            let peer = getsockopt(&probe, sockopt::PeerCredentials).ok();
            Err(SocketError::Taken { path: path.to_owned(), pid: peer.map(|it| it.pid()) })
        }
        // Its queue is full: it is alive.
        Err(Errno::EAGAIN) => Err(SocketError::Taken { path: path.to_owned(), pid: None }),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}
