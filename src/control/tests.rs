//! The servers, over real sockets, in front of a loop that is none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{ClientError, Patience, Reply, call, stream};
use super::protocol::{
    Follow, LogQuery, NotReloaded, REQUESTS_MAX, Reloaded, act_path, events_path, reload_path,
};
use super::scratch::Scratch;
use super::*;
use crate::core::event::{Note, Pid};
use crate::plan::Name;
use crate::report::{Journal, Metrics, Sampler};
use crate::status::tests::{service, status};
use crate::status::{ServiceStatus, State, Status};

/// One limit for everything that is waited for.
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    dir: Scratch,
    journal: Journal,
    control: Control,
}

/// What the loop of a test does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loop {
    Answers,
    Hangs,
}

/// A log with one line.
struct Lines(Vec<u8>);

impl LogLines for Lines {
    fn more(&mut self) -> Result<Vec<u8>, String> {
        Ok(std::mem::take(&mut self.0))
    }

    fn rest(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

impl World {
    fn new(services: Vec<ServiceStatus>, kind: Loop) -> World {
        let dir = Scratch::new();
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let journal = Journal::in_memory();
        tokio::spawn(fake_loop(queue, status(services), kind));
        let control = Control::new(Sources {
            incidents: None,
            requests,
            journal: journal.clone(),
            metrics: Arc::new(Metrics::new().unwrap()),
            usage: Sampler::new(dir.path().to_owned()),
            open_log: Some(Box::new(|query| {
                let LogQuery { service, lines, grep, .. } = query.clone();
                Ok(Box::new(Lines(format!("{service:?} {lines:?} {grep:?}\n").into_bytes())))
            })),
            log_counts: None,
        });
        World { dir, journal, control }
    }

    fn path(&self) -> PathBuf {
        protocol::socket_path(&self.dir.path().join("run"))
    }

    fn serve_socket(&self) -> PathBuf {
        let socket = Socket::bind(&self.path(), None).unwrap();
        tokio::spawn(self.control.clone().serve_socket(socket));
        self.path()
    }

    async fn serve_tcp(&self) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(self.control.clone().serve_listener(listener));
        address
    }
}

async fn fake_loop(mut queue: mpsc::Receiver<Request>, status: Status, kind: Loop) {
    let mut kept = Vec::new();
    while let Some(request) = queue.recv().await {
        match request {
            request if kind == Loop::Hangs => kept.push(request),
            Request::Status(reply) => drop(reply.send(status.clone())),
            Request::Turn(reply) => drop(reply.send(())),
            Request::Signal { name, signal, by, reply } => {
                let text = format!("{signal} to {name} by {by}");
                drop(reply.send(Outcome { ok: true, text, hint: None, state: State::Up }));
            }
            Request::Reload { dry_run, reply, .. } => drop(reply.send(reloaded(dry_run))),
            Request::Act { name, act, by, wait, reply } => {
                let ok = &*name != "setup";
                let text = format!("{name} {} by {by}, {wait:?}", act.name());
                let hint = (!ok).then(|| "keepup start setup".to_owned());
                drop(reply.send(Outcome { ok, text, hint, state: State::Up }));
            }
        }
    }
}

/// What there would be to do, or why nothing was done.
fn reloaded(dry_run: bool) -> Result<Reloaded, NotReloaded> {
    if dry_run {
        let (services, warnings) = (Vec::new(), vec!["w".to_owned()]);
        return Ok(Reloaded { dry_run, services, warnings });
    }
    let problems = vec!["f.toml:1:1: wrong".to_owned()];
    Err(NotReloaded { problems, ..NotReloaded::refused("cannot reload") })
}

async fn ask(socket: &std::path::Path, method: Method, path: &str) -> (StatusCode, Value) {
    let reply = call(socket, method, path, Patience::Bounded(LIMIT)).await.unwrap();
    let value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| text(&reply).into());
    (reply.status, value)
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// Sends bytes, and reads until the other side closes.
async fn raw<S>(mut stream: S, request: &[u8]) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let exchange = async {
        // A server that has read enough closes before all is sent.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    String::from_utf8(timeout(LIMIT, exchange).await.unwrap()).unwrap()
}

async fn get_tcp(address: std::net::SocketAddr, head: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    raw(stream, format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn a_reload_is_answered_with_what_it_does_or_what_is_wrong_with_the_file() {
    let world = World::new(vec![service("api")], Loop::Answers);
    let socket = world.serve_socket();
    let (status, value) = ask(&socket, Method::POST, &reload_path(true)).await;
    assert_eq!((status, &value["warnings"]), (StatusCode::OK, &serde_json::json!(["w"])));
    let (status, value) = ask(&socket, Method::POST, &reload_path(false)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(value["problems"][0], "f.toml:1:1: wrong");
    let (status, _) = ask(&socket, Method::GET, "/v1/reload").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn status_and_services_are_told() {
    let world = World::new(vec![service("api"), service("worker")], Loop::Answers);
    let socket = world.serve_socket();
    let (code, value) = ask(&socket, Method::GET, "/v1/status").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(value["services"][1]["name"], "worker");
    assert!(value["supervisor"]["host"]["load1"].is_number());
    let (code, value) = ask(&socket, Method::GET, "/v1/services/api").await;
    assert_eq!((code, &value["pid"]), (StatusCode::OK, &Value::from(4711)));
    let path = "/v1/services/api/logs?lines=7&grep=a%20b";
    let (code, value) = ask(&socket, Method::GET, path).await;
    let told = "Some(\"api\") Some(7) Some(\"a b\")\n";
    assert_eq!((code, value), (StatusCode::OK, Value::from(told)));
}

#[tokio::test]
async fn an_operator_acts_and_is_told_what_came_of_it() {
    let world = World::new(vec![service("api"), service("setup")], Loop::Answers);
    let socket = world.serve_socket();
    let me = nix::unistd::geteuid();
    let path = act_path("api", Act::Restart, Wait::Outcome);
    let (code, value) = ask(&socket, Method::POST, &path).await;
    assert_eq!(code, StatusCode::OK);
    let said = format!("api restart by {me}, Outcome");
    assert_eq!(value, serde_json::json!({"ok": true, "text": said, "hint": null, "state": "up"}));
    let (_, value) = ask(&socket, Method::POST, &act_path("api", Act::Stop, Wait::Nothing)).await;
    assert_eq!(value["text"], format!("api stop by {me}, Nothing"));
    let path = act_path("setup", Act::Start, Wait::Outcome);
    let (code, value) = ask(&socket, Method::POST, &path).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(value["hint"], "keepup start setup");
}

#[tokio::test]
async fn what_can_not_be_done_is_refused_with_a_reason() {
    let world = World::new(vec![service("api"), service("worker")], Loop::Answers);
    let socket = world.serve_socket();
    let (code, value) = ask(&socket, Method::POST, "/v1/services/wroker/start").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    let error = serde_json::json!({
        "error": "there is no service `wroker`", "hint": "did you mean `worker`?"
    });
    assert_eq!(value, error);
    let refused = [
        (Method::GET, "/v1/services/api/start", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/v1/status", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/v1/status", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/v1/nothing", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/services/api/explode", StatusCode::NOT_FOUND),
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/events?lines=many", StatusCode::BAD_REQUEST),
    ];
    for (method, path, wanted) in refused {
        let (code, value) = ask(&socket, method.clone(), path).await;
        assert_eq!(code, wanted, "{method} {path}");
        assert!(value["error"].as_str().is_some_and(|it| !it.is_empty()), "{method} {path}");
        assert!(value.get("hint").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn requests_that_are_too_large_are_refused() {
    let world = World::new(vec![], Loop::Answers);
    let socket = world.serve_socket();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let answer = raw(UnixStream::connect(&socket).await.unwrap(), long.as_bytes()).await;
    // The client may be cut off while it still sends, and then reads nothing.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let body = "POST /v1/services/a/start HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n";
    let answer = raw(UnixStream::connect(&socket).await.unwrap(), body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let (code, _) = ask(&socket, Method::GET, "/healthz").await;
    assert_eq!(code, StatusCode::OK);
}

#[tokio::test]
async fn slow_clients_hold_up_nobody_else() {
    let world = World::new(vec![], Loop::Answers);
    let socket = world.serve_socket();
    let mut slow = Vec::new();
    for _ in 0..60 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"GET /v1/status HT").await.unwrap();
        slow.push(stream);
    }
    let (code, _) = ask(&socket, Method::GET, "/healthz").await;
    assert_eq!(code, StatusCode::OK);
    // And what never ends its request is sent away.
    let mut rest = Vec::new();
    let sent_away = async { slow[0].read_to_end(&mut rest).await };
    timeout(LIMIT, sent_away).await.unwrap().unwrap();
}

#[tokio::test]
async fn events_are_told_and_followed() {
    let world = World::new(vec![service("api")], Loop::Answers);
    let socket = world.serve_socket();
    let name = Name::from("api");
    world.journal.note(&name, &Note::Up { pid: Pid(1) });
    world.journal.note(&name, &Note::Up { pid: Pid(2) });
    let path = events_path(Follow::No, None);
    let reply = call(&socket, Method::GET, &path, Patience::Bounded(LIMIT)).await.unwrap();
    assert_eq!(text(&reply).lines().count(), 2);

    let mut pids = Vec::new();
    let path = events_path(Follow::Yes, Some(1));
    let followed = stream(&socket, &path, |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        let pid = event["pid"].as_i64().unwrap();
        pids.push(pid);
        world.journal.note(&name, &Note::Up { pid: Pid(i32::try_from(pid).unwrap() + 1) });
        if pids.len() < 4 { Ok(()) } else { Err(ClientError::Broken("enough".to_owned())) }
    });
    timeout(LIMIT, followed).await.unwrap().unwrap_err();
    assert_eq!(pids, [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_follower_that_reads_nothing_is_dropped() {
    let world = World::new(vec![service("api")], Loop::Answers);
    let socket = world.serve_socket();
    let mut client = UnixStream::connect(&socket).await.unwrap();
    client.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 8];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(world.control.followers.available_permits(), 15);
    let why = "x".repeat(2000);
    let dropped = async {
        while world.control.followers.available_permits() < 16 {
            for _ in 0..200 {
                world.journal.note(&Name::from("api"), &Note::Degraded { why: why.clone() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT, dropped).await.unwrap();
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_goes_with_keepup() {
    let dir = Scratch::new();
    let path = protocol::socket_path(&dir.path().join("run"));
    let socket = Socket::bind(&path, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Socket::bind(&path, None).unwrap_err().to_string();
    let (shown, me) = (path.display(), std::process::id());
    assert_eq!(
        error,
        format!("cannot listen on `{shown}`: another keepup, pid {me}, answers there")
    );
    drop(socket);
    assert!(!path.exists());

    let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(stale);
    assert!(path.exists());
    let own = nix::unistd::getegid().to_string();
    let socket = Socket::bind(&path, Some(&own)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // What somebody else put there since is not ours to remove.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    drop(socket);
    assert!(path.exists());
    assert!(matches!(Socket::bind(&path, None), Err(SocketError::NoSocket { .. })));
    assert!(matches!(Socket::bind(&path, Some("no such")), Err(SocketError::UnknownGroup { .. })));
}

#[test]
fn root_the_owner_and_the_group_are_admitted() {
    use super::socket::Admission;
    use nix::unistd::Uid;
    let [root, own, other] = [0, 1000, 1001].map(Uid::from_raw);
    assert!(Admission::Owner.admits(root, own) && Admission::Owner.admits(own, own));
    assert!(!Admission::Owner.admits(other, own));
    assert!(Admission::Group.admits(other, own));
}

#[tokio::test]
async fn a_stranger_who_gets_through_to_the_socket_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new(vec![service("api")], Loop::Answers);
    let socket = world.serve_socket();
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let connected = std::thread::spawn(move || {
        // Of this thread alone; the C library would change the whole process.
        #[expect(unsafe_code, reason = "the C library has no call for one thread")]
        // SAFETY: three plain numbers; the kernel reads no memory of ours.
        let outcome = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) };
        assert_eq!(outcome, 0);
        std::os::unix::net::UnixStream::connect(socket)
    });
    let stream = connected.join().unwrap().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = UnixStream::from_std(stream).unwrap();
    let answer = raw(stream, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("cannot let uid 65534 in"), "{answer}");
}

#[tokio::test]
async fn tcp_is_for_looking_only() {
    let down = ServiceStatus { ready: false, state: State::Backoff, ..service("worker") };
    let world = World::new(vec![service("api"), down], Loop::Answers);
    let address = world.serve_tcp().await;
    let post = get_tcp(address, "POST /v1/services/api/stop").await;
    assert!(post.starts_with("HTTP/1.1 403 "), "{post}");
    assert!(get_tcp(address, "DELETE /v1/status").await.starts_with("HTTP/1.1 405 "));
    assert!(get_tcp(address, "GET /v1/services/api/logs").await.starts_with("HTTP/1.1 404 "));
    for path in ["/healthz", "/livez", "/metrics", "/v1/status", "/v1/events", "/"] {
        let answer = get_tcp(address, &format!("GET {path}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    assert!(
        get_tcp(address, "GET /metrics").await.contains("keepup_service_up{service=\"api\"} 1")
    );
    let ready = get_tcp(address, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    let issues = "[{\"service\":\"worker\",\"what\":\"backoff\",\"since\":null}]";
    assert!(ready.contains(issues), "{ready}");
}

#[tokio::test]
async fn all_ready_is_ready() {
    let done = ServiceStatus { ready: false, state: State::Done, pid: None, ..service("setup") };
    let world = World::new(vec![service("api"), done], Loop::Answers);
    let ready = get_tcp(world.serve_tcp().await, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n[]\n"), "{ready}");
}

#[tokio::test]
async fn a_loop_that_does_not_turn_is_not_healthy() {
    let world = World::new(vec![], Loop::Hangs);
    let answer = get_tcp(world.serve_tcp().await, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("the loop has not turned for 2s"), "{answer}");
}

#[tokio::test]
async fn a_taken_port_is_tried_again() {
    let world = World::new(vec![], Loop::Answers);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let serving = tokio::spawn(world.control.clone().serve_tcp(address));
    // The first attempt is made before this task goes on.
    tokio::task::yield_now().await;
    drop(taken);
    let connected = async {
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, connected).await.unwrap();
    assert!(!serving.is_finished());
}
