//! A start of which it is not known yet whether its program runs.
//!
//! Must never wait for the child: its program may lie on a mount that does not answer.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;

use super::failure::Report;
use super::launch::Launch;
use super::watch;
use crate::core::event::SpawnFailure;

/// The pipe closes without a word when the program runs.
#[derive(Debug)]
pub(super) struct Starting {
    told: AsyncFd<File>,
    launch: Arc<Launch>,
}

impl Starting {
    pub(super) fn new(launch: Arc<Launch>, told: OwnedFd) -> Result<Starting, String> {
        match watch::readable(File::from(told)) {
            Ok(told) => Ok(Starting { told, launch }),
            Err(error) => {
                Err(format!("cannot start `{}`: cannot watch it: {error}", launch.program()))
            }
        }
    }

    /// Whether its program runs, or why not.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SpawnFailure>> {
        loop {
            match self.told.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                // The runtime is being shut down; the pipe can still be read.
                Poll::Ready(Err(_)) => return self.read().map_or(Poll::Pending, Poll::Ready),
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
            }
            if let Some(outcome) = self.read() {
                return Poll::Ready(outcome);
            }
        }
    }

    /// `None`: it is not known yet.
    pub(super) fn read(&mut self) -> Option<Result<(), SpawnFailure>> {
        let mut bytes = [0; 512];
        match self.told.get_mut().read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) | Ok(0) => Some(Ok(())),
            Ok(length) => {
                let report = bytes.get(..length).and_then(Report::read);
                let unknown = || format!("cannot start `{}`", self.launch.program());
                Some(Err(match report {
                    Some(report) => report.failure(&self.launch),
                    None => SpawnFailure::other(unknown()),
                }))
            }
        }
    }
}
