//! Who has the port that is wanted.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::core::event::Pid;
use crate::os::listeners::{Listener, holds, listeners, shown};
use crate::os::procfs;

/// In words: the process if it can be seen, else its user.
pub(super) fn who(address: SocketAddr) -> String {
    let own = Pid(nix::unistd::getpid().as_raw());
    let all = listeners(own).unwrap_or_default();
    let there: Vec<Listener> = all.into_iter().filter(|it| is_in_the_way(it, address)).collect();
    let inodes: HashSet<u64> = there.iter().map(|it| it.inode).collect();
    let place = |inode: u64| there.iter().find(|it| it.inode == inode).map(|it| it.address);
    let found = procfs::all().find_map(|pid| Some((pid, place(holds(pid, &inodes)?)?)));
    match (found, there.first()) {
        (Some((pid, at)), _) => format!("{} listens at {at}", shown(pid)),
        (None, Some(first)) => format!(
            "a process of uid {}, which keepup may not see, listens at {}",
            first.uid, first.address
        ),
        (None, None) => "somebody has the address, without listening at it".to_owned(),
    }
}

fn is_in_the_way(listener: &Listener, wanted: SocketAddr) -> bool {
    let (there, wide) = (listener.address, |it: SocketAddr| it.ip().is_unspecified());
    there.port() == wanted.port() && (there.ip() == wanted.ip() || wide(there) || wide(wanted))
}
