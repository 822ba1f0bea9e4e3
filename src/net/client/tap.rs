//! A socket that remembers how far the exchange on it has come, so that every failure can say what
//! was under way and what the peer said instead of HTTP.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// The peer's first bytes that are kept, to be shown.
const FIRST_MAX: usize = 64;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The address of a name.
    Resolving,
    /// A connection.
    Connecting,
    /// A TLS handshake.
    Shaking,
    /// The answer.
    Waiting,
}

/// How far an exchange has come; shared by the exchange and whoever ends it.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Seen>>);

/// What was seen of an exchange.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) stage: Stage,
    /// Why no connection came about yet, though it may still.
    pub(super) obstacle: Option<String>,
    /// The peer's first bytes.
    pub(super) first: Vec<u8>,
    /// How many more bytes the peer may send; `None`: any number.
    pub(super) budget: Option<usize>,
    /// The peer sent more than it may.
    pub(super) overspent: bool,
}

impl Progress {
    /// An exchange whose peer may send `budget` bytes until the answer's headers are complete.
    pub(super) fn new(budget: usize) -> Progress {
        Progress(Arc::new(Mutex::new(Seen {
            stage: Stage::Connecting,
            obstacle: None,
            first: Vec::new(),
            budget: Some(budget),
            overspent: false,
        })))
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Takes in what the peer sent; false if it may not send so much.
    fn take_in(&mut self, bytes: &[u8]) -> bool {
        let room = FIRST_MAX - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if let Some(budget) = &mut self.budget {
            self.overspent |= bytes.len() > *budget;
            *budget = budget.saturating_sub(bytes.len());
        }
        !self.overspent
    }
}

/// A connected stream.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Tap>>),
}

/// A socket whose peer is listened to.
#[derive(Debug)]
pub(super) struct Tap {
    socket: Socket,
    progress: Progress,
    asked: bool,
    reader: Option<Waker>,
}

impl Tap {
    pub(super) fn new(socket: Socket, progress: Progress) -> Tap {
        Tap { socket, progress, asked: false, reader: None }
    }

    fn socket(&mut self) -> Pin<&mut (dyn Both + Send)> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream),
            Socket::Unix(stream) => Pin::new(stream),
            Socket::Tls(stream) => Pin::new(stream),
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }

    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.asked = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        wrote
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        // A peer that speaks first is heard after the question, else hyper takes its words for a
        // broken connection and does not tell them.
        if !tap.asked {
            tap.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let mut read = tap.socket().poll_read(cx, buffer);
        // Many servers end TLS without saying so. Whether the answer is whole, HTTP says.
        if tap.is_tls() && matches!(&read, Poll::Ready(Err(error)) if is_end(error)) {
            read = Poll::Ready(Ok(()));
        }
        if tap.progress.seen().take_in(&buffer.filled()[before..]) {
            read
        } else {
            Poll::Ready(Err(io::Error::other("the answer is too long")))
        }
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tap = self.get_mut();
        let wrote = tap.socket().poll_write(cx, bytes);
        tap.wrote(wrote)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tap = self.get_mut();
        let wrote = tap.socket().poll_write_vectored(cx, slices);
        tap.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_peer_that_speaks_first_is_heard_after_the_question() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (socket, mut peer) = UnixStream::pair().unwrap();
            peer.write_all(b"SSH-2.0").await.unwrap();
            socket.readable().await.unwrap();
            let progress = Progress::new(9);
            let mut tap = Tap::new(Socket::Unix(socket), progress.clone());
            let mut heard = [0; 16];
            assert!(timeout(Duration::ZERO, tap.read(&mut heard)).await.is_err());
            tap.write_all(b"GET").await.unwrap();
            assert_eq!(tap.read(&mut heard).await.unwrap(), 7);
            assert_eq!(progress.seen().first, b"SSH-2.0");
            peer.write_all(b"12").await.unwrap();
            assert_eq!(tap.read(&mut heard).await.unwrap(), 2);
            peer.write_all(b"3").await.unwrap();
            assert!(tap.read(&mut heard).await.is_err(), "more than it may send");
            assert!(progress.seen().overspent);
        });
    }
}
