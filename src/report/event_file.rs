//! `events.jsonl`: all events, on disk, written by a thread of its own.
//!
//! Never holds up the loop, and never grows past twice [`SIZE_MAX`]. What cannot be written is
//! counted; a failure is told once, and so is its end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// At this size the file becomes `events.jsonl.1`, in place of the one before.
const SIZE_MAX: u64 = 10_000_000;
/// Lines that wait for the disk; about 300 KiB when full, next to nothing when empty.
const QUEUE_MAX: usize = 2048;

enum Order {
    Write(Arc<str>),
    Close(SyncSender<()>),
}

/// The way to the file's thread.
#[derive(Clone, Debug)]
pub(super) struct EventFile {
    orders: Sender<Order>,
    lost: Arc<AtomicU64>,
}

impl EventFile {
    /// Starts the thread. A file that cannot be opened is a warning, and tried again with each line.
    pub(super) fn open(dir: &Path) -> io::Result<EventFile> {
        EventFile::with_size(dir, SIZE_MAX)
    }

    fn with_size(dir: &Path, size_max: u64) -> io::Result<EventFile> {
        let (orders, queue) = channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path: dir.join("events.jsonl"),
            size_max,
            file: None,
            trouble: Trouble::None,
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("events".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || writer.run(queue))?;
        Ok(EventFile { orders, lost })
    }

    /// Hands over a line; counted as lost where the disk is too slow.
    pub(super) fn write(&self, line: &Arc<str>) {
        if self.orders.try_send(Order::Write(Arc::clone(line))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over is written, but no longer than `limit`.
    pub(super) fn close(&self, limit: Duration) {
        let (done, closed) = sync_channel(1);
        if self.orders.try_send(Order::Close(done)).is_ok() {
            // Either way there is nothing left to do.
            let _ = closed.recv_timeout(limit);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Told,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    size_max: u64,
    file: Option<(File, u64)>,
    trouble: Trouble,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, mut queue: Receiver<Order>) {
        while let Some(order) = queue.blocking_recv() {
            match order {
                Order::Write(line) => self.take(&line),
                Order::Close(done) => {
                    // Nobody waits any more if the limit has passed.
                    let _ = done.send(());
                }
            }
        }
    }

    fn take(&mut self, line: &str) {
        match (self.append(line), self.trouble) {
            (Ok(()), Trouble::None) => {}
            (Ok(()), Trouble::Told) => {
                self.trouble = Trouble::None;
                let lost = self.lost.swap(0, Ordering::Relaxed);
                let path = self.path.display();
                tracing::warn!("events are written to `{path}` again; {lost} were not");
            }
            (Err(error), trouble) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                self.file = None;
                if trouble == Trouble::None {
                    self.trouble = Trouble::Told;
                    let path = self.path.display();
                    tracing::warn!(
                        "cannot write events to `{path}`: {error}; keeping the last in memory"
                    );
                }
            }
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        if self.file.as_ref().is_some_and(|(_, size)| size + length > self.size_max) {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        if self.file.is_none() {
            let file = File::options().append(true).create(true).mode(0o640).open(&self.path)?;
            let size = file.metadata()?.len();
            self.file = Some((file, size));
        }
        if let Some((file, size)) = &mut self.file {
            // One write, so that a crash in between leaves no half line behind; nor does a full disk.
            if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
                let _ = file.set_len(*size);
                return Err(error);
            }
            *size += length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::scratch::Scratch;

    #[test]
    fn the_file_is_rotated_by_size_and_appended_to_after_a_restart() {
        let dir = Scratch::new();
        for _ in 0..2 {
            let file = EventFile::with_size(dir.path(), 30).unwrap();
            for text in ["one one one", "two two two", "three three"] {
                file.write(&Arc::from(text));
            }
            file.close(Duration::from_secs(10));
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("events.jsonl.1"), "three three\none one one\n");
        assert_eq!(read("events.jsonl"), "two two two\nthree three\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let dir = Scratch::new();
        let path = dir.path().join("events.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let file = EventFile::open(dir.path()).unwrap();
        file.write(&Arc::from("lost"));
        file.write(&Arc::from("lost, too"));
        file.close(Duration::from_secs(10));
        assert_eq!(file.lost.load(Ordering::Relaxed), 2);
        fs::remove_file(&path).unwrap();
        file.write(&Arc::from("kept"));
        file.close(Duration::from_secs(10));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
    }

    #[test]
    fn lines_come_again_once_the_folder_is_there() {
        let dir = Scratch::new();
        let state = dir.path().join("state");
        let file = EventFile::open(&state).unwrap();
        file.write(&Arc::from("lost"));
        file.close(Duration::from_secs(10));
        fs::create_dir(&state).unwrap();
        file.write(&Arc::from("kept"));
        file.close(Duration::from_secs(10));
        assert_eq!(fs::read_to_string(state.join("events.jsonl")).unwrap(), "kept\n");
    }
}
