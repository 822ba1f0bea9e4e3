//! The thread that reads the pipes of a lane that hangs, so that its services do not.
//!
//! It touches no disk, and it sleeps as long as every lane comes to the end of its turns.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::lane::Lane;
use super::lock;

/// Read at once; allocated when a lane first hangs.
const BUFFER: usize = 64 << 10;
/// The key of the event that ends the thread; lanes count from 0.
const STOP: u64 = u64::MAX;
/// Set in the key of a lane's pipes; its timer's key is the lane's number alone.
const PIPES: u64 = 1 << 63;

/// The watch over all lanes.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: Epoll,
    stop: EventFd,
    lanes: Mutex<HashMap<u64, Arc<Lane>>>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        Ok(Watch { epoll, stop, lanes: Mutex::default() })
    }

    /// Watches over this lane, too.
    pub(super) fn add(&self, number: u64, lane: &Arc<Lane>) -> io::Result<()> {
        lock(&self.lanes).insert(number, Arc::clone(lane));
        Ok(self.epoll.add(lane.timer(), EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    /// Ends the thread.
    pub(super) fn finish(&self) {
        let _ = self.stop.write(1);
    }

    /// The thread.
    pub(super) fn run(&self) {
        let mut buffer = Vec::new();
        let mut events = [EpollEvent::empty(); 16];
        loop {
            // Interrupted is as good as nothing.
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
            for event in &events[..count] {
                let key = event.data();
                if key == STOP {
                    return;
                }
                let Some(lane) = lock(&self.lanes).get(&(key & !PIPES)).cloned() else { continue };
                if key & PIPES == 0 {
                    if lane.is_stuck() {
                        // It may be here already, from the last time it hung.
                        let pipes = EpollEvent::new(EpollFlags::EPOLLIN, key | PIPES);
                        let _ = self.epoll.add(&lane.pipes().0, pipes);
                    }
                } else {
                    buffer.resize(BUFFER, 0);
                    if !lane.rescue(&mut buffer) {
                        let _ = self.epoll.delete(&lane.pipes().0);
                    }
                }
            }
        }
    }
}
