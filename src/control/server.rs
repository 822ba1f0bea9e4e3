//! The servers of control: one at the Unix socket, one at a TCP address for looking only.
//!
//! Nothing that a client does ends them; what they have to say of themselves goes to the journal.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::{Uid, geteuid};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::logs::OpenLog;
use super::protocol::Request;
use super::route::{Door, Refusal, answer};
use super::socket::Socket;
use crate::net::server::connection;
use crate::plan::Level;
use crate::report::{Journal, LogCount, Metrics, Sampler};
use crate::status::Status;

/// Connections at one door at the same time; more wait until one is over.
const CONNECTIONS_MAX: u32 = 64;
/// Clients that follow events or logs, of all doors.
const FOLLOWERS_MAX: usize = 16;
/// Clients that read a log to its end.
const READERS_MAX: usize = 4;
/// How long the loop may take for a turn.
const LOOP_WAIT_MAX: Duration = Duration::from_secs(2);
/// From one attempt at a taken port to the next.
const RETRY: Duration = Duration::from_secs(1);
/// After a failed accept: the process is out of files, and trying again at once makes it no better.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of every service's output so far. Must not block.
pub type LogCounts = Box<dyn Fn() -> Vec<LogCount> + Send + Sync>;

/// Where the answers come from.
pub struct Sources {
    /// The state folder, which keeps incidents; `None`: none are shown.
    pub incidents: Option<PathBuf>,
    /// The way to the loop; [`super::protocol::REQUESTS_MAX`] is its size.
    pub requests: mpsc::Sender<Request>,
    /// Events and troubles.
    pub journal: Journal,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Memory, CPU, host.
    pub usage: Sampler,
    /// Absent: no logs are shown.
    pub open_log: Option<OpenLog>,
    /// Absent: no counts are shown.
    pub log_counts: Option<LogCounts>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// Control. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) sources: Arc<Sources>,
    pub(super) followers: Arc<Semaphore>,
    pub(super) readers: Arc<Semaphore>,
    /// Nobody is taken in any more, and nobody is kept.
    pub(super) closing: Arc<AtomicBool>,
    operators: Arc<Semaphore>,
    visitors: Arc<Semaphore>,
}

impl Control {
    /// Control that answers from these sources.
    pub fn new(sources: Sources) -> Control {
        let slots = |count| Arc::new(Semaphore::new(count));
        Control {
            sources: Arc::new(sources),
            followers: slots(FOLLOWERS_MAX),
            readers: slots(READERS_MAX),
            closing: Arc::default(),
            operators: slots(CONNECTIONS_MAX as usize),
            visitors: slots(CONNECTIONS_MAX as usize),
        }
    }

    /// Takes in nobody any more, and waits until everybody who is in has the whole answer, but no
    /// longer than `limit`; for the end of keepup.
    pub async fn close(&self, limit: Duration) {
        self.closing.store(true, Ordering::Relaxed);
        let empty = async {
            let _ = self.operators.acquire_many(CONNECTIONS_MAX).await;
            let _ = self.visitors.acquire_many(CONNECTIONS_MAX).await;
        };
        // Whoever is too slow is cut off.
        let _ = timeout(limit, empty).await;
    }

    /// Serves the Unix socket for as long as it is polled. Fails only at once, where the runtime
    /// can not take the socket.
    pub async fn serve_socket(self, socket: Socket) -> io::Result<()> {
        let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
        let own = geteuid();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(peer) = stream.peer_cred() else {
                continue;
            };
            let uid = peer.uid();
            let door = if socket.admission.admits(Uid::from_raw(uid), own) {
                Door::Operator { uid }
            } else {
                Door::Stranger { uid }
            };
            let Ok(slot) = Arc::clone(&self.operators).acquire_owned().await else {
                return Ok(());
            };
            self.serve(stream, door, slot);
        }
    }

    /// Serves this TCP address for as long as it is polled. An address that is not to be had is a
    /// warning, and tried again.
    pub async fn serve_tcp(self, address: SocketAddr) {
        let journal = &self.sources.journal;
        if !address.ip().is_loopback() {
            let text = format!(
                "http://{address} can be reached from other machines; whoever reaches it can read \
                 the status, the events and the metrics"
            );
            journal.say(Level::Warn, &text);
        }
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                let text = format!("cannot listen on `{address}`: {error}, retrying");
                journal.say(Level::Warn, &text);
                loop {
                    sleep(RETRY).await;
                    if let Ok(listener) = TcpListener::bind(address).await {
                        break listener;
                    }
                }
            }
        };
        let bound = listener.local_addr().unwrap_or(address);
        journal.say(Level::Info, &format!("listening on http://{bound}"));
        self.serve_listener(listener).await;
    }

    /// Serves this TCP listener for as long as it is polled.
    pub async fn serve_listener(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(slot) = Arc::clone(&self.visitors).acquire_owned().await else {
                return;
            };
            self.serve(stream, Door::Visitor, slot);
        }
    }

    fn serve<T>(&self, stream: T, door: Door, slot: tokio::sync::OwnedSemaphorePermit)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let control = self.clone();
        tokio::spawn(async move {
            connection(stream, |request, sent| answer(&control, door, request, sent)).await;
            drop(slot);
        });
    }

    /// A sign that the loop turns, in time.
    pub(super) async fn turn(&self) -> Result<(), Refusal> {
        self.ask(Request::Turn).await
    }

    /// The status with what the journal knows.
    pub(super) async fn look(&self) -> Result<Status, Refusal> {
        let mut status = self.ask(Request::Status).await?;
        self.sources.journal.fill(&mut status);
        for count in self.log_counts() {
            if let Some(it) = status.services.iter_mut().find(|it| *it.name == *count.service) {
                it.log = count.log;
            }
        }
        Ok(status)
    }

    /// The status with all that is known.
    pub(super) async fn status(&self) -> Result<Status, Refusal> {
        let mut status = self.look().await?;
        self.sources.usage.fill(&mut status).await;
        Ok(status)
    }

    /// What became of the output of all services.
    pub(super) fn log_counts(&self) -> Vec<LogCount> {
        self.sources.log_counts.as_ref().map(|it| it()).unwrap_or_default()
    }

    async fn ask<T>(&self, request: fn(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (reply, replied) = oneshot::channel();
        let asked = async {
            self.sources.requests.send(request(reply)).await.map_err(|_| Refusal::ending())?;
            replied.await.map_err(|_| Refusal::ending())
        };
        timeout(LOOP_WAIT_MAX, asked).await.unwrap_or_else(|_| Err(Refusal::stuck(LOOP_WAIT_MAX)))
    }

    /// Hands a request to the loop, whose reply may take as long as it takes.
    pub(super) async fn hand_over(&self, request: Request) -> Result<(), Refusal> {
        match timeout(LOOP_WAIT_MAX, self.sources.requests.send(request)).await {
            Ok(sent) => sent.map_err(|_| Refusal::ending()),
            Err(_) => Err(Refusal::stuck(LOOP_WAIT_MAX)),
        }
    }
}
