//! An HTTP/1.1 client for one question on one connection, over TCP, TLS or a Unix socket.
//!
//! It must never wait without an end, never take in more than it was told to, and never fail
//! without saying why. It follows no redirect and keeps no connection.

pub(crate) mod aside;
mod certificate;
mod connect;
pub(crate) mod grpc;
mod resolve;
mod tap;
pub(crate) mod tls;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};

use self::connect::{Peer, connect, late_connecting, unanswered, unresolved};
use self::tap::{Progress, Seen, Stage, Tap};
use self::tls::Speaks;
use self::words::{clipped, first_line, one_line, plain};
use crate::core::event::Short;
use crate::plan::{Class, HttpAddress};

/// The longest headers that an answer may have, in bytes; interim answers count, too.
const HEAD_MAX: usize = 32 * 1024;

/// What is shown of a peer that does not speak HTTP, in characters.
const GREETING_MAX: usize = 60;

/// How long an exchange whose time is over is read once more: the timer may be late, because the
/// whole host stood still, while the answer lies there.
const ONCE_MORE_MIN: Duration = Duration::from_millis(10);

/// No limit is longer, so that no sum of times overflows.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86400);

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// The `Host` header.
    pub host: String,
    /// Path and query; starts with a slash.
    pub path: String,
    /// Further headers; they replace those that are sent anyway.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Asks for `path`.
    pub fn get(host: &str, path: &str) -> Request {
        let (host, path) = (host.to_owned(), path.to_owned());
        Request { method: "GET".to_owned(), host, path, ..Request::default() }
    }
}

/// How much an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time from the beginning to the end of the answer.
    pub timeout: Duration,
    /// How much longer is waited after `timeout`, where others judge lateness; zero elsewhere.
    pub slack: Duration,
    /// Bytes of the answer's body that are read; the rest is cut off.
    pub body: usize,
}

impl Limits {
    fn timeout_bounded(&self) -> Duration {
        self.timeout.min(TIMEOUT_MAX)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status, reason and headers.
    pub head: Head,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
    /// The body was longer than the limit.
    pub truncated: bool,
}

/// What comes before the body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase as sent, or the usual one; empty if there is none.
    pub reason: String,
    /// The headers.
    pub headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: Class,
    /// What happened, for people; never empty, one line.
    pub text: String,
    /// There is no way to that address from here.
    unreachable: bool,
}

impl Failure {
    pub(crate) fn new(class: Class, text: String) -> Failure {
        Failure { class, text, unreachable: false }
    }
}

/// An answer whose body is still to come. Dropping it closes the connection.
#[derive(Debug)]
pub struct Answer {
    /// Status, reason and headers.
    pub head: Head,
    body: Incoming,
    line: Line,
}

/// Asks, and reads the whole answer within the limits.
pub async fn request(
    address: &HttpAddress,
    request: Request,
    limits: Limits,
) -> Result<Response, Failure> {
    exchange(address, request, limits, |answer| answer.read(limits.body)).await
}

/// Asks, and returns as soon as the answer's headers are there; only until then the limits hold.
///
/// For an answer that is followed: take its body with [`Answer::piece`].
pub async fn open(
    address: &HttpAddress,
    request: Request,
    limits: Limits,
) -> Result<Answer, Failure> {
    exchange(address, request, limits, async |answer| Ok(answer)).await
}

/// Asks, and lets `read` make of the answer what it wants, all of it within the limits.
pub async fn exchange<T, F: Future<Output = Result<T, Failure>>>(
    address: &HttpAddress,
    request: Request,
    limits: Limits,
    read: impl FnOnce(Answer) -> F,
) -> Result<T, Failure> {
    let name = host_of(&request.host).to_owned();
    let peer = Peer { name: &name, speaks: Speaks::Http1 };
    let request = written(request)?;
    let progress = Progress::new(HEAD_MAX);
    bounded(address, &limits, &progress, async {
        let socket = connect(address, &peer, &limits, &progress).await?;
        progress.seen().stage = Stage::Waiting;
        let answer = ask(Tap::new(socket, progress.clone()), request, progress.clone()).await?;
        read(answer).await
    })
    .await
}

