//! What each kind of answer comes to, and in which words.

use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use keepup::core::event::{Answer, Event, Ticket};
use keepup::net::client::{self, Limits, Request};
use keepup::plan::{HttpAddress, HttpProbe, Name, ProbeKind, Scalar};
use keepup::probe::Prober;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, listen, shutdown, socket,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::mpsc;

use crate::world::{
    LIMIT, SHORT, answer, ask, http, is_timeout, judged, local, probe, read_head, run, says,
    server, told,
};

fn as_is(_: &mut HttpProbe) {}

fn wants_healthy(probe: &mut HttpProbe) {
    probe.json = vec![("status".to_owned(), Scalar::Text("healthy".to_owned()))];
}

async fn asked(probe: HttpProbe) -> String {
    told(ask(ProbeKind::Http(Box::new(probe)), LIMIT).await)
}

#[test]
fn a_status_in_range_passes() {
    run(async {
        assert_eq!(judged(answer("200 OK", "fine"), as_is).await, "pass");
        assert_eq!(judged("HTTP/1.0 204 No Content\r\n\r\n", as_is).await, "pass");
        let moved = "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n";
        assert_eq!(judged(moved, as_is).await, "pass");
    });
}

#[test]
fn a_wrong_status_is_told_with_the_first_line_of_the_body() {
    run(async {
        let bad = answer("502 Bad Gateway", "\nupstream is down\nsecond");
        assert_eq!(judged(bad, as_is).await, "http: 502 Bad Gateway: upstream is down");
        let empty = answer("503 Service Unavailable", "");
        assert_eq!(judged(empty, as_is).await, "http: 503 Service Unavailable");
        let own = answer("500 Oh No", "x");
        assert_eq!(judged(own, as_is).await, "http: 500 Oh No: x");
        assert_eq!(judged("HTTP/1.1 799\r\n\r\n", as_is).await, "http: 799");
        let only_204 = |probe: &mut HttpProbe| probe.status = vec![204..=204];
        assert_eq!(
            judged(answer("200 OK", "hello"), only_204).await,
            "http: 200 OK, wanted 204: hello"
        );
        let moved = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
        let round = "http: redirected 10 times, at last to /login";
        assert_eq!(judged(moved, only_204).await, round);
        let away = "HTTP/1.1 302 Found\r\nLocation: //login/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(judged(away, only_204).await, "http: 302 Found to //login/, wanted 204");
        let rude = answer("500 Internal Server Error", "\x1b[2J\x07 gone\u{202e}");
        assert_eq!(
            judged(rude, as_is).await,
            "http: 500 Internal Server Error: \\u{1b}[2J\\u{7} gone\\u{202e}"
        );
        let long = judged(answer("500 Internal Server Error", &"x".repeat(9000)), as_is).await;
        assert_eq!(long.chars().count(), "http: ".len() + 200);
    });
}

#[test]
fn a_redirect_is_followed_on_the_same_host_and_its_answer_is_judged() {
    let asked = |edit: fn(&mut HttpProbe)| {
        run(async move {
            let heads = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let seen = heads.clone();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let head = read_head(&mut stream).await;
                    let first = head.lines().next().unwrap_or_default().to_owned();
                    let answer = match first.split(' ').nth(1) {
                        Some("/") => "HTTP/1.1 307 X\r\nLocation: /a/\r\n\r\n".to_owned(),
                        Some("/a/") => "HTTP/1.1 302 X\r\nLocation: well?x\r\n\r\n".to_owned(),
                        Some("/a/well?x") => answer("200 OK", "{\"status\": \"healthy\"}"),
                        Some("/old") => "HTTP/1.1 301 X\r\nLocation: /gone\r\n\r\n".to_owned(),
                        _ => answer("404 Not Found", "nothing there"),
                    };
                    seen.lock().unwrap().push(first);
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            let mut question = http(local(port));
            edit(&mut question);
            let told = asked(question).await;
            let heads = heads.lock().unwrap().join(", ");
            (told, heads.replace(" HTTP/1.1", ""))
        })
    };
    let (told, heads) = asked(|it| {
        wants_healthy(it);
        it.method = "POST".to_owned();
    });
    assert_eq!((&*told, &*heads), ("pass", "POST /, POST /a/, GET /a/well?x"));
    let (told, _) = asked(|it| it.path = "/old".to_owned());
    assert_eq!(told, "http: 404 Not Found: nothing there");
    let (told, heads) = asked(|it| it.status = vec![307..=307]);
    assert_eq!((&*told, &*heads), ("pass", "GET /"));
}

