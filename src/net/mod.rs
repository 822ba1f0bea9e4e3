//! HTTP on plain sockets, TCP or Unix: one client for probes, alerts and the command line.
//!
//! Nothing here decides anything about a service, and nothing waits without an end.

pub mod client;