/// Connects, and closes the connection at once.
pub async fn touch(address: &HttpAddress, limits: Limits) -> Result<(), Failure> {
    let progress = Progress::new(0);
    let peer = Peer { name: "", speaks: Speaks::Http1 };
    bounded(address, &limits, &progress, async {
        connect(address, &peer, &limits, &progress).await.map(drop)
    })
    .await
}

async fn bounded<T>(
    address: &HttpAddress,
    limits: &Limits,
    progress: &Progress,
    question: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut question = pin!(question);
    let patience = limits.timeout_bounded() + limits.slack.min(TIMEOUT_MAX);
    let end = Instant::now() + patience;
    if let Ok(answer) = timeout_at(end, &mut question).await {
        return answer;
    }
    let late = end.elapsed().min(limits.timeout_bounded()).max(ONCE_MORE_MIN);
    match timeout(late, question).await {
        Ok(answer) => answer,
        Err(_) => Err(timed_out(address, limits, &progress.seen())),
    }
}

fn timed_out(address: &HttpAddress, limits: &Limits, seen: &Seen) -> Failure {
    let after = Short(limits.timeout);
    let text = match (seen.stage, address) {
        (Stage::Resolving, HttpAddress::Tcp(host, _) | HttpAddress::Tls(host, _, _)) => {
            return unresolved(host, &unanswered(limits));
        }
        (Stage::Shaking, _) => format!("timed out after {after} during the TLS handshake"),
        (Stage::Resolving, HttpAddress::Unix(_)) | (Stage::Connecting, _) => {
            late_connecting(limits, seen.obstacle.as_deref())
        }
        (Stage::Waiting, _) if seen.first.is_empty() => {
            format!("timed out after {after} while waiting for the answer")
        }
        (Stage::Waiting, _) => format!("timed out after {after} in the middle of the answer"),
    };
    Failure::new(Class::Timeout, text)
}

/// The name in a `Host` header: without port and brackets.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

fn written(request: Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let refused = |what: &str, it: &str, error: &dyn std::fmt::Display| {
        Failure::new(Class::Other, one_line(&format!("cannot send the {what} `{it}`: {error}")))
    };
    let mut headers = HeaderMap::new();
    let agent = concat!("keepup/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let host = HeaderValue::from_bytes(request.host.as_bytes());
    headers.insert(HOST, host.map_err(|error| refused("host", &request.host, &error))?);
    for (name, value) in &request.headers {
        let key = HeaderName::from_bytes(name.as_bytes());
        let key = key.map_err(|error| refused("header", name, &error))?;
        // The value may be a secret.
        let value = HeaderValue::from_bytes(value.as_bytes());
        headers.insert(key, value.map_err(|error| refused("header", name, &error))?);
    }
    let body = Full::new(Bytes::from(request.body));
    let mut written = hyper::Request::new(body);
    *written.method_mut() = hyper::Method::from_bytes(request.method.as_bytes())
        .map_err(|error| refused("method", &request.method, &error))?;
    *written.uri_mut() =
        request.path.parse().map_err(|error| refused("path", &request.path, &error))?;
    *written.headers_mut() = headers;
    Ok(written)
}

async fn ask(
    tap: Tap,
    request: hyper::Request<Full<Bytes>>,
    progress: Progress,
) -> Result<Answer, Failure> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    let shaken = builder.handshake(TokioIo::new(tap)).await;
    let (mut sender, connection) = shaken.map_err(|error| broken(&error, &progress.seen()))?;
    let mut line = Line { connection: Some(Box::pin(connection)), failed: None, progress };
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| line.drive(cx, |cx| response.as_mut().poll(cx))).await;
    let response = match response {
        Some(Ok(response)) => response,
        Some(Err(error)) => return Err(line.broken(Some(&error))),
        None => return Err(line.broken(None)),
    };
    line.progress.seen().budget = None;
    let (parts, body) = response.into_parts();
    let reason = match parts.extensions.get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => first_line(reason.as_bytes()),
        None => parts.status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let head = Head { status: parts.status.as_u16(), reason, headers: parts.headers };
    Ok(Answer { head, body, line })
}

