//! HTTP over TCP and Unix sockets, with a limit on everything.

pub mod server;