#[test]
fn a_redirect_to_somebody_else_passes_and_is_told_once() {
    let said = run(async {
        let moved = says("HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n").await;
        let (tell, mut answers) = mpsc::channel(8);
        let (say, said) = std::sync::mpsc::channel();
        let remark = move |name: &Name, text: &str| _ = say.send(format!("{name}: {text}"));
        let mut prober = Prober::remarking(tell, Box::new(remark));
        let question = probe(ProbeKind::Http(Box::new(http(local(moved)))), LIMIT);
        for nth in 1..=3 {
            prober.ask(&"api".into(), Ticket(nth), &question, None);
            let answered = answers.recv().await.unwrap();
            assert!(matches!(answered, Event::Probed { answer: Answer::Pass, .. }), "{answered:?}");
        }
        said.try_iter().collect::<Vec<_>>()
    });
    let told = "api: http://test/ is redirected to http://elsewhere/, which is not asked";
    assert_eq!(said, [told]);
}

#[test]
fn a_wrong_status_does_not_wait_for_its_body() {
    run(async {
        let port = server(|mut stream| async move {
            let head = b"HTTP/1.1 503 Service Unavailable\r\n\r\nstarting";
            stream.write_all(head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let told = asked(http(local(port.await))).await;
        assert_eq!(told, "http: 503 Service Unavailable: starting");
    });
}

#[test]
fn a_body_must_contain_what_is_wanted() {
    run(async {
        let wants = |probe: &mut HttpProbe| probe.contains = Some("healthy".to_owned());
        assert_eq!(judged(answer("200 OK", "all healthy here"), wants).await, "pass");
        let miss = judged(answer("200 OK", "all ill"), wants).await;
        assert_eq!(miss, "body: body does not contain \"healthy\"");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       4\r\nhe\0a\r\n3\r\nhea\r\n4\r\nlthy\r\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(judged(chunked, wants).await, "pass");
        let interim = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
            answer("200 OK", "healthy")
        );
        assert_eq!(judged(interim, wants).await, "pass");
    });
}

#[test]
fn json_fields_must_be_as_wanted() {
    run(async {
        let json = |body: &str| judged(answer("200 OK", body), wants_healthy);
        assert_eq!(json(r#"{"status": "healthy"}"#).await, "pass");
        assert_eq!(
            json(r#"{"status": "degraded"}"#).await,
            "body: status is \"degraded\", wanted \"healthy\""
        );
        let deep = |probe: &mut HttpProbe| {
            probe.json = vec![("daemon.metrics.status".to_owned(), Scalar::Bool(true))];
        };
        assert_eq!(
            judged(answer("200 OK", r#"{"daemon": {"metrics": []}}"#), deep).await,
            "body: no field daemon.metrics.status in the answer"
        );
        assert_eq!(
            json("<html>").await,
            "body: not JSON: expected value at line 1 column 1: <html>"
        );
        let huge = format!("{{\"status\": \"healthy\", \"x\": \"{}\"}}", "x".repeat(70_000));
        assert_eq!(json(&huge).await, "body: not JSON: the body is cut off after 64 KiB");
        let large = format!("{{\"status\": \"healthy\", \"x\": \"{}\"}}", "x".repeat(65_000));
        assert_eq!(json(&large).await, "pass");
    });
}

#[test]
fn an_endless_body_ends_at_the_limit() {
    run(async {
        let port = server(|mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        })
        .await;
        assert_eq!(asked(http(local(port))).await, "pass");
        let mut wants = http(local(port));
        wants.contains = Some("healthy".to_owned());
        assert_eq!(
            asked(wants).await,
            "body: the first 64 KiB of the body do not contain \"healthy\""
        );
    });
}

#[test]
fn what_is_not_http_is_shown() {
    run(async {
        assert_eq!(
            judged("SSH-2.0-OpenSSH_9.6\r\n", as_is).await,
            "http: not HTTP: \"SSH-2.0-OpenSSH_9.6\\r\\n\""
        );
        assert_eq!(
            judged("-ERR unknown\r\n", as_is).await,
            "http: not HTTP: \"-ERR unknown\\r\\n\""
        );
        assert_eq!(judged("HELLO", as_is).await, "http: not HTTP: \"HELLO\"");
        assert_eq!(
            judged(b"\x15\x03\x01\x00\x02\x02\x46".as_slice(), as_is).await,
            "http: not HTTP, but TLS: \"\\u{15}\\u{3}\\u{1}\\u{0}\\u{2}\\u{2}F\""
        );
        let http2 = b"\0\0\x12\x04\0\0\0\0\0".as_slice();
        assert!(judged(http2, as_is).await.starts_with("http: not HTTP: \"\\u{0}\\u{0}\\u{12}"));
    });
}

#[test]
fn a_peer_that_speaks_first_is_heard() {
    run(async {
        for (greeting, wanted) in [
            ("SSH-2.0-x\r\n".to_owned(), "http: not HTTP: \"SSH-2.0-x\\r\\n\""),
            (answer("200 OK", "early"), "pass"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting.as_bytes()).await.unwrap();
                read_head(&mut stream).await;
                std::future::pending::<()>().await;
            });
            assert_eq!(asked(http(local(port))).await, wanted);
        }
    });
}

#[test]
fn a_connection_that_ends_too_early_says_when() {
    run(async {
        assert_eq!(judged("", as_is).await, "other: connection closed before an answer");
        assert_eq!(
            judged("HTTP/1.1 200 OK\r\nContent-", as_is).await,
            "http: connection closed in the middle of the answer"
        );
        assert_eq!(
            judged("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", as_is).await,
            "body: connection closed in the middle of the answer"
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            judged(format!("{chunked}5\r\nab"), as_is).await,
            "body: connection closed in the middle of the answer"
        );
        assert_eq!(
            judged(format!("{chunked}zz\r\nab"), as_is).await,
            "body: the pieces of the body are garbled"
        );
        let reset = server(|stream| async move {
            // Closing with no time to linger resets the connection.
            stream.set_zero_linger().unwrap();
        });
        assert_eq!(
            asked(http(local(reset.await))).await,
            "other: connection reset before an answer"
        );
    });
}

#[test]
fn a_peer_that_closes_its_half_is_not_waited_for() {
    let half_closed = async |said: &'static str| {
        let port = server(move |mut stream| async move {
            let _ = stream.write_all(said.as_bytes()).await;
            let _ = stream.shutdown().await;
            // Its other half stays open for ever.
            std::future::pending::<()>().await;
        });
        let mut question = http(local(port.await));
        question.contains = Some("healthy".to_owned());
        asked(question).await
    };
    run(async {
        assert_eq!(half_closed("HTTP/1.1 200 OK\r\n\r\nhealthy").await, "pass");
        assert_eq!(half_closed("").await, "other: connection closed before an answer");
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nheal";
        let told = "body: connection closed in the middle of the answer";
        assert_eq!(half_closed(cut).await, told);
    });
}

#[test]
fn endless_headers_are_cut_off() {
    run(async {
        for line in
            ["X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            let port = server(move |mut stream| async move {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
                while stream.write_all(line.as_bytes()).await.is_ok() {}
            });
            let told = asked(http(local(port.await))).await;
            assert_eq!(told, "http: the answer's headers exceed 32 KiB, or 100 lines");
        }
        let interim = server(|mut stream| async move {
            while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {}
        });
        let told = asked(http(local(interim.await))).await;
        assert_eq!(told, "http: the answer's headers exceed 32 KiB, or 100 lines");
    });
}

#[test]
fn an_answer_that_does_not_come_in_time_says_what_was_waited_for() {
    run(async {
        let silent = server(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        let question = ProbeKind::Http(Box::new(http(local(silent.await))));
        assert_eq!(
            told(ask(question, SHORT).await),
            "timeout: timed out after 100ms while waiting for the answer"
        );
        for part in ["HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HTTP/1.1 200 OK\r\nX-A: "] {
            let slow = server(move |mut stream| async move {
                for byte in part.bytes() {
                    stream.write_all(&[byte]).await.unwrap();
                }
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(SHORT / 10).await;
                }
            });
            let question = ProbeKind::Http(Box::new(http(local(slow.await))));
            let miss = told(ask(question, SHORT).await);
            assert_eq!(miss, "timeout: timed out after 100ms in the middle of the answer");
        }
    });
}

#[test]
fn nobody_there_is_refused() {
    run(async {
        let (port, _held) = taken_port();
        for host in ["127.0.0.1", "localhost", "::1"] {
            let address = HttpAddress::Tcp(host.to_owned(), port);
            assert_eq!(asked(http(address)).await, "refused: connection refused");
        }
        let tcp = ProbeKind::Tcp(format!("127.0.0.1:{port}"));
        assert_eq!(told(ask(tcp, LIMIT).await), "refused: connection refused");
        let unknown = ProbeKind::Tcp("keepup..invalid:80".to_owned());
        let miss = told(ask(unknown, LIMIT).await);
        assert!(miss.starts_with("dns: name does not resolve: keepup..invalid"), "{miss}");
    });
}

/// A port on which nobody listens, held so that nobody begins to.
fn taken_port() -> (u16, [TcpSocket; 2]) {
    loop {
        let (four, six) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v6().unwrap());
        four.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = four.local_addr().unwrap().port();
        if six.bind((Ipv6Addr::LOCALHOST, port).into()).is_ok() {
            return (port, [four, six]);
        }
    }
}

