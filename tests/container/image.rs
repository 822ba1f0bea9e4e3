//! The images that the packaging makes.

use crate::engine::{Container, debian, docker, said, scratch, text};

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn both_images_say_how_they_are_checked_and_stopped() {
    for (image, program) in [(scratch(), "/usr/local/bin/keepup"), (debian(), "keepup")] {
        let inspect = |what: &str| {
            said(&["inspect", "--format", &format!("{{{{json .Config.{what}}}}}"), image])
        };
        assert_eq!(inspect("Entrypoint"), format!("[\"{program}\"]"));
        assert_eq!(inspect("Cmd"), "[\"run\"]");
        assert_eq!(inspect("StopSignal"), "\"SIGTERM\"");
        let check = inspect("Healthcheck.Test");
        assert_eq!(check, format!("[\"CMD\",\"{program}\",\"healthcheck\"]"));
        let output = docker(&["run", "--rm", image, "--version"]).output().unwrap();
        let expected = format!("keepup {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", text(&output));
    }
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn the_scratch_image_holds_keepup_and_nothing_else_and_runs_what_is_mounted() {
    let busybox = "/bin/busybox:/busybox:ro";
    let file = "[service.api]
command = [\"/busybox\", \"httpd\", \"-f\", \"-v\", \"-p\", \"127.0.0.1:8000\", \"-h\", \"/etc/keepup\"]
[service.api.liveness]
http = \"http://localhost:8000/supervisor.toml\"
interval = \"1s\"
";
    let container = Container::of(scratch(), &["-v", busybox], file, &[]);
    container.wait_line(&["api", "up, pid"]);
    let keepup = "/usr/local/bin/keepup";
    container
        .wait_until("it is healthy", || container.exec(&[keepup, "healthcheck"]).status.success());
    let status = container.ask(&[keepup, "status"]);
    assert!(status.contains("healthy"), "{status}");
    assert_eq!(container.stop().0, 0);
    // Docker's own files, keepup, and what keepup wrote.
    let files = docker(&["export", &container.name]).output().unwrap();
    assert!(files.stdout.len() < 20 << 20, "{} bytes", files.stdout.len());
}
