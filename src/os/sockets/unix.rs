//! Unix sockets: with a mode and an owner from before anybody can connect, and a file that goes
//! with them.

use std::fs::{self, File as Open, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind as bind_to, connect, getsockopt, socket,
    sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid};

use crate::core::event::Pid;
use crate::os::failure::words;
use crate::os::identity;
use crate::os::listeners::shown;
use crate::plan::Service;

/// The file of a socket, and which one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl File {
    /// Takes it away, unless another one has its name by now.
    pub fn remove(self) {
        let now = fs::symlink_metadata(&self.path).ok().map(|it| (it.dev(), it.ino()));
        if now == Some(self.identity) {
            // What stays behind is replaced by whoever binds there next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The error says why not.
pub(super) fn bind(path: &Path, mode: u32, service: &Service) -> Result<(OwnedFd, File), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|it| {
            format!("cannot make the folder `{}`: {}", folder.display(), plain(&it))
        })?;
    }
    clear(path)?;
    let (who, _) = identity::look_up(service.user.as_deref(), service.group.as_deref())?;
    let owner = who.map(|it| (it.uid.map(Uid::from_raw), Gid::from_raw(it.gid)));
    open(path, mode, owner).map_err(|it| plain(&it))
}

fn open(path: &Path, mode: u32, owner: Option<(Option<Uid>, Gid)>) -> io::Result<(OwnedFd, File)> {
    let socket = unbound(SockFlag::empty())?;
    // On Linux the file gets the mode of the unbound socket, less the umask: nobody else's yet.
    fchmod(socket.as_fd(), Mode::from_bits_truncate(0o600))?;
    bind_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // This very file, whatever somebody who may write to the folder makes of its name meanwhile.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let found = file.metadata()?;
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let by_number = by_number(&file);
    if let Some((uid, gid)) = owner {
        nix::unistd::chown(&by_number, uid, Some(gid))?;
    }
    fs::set_permissions(&by_number, Permissions::from_mode(mode))?;
    super::listen(&socket)?;
    let identity = (found.dev(), found.ino());
    Ok((socket, File { path: path.to_owned(), identity }))
}

/// A name for what is open with `O_PATH`, through which its mode and owner can be set.
fn by_number(file: &Open) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn unbound(flags: SockFlag) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)
}

/// Takes away a socket that nobody answers at any more.
fn clear(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(plain(&error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err("there is a file that is no socket; remove it".to_owned());
        }
        Ok(_) => {}
    }
    let asks = unbound(SockFlag::SOCK_NONBLOCK).map_err(|it| plain(&it.into()))?;
    let address = UnixAddr::new(path).map_err(|it| plain(&it.into()))?;
    match connect(asks.as_raw_fd(), &address) {
        Ok(()) => {
            let pid = getsockopt(&asks, sockopt::PeerCredentials).map_or(0, |it| it.pid());
            let who = if pid > 0 { shown(Pid(pid)) } else { "a process outside".to_owned() };
            Err(format!("{who} listens there"))
        }
        // Its queue is full, or it is of another kind: it is alive.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err("another process listens there".to_owned()),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(|it| plain(&it)),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(plain(&errno.into())),
    }
}

fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), words)
}
