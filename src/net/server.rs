//! One HTTP connection, served: one request, one answer, and then it is closed.
//!
//! A client that is slow to send or to read costs nobody anything: every wait for it has an end,
//! and so has every buffer.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout};

/// How long a client may take to send its request's head.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to send a body that nobody needs.
const BODY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a client may leave what is sent to it unread.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and bytes of an answer that wait in memory for the client.
const BUFFER_MAX: usize = 16 * 1024;
/// Bytes of a request's body.
pub const BODY_MAX: usize = 64 * 1024;

/// What is answered: all of it at once, or piece by piece as it comes.
#[derive(Debug)]
pub enum Body {
    /// All of it; taken when it is sent.
    Whole(Option<Bytes>),
    /// Piece by piece; an error breaks the connection off.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::Whole(Some(Bytes::from(text)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|it| Ok(Frame::data(it)))),
            Body::Pieces(pieces) => {
                pieces.poll_recv(context).map(|it| it.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}

/// Whether a request's body was within its limits; its content is never needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it, or none was announced.
    Whole,
    /// More than [`BODY_MAX`].
    TooMuch,
    /// Not in time, or broken off.
    TooSlow,
}

/// Serves one connection to its end. `answer` gets the request without its body.
pub async fn connection<T, F, A>(io: T, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<()>, Sent) -> A,
    A: Future<Output = Response<Body>>,
{
    let answer = &answer;
    let service = service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let sent = drain(body).await;
        Ok::<_, Infallible>(answer(Request::from_parts(head, ()), sent).await)
    });
    let io = TokioIo::new(Patient { io, stall: None });
    // What went wrong with a client is the client's business.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .max_buf_size(BUFFER_MAX)
        .keep_alive(false)
        .serve_connection(io, service)
        .await;
}

async fn drain(body: Incoming) -> Sent {
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > u64::try_from(BODY_MAX).unwrap_or(u64::MAX) {
        return Sent::TooMuch;
    }
    match timeout(BODY_WAIT_MAX, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(_)) => Sent::Whole,
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Sent::TooMuch,
        Ok(Err(_)) | Err(_) => Sent::TooSlow,
    }
}

/// A stream that fails when its other end reads nothing for [`STALL_MAX`].
#[derive(Debug)]
struct Patient<T> {
    io: T,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    fn bounded<R>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_MAX)));
        stall.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        self.bounded(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(context);
        self.bounded(context, outcome)
    }
}
