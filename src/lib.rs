//! keepup keeps services up: it starts them, watches them, restarts them, and rotates their logs.
//!
//! # The words
//!
//! Five words carry the design; a sixth would have to be earned.
//!
//! - [`Plan`](plan::Plan): what to run, with nothing left to decide.
//! - [`Event`](core::event::Event): what happened.
//! - [`Effect`](core::event::Effect): what to do about it.
//! - [`State`](core::State): what a service is doing.
//! - [`Note`](core::event::Note): what people should know.
//!
//! # The flow
//!
//! ```text
//! supervisor.toml ──config──▶ Plan ────────────────────────┐
//!                                                          ▼
//! signals, exits, answers, requests, time ──Event──▶ Supervisor::step ──Effect──▶ run::world
//!             ▲                                            │                        │
//!             └──────── Spawned, SpawnFailed, Probed ◀─────┼──── os, probe ◀────────┘
//!                                                          ├─ Note ──▶ report ──▶ log, events
//!                                                          └─ look ──▶ status ──▶ control, cli
//!
//! stdout, stderr of services ──pipe──▶ logs (threads of its own) ──▶ api.log, api.log.1, …
//! ```
//!
//! One thread turns the loop of [`run`] round the pure [`core`]. The core is given every event with
//! its moment, and says in effects what to do; it reads no clock, waits for nothing and cannot
//! fail. Whatever may wait or fail is outside of it, and once the loop turns, a failure is an event
//! like any other. What services print never passes through the loop.
//!
//! # The rooms, in reading order
//!
//! | room | what it is for |
//! |---|---|
//! | [`plan`] | the types of what is to run; `std` alone |
//! | [`core`] | what follows from what: restarts, health, order, the end; `std` alone |
//! | [`config`] | supervisor.toml, checked: a plan, or every problem with its place |
//! | [`status`] | what people and programs are shown, as plain values |
//! | [`run`] | the loop, what comes before it and after it, and the plain init |
//! | [`os`] | processes: start, signal, reap, sweep; the clock; what outlives keepup |
//! | [`probe`] | one question, one bounded answer |
//! | [`logs`] | from the pipes of services into rotated files |
//! | [`report`] | keepup's own log, its events, its metrics, its page |
//! | [`control`] | what operators may ask over a Unix socket, and visitors over TCP |
//! | [`net`] | the HTTP client and server under probes and control |
//! | [`cli`] | from arguments to an exit code |
//!
//! Dependencies point one way: `cli` to `run`, `control` and `config`; `run` to everything below
//! it; everything to the words of `core` and `plan`; `core` to `plan` alone.

pub mod plan;

pub mod core;

pub mod config;
pub mod status;

pub mod run;

pub mod os;
pub mod probe;

pub mod logs;
pub mod report;

pub mod control;
pub mod net;

pub mod cli;
