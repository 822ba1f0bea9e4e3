//! A container with little memory.

use crate::engine::{Container, idle, shell};

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn where_memory_is_short_the_service_is_killed_and_keepup_is_not() {
    // It takes all there is, and then some.
    let hungry = "if test -e /tmp/once; then exec sleep 100000; fi; touch /tmp/once
        exec tail /dev/zero";
    let file = shell("hungry", hungry, "restart = { delay = \"10ms\" }") + &idle("other", "");
    let options = ["--memory", "48m", "--memory-swap", "48m"];
    let container = Container::start(&options, &file);
    let limit = container.inspect(".HostConfig.Memory");
    assert_eq!(limit, "50331648");
    let other = container.up("other");
    let hungry = container.wait("hungry", "run", 2);
    let end = &hungry["last_end"];
    assert_eq!(end["exit"]["signal"], "SIGKILL", "{end}");
    container.wait("hungry", "state", "up");
    // Neither keepup nor what lives beside it was hit.
    assert_eq!(container.up("other"), other);
    assert_eq!(container.service("other")["run"], 1);
    assert_eq!(container.inspect(".RestartCount"), "0");
    assert_eq!(container.stop().0, 0);
}
