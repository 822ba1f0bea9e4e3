//! keepup in real containers: a Docker engine, and the static release program.
//!
//! All of it is ignored unless asked for: `bash .ci/container` installs and starts what it needs,
//! and runs it. Containers have no network, so that no test can depend on one.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod engine;
mod health;
mod image;
mod init;
mod limits;
mod signals;
mod supervise;