#[test]
fn a_tcp_probe_connects_and_closes() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(told(ask(ProbeKind::Tcp(address), LIMIT).await), "pass");
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(read_head(&mut stream).await, "");
        let bad = ProbeKind::Tcp("nonsense\n".to_owned());
        assert_eq!(
            told(ask(bad, LIMIT).await),
            "other: cannot connect: \"nonsense\\n\" is not host:port"
        );
    });
}

#[test]
fn localhost_is_either_loopback_address() {
    run(async {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "[::1]"] {
            let tcp = ProbeKind::Tcp(format!("{host}:{port}"));
            assert_eq!(told(ask(tcp, LIMIT).await), "pass", "{host}");
        }
    });
}

#[test]
fn a_unix_socket_is_asked_too() {
    let folder = crate::heartbeat::Folder::new("unix");
    run(async {
        let path = folder.path("api.sock");
        let address = HttpAddress::Unix(path.clone());
        let shown = path.display();
        assert_eq!(
            asked(http(address.clone())).await,
            format!("refused: connection refused: no such socket: {shown}")
        );
        let listener = UnixListener::bind(&path).unwrap();
        let (served, ()) = tokio::join!(asked(http(address.clone())), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
        });
        assert_eq!(served, "pass");
        // Not by closing it: what another test starts may hold it until its exec.
        shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        assert_eq!(
            asked(http(address)).await,
            format!("refused: connection refused: nobody listens: {shown}")
        );
    });
}

