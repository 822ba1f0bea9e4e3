//! What is asked of a service, what counts as an answer, and what is left of the question.

use crate::harness::{Keepup, shell};
use crate::world::{Server, free_port, lives, wait_until, zombies_of};

/// A sleeper with a probe that is asked often; `keys` for the probe.
fn asked(role: &str, keys: &str) -> Keepup {
    let probe = format!(
        "[service.api.restart]\ndelay = \"10ms\"\n[service.api.{role}]\ninterval = \"20ms\"\n\
         retry_interval = \"20ms\"\ntimeout = \"2s\"\n{keys}\n"
    );
    Keepup::start(&shell("api", "exec sleep 1000", &probe))
}

#[test]
fn a_json_answer_must_have_the_wanted_values() {
    let server = Server::start("200 OK", r#"{"status": "healthy", "db": {"up": true, "n": 3}}"#);
    let keys = format!(
        "http = \"http://127.0.0.1:{}/health\"\nfailures = 1000\n\
         json = {{ status = \"healthy\", \"db.up\" = true, \"db.n\" = 3 }}\n",
        server.port
    );
    let mut keepup = asked("liveness", &keys);
    keepup.event("api", "ready");
    server.answer("200 OK", r#"{"status": "degraded", "db": {"up": true, "n": 3}}"#);
    let miss = keepup.event("api", "miss");
    assert_eq!(miss["class"], "body", "{miss}");
    assert_eq!(miss["detail"], r#"status is "degraded", wanted "healthy""#);
    keepup.event("api", "degraded");
    let probe = keepup.service("api")["probes"][0].clone();
    assert_eq!((&probe["ok"], &probe["class"]), (&false.into(), &"body".into()), "{probe}");
    assert!(probe["misses"].as_u64() > Some(0) && probe["latency_ms"].is_number(), "{probe}");
    server.answer("200 OK", r#"{"status": "healthy", "db": {"up": true}}"#);
    keepup.event_with("api", "miss", |it| it["detail"].as_str().unwrap().contains("db.n"));
    server.answer("200 OK", "no JSON at all");
    keepup.event_with("api", "miss", |it| it["detail"].as_str().unwrap().contains("JSON"));
    server.answer("200 OK", r#"{"status": "healthy", "db": {"up": true, "n": 3}}"#);
    keepup.event("api", "healthy");
    assert_eq!(keepup.service("api")["run"], 1);
}

#[test]
fn a_bad_gateway_is_told_with_the_first_line_of_its_body() {
    let server = Server::start("200 OK", "");
    let keys = format!("http = \"http://127.0.0.1:{}/\"\nfailures = 2", server.port);
    let mut keepup = asked("liveness", &keys);
    keepup.event("api", "ready");
    server.answer("502 Bad Gateway", "upstream is down\nsecond line");
    let miss = keepup.event("api", "miss");
    assert_eq!(miss["class"], "http");
    assert_eq!(miss["detail"], "502 Bad Gateway: upstream is down");
    let unhealthy = keepup.event("api", "unhealthy");
    assert!(unhealthy["why"].as_str().unwrap().contains("502 Bad Gateway"), "{unhealthy}");
    assert_eq!(keepup.event("api", "ended")["reason"], "unhealthy");
    // The next run is not ready, and not killed for it, until its first good answer.
    keepup.event("api", "up");
    server.answer("204 No Content", "");
    keepup.event("api", "ready");
    server.answer("404 Not Found", "");
    let miss = keepup.event("api", "miss");
    assert_eq!((&miss["detail"], &miss["count"]), (&"404 Not Found".into(), &1.into()));
}

#[test]
fn an_answer_must_contain_the_wanted_text() {
    let server = Server::start("200 OK", "all systems nominal");
    let keys = format!(
        "http = \"http://127.0.0.1:{}/\"\ncontains = \"nominal\"\nfailures = 1000",
        server.port
    );
    let mut keepup = asked("liveness", &keys);
    keepup.event("api", "ready");
    server.answer("200 OK", "smoke in the machine room");
    let miss = keepup.event("api", "miss");
    assert_eq!(miss["class"], "body");
    assert!(miss["detail"].as_str().unwrap().contains("nominal"), "{miss}");
}

#[test]
fn what_is_asked_over_http_is_what_the_file_says() {
    use std::io::{Read, Write};
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let keys = format!(
        "http = \"http://127.0.0.1:{port}/a/b?c=d\"\nmethod = \"POST\"\nbody = \"are you well?\"\n\
         headers = {{ X-API-Key = \"secret\" }}\nstatus = \"418\""
    );
    let mut keepup = asked("liveness", &keys);
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = String::new();
    while !text.contains("well?") {
        let mut piece = [0; 512];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "{text}");
        text += std::str::from_utf8(&piece[..read]).unwrap();
    }
    stream.write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(text.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{text}");
    let lower = text.to_lowercase();
    assert!(lower.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{text}");
    assert!(lower.contains("x-api-key: secret\r\n"), "{text}");
    assert!(lower.contains("content-length: 13\r\n"), "{text}");
    keepup.event("api", "ready");
}

#[test]
fn http_is_asked_over_a_unix_socket_too() {
    let folder = crate::harness::Folder::new();
    let listener = std::os::unix::net::UnixListener::bind(folder.path("api.sock")).unwrap();
    let probe = format!(
        "[service.api.liveness]\nhttp = \"unix:{}:/health\"\ninterval = \"20ms\"\n",
        folder.path("api.sock").display()
    );
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", &probe));
    let (mut stream, _) = listener.accept().unwrap();
    {
        use std::io::{Read, Write};
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).unwrap();
        assert!(piece[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    keepup.event("api", "ready");
}

#[test]
fn a_tcp_probe_tells_a_refused_connection() {
    let port = free_port();
    let keys = format!("tcp = \"127.0.0.1:{port}\"\nfailures = 2");
    let mut keepup = asked("liveness", &keys);
    let miss = keepup.event("api", "miss");
    assert_eq!(
        (&miss["class"], &miss["detail"]),
        (&"refused".into(), &"connection refused".into())
    );
    assert!(miss["of"].is_null(), "not counted before it has started: {miss}");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    keepup.event("api", "ready");
    drop(listener);
    keepup.event("api", "unhealthy");
}

#[test]
fn a_definite_miss_needs_no_second() {
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let keys = format!("tcp = \"127.0.0.1:{port}\"\nfailures = 1000\ndefinite = [\"refused\"]");
    let mut keepup = asked("liveness", &keys);
    keepup.event("api", "ready");
    drop(listener);
    keepup.event("api", "unhealthy");
    assert_eq!(keepup.events("api", "miss").len(), 1);
}

#[test]
fn an_exec_probe_passes_by_its_exit_code_and_a_miss_tells_its_output() {
    let script = "[\"sh\", \"-c\", \"test -e ok || { echo no database; exit 3; }\"]";
    let mut keepup = asked("readiness", &format!("exec = {script}"));
    let miss = keepup.event("api", "miss");
    let detail = miss["detail"].as_str().unwrap();
    assert!(detail.contains('3') && detail.contains("no database"), "{miss}");
    keepup.folder.write("ok", "");
    keepup.event("api", "ready");
}

#[test]
fn an_exec_probe_runs_as_the_service_does() {
    let script = "env > probe-env; pwd > probe-pwd; id -u > probe-id";
    let probe = format!(
        "env = {{ OWN = \"1\" }}\ndirectory = \"sub\"\n[service.api.liveness]\n\
         exec = [\"sh\", \"-c\", \"{script}\"]\n"
    );
    let folder = crate::harness::Folder::new();
    std::fs::create_dir(folder.path("sub")).unwrap();
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", &probe));
    keepup.event("api", "ready");
    let environ = keepup.folder.read("sub/probe-env");
    assert!(environ.lines().any(|it| it == "OWN=1"), "{environ}");
    assert!(keepup.folder.read("sub/probe-pwd").trim().ends_with("/sub"));
}

#[test]
fn an_exec_probe_that_takes_too_long_leaves_no_process() {
    let script = "setsid sleep 1000 & sleep 1000 & sleep 1000";
    let keys = format!(
        "exec = [\"sh\", \"-c\", \"{script}\"]\nretry_interval = \"1h\"\ninterval = \"1h\"\n\
         timeout = \"100ms\"\n"
    );
    let probe = format!("[service.api.readiness]\n{keys}");
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", &probe));
    let api = keepup.up("api");
    let miss = keepup.event("api", "miss");
    assert_eq!(
        (&miss["class"], &miss["detail"]),
        (&"timeout".into(), &"timed out after 100ms".into())
    );
    wait_until("nothing of it is left", || {
        let mut left = keepup.folder.processes();
        left.retain(|&pid| pid != api && pid != keepup.pid);
        left.is_empty()
    });
    assert!(lives(api));
    wait_until("nor a zombie", || zombies_of(keepup.pid).is_empty());
}

#[test]
fn exec_probes_leave_no_zombies() {
    let keys = "exec = [\"sh\", \"-c\", \"echo >> asked; sleep 0 & \"]\nfailures = 1000";
    let keepup = asked("liveness", keys);
    wait_until("it was asked often", || keepup.folder.read("asked").lines().count() > 20);
    wait_until("no zombie is left", || zombies_of(keepup.pid).is_empty());
    assert_eq!(keepup.service("api")["run"], 1);
}

#[test]
fn until_the_startup_probe_passes_the_others_are_not_asked() {
    let server = Server::start("500 Internal Server Error", "");
    let probe = format!(
        "[service.api.startup]\nexec = [\"test\", \"-e\", \"ok\"]\ninterval = \"20ms\"\n\
         [service.api.liveness]\nhttp = \"http://127.0.0.1:{}/\"\ninterval = \"20ms\"\nfailures = 1\n",
        server.port
    );
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", &probe));
    keepup.event("api", "miss");
    assert_eq!(keepup.service("api")["health"], "starting");
    assert_eq!(server.asked(), 0);
    keepup.folder.write("ok", "");
    keepup.event("api", "unhealthy");
}

#[test]
fn a_warning_probe_degrades_and_nothing_else() {
    let mut keepup = asked("warning", "exec = [\"false\"]\nfailures = 1");
    keepup.event("api", "degraded");
    let status = keepup.service("api");
    assert_eq!((&status["ready"], &status["health"]), (&true.into(), &"degraded".into()));
    assert_eq!(status["run"], 1);
}

#[test]
fn a_slow_answer_degrades() {
    let keys = "exec = [\"sleep\", \"0.2\"]\nslow = \"100ms\"";
    let mut keepup = asked("liveness", keys);
    let degraded = keepup.event("api", "degraded");
    assert!(degraded["why"].as_str().unwrap().contains("slow"), "{degraded}");
}

#[test]
fn a_deleted_heartbeat_file_degrades_and_then_restarts() {
    let script = "rm -f mute; while :; do test -e mute || echo > beat; sleep 0.02; done";
    let keys = "[service.api.restart]\ndelay = \"10ms\"\n[service.api.heartbeat]\nfile = \"beat\"\n\
        degraded_after = \"300ms\"\nunhealthy_after = \"600ms\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    keepup.event("api", "ready");
    let age = keepup.service("api")["heartbeat_age_seconds"].as_f64().unwrap();
    assert!(age < 0.6, "{age}");
    keepup.folder.write("mute", "");
    wait_until("it is deleted", || {
        let _ = std::fs::remove_file(keepup.folder.path("beat"));
        !keepup.folder.path("beat").exists()
    });
    let degraded = keepup.event("api", "degraded");
    assert!(degraded["why"].as_str().unwrap().contains("beat"), "{degraded}");
    keepup.event("api", "unhealthy");
    assert_eq!(keepup.event("api", "ended")["reason"], "heartbeat-lost");
    keepup.event("api", "ready");
}

#[test]
fn a_heartbeat_file_left_by_an_earlier_run_is_no_beat() {
    let folder = crate::harness::Folder::new();
    folder.write("beat", "old");
    let keys = "start_timeout = \"300ms\"\n[service.api.heartbeat]\nfile = \"beat\"\n\
        degraded_after = \"10s\"\nunhealthy_after = \"20s\"\n";
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", keys));
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "never-ready", "{ended}");
    assert!(ended["text"].as_str().unwrap().contains("heartbeat"), "{ended}");
}

#[test]
fn a_peer_that_drips_its_answer_is_a_timeout() {
    use std::io::Write;
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
                let drip = head.iter().copied().chain(std::iter::repeat_n(b'x', 1000));
                for byte in drip {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    crate::world::wait(std::time::Duration::from_millis(20));
                }
            });
        }
    });
    let keys = format!("http = \"http://127.0.0.1:{port}/\"\ntimeout = \"200ms\"");
    let probe = format!("[service.api.readiness]\ninterval = \"20ms\"\n{keys}\n");
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", &probe));
    let miss = keepup.event("api", "miss");
    assert_eq!(
        (&miss["class"], &miss["detail"]),
        (&"timeout".into(), &"timed out after 200ms".into())
    );
}
