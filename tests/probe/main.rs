//! Probes, the HTTP client and heartbeat looks against real sockets and files.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod answers;
mod file;
mod grpc;
mod heartbeat;
mod leaks;
mod listening;
mod tls;
mod world;