impl Answer {
    /// The next piece of the body; `None` at its end. Without a limit on time: the caller's part.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let body = &mut self.body;
            let frame =
                poll_fn(|cx| self.line.drive(cx, |cx| Pin::new(&mut *body).poll_frame(cx))).await;
            match frame {
                Some(Some(Ok(frame))) => {
                    // Trailers say nothing that is wanted.
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(None) => return Ok(None),
                Some(Some(Err(error))) => return Err(self.line.cut_off(Some(&error))),
                None => return Err(self.line.cut_off(None)),
            }
        }
    }

    /// The whole answer, its body cut off after `limit` bytes.
    pub async fn read(mut self, limit: usize) -> Result<Response, Failure> {
        let mut body = Vec::new();
        let mut truncated = false;
        while !truncated && let Some(piece) = self.piece().await? {
            let room = limit - body.len();
            truncated = piece.len() > room;
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        Ok(Response { head: self.head, body, truncated })
    }
}

type Connection = http1::Connection<TokioIo<Tap>, Full<Bytes>>;

/// A connection that moves on while something is awaited of it, and at no other time.
#[derive(Debug)]
struct Line {
    /// `None` once it is over.
    connection: Option<Pin<Box<Connection>>>,
    /// How it ended, if badly.
    failed: Option<hyper::Error>,
    progress: Progress,
}

impl Line {
    /// What `poll` gives; `None` if the connection is over and it never will give anything.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        if let Poll::Ready(ready) = poll(cx) {
            return Poll::Ready(Some(ready));
        }
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(end) = connection.as_mut().poll(cx)
        {
            self.connection = None;
            self.failed = end.err();
        }
        match poll(cx) {
            Poll::Ready(ready) => Poll::Ready(Some(ready)),
            Poll::Pending if self.connection.is_none() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Why there is no answer.
    fn broken(&self, error: Option<&hyper::Error>) -> Failure {
        match error.filter(|it| !it.is_canceled()).or(self.failed.as_ref()).or(error) {
            Some(error) => broken(error, &self.progress.seen()),
            None => closed(&self.progress.seen()),
        }
    }

    /// Why the body is not whole.
    fn cut_off(&self, error: Option<&hyper::Error>) -> Failure {
        let error = error.or(self.failed.as_ref());
        let garbled = [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData];
        let text = match error.and_then(io_error) {
            Some(cause) if is_reset(cause) => "connection reset in the middle of the answer",
            Some(cause) if garbled.contains(&cause.kind()) => "the pieces of the body are garbled",
            _ => "connection closed in the middle of the answer",
        };
        Failure::new(Class::Body, text.to_owned())
    }
}

fn broken(error: &hyper::Error, seen: &Seen) -> Failure {
    if seen.overspent || error.is_parse_too_large() {
        let text = format!("the answer's headers exceed {} KiB, or 100 lines", HEAD_MAX / 1024);
        return Failure::new(Class::Http, text);
    }
    if !seen.first.is_empty() && (error.is_parse() || !seen.first.starts_with(b"HTTP/")) {
        return not_http(&seen.first);
    }
    if let Some(failure) = io_error(error).and_then(tls::broken) {
        return failure;
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return closed(seen);
    }
    match io_error(error) {
        Some(cause) if is_reset(cause) => reset(seen),
        Some(cause) => Failure::new(Class::Other, plain(cause)),
        None => Failure::new(Class::Http, one_line(&format!("no answer: {error}"))),
    }
}

fn is_reset(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe].contains(&error.kind())
}

fn closed(seen: &Seen) -> Failure {
    if seen.first.is_empty() {
        Failure::new(Class::Other, "connection closed before an answer".to_owned())
    } else {
        Failure::new(Class::Http, "connection closed in the middle of the answer".to_owned())
    }
}

fn reset(seen: &Seen) -> Failure {
    if seen.first.is_empty() {
        Failure::new(Class::Other, "connection reset before an answer".to_owned())
    } else {
        Failure::new(Class::Http, "connection reset in the middle of the answer".to_owned())
    }
}

fn not_http(first: &[u8]) -> Failure {
    let greeting = clipped(&String::from_utf8_lossy(first), GREETING_MAX);
    // RFC 8446, 5.1: an alert or a handshake, then the version 3.x.
    let text = match first {
        [0x15 | 0x16, 0x03, ..] => format!("not HTTP, but TLS: \"{greeting}\""),
        _ => format!("not HTTP: \"{greeting}\""),
    };
    Failure::new(Class::Http, text)
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(it) = cause {
        if let Some(io) = it.downcast_ref() {
            return Some(io);
        }
        cause = it.source();
    }
    None
}
