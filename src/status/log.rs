//! What became of a service's output, as it is shown.

use serde::{Deserialize, Serialize};

use super::Stamp;

/// What became of a service's output so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Bytes that the service wrote.
    pub bytes: u64,
    /// Lines that are in no file, and never will be.
    pub lines_lost: u64,
    /// Why its file cannot be written, rotated or compressed now, in words.
    pub problem: Option<String>,
    /// Since when.
    pub since: Option<Stamp>,
}
