//! Which processes belong to a run, and which sockets they hold.
//!
//! Reading an environment may hang: nothing here is for the loop.

use std::collections::{HashMap, HashSet};

use super::marker::VARIABLE;
use super::procfs;
use crate::core::event::Pid;

/// The processes of a run.
#[derive(Debug)]
pub(crate) struct Tree {
    pids: HashSet<Pid>,
    /// What marks the run in the environment of all that it starts.
    mark: Option<Vec<u8>>,
}

impl Tree {
    /// The main process, its session, its group, and all who descend from one of these.
    pub(crate) fn of(main: Pid) -> Tree {
        Tree { pids: descendants(main), mark: mark(main) }
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = Pid> {
        self.pids.iter().copied()
    }

    /// It strayed from the tree, but was started by it.
    pub(crate) fn is_marked(&self, pid: Pid) -> bool {
        let (Some(own), Some(its)) = (&self.mark, mark(pid)) else { return false };
        // Keepups nest, and each appends its own mark.
        its.strip_prefix(own.as_slice()).is_some_and(|rest| matches!(rest, [] | [b':', ..]))
    }
}

/// The main process, its session, its group, and all who descend from one of these; without those
/// that only a mark tells of. Reads nothing that can hang.
pub(crate) fn descendants(main: Pid) -> HashSet<Pid> {
    let all: HashMap<Pid, procfs::Stat> =
        everybody().filter_map(|pid| Some((pid, procfs::stat(pid)?))).collect();
    let mut pids = HashSet::from([main]);
    let mut grew = true;
    while grew {
        let belongs =
            |it: &procfs::Stat| it.session == main || it.group == main || pids.contains(&it.parent);
        let more: Vec<Pid> = all.iter().filter(|it| belongs(it.1)).map(|it| *it.0).collect();
        let before = pids.len();
        pids.extend(more);
        grew = pids.len() > before;
    }
    pids
}

/// Every process that can be seen.
pub(crate) fn everybody() -> impl Iterator<Item = Pid> {
    procfs::all()
}

fn mark(pid: Pid) -> Option<Vec<u8>> {
    let environ = procfs::environ(pid).ok()?;
    let mut variables = environ.split(|&byte| byte == 0);
    let mark = variables
        .find_map(|it| it.strip_prefix(VARIABLE.as_bytes()).and_then(|it| it.strip_prefix(b"=")));
    mark.filter(|it| !it.is_empty()).map(<[u8]>::to_vec)
}