#[test]
fn a_full_backlog_is_no_refusal() {
    let folder = crate::heartbeat::Folder::new("backlog");
    run(async {
        let path = folder.path("api.sock");
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let fd = fd.unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
            waiting.push(stream);
        }
        let miss = ask(ProbeKind::Http(Box::new(http(HttpAddress::Unix(path)))), SHORT).await;
        assert!(is_timeout(&miss));
        assert_eq!(
            told(miss),
            "timeout: timed out after 100ms while connecting: too many connections wait to be accepted"
        );
    });
}

#[test]
fn the_request_is_as_the_plan_says() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut probe = http(local(listener.local_addr().unwrap().port()));
        probe.method = "POST".to_owned();
        probe.path = "/health?deep=1".to_owned();
        probe.host = "api.example:8000".to_owned();
        probe.headers.insert("X-API-Key".to_owned(), "s3cret".to_owned());
        probe.headers.insert("accept".to_owned(), "application/json".to_owned());
        probe.body = Some("{}".to_owned());
        let (_, head) = tokio::join!(asked(probe), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            stream.write_all(answer("200 OK", "").as_bytes()).await.unwrap();
            head
        });
        let mut lines: Vec<_> = head.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.remove(0), "POST /health?deep=1 HTTP/1.1");
        lines.sort_unstable();
        let agent = format!("user-agent: keepup/{}", env!("CARGO_PKG_VERSION"));
        let wanted = [
            "accept: application/json",
            "connection: close",
            "content-length: 2",
            "host: api.example:8000",
            &agent,
            "x-api-key: s3cret",
        ];
        assert_eq!(lines, wanted);
    });
}

