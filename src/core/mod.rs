//! What follows from what: pure, and deterministic from a seed.
//!
//! Nothing here reads a clock, a file or a socket, logs, or fails. [`Supervisor::step`] takes an
//! [`event::Event`] and says in [`event::Effect`]s what to do about it. A test refuses everything
//! but `std` in this folder, and the parts of `std` that touch the world.
//!
//! In reading order: the vocabulary ([`event`]), when to restart ([`restart`]), what answers and
//! beats mean ([`health`]), one service ([`service`]), what comes before its start ([`waiting`]),
//! the commands beside its runs ([`hook`]), how its runs are stopped ([`stopping`]), all of them
//! ([`supervisor`]), another plan for them ([`reload`]), and what is told to whoever started keepup
//! ([`tell`]).

mod errors;
pub mod event;
pub mod health;
mod heartbeat;
pub mod hook;
pub mod reload;
pub mod restart;
pub mod service;
pub mod stopping;
pub mod supervisor;
pub mod tell;
mod turn;
pub mod uptime;
mod usage;
pub mod waiting;
pub mod words;

pub use service::{Service, State, Want};
pub use supervisor::{Remembered, Supervisor};
