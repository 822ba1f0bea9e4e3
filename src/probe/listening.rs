//! `listening`: a process of the service itself listens at exactly this address.
//!
//! A connection would not tell: somebody else may have the port, or the service may listen at
//! 127.0.0.1 alone, where nobody from outside reaches it. `/proc` is read off the loop, and nothing
//! is ever sent.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use tokio::time::timeout;

use super::miss;
use crate::core::event::{Answer, Pid, Short};
use crate::net::client::Limits;
use crate::net::client::aside::aside;
use crate::net::client::words::{one_line, plain};
use crate::os::family::{Tree, everybody};
use crate::os::listeners::{Listener, holds, listeners, shown};
use crate::plan::Class;

/// Looks who listens, and judges it; `main` is the main process of the run.
pub(super) async fn ask(address: SocketAddr, limits: Limits, main: Option<Pid>) -> Answer {
    let Some(main) = main else {
        return miss(Class::Other, "the service does not run");
    };
    // Threads of one service take turns, those of others do not wait for them.
    let turn = format!("listening of {main}");
    let look = aside(&turn, move || judge(address, main));
    match timeout(limits.timeout.saturating_add(limits.slack), look).await {
        Ok(Ok(Ok(()))) => Answer::Pass,
        Ok(Ok(Err((class, text)))) => miss(class, one_line(&text)),
        Ok(Err(text)) => miss(Class::Other, one_line(&text)),
        Err(_) => {
            let text = format!("timed out after {} at /proc", Short(limits.timeout));
            miss(Class::Timeout, text)
        }
    }
}

type Wrong = (Class, String);

fn judge(address: SocketAddr, main: Pid) -> Result<(), Wrong> {
    let all = listeners(main).map_err(|error| unreadable(&error))?;
    let (there, elsewhere): (Vec<Listener>, Vec<Listener>) =
        all.into_iter().partition(|it| it.address == address);
    let inodes: HashSet<u64> = there.iter().map(|it| it.inode).collect();
    // Nearly always it is the main process.
    if holds(main, &inodes).is_some() {
        return Ok(());
    }
    let tree = Tree::of(main);
    if tree.pids().any(|pid| holds(pid, &inodes).is_some()) {
        return Ok(());
    }
    match there.first() {
        Some(first) => foreign(address, &tree, &inodes, first),
        None => Err(nobody(address, &tree, &elsewhere)),
    }
}

/// Somebody listens there, and does not belong to the tree; a stray of the run may.
fn foreign(
    address: SocketAddr,
    tree: &Tree,
    inodes: &HashSet<u64>,
    first: &Listener,
) -> Result<(), Wrong> {
    let mut stranger = None;
    for pid in everybody().filter(|&pid| holds(pid, inodes).is_some()) {
        if tree.is_marked(pid) {
            return Ok(());
        }
        stranger = stranger.or(Some(pid));
    }
    let text = match stranger {
        Some(pid) => format!("{} listens there, and is not of this service", shown(pid)),
        None => format!(
            "somebody of uid {} listens at {address}, and keepup may not see who",
            first.uid
        ),
    };
    Err((Class::Other, text))
}

/// Nobody listens there; perhaps at the same port of another address.
fn nobody(address: SocketAddr, tree: &Tree, elsewhere: &[Listener]) -> Wrong {
    let same_port = elsewhere.iter().filter(|it| it.address.port() == address.port());
    let inodes = |list: &[&Listener]| list.iter().map(|it| it.inode).collect::<HashSet<u64>>();
    let near: Vec<&Listener> = same_port.collect();
    let place = |inode: u64| elsewhere.iter().find(|it| it.inode == inode).map(|it| it.address);
    let own = |inodes: &HashSet<u64>| {
        tree.pids().find_map(|pid| Some((pid, place(holds(pid, inodes)?)?)))
    };
    if let Some((pid, found)) = own(&inodes(&near)) {
        let text = format!("{} listens at {found}, wanted {address}", shown(pid));
        return (Class::Other, text);
    }
    let mut text = format!("nobody listens at {address}");
    let others = inodes(&near);
    let all: Vec<&Listener> = elsewhere.iter().collect();
    if let Some((pid, found)) =
        everybody().find_map(|pid| Some((pid, place(holds(pid, &others)?)?)))
    {
        text = format!("{text}; {}, not of this service, at {found}", shown(pid));
    } else if let Some((pid, found)) = own(&inodes(&all)) {
        text = format!("{text}; {} listens at {found}", shown(pid));
    }
    (Class::Refused, text)
}

fn unreadable(error: &io::Error) -> Wrong {
    (Class::Other, format!("cannot see who listens: {}", plain(error)))
}
