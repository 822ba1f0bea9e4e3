//! A moment for people and programs: RFC 3339 in UTC, to the millisecond.
//!
//! Never compared with a moment of the core: wall clocks jump.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Timestamp);

impl Stamp {
    /// This moment.
    pub fn now() -> Stamp {
        Stamp(Timestamp::now())
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, ago: Duration) -> Stamp {
        Stamp(self.0.saturating_sub(ago).unwrap_or(self.0))
    }

    /// The time of day, in UTC, to the millisecond.
    pub fn time_of_day(self) -> impl fmt::Display {
        let text = self.to_string();
        text.get(11..23).unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Stamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Stamp, jiff::Error> {
        text.parse().map(Stamp)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
