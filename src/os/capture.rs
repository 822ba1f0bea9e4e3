//! The beginning of what a short-lived process writes.
//!
//! The rest is read and thrown away, so that the process never waits for a reader. Must never wait
//! for the pipe's end: whatever the process started may hold it open for ever.

use std::fs::File;
use std::io::Read;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

use super::launch::{Output, Stream};
use super::watch;

/// As much is kept, in bytes.
const KEPT_MAX: usize = 4096;
/// Reads in one turn of the loop; a process that writes without end must not hold it up.
const READS_PER_TURN: usize = 16;

/// One pipe, and what came through it so far.
#[derive(Debug)]
pub(super) struct Capture {
    /// `None`: it ended.
    pipe: Option<AsyncFd<File>>,
    kept: Vec<u8>,
}

impl Capture {
    /// And the streams for the process.
    pub(super) fn new() -> Result<(Capture, Output), String> {
        let open = || -> std::io::Result<_> {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let stderr = Stream::To(writer.try_clone()?);
            let output = Output { stdout: Stream::To(writer), stderr };
            let pipe = Some(watch::readable(File::from(reader))?);
            Ok((Capture { pipe, kept: Vec::new() }, output))
        };
        open().map_err(|error| format!("cannot make a pipe for its output: {error}"))
    }

    /// Reads what is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.poll_read_ready_mut(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.pipe = None,
                Poll::Ready(Ok(mut ready)) => {
                    let mut bytes = [0; KEPT_MAX];
                    match ready.try_io(|it| it.get_mut().read(&mut bytes)) {
                        Ok(Ok(length @ 1..)) => {
                            let room = KEPT_MAX.saturating_sub(self.kept.len());
                            let new = bytes.get(..length.min(room)).unwrap_or_default();
                            self.kept.extend_from_slice(new);
                        }
                        Ok(Ok(0) | Err(_)) => self.pipe = None,
                        Err(_would_block) => {}
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The process is dead: what it wrote is in the pipe already.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        if let Some(pipe) = &mut self.pipe {
            let room = KEPT_MAX.saturating_sub(self.kept.len());
            let mut bytes = vec![0; room];
            if let Ok(length) = pipe.get_mut().read(&mut bytes) {
                self.kept.extend_from_slice(bytes.get(..length).unwrap_or_default());
            }
        }
        std::mem::take(&mut self.kept)
    }
}
