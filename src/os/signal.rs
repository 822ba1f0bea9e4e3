//! The signals that keepup itself is sent.
//!
//! Must never do more in a signal's handler than set a flag and write a byte.

#![expect(unsafe_code, reason = "ignoring a signal is a system call that nix calls unsafe")]

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::sys::signal::{SigHandler, SigSet};
use signal_hook::SigId;
use tokio::io::unix::AsyncFd;

use super::watch;
use crate::plan::Signal;

/// The signals that mean something to keepup: stop (three), reload, reopen, upgrade.
pub const MEANT_FOR_KEEPUP: [Signal; 6] = [
    Signal::TERM,
    Signal(libc::SIGINT),
    Signal(libc::SIGQUIT),
    Signal::HUP,
    Signal(libc::SIGUSR1),
    Signal(libc::SIGUSR2),
];

/// Hears signals. Several of one kind that come before it is asked count as one, as they do for
/// the kernel.
#[derive(Debug)]
pub struct Signals {
    bell: Bell,
    flags: Vec<(Signal, Arc<AtomicBool>)>,
    registered: Vec<SigId>,
}

impl Signals {
    /// From now on these signals arrive here and have no effect of their own. Also takes every
    /// signal off the mask that keepup may have inherited, and ignores SIGPIPE
    /// and SIGXFSZ.
    ///
    /// Needs a tokio runtime with its I/O enabled; to be called before other threads start.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        unblock()?;
        // SAFETY: ignoring a signal installs no handler, so nothing can run at a bad moment.
        unsafe { nix::sys::signal::signal(nix::sys::signal::SIGPIPE, SigHandler::SigIgn) }?;
        // SAFETY: likewise. A log that grows past an inherited file size limit is an error of the
        // write then, not the end of keepup.
        unsafe { nix::sys::signal::signal(nix::sys::signal::SIGXFSZ, SigHandler::SigIgn) }?;
        let (bell, cord) = Bell::new()?;
        let mut all = Signals { bell, flags: Vec::new(), registered: Vec::new() };
        for &signal in signals {
            let flag = Arc::new(AtomicBool::new(false));
            // Handlers run in the order of registration: the flag is set before the bell rings.
            let set = signal_hook::flag::register(signal.0, Arc::clone(&flag))?;
            all.registered.push(set);
            let ring = signal_hook::low_level::pipe::register(signal.0, cord.try_clone()?)?;
            all.registered.push(ring);
            all.flags.push((signal, flag));
        }
        Ok(all)
    }

    /// The next signal, in the order of the list given to `new` where several are there. May be
    /// dropped at any time without losing one.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        loop {
            let heard = self.flags.iter().find(|it| it.1.swap(false, Ordering::SeqCst));
            if let Some((signal, _)) = heard {
                return Poll::Ready(*signal);
            }
            ready!(self.bell.poll_rung(cx));
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Takes every signal off this thread's mask.
pub(super) fn unblock() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// What a handler rings to wake the loop.
#[derive(Debug)]
pub(super) struct Bell(AsyncFd<UnixStream>);

impl Bell {
    pub(super) fn new() -> io::Result<(Bell, UnixStream)> {
        let (bell, cord) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok((Bell(watch::readable(bell)?), cord))
    }

    /// Ready once for all rings so far; otherwise the task is woken by the next.
    pub(super) fn poll_rung(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rung = false;
        loop {
            let mut ready = match self.0.poll_read_ready_mut(cx) {
                Poll::Ready(Ok(ready)) => ready,
                Poll::Pending if rung => return Poll::Ready(()),
                // An error means that the runtime is being shut down: nothing will ever ring.
                Poll::Pending | Poll::Ready(Err(_)) => return Poll::Pending,
            };
            match ready.try_io(|it| it.get_mut().read(&mut [0; 64])) {
                Ok(Ok(1..)) => rung = true,
                Ok(Ok(0) | Err(_)) => return Poll::Pending,
                Err(_would_block) => {}
            }
        }
    }
}
