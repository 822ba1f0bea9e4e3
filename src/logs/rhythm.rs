//! How often and how much comes out of a stream's pipes: whether its lines may gather for a moment.
//!
//! A service that prints a line a millisecond would have us look at it a thousand times a second.
//! No input or output happens here.

use std::time::{Duration, Instant};

/// How long lines gather. What a pipe of 64 KiB takes in this time is far more than [`MUCH`], so
/// that nobody waits who goes on as before.
pub(super) const GATHER: Duration = Duration::from_millis(10);
/// So many looks within that time are too many.
const OFTEN: u32 = 3;
/// Bytes within that time whose writer must not be kept waiting.
const MUCH: usize = 16 << 10;

/// What a stream brought lately.
#[derive(Debug)]
pub(super) struct Rhythm {
    since: Instant,
    looks: u32,
    bytes: usize,
    /// A bit for each pipe that brought something.
    pipes: u8,
}

impl Rhythm {
    pub(super) fn new(now: Instant) -> Rhythm {
        Rhythm { since: now, looks: 0, bytes: 0, pipes: 0 }
    }

    /// This pipe brought so much.
    pub(super) fn brought(&mut self, pipe: usize, bytes: usize) {
        self.bytes += bytes;
        self.pipes |= u8::from(bytes != 0) << pipe;
    }

    /// A look is over. Returns the pipe whose lines may gather from now on: the only one out of
    /// which lines come, often and each time a little. Where they come out of two, their order is
    /// worth the looks.
    pub(super) fn looked(&mut self, now: Instant, gathering: bool) -> Option<usize> {
        self.looks += 1;
        let over = GATHER <= now.saturating_duration_since(self.since);
        if !over && !gathering {
            return None;
        }
        let often = if gathering { self.bytes != 0 } else { OFTEN <= self.looks };
        let calm = self.bytes < MUCH && self.pipes.is_power_of_two();
        let pipe = self.pipes.trailing_zeros() as usize;
        *self = Rhythm::new(now);
        (often && calm).then_some(pipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every so many milliseconds, each of which brings this out of these pipes; the pipe
    /// that gathers in the end.
    fn play(every: u64, bytes: usize, pipes: &[usize]) -> Option<usize> {
        let start = Instant::now();
        let (mut rhythm, mut gathers) = (Rhythm::new(start), None);
        for nth in 0..50 {
            let pipe = pipes[usize::try_from(nth).unwrap() % pipes.len()];
            rhythm.brought(pipe, bytes);
            let now = start + Duration::from_millis(every * nth);
            if let Some(pipe) = rhythm.looked(now, gathers.is_some()) {
                gathers = Some(pipe);
            }
        }
        gathers
    }

    #[test]
    fn lines_gather_that_come_often_and_are_few() {
        assert_eq!(play(1, 100, &[0]), Some(0));
        assert_eq!(play(1, 100, &[1]), Some(1));
        assert_eq!(play(20, 100, &[0]), None, "it is seldom");
        assert_eq!(play(1, 10_000, &[0]), None, "it is much");
        assert_eq!(play(1, 100, &[0, 1]), None, "their order would be lost");
    }

    #[test]
    fn they_gather_until_nothing_or_much_comes_or_the_other_pipe_brings_something() {
        let now = Instant::now();
        let mut rhythm = Rhythm::new(now);
        rhythm.brought(0, 100);
        assert_eq!(rhythm.looked(now, true), Some(0), "one line is enough");
        assert_eq!(rhythm.looked(now, true), None, "nothing");
        rhythm.brought(0, MUCH);
        assert_eq!(rhythm.looked(now, true), None, "much");
        rhythm.brought(0, 100);
        rhythm.brought(1, 100);
        assert_eq!(rhythm.looked(now, true), None, "both");
    }
}
