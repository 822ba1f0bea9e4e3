//! The core in a simulated world: no process, no file, no clock, no waiting.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod chaos;
mod every;
mod plans;
mod script;
mod table;
mod tidy;
mod watch;
mod world;

mod stories;
