//! A file that keepup writes itself, rotated like those of the services: its own log, its events.
//!
//! It must never fail: what cannot be written is kept, then counted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::backlog::Backlog;
use super::file::{Bounds, LogFile, Names, Stopped};
use super::pack::Packer;
use super::stream::RETRY;

/// Lines of keepup's own log that wait for the disk; more are dropped and counted.
const LINES_MAX: usize = 512;
/// Bytes kept while they cannot be written.
const BUFFER: u64 = 256 << 10;

/// A rotated file. Each call of `write` brings whole lines.
#[derive(Debug)]
pub struct Rotated {
    file: LogFile,
    backlog: Backlog,
    retry_at: Option<Instant>,
    why: String,
}

/// A rotated file at this path, opened by the first write. Its writes take a disk's time.
pub fn writer(path: PathBuf, max_size: u64, keep: u32) -> Rotated {
    let bounds = Bounds::plain(max_size, keep);
    let file = LogFile::new(path, bounds, Packer::default(), Names::default());
    Rotated { file, backlog: Backlog::new(BUFFER), retry_at: None, why: String::new() }
}

/// keepup's own log at this path, written by a thread of its own.
///
/// # Errors
///
/// The file cannot be written now. It may be later: `writer` with the same path goes on trying.
pub fn layer_writer(
    path: &Path,
    max_size: u64,
    keep: u32,
) -> io::Result<(NonBlocking, WorkerGuard)> {
    let mut rotated = writer(path.to_owned(), max_size, keep);
    rotated
        .file
        .ensure()
        .map_err(|why| io::Error::other(format!("cannot write `{}`: {why}", path.display())))?;
    Ok(non_blocking(rotated))
}

/// Has a thread of its own write what is written to the first of the pair.
pub fn non_blocking(rotated: Rotated) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .thread_name("own log")
        .finish(rotated)
}

impl Rotated {
    /// Why it cannot be written, if it cannot.
    pub fn problem(&self) -> Option<String> {
        self.retry_at
            .map(|_| format!("cannot write `{}`: {}", self.file.path().display(), self.why))
    }

    fn failed(&mut self, bytes: &[u8], stopped: Stopped) {
        self.backlog.refused(&bytes[stopped.written..]);
        self.why = stopped.why;
        self.retry_at = Some(Instant::now() + RETRY);
    }

    /// Writes what waits, if it is time to try; says whether nothing waits any more.
    fn catch_up(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        while !self.backlog.is_clear() {
            let held = self.backlog.take();
            if held.is_empty() {
                self.backlog.close_gap(self.file.at_line_start(), &self.why);
            } else if let Err(stopped) = self.file.write(&held) {
                self.failed(&held, stopped);
                return false;
            } else {
                self.backlog.written();
            }
        }
        self.retry_at = None;
        true
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.catch_up() {
            self.backlog.accept(bytes);
        } else if let Err(stopped) = self.file.write(bytes) {
            self.failed(bytes, stopped);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Rotated {
    fn drop(&mut self) {
        self.retry_at = self.retry_at.map(|_| Instant::now());
        self.catch_up();
    }
}
