//! `grpc`: servers that speak HTTP/2, and what their answers come to.

use hyper::body::Bytes;
use hyper::http::{HeaderMap, Response};
use keepup::plan::{GrpcProbe, ProbeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{LIMIT, SHORT, ask, local, run, told};

fn kind(port: u16, service: &str) -> ProbeKind {
    ProbeKind::Grpc(Box::new(GrpcProbe {
        target: format!("127.0.0.1:{port}"),
        address: local(port),
        host: format!("127.0.0.1:{port}"),
        service: service.to_owned(),
    }))
}

async fn asked(port: u16, service: &str) -> String {
    told(ask(kind(port, service), LIMIT).await)
}

/// How one call is answered.
#[derive(Clone)]
struct Reply {
    http: u16,
    body: &'static [u8],
    /// In the trailers; without a body, in the headers.
    status: Option<(&'static str, &'static str)>,
}

const SERVING: Reply = Reply { http: 200, body: b"\0\0\0\0\x02\x08\x01", status: Some(("0", "")) };

/// A server that answers every call so; what it was asked comes back.
async fn server(reply: Reply) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond, reply.clone(), tell.clone()));
            }
        }
    });
    (port, heard)
}

async fn answer(
    request: hyper::http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    reply: Reply,
    tell: tokio::sync::mpsc::UnboundedSender<String>,
) {
    let (head, mut body) = request.into_parts();
    let mut bytes = vec![];
    while let Some(Ok(piece)) = body.data().await {
        bytes.extend_from_slice(&piece);
    }
    let kind = head.headers["content-type"].to_str().unwrap();
    let _ = tell.send(format!("{} {} {kind} {}", head.method, head.uri, bytes.escape_ascii()));
    let mut status = HeaderMap::new();
    if let Some((code, text)) = reply.status {
        status.insert("grpc-status", code.parse().unwrap());
        status.insert("grpc-message", text.parse().unwrap());
    }
    let mut response = Response::builder().status(reply.http).body(()).unwrap();
    if reply.body.is_empty() {
        *response.headers_mut() = status;
        respond.send_response(response, true).unwrap();
        return;
    }
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(Bytes::from_static(reply.body), status.is_empty()).unwrap();
    if !status.is_empty() {
        stream.send_trailers(status).unwrap();
    }
}

async fn judged(reply: Reply) -> String {
    asked(server(reply).await.0, "").await
}

#[test]
fn a_server_that_serves_passes() {
    run(async {
        let (port, mut heard) = server(SERVING).await;
        assert_eq!(asked(port, "").await, "pass");
        let path = "grpc.health.v1.Health/Check application/grpc";
        let asked_whole = format!("POST http://127.0.0.1:{port}/{path} \\x00\\x00\\x00\\x00\\x00");
        assert_eq!(heard.recv().await.unwrap(), asked_whole);
        assert_eq!(asked(port, "api.v1").await, "pass");
        assert!(heard.recv().await.unwrap().ends_with("\\x00\\x00\\x00\\x00\\x08\\n\\x06api.v1"));
    });
}

#[test]
fn what_does_not_serve_is_told() {
    run(async {
        let body = |body| Reply { body, ..SERVING };
        let not = body(b"\0\0\0\0\x02\x08\x02");
        assert_eq!(judged(not.clone()).await, "body: status is NOT_SERVING, wanted SERVING");
        let port = server(not).await.0;
        let of_service = "body: status of api.v1 is NOT_SERVING, wanted SERVING";
        assert_eq!(asked(port, "api.v1").await, of_service);
        let unknown = body(b"\0\0\0\0\0");
        assert_eq!(judged(unknown).await, "body: status is UNKNOWN, wanted SERVING");
        let junk = body(b"\0\0\0\0\x02\x08\xff");
        assert_eq!(judged(junk).await, "http: the answer is no HealthCheckResponse");
    });
}

#[test]
fn errors_of_grpc_are_told_by_their_names() {
    run(async {
        let status = |code, text| Reply { http: 200, body: b"", status: Some((code, text)) };
        assert_eq!(
            judged(status("12", "unknown method")).await,
            "http: the server has no health service (grpc.health.v1)"
        );
        let port = server(status("5", "unknown service")).await.0;
        assert_eq!(asked(port, "api.v2").await, "http: the server has no service `api.v2`");
        assert_eq!(judged(status("14", "not%20yet")).await, "http: UNAVAILABLE: not yet");
        assert_eq!(judged(status("16", "")).await, "http: UNAUTHENTICATED");
        assert_eq!(judged(status("99", "")).await, "http: gRPC status 99");
        let bare = Reply { status: None, ..SERVING };
        assert_eq!(judged(bare.clone()).await, "http: not gRPC: the answer has no grpc-status");
        assert_eq!(judged(Reply { http: 502, ..bare }).await, "http: not gRPC: HTTP status 502");
    });
}

#[test]
fn what_does_not_speak_http2_is_shown() {
    run(async {
        let bad = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            asked(greets(bad.as_bytes()).await, "").await,
            "http: not gRPC: \"HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\n\\r\\n\""
        );
        let alert = greets(b"\x15\x03\x03\x00\x02\x02\x46").await;
        assert!(asked(alert, "").await.starts_with("http: not gRPC, but TLS: "));
        let silent = greets(b"").await;
        assert_eq!(asked(silent, "").await, "other: connection closed before an answer");
    });
}

/// A server that says this, says no more, and hears the other out.
async fn greets(words: &'static [u8]) -> u16 {
    crate::world::server(move |mut stream| async move {
        let _ = stream.write_all(words).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut vec![]).await;
    })
    .await
}

#[test]
fn nobody_and_silence_are_told_apart() {
    run(async {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        let late = told(ask(kind(port, ""), SHORT).await);
        assert_eq!(late, "timeout: timed out after 100ms while waiting for the answer");
        drop(free);
        assert_eq!(asked(port, "").await, "refused: connection refused");
    });
}

#[test]
fn random_bytes_always_come_to_one_line() {
    run(async {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for nth in 0_usize..100 {
            // Every other one begins as a server of HTTP/2 does.
            let mut bytes = if nth % 2 == 0 { vec![] } else { b"\0\0\0\x04\0\0\0\0\0".to_vec() };
            for _ in 0..nth {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                bytes.push(seed.to_le_bytes()[5]);
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            });
            // Every miss is checked where it is asked for.
            assert_ne!(asked(port, "").await, "pass");
        }
    });
}
