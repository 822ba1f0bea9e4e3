//! HTTP on plain sockets, TCP or Unix: one client, for probes and the command line, and one server.
//!
//! Nothing here decides anything about a service, and nothing waits without an end.

pub mod client;
pub mod server;
