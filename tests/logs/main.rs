//! The logs with real pipes, files, processes and disks.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod disk;
mod files;
mod flow;
mod forms;
mod memory;
mod pack;
mod show;
mod world;
