//! A connection to where a question goes: each address in its turn, within the time there is.
//!
//! keepup's own shortages (no file descriptor left, no port) are waited out for as long as there is
//! time: they are not the fault of the service that is asked.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::resolve::SYSTEM;
use super::tap::{Progress, Socket, Stage};
use super::tls::Speaks;
use super::words::{one_line, plain};
use super::{Failure, Limits, tls};
use crate::core::event::Short;
use crate::plan::{Class, HttpAddress};

/// From a shortage to the next attempt.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// A look-up that hangs is told so much before the time is over, where others judge lateness: at
/// that moment they would call it a timeout, and the name would never be told.
const LOOK_UP_LEAD_MAX: Duration = Duration::from_millis(100);

/// Who is expected at the other end, where TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// The name that its certificate must have; empty: the host's.
    pub(super) name: &'a str,
    pub(super) speaks: Speaks,
}

/// A connection to `address`. Without end, if nobody puts an end to it.
pub(super) async fn connect(
    address: &HttpAddress,
    peer: &Peer<'_>,
    limits: &Limits,
    progress: &Progress,
) -> Result<Socket, Failure> {
    match address {
        HttpAddress::Tcp(host, port) => {
            connect_host(host, *port, limits, progress).await.map(Socket::Tcp)
        }
        HttpAddress::Tls(host, port, trust) => {
            let stream = connect_host(host, *port, limits, progress).await?;
            progress.seen().stage = Stage::Shaking;
            let name = if peer.name.is_empty() { host } else { peer.name };
            tls::shake(stream, name, trust, peer.speaks).await.map(|it| Socket::Tls(Box::new(it)))
        }
        HttpAddress::Unix(path) => connect_unix(path, progress).await.map(Socket::Unix),
    }
}

async fn connect_host(
    host: &str,
    port: u16,
    limits: &Limits,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    let began = Instant::now();
    let addresses = resolve(host, port, limits, progress).await?;
    let until = began + limits.timeout_bounded();
    connect_tcp(&addresses, until, limits, progress).await
}

async fn resolve(
    host: &str,
    port: u16,
    limits: &Limits,
    progress: &Progress,
) -> Result<Vec<SocketAddr>, Failure> {
    progress.seen().stage = Stage::Resolving;
    let lead = (limits.timeout / 10).min(LOOK_UP_LEAD_MAX);
    let patience = limits.timeout_bounded().saturating_sub(lead);
    let look_up = SYSTEM.addresses(host, port);
    let found = if limits.slack.is_zero() {
        look_up.await
    } else {
        timeout(patience, look_up).await.unwrap_or_else(|_| Err(unanswered(limits)))
    };
    progress.seen().stage = Stage::Connecting;
    match found {
        Ok(addresses) if addresses.is_empty() => Err(unresolved(host, "it has no address")),
        Ok(addresses) => Ok(addresses),
        Err(reason) => Err(unresolved(host, &reason)),
    }
}

/// A miss because a name has no address.
pub(super) fn unresolved(host: &str, reason: &str) -> Failure {
    Failure::new(Class::Dns, one_line(&format!("name does not resolve: {host} ({reason})")))
}

/// Why, when the look-up hangs.
pub(super) fn unanswered(limits: &Limits) -> String {
    format!("no answer after {}", Short(limits.timeout))
}

