//! What only the kernel can show: a real keepup, real processes, a real uvicorn.
//!
//! Every test has a folder and ports of its own, and waits for events, never for luck.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod freezer;
mod harness;
mod world;

mod api;
mod busy;
mod commands;
mod disks;
mod endpoint;
mod examples;
mod folders;
mod follow;
mod held;
mod hooks;
mod incidents;
mod inherit;
mod init;
mod kinds;
mod leftover;
mod logs;
mod needs;
mod notify;
mod oom;
mod peers;
mod plain_init;
mod policy;
mod probes;
mod reload;
mod resources;
mod run_command;
mod snippet;
mod spawn;
mod stop;
mod stuck;
mod systemd;
mod terminal;
