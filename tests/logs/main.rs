//! The logs with real pipes, files, processes and disks.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod chance;
mod disk;
mod files;
mod flow;
mod forms;
mod kills;
mod memory;
mod pack;
mod property;
mod record;
mod show;
mod world;
