//! Docker's HEALTHCHECK, through `keepup healthcheck`.

use crate::engine::{Container, said, shell};

/// The image's own check, asked more often than the image says.
const OFTEN: [&str; 6] =
    ["--health-interval", "500ms", "--health-retries", "2", "--health-start-period", "1ms"];

fn wait_health(container: &Container, health: &str) {
    container.wait_until(&format!("the container is {health}"), || {
        container.inspect(".State.Health.Status") == health
    });
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn the_container_is_as_healthy_as_its_services() {
    let keys = "[service.api.readiness]\nexec = [\"test\", \"-e\", \"/tmp/ready\"]\n\
        interval = \"200ms\"\nfailures = 1";
    let container = Container::start(&OFTEN, &shell("api", "exec sleep 100000", keys));
    container.up("api");
    wait_health(&container, "unhealthy");
    let log = container.inspect("json .State.Health.Log");
    assert!(log.contains("api: "), "it says what is wrong: {log}");
    container.ask(&["touch", "/tmp/ready"]);
    wait_health(&container, "healthy");
    container.ask(&["rm", "/tmp/ready"]);
    wait_health(&container, "unhealthy");
    container.ask(&["touch", "/tmp/ready"]);
    wait_health(&container, "healthy");
    // Stopped by an operator is wanted, and no illness; given up is one.
    container.ask(&["keepup", "stop", "api"]);
    let check = container.exec(&["keepup", "healthcheck"]);
    assert!(check.status.success(), "{check:?}");
    assert_eq!(container.stop().0, 0);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn a_service_that_was_given_up_makes_the_container_unhealthy() {
    let keys = "restart = { delay = \"1ms\", max_restarts = 2 }";
    let container = Container::start(&OFTEN, &shell("api", "exit 1", keys));
    container.wait_line(&["api", "ended"]);
    wait_health(&container, "unhealthy");
    let log = container.inspect("json .State.Health.Log");
    assert!(log.contains("api: "), "{log}");
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn a_keepup_that_hangs_makes_the_container_unhealthy() {
    let options = [&OFTEN[..], &["--health-timeout", "1s"]].concat();
    let container = Container::start(&options, &shell("api", "exec sleep 100000", ""));
    wait_health(&container, "healthy");
    let pid = container.inspect(".State.Pid");
    let send = |signal: &str| {
        let kill = std::process::Command::new("kill").args([signal, pid.as_str()]).status();
        assert!(kill.unwrap().success());
    };
    send("-STOP");
    wait_health(&container, "unhealthy");
    send("-CONT");
    wait_health(&container, "healthy");
    said(&["stop", &container.name]);
    assert_eq!(container.inspect(".State.ExitCode"), "0");
}