#[test]
fn what_cannot_be_sent_is_refused_without_telling_secrets() {
    run(async {
        let mut probe = http(local(1));
        probe.headers.insert("X-API-Key".to_owned(), "s3cret\n".to_owned());
        let told = asked(probe).await;
        assert!(told.starts_with("other: cannot send the header `X-API-Key`: "), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
        let mut probe = http(local(1));
        probe.path = "/a b".to_owned();
        assert!(asked(probe).await.starts_with("other: cannot send the path `/a b`: "));
    });
}

#[test]
fn an_answer_can_be_followed_piece_by_piece() {
    run(async {
        let limits = Limits { timeout: SHORT * 20, slack: std::time::Duration::ZERO, body: 0 };
        let (next, mut told) = mpsc::channel::<&str>(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while let Some(piece) = told.recv().await {
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
        });
        let request = Request::get("keepup", "/v1/events?follow=true");
        let mut answer = client::open(&local(port), request, limits).await.unwrap();
        assert_eq!(answer.head.status, 200);
        for piece in ["one\n", "two\n"] {
            next.send(piece).await.unwrap();
            assert_eq!(answer.piece().await.unwrap().unwrap(), piece);
        }
        drop(next);
        assert_eq!(answer.piece().await.unwrap(), None);
    });
}

#[test]
fn a_body_is_cut_off_at_the_limit() {
    run(async {
        let limits = Limits { timeout: LIMIT, slack: std::time::Duration::ZERO, body: 5 };
        for (body, truncated) in [("12345", false), ("123456", true)] {
            let port = says(answer("200 OK", body)).await;
            let got = client::request(&local(port), Request::get("x", "/"), limits).await.unwrap();
            assert_eq!((got.body.as_slice(), got.truncated), (b"12345".as_slice(), truncated));
        }
    });
}

/// Random bytes, half of them after a beginning that looks like HTTP: no panic, and a reason.
#[test]
fn random_bytes_always_come_to_one_line() {
    run(async {
        let beginnings: [&[u8]; 6] = [
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 500 X\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"status\":",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for nth in 0..600 {
            let mut bytes = beginnings[nth % beginnings.len()].to_vec();
            let alphabet: &[u8] = b"HTP/1. 0\r\n:;{}[]\",a\0\xff\x1b";
            for _ in 0..random() % 120 {
                let pick = random();
                let letter = alphabet[usize::try_from(pick % 22).unwrap()];
                bytes.push(if pick & 64 == 0 { letter } else { pick.to_le_bytes()[3] });
            }
            let shown = bytes.escape_ascii().to_string();
            // Every miss is checked where it is asked for.
            let told = judged(bytes, wants_healthy).await;
            assert_ne!(told, "pass", "{shown}");
        }
    });
}
