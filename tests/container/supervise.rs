//! keepup as PID 1 of a container, over a supervisor.toml.

use std::time::{Duration, Instant};

use crate::engine::{Container, debian, idle, pause, shell};

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn docker_logs_shows_what_services_print_and_what_keepup_says() {
    let api = "echo to stdout; echo to stderr >&2; exec sleep 100000";
    let quiet = "echo unseen; exec sleep 100000";
    let file = shell("api", api, "") + &shell("quiet", quiet, "logs = { console = false }");
    let container = Container::start(&[], &file);
    container.wait_line(&["api", "to stdout"]);
    container.wait_line(&["api", "to stderr"]);
    container.up("quiet");
    container.wait_line(&["quiet", "up, pid"]);
    let (out, err) = container.logs();
    assert!(!out.contains("unseen") && !err.contains("unseen"), "{out}{err}");
    assert!(err.contains("keepup") && err.contains("pid 1"), "{err}");
    assert!(container.ask(&["keepup", "logs", "quiet"]).contains("unseen"));
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn a_service_that_crashes_or_hangs_is_restarted_and_the_container_stays() {
    let server = "echo well > /tmp/index.html; exec httpd -f -p 127.0.0.1:8000 -h /tmp";
    let keys = "restart = { delay = \"10ms\" }
[service.api.liveness]
http = \"http://localhost:8000/\"
contains = \"well\"
interval = \"1s\"
timeout = \"1s\"
failures = 2";
    let container = Container::start(&[], &shell("api", server, keys));
    container.wait("api", "health", "healthy");
    let began = container.inspect(".State.StartedAt");

    let pid = container.up("api").to_string();
    container.ask(&["kill", "-KILL", &pid]);
    container.wait("api", "run", 2);
    container.wait("api", "health", "healthy");
    assert_eq!(container.service("api")["last_end"]["exit"]["signal"], "SIGKILL");

    let pid = container.up("api").to_string();
    container.ask(&["kill", "-STOP", &pid]);
    container.wait("api", "run", 3);
    container.wait("api", "health", "healthy");
    assert_eq!(container.service("api")["last_end"]["reason"], "unhealthy");
    assert_eq!(container.inspect(".State.StartedAt"), began);
    assert_eq!(container.stop().0, 0);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn orphans_of_services_and_of_docker_exec_are_reaped() {
    let script = "for it in 1 2 3 4 5; do (setsid sleep 0.1 &); done; exec sleep 100000";
    let container = Container::start(&[], &shell("api", script, ""));
    container.up("api");
    container.ask(&["sh", "-c", "for it in 1 2 3; do (setsid sleep 0.1 &); done"]);
    container.wait_until("only keepup and its service are left", || {
        // The header, keepup, the service, and ps itself.
        container.ask(&["ps", "-o", "pid,stat,comm"]).lines().count() == 4
    });
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn services_get_users_by_name_from_the_containers_own_files() {
    let script = "id; echo $HOME; exec sleep 100000";
    let container = Container::start(&[], &shell("api", script, "user = \"api\""));
    let line = container.wait_line(&["uid=4711(api)"]);
    assert!(line.contains("gid=4712(api)") && line.contains("4713(more)"), "{line}");
    container.wait_line(&["/tmp"]);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn any_uid_will_do() {
    let container = Container::start(&["--user", "1234"], &shell("api", "id; sleep 100000", ""));
    container.wait_line(&["api", "uid=1234"]);
    container.up("api");
    let err = container.logs().1;
    assert!(!err.contains("cannot"), "{err}");
    let health = container.exec(&["keepup", "healthcheck"]);
    assert!(health.status.success(), "{health:?}");
    let pid = container.up("api").to_string();
    container.ask(&["kill", "-KILL", &pid]);
    container.wait("api", "run", 2);
    container.up("api");
    assert_eq!(container.stop().0, 0);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn it_runs_in_an_image_that_cannot_be_written_to() {
    for options in [&["--read-only"][..], &["--read-only", "--user", "1234"]] {
        let script = "echo here; exec sleep 100000";
        let container = Container::start(options, &shell("api", script, ""));
        container.wait_line(&["api", "here"]);
        // What does not work, and nothing else; and the service runs.
        let err = container.logs().1;
        for words in ["cannot lock", "cannot listen on", "is remembered"] {
            assert!(err.contains(words), "{words}: {err}");
        }
        let (code, took) = container.stop();
        assert_eq!(code, 0, "{:?}", container.logs());
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn in_an_image_that_cannot_be_written_to_it_needs_one_folder_in_memory() {
    for options in [&["--tmpfs", "/run"][..], &["--tmpfs", "/tmp", "--user", "1234"]] {
        let options = [&["--read-only"], options].concat();
        let container = Container::start(&options, &idle("api", ""));
        container.up("api");
        assert!(container.exec(&["keepup", "healthcheck"]).status.success());
        let err = container.logs().1;
        assert!(!err.contains("cannot listen on"), "{err}");
        assert_eq!(container.stop().0, 0);
    }
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn below_another_init_it_does_the_same() {
    let script = "(setsid sleep 0.1 &); echo here; exec sleep 100000";
    let file = shell("api", script, "logs = { console = true }\nrestart = { delay = \"10ms\" }");
    let container = Container::start(&["--init"], &file);
    container.wait_line(&["api", "here"]);
    let pid = container.up("api").to_string();
    let first = container.ask(&["cat", "/proc/1/comm"]);
    assert_ne!(first.trim(), "keepup");
    container.ask(&["kill", "-KILL", &pid]);
    container.wait("api", "run", 2);
    container.up("api");
    container.wait_until("no zombie is left", || {
        !container.ask(&["ps", "-o", "stat"]).lines().any(|it| it.starts_with('Z'))
    });
    let (code, took) = container.stop();
    assert_eq!(code, 0, "{:?}", container.logs());
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// The one service of a container: the engine is told what became of it.
#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn an_essential_service_ends_the_container_with_its_code() {
    let keys = "essential = true\nrestart = { policy = \"never\" }";
    let container = Container::start(&[], &shell("api", "exit 23", keys));
    assert_eq!(container.wait_code(), 23);
    let command = ["run", "--restart", "on-failure:2", "--", "sh", "-c", "exit 24"];
    let container = Container::of(debian(), &[], "", &command);
    assert_eq!(container.wait_code(), 24, "{:?}", container.logs());
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn a_file_with_a_problem_ends_the_container_with_code_3_and_a_reason() {
    let container = Container::start(&[], "[service.api]\ncomand = \"x\"\n");
    assert_eq!(container.wait_code(), 3);
    container.wait_line(&["supervisor.toml:2:1", "unknown key `comand`"]);
}

/// What the README says it does in the place of a `restart:` of the engine.
#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn an_engine_with_a_restart_policy_starts_it_again() {
    let container = Container::start(&["--restart", "unless-stopped"], &idle("api", ""));
    container.up("api");
    // From outside, as the kernel's OOM killer would: the engine is asked to kill and not to stop.
    let pid = container.inspect(".State.Pid");
    let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
    let begin = Instant::now();
    container.wait_until("it was started again", || container.inspect(".RestartCount") == "1");
    container.up("api");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(container.stop().0, 0);
    pause(Duration::from_secs(1));
    assert_eq!(container.inspect(".State.Running"), "false");
}
