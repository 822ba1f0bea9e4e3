//! What one step works with: the moment, the effects so far, and where numbers come from.

use std::time::Duration;

use super::event::{Effect, Note, Ticket, Time};
use crate::plan::Name;

/// One call of [`super::Supervisor::step`], seen from inside.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with one another")]
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    /// keepup is ending: nothing is started any more.
    pub(super) leaving: bool,
    /// And what is left is killed: there is no time for anything else.
    pub(super) killing: bool,
    /// What outlives keepup has changed.
    pub(super) save: bool,
    /// Some service changed its state: others may start, stop, or have nothing to wait for.
    pub(super) moved: bool,
    /// keepup is to end with this code, because a service wants it so.
    pub(super) leave: Option<u8>,
    pub(super) numbers: &'a mut Numbers,
    pub(super) out: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn note(&mut self, name: &Name, note: Note) {
        self.effect(Effect::Note { name: name.clone(), note });
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// keepup is to end; the first to say so has its code heard.
    pub(super) fn leave_with(&mut self, code: u8) {
        self.leave.get_or_insert(code);
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.numbers.tickets += 1;
        Ticket(self.numbers.tickets)
    }
}

/// Where tickets and chance come from; the same seed gives the same chance.
#[derive(Debug)]
pub(super) struct Numbers {
    tickets: u64,
    chance: u64,
    parts: u64,
}

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers { tickets: 0, chance: seed, parts: 0 }
    }

    /// The delay, longer by a random part of itself: 0 to `jitter`.
    pub(super) fn jittered(&mut self, delay: Duration, jitter: f64) -> Duration {
        delay.mul_f64(1.0 + jitter * self.fraction())
    }

    /// A part of the interval, another each time: whoever begins with it does not keep step with
    /// the others. The first is the whole of it, and however many follow, they lie evenly.
    ///
    /// Source: multiples of the golden ratio, in D. Knuth, "The Art of Computer Programming",
    /// volume 3, 6.4.
    pub(super) fn part(&mut self, interval: Duration) -> Duration {
        let turned = self.parts.wrapping_mul(GOLDEN);
        self.parts += 1;
        interval.mul_f64(1.0 - fraction_of(turned))
    }

    /// From 0 up to, but not, 1.
    ///
    /// Source: splitmix64, in G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number
    /// generators", OOPSLA 2014.
    fn fraction(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(GOLDEN);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        fraction_of(z)
    }
}

/// The golden ratio's fraction, of 2^64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of 2^64: from 0 up to, but not, 1.
fn fraction_of(z: u64) -> f64 {
    let upper_half = u32::try_from(z >> 32).unwrap_or(u32::MAX);
    f64::from(upper_half) / (f64::from(u32::MAX) + 1.0)
}
