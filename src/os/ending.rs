//! keepup's own end: nothing below it survives it.
//!
//! Must never kill what is not a descendant.

use std::future::poll_fn;
use std::time::Duration;

use super::clock::now;
use super::group::kill;
use super::hunt::{Quarry, hunt};
use super::inbox::Inbox;
use super::init::Place;
use super::procfs;
use super::signal::Bell;
use super::wait::{self, Peek};
use crate::core::event::Pid;
use crate::plan::Signal;

/// Between two looks for orphans that came meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whoever is left in this round forks faster than it is killed.
const HUNTED_FROM: u32 = 3;

/// Kills and reaps until there is nobody or `limit` has passed. The children that are left.
pub(super) async fn end_all(place: Place, deaths: &mut Bell, limit: Duration) -> Vec<Pid> {
    let deadline = now() + limit;
    for round in 1.. {
        kill_all(place, round);
        if reap_all() == Left::Nobody {
            return Vec::new();
        }
        let now = now();
        if deadline <= now {
            return procfs::children();
        }
        // A death is not the only reason to look again: a child may come as an orphan.
        let look_again = tokio::time::sleep(LOOK_AGAIN.min(deadline - now));
        tokio::select! {
            () = poll_fn(|cx| deaths.poll_rung(cx)) => {}
            () = look_again => {}
        }
    }
    Vec::new()
}

/// The same where there is no loop.
pub(super) fn end_all_blocking(place: Place, inbox: &Inbox, limit: Duration) {
    let deadline = now() + limit;
    for round in 1.. {
        kill_all(place, round);
        let now = now();
        if reap_all() == Left::Nobody || deadline <= now {
            return;
        }
        inbox.next_within(LOOK_AGAIN.min(deadline - now));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Somebody,
    Nobody,
}

fn reap_all() -> Left {
    loop {
        match wait::reap_next() {
            Peek::Dead { .. } => {}
            Peek::AllAlive => return Left::Somebody,
            Peek::NoChildren => return Left::Nobody,
        }
    }
}

/// The children of a killed child come to keepup, and are found in the next round.
fn kill_all(place: Place, round: u32) {
    match place {
        // All processes but this one; those that were put into the container from outside, too.
        Place::Init => _ = kill(Pid(-1), Signal::KILL),
        Place::Subreaper => {
            for child in procfs::children() {
                kill(child, Signal::KILL).ok();
            }
            if round >= HUNTED_FROM {
                hunt(Quarry::Below);
            }
        }
    }
}
