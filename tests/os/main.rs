//! Processes as the kernel shows them.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;
mod ends;
mod failures;
mod forks;
mod groups;
mod loops;
mod outlives;
mod probes;
mod surroundings;
