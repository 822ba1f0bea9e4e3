//! What follows from what: pure, and deterministic from a seed.
//!
//! Nothing here reads a clock, a file or a socket, logs, or fails. [`Supervisor::step`] takes an
//! [`event::Event`] and says in [`event::Effect`]s what to do about it. A test refuses everything
//! but `std` in this folder, and the parts of `std` that touch the world.

pub mod event;
