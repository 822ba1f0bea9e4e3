//! keepup under a real systemd, booted as PID 1 of a machine of its own.
//!
//! All of it is ignored unless asked for: `bash .ci/systemd` makes the machine, installs keepup and
//! its units in it, and runs the tests.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod journal;
mod life;
mod machine;
mod unit;
