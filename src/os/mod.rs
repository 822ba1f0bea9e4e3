//! Everything between the words of the core and the kernel, as far as it is about processes.
//!
//! [`Processes`] starts, signals and reaps ([`sole`] and [`inbox`] do so for a plain init);
//! [`signal`] hears what keepup itself is told, [`clock`] tells the time, [`usage`] measures; [`ears`] hears
//! what services say of themselves, and [`notify`] speaks to whoever started keepup; [`pages`] keeps
//! it small; [`state`] and [`leftover`] bridge the gap
//! between two keepups. Nothing here
//! decides what a service should do, waits on the loop for a child, or logs.

pub mod clock;
pub mod ears;
pub mod env_file;
pub mod evidence;
pub mod inbox;
pub mod leftover;
pub mod notify;
pub mod pages;
pub mod pressure;
pub mod signal;
pub mod sockets;
pub mod sole;
pub mod state;
pub mod strain;
pub mod usage;

mod birth;
mod capture;
mod cgroup;
mod child;
mod desk;
mod ending;
mod environment;
mod failure;
pub(crate) mod family;
mod files;
mod group;
mod hunt;
mod identity;
mod init;
mod launch;
pub(crate) mod listeners;
pub(crate) mod marker;
mod oom;
mod processes;
pub(crate) mod procfs;
mod remains;
mod spawner;
mod starting;
mod strays;
mod sweep;
mod tag;
mod terminal;
mod wait;
mod watch;

pub use identity::owner;
pub use processes::{Happening, LiveRun, Output, Processes, Stream};
