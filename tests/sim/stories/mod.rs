//! What keepup does, told by what it says. Each expectation was written from the design.

mod budget;
mod busy;
mod classics;
mod errors;
mod hanging;
mod health;
mod heart;
mod hooks;
mod operator;
mod order;
mod policy;
mod reload;
mod sockets;
mod starting;
mod stopping;
mod told;
mod usage;
mod waiting;
mod words;
