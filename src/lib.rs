//! keepup keeps services up.

pub mod plan;

pub mod core;

pub mod config;
pub mod status;

pub mod control;
pub mod logs;
pub mod net;
pub mod os;
pub mod probe;
pub mod report;

pub mod run;

pub mod cli;