async fn connect_tcp(
    addresses: &[SocketAddr],
    until: Instant,
    limits: &Limits,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    let mut worst: Option<Failure> = None;
    for (nth, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
        let attempt = dial(*address, progress);
        let connected = if left == 1 {
            // The rest of the time is its own, and whoever bounds the exchange ends it.
            attempt.await
        } else {
            let share = until.saturating_duration_since(Instant::now()) / left;
            let late = || Failure::new(Class::Timeout, late_connecting(limits, None));
            timeout_at(Instant::now() + share, attempt).await.unwrap_or_else(|_| Err(late()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(failure) if worst.as_ref().is_none_or(|it| hope(it) < hope(&failure)) => {
                worst = Some(failure);
            }
            Err(_) => {}
        }
    }
    Err(worst.unwrap_or_else(|| Failure::new(Class::Dns, "no address to connect to".to_owned())))
}

/// Of several failures the one that rules out least is told: `refused` may be definite.
fn hope(failure: &Failure) -> u8 {
    match failure.class {
        Class::Timeout => 3,
        Class::Refused => 1,
        Class::Other if failure.unreachable => 0,
        Class::Dns | Class::Tls | Class::Http | Class::Body | Class::Stale | Class::Other => 2,
    }
}

/// What is told when no connection came about in time.
pub(super) fn late_connecting(limits: &Limits, obstacle: Option<&str>) -> String {
    let text = format!("timed out after {} while connecting", Short(limits.timeout));
    match obstacle {
        Some(obstacle) => one_line(&format!("{text}: {obstacle}")),
        None => text,
    }
}

async fn dial(address: SocketAddr, progress: &Progress) -> Result<TcpStream, Failure> {
    let stream = patiently(progress, || TcpStream::connect(address)).await;
    let stream = stream.map_err(|error| failed(&error))?;
    // Between two ports of one host a connection can meet itself: then nobody listens there.
    if stream.local_addr().ok() == Some(address) {
        return Err(refused());
    }
    // Without it the question is slower, but it is asked.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn connect_unix(path: &Path, progress: &Progress) -> Result<UnixStream, Failure> {
    let at = |text: &str| one_line(&format!("{text}: {}", path.display()));
    let connected = patiently(progress, || UnixStream::connect(path)).await;
    connected.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => {
            Failure::new(Class::Refused, at("connection refused: no such socket"))
        }
        Some(libc::ECONNREFUSED) => {
            Failure::new(Class::Refused, at("connection refused: nobody listens"))
        }
        _ => Failure::new(Class::Other, at(&plain(&error))),
    })
}

/// Tries again while only something is short that may come back.
async fn patiently<T, F: Future<Output = io::Result<T>>>(
    progress: &Progress,
    mut connect: impl FnMut() -> F,
) -> io::Result<T> {
    loop {
        match connect().await {
            Err(error) if let Some(obstacle) = shortage(&error) => {
                progress.seen().obstacle = Some(obstacle);
                sleep(SHORTAGE_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// What is short, if that is why there is no connection.
fn shortage(error: &io::Error) -> Option<String> {
    match error.raw_os_error()? {
        // connect(2) on a Unix socket that does not block: as many wait as may wait.
        libc::EAGAIN => Some("too many connections wait to be accepted".to_owned()),
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
            Some(format!("keepup itself: {}", plain(error)))
        }
        _ => None,
    }
}

fn failed(error: &io::Error) -> Failure {
    let (class, text) = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => return refused(),
        Some(libc::ETIMEDOUT) => {
            (Class::Timeout, "timed out while connecting (the kernel gave up)".to_owned())
        }
        Some(libc::ECONNRESET) => (Class::Other, "connection reset while connecting".to_owned()),
        _ => (Class::Other, plain(error)),
    };
    let unreachable = matches!(
        error.raw_os_error(),
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    );
    Failure { class, text, unreachable }
}

fn refused() -> Failure {
    Failure::new(Class::Refused, "connection refused".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: i32) -> (Class, String) {
        let failure = failed(&io::Error::from_raw_os_error(number));
        (failure.class, failure.text)
    }

    #[test]
    fn errors_of_connect_are_told_precisely() {
        assert_eq!(text(libc::ECONNREFUSED), (Class::Refused, "connection refused".to_owned()));
        assert_eq!(text(libc::EHOSTUNREACH), (Class::Other, "no route to host".to_owned()));
        assert_eq!(text(libc::ENETUNREACH), (Class::Other, "network is unreachable".to_owned()));
        assert_eq!(text(libc::ETIMEDOUT).0, Class::Timeout);
        assert!(shortage(&io::Error::from_raw_os_error(libc::EMFILE)).is_some());
        assert!(shortage(&io::Error::from_raw_os_error(libc::ECONNREFUSED)).is_none());
    }

    #[test]
    fn of_several_failures_the_one_that_rules_out_least_is_told() {
        let order = [libc::EADDRNOTAVAIL, libc::ECONNREFUSED, libc::EACCES, libc::ETIMEDOUT];
        let hopes = order.map(|number| hope(&failed(&io::Error::from_raw_os_error(number))));
        assert_eq!(hopes, [0, 1, 2, 3]);
    }
}
