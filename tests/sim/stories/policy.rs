//! Which ends are followed by a restart, and when.

use keepup::plan::Policy;

use crate::plans::{ms, s, service};
use crate::script::{exits, well};
use crate::world::Sim;

#[test]
fn always_restarts_even_after_a_success() {
    let mut sim = Sim::new([(service("api", |_| {}), vec![exits(s(2), 0), well()])]);
    sim.run_until(s(10));
    sim.says(
        "0.000 api starting run 1
         0.000 api up, pid 101
         0.000 api ready after 0ms
         2.000 api ended after 2s: exit code 0
         2.000 api restart in 500ms (failure 1 in a row)
         2.500 api starting run 2
         2.500 api up, pid 102
         2.500 api ready after 0ms",
    );
}
