//! One unary gRPC call on one connection, over TCP or TLS.
//!
//! It must never outlive its abandonment: the connection moves on while the answer is awaited, and
//! at no other time. Source: "gRPC over HTTP2", the protocol of the gRPC project.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use h2::client::{Builder, SendRequest};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, TE, USER_AGENT};
use hyper::http::{Method, Request};

use super::connect::{Peer, connect};
use super::tap::{Progress, Seen, Stage, Tap};
use super::tls::{self, Speaks};
use super::words::{clipped, one_line, plain};
use super::{Failure, GREETING_MAX, HEAD_MAX, Limits, bounded, closed, host_of, is_reset, reset};
use crate::plan::{Class, HttpAddress};

/// What a server may send until the answer is complete, in bytes.
const ANSWER_MAX: usize = 256 * 1024;

/// The type of a frame that both sides begin with. Source: RFC 9113, section 3.4.
const SETTINGS: u8 = 4;

/// What is called.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The authority that is asked.
    pub(crate) host: String,
    /// The method: `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// The message, in protobuf.
    pub(crate) message: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status of HTTP; 200 unless something else than gRPC answered.
    pub(crate) http: u16,
    /// The code and message of gRPC, if there is one.
    pub(crate) status: Option<(u32, String)>,
    /// The message, in protobuf; empty if there is none.
    pub(crate) message: Vec<u8>,
}

/// Calls, and reads the whole answer within the limits.
pub(crate) async fn call(
    address: &HttpAddress,
    call: Call,
    limits: Limits,
) -> Result<Reply, Failure> {
    let name = host_of(&call.host).to_owned();
    let peer = Peer { name: &name, speaks: Speaks::Http2 };
    let progress = Progress::new(ANSWER_MAX);
    bounded(address, &limits, &progress, async {
        let scheme = if matches!(address, HttpAddress::Tls(..)) { "https" } else { "http" };
        let request = written(&call, scheme)?;
        let socket = connect(address, &peer, &limits, &progress).await?;
        progress.seen().stage = Stage::Waiting;
        let tap = Tap::new(socket, progress.clone());
        let answer = converse(tap, request, framed(&call.message), limits.body).await;
        answer.map_err(|error| broken(error.as_ref(), &progress.seen()))
    })
    .await
}

fn written(call: &Call, scheme: &str) -> Result<Request<()>, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{}{}", call.host, call.path))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("keepup/", env!("CARGO_PKG_VERSION")));
    let refused = |error| one_line(&format!("cannot ask `{}`: {error}", call.host));
    request.body(()).map_err(|error| Failure::new(Class::Other, refused(error)))
}

/// Not compressed, and its length before it.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// The error is none if the connection ended without one.
async fn converse(
    tap: Tap,
    request: Request<()>,
    frame: Bytes,
    limit: usize,
) -> Result<Reply, Option<h2::Error>> {
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX));
    let (sender, mut connection) = builder.handshake(tap).await?;
    let mut answer = pin!(ask(sender, request, frame, limit));
    let mut end = None;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer.map_err(Some));
        }
        if end.is_none()
            && let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx)
        {
            end = Some(ended.err());
        }
        match (answer.as_mut().poll(cx), &mut end) {
            (Poll::Ready(Ok(answer)), _) => Poll::Ready(Ok(answer)),
            // Why the connection ended says more.
            (Poll::Ready(Err(error)), end) => {
                Poll::Ready(Err(end.take().flatten().or(Some(error))))
            }
            (Poll::Pending, Some(end)) => Poll::Ready(Err(end.take())),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

async fn ask(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    frame: Bytes,
    limit: usize,
) -> Result<Reply, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(frame, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        let room = limit.saturating_sub(bytes.len());
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = status(&trailers).or_else(|| status(&head.headers));
    Ok(Reply { http: head.status.as_u16(), status, message: unframed(&bytes) })
}

/// The message of the first frame.
fn unframed(bytes: &[u8]) -> Vec<u8> {
    match bytes.split_first_chunk::<5>() {
        Some((&[0, length @ ..], rest)) => {
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            rest[..rest.len().min(length)].to_vec()
        }
        // Compressed, which was not asked for, or nothing.
        Some(_) | None => Vec::new(),
    }
}

fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name: &'static str| {
        let value = headers.get(HeaderName::from_static(name))?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let code = text("grpc-status")?.parse().ok()?;
    Some((code, percent_decoded(&text("grpc-message").unwrap_or_default())))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        let escaped = byte.filter(|_| first == b'%');
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn broken(error: Option<&h2::Error>, seen: &Seen) -> Failure {
    let http = |text: String| Failure::new(Class::Http, one_line(&text));
    if seen.overspent {
        return http(format!("the answer exceeds {} KiB", ANSWER_MAX / 1024));
    }
    let alien = seen.first.get(3).is_some_and(|&kind| kind != SETTINGS);
    if alien || seen.first.starts_with(b"HTTP/") {
        let greeting = clipped(&String::from_utf8_lossy(&seen.first), GREETING_MAX);
        // RFC 8446, 5.1: an alert or a handshake, then the version 3.x.
        return http(match seen.first.as_slice() {
            [0x15 | 0x16, 0x03, ..] => format!("not gRPC, but TLS: \"{greeting}\""),
            _ => format!("not gRPC: \"{greeting}\""),
        });
    }
    let Some(error) = error else { return closed(seen) };
    match error.get_io() {
        Some(cause) => match tls::broken(cause) {
            Some(failure) => failure,
            // An error that h2 made up itself, of a connection that was closed.
            None if cause.raw_os_error().is_none() => closed(seen),
            None if is_reset(cause) => reset(seen),
            None => Failure::new(Class::Other, plain(cause)),
        },
        None => http(format!("no answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_and_unframed() {
        assert_eq!(framed(b"ab").as_ref(), b"\0\0\0\0\x02ab");
        assert_eq!(unframed(b"\0\0\0\0\x02abc"), b"ab");
        for broken in [b"".as_slice(), b"\0\0\0", b"\x01\0\0\0\x02ab"] {
            assert_eq!(unframed(broken), b"");
        }
        assert_eq!(unframed(b"\0\xff\xff\xff\xffab"), b"ab");
    }

    #[test]
    fn what_is_percent_encoded_is_decoded() {
        for (text, wanted) in [("a%20b", "a b"), ("%", "%"), ("%zz%4", "%zz%4"), ("%c3%bc", "ü")] {
            assert_eq!(percent_decoded(text), wanted);
        }
        assert_eq!(percent_decoded("ü%"), "ü%");
    }
}
