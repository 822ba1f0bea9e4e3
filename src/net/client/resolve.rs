//! Names to addresses, off the loop.
//!
//! The C library's look-up may hang for as long as it likes. It must never cost more than
//! [`LOOK_UPS_MAX`] threads, and the same name is never looked up twice at once.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::watch;

use super::words::plain;

/// Look-ups at the same time. So many names may hang before others have to wait for them.
const LOOK_UPS_MAX: usize = 8;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The C library's own needs are far below this; pages that are not touched cost nothing.
const STACK_SIZE: usize = 512 * 1024;

const BROKEN: &str = "the look-up broke off";

/// The look-up of the C library, shared by everything in this process.
pub(super) static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(look_up));

/// The addresses of a name, or why there are none.
pub(super) type Outcome = Result<Arc<[SocketAddr]>, String>;

/// Answers questions for the addresses of names.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    look_up: fn(&str) -> Result<Vec<SocketAddr>, String>,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Threads at work.
    threads: usize,
    /// Names that wait for a thread.
    queue: VecDeque<Arc<str>>,
    /// Every name that is asked for, with those who wait for it.
    asked: HashMap<Arc<str>, watch::Sender<Option<Outcome>>>,
}

impl Resolver {
    pub(super) fn new(look_up: fn(&str) -> Result<Vec<SocketAddr>, String>) -> Resolver {
        Resolver { look_up, desk: Arc::default() }
    }

    /// Where `host` is reached at `port`, in the order in which to try.
    ///
    /// It may take for ever: put a limit on it. Giving up costs nothing, and whoever asks next for
    /// the same name joins the look-up that is under way.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Some(known) = without_asking(host) {
            return Ok(known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
        }
        let mut answer = self.ask(host);
        let outcome = match answer.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let found = outcome.unwrap_or_else(|| Err(BROKEN.to_owned()))?;
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            address.set_port(port);
            address
        };
        Ok(found.iter().take(ADDRESSES_MAX).map(with_port).collect())
    }

    fn ask(&self, host: &str) -> watch::Receiver<Option<Outcome>> {
        let mut desk = self.desk();
        if let Some(pending) = desk.asked.get(host) {
            return pending.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let host = Arc::<str>::from(host);
        desk.asked.insert(host.clone(), sender);
        desk.queue.push_back(host);
        if desk.threads < LOOK_UPS_MAX {
            let worker = self.clone();
            let builder = thread::Builder::new().name("dns".to_owned()).stack_size(STACK_SIZE);
            match builder.spawn(move || worker.work()) {
                Ok(_) => desk.threads += 1,
                // A thread at work takes the name on when it is done.
                Err(_) if desk.threads > 0 => {}
                Err(error) => desk.refuse_all(&plain(&error)),
            }
        }
        receiver
    }

    /// Looks up what is asked for until there is nothing left.
    fn work(&self) {
        loop {
            // The desk must be free during the look-up, so its guard must end with this line.
            let next = self.desk().next();
            let Some(host) = next else { return };
            // A panic would leave those who wait without an answer, and the seat taken.
            let found = panic::catch_unwind(AssertUnwindSafe(|| (self.look_up)(&host)));
            let outcome = found.unwrap_or_else(|_| Err(BROKEN.to_owned())).map(Arc::from);
            if let Some(asked) = self.desk().asked.remove(&host) {
                asked.send_replace(Some(outcome));
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// The next name to look up; the thread that is told that there is none must end.
    fn next(&mut self) -> Option<Arc<str>> {
        let next = self.queue.pop_front();
        self.threads -= usize::from(next.is_none());
        next
    }

    fn refuse_all(&mut self, reason: &str) {
        for host in self.queue.drain(..) {
            if let Some(asked) = self.asked.remove(&host) {
                asked.send_replace(Some(Err(format!("cannot start a thread: {reason}"))));
            }
        }
    }
}

/// The addresses that need no look-up.
///
/// Source: RFC 6761, 6.3: `localhost` is always the loopback address.
fn without_asking(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|ip| vec![ip])
}

fn look_up(host: &str) -> Result<Vec<SocketAddr>, String> {
    match (host, 0).to_socket_addrs() {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(reason(&error.to_string())),
    }
}

/// The part of the C library's message that says something.
fn reason(message: &str) -> String {
    let message = message.rsplit(": ").next().unwrap_or(message);
    super::words::one_line(&message.to_lowercase())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, mpsc};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(LIMIT, future).await.expect("it takes too long") })
    }

    fn never(host: &str) -> Result<Vec<SocketAddr>, String> {
        panic!("`{host}` was looked up")
    }

    #[test]
    fn addresses_and_localhost_need_no_look_up() {
        let ask = |host| block_on(Resolver::new(never).addresses(host, 80)).unwrap();
        assert_eq!(ask("192.0.2.1"), ["192.0.2.1:80".parse().unwrap()]);
        assert_eq!(ask("::1"), ["[::1]:80".parse().unwrap()]);
        assert_eq!(
            ask("LocalHost"),
            ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse::<SocketAddr>().unwrap()]
        );
    }

    #[test]
    fn the_reason_is_told_and_a_panic_is_one() {
        let unknown = Resolver::new(|_| Err(reason("failed to look up: Name not known")));
        assert_eq!(block_on(unknown.addresses("db", 80)), Err("name not known".to_owned()));
        let broken = Resolver::new(never);
        for _ in 0..2 * LOOK_UPS_MAX {
            assert_eq!(block_on(broken.addresses("db", 80)), Err(BROKEN.to_owned()));
        }
    }

    #[test]
    fn the_system_does_not_know_a_name_that_cannot_be() {
        let answer = block_on(SYSTEM.addresses("keepup..invalid", 80));
        assert!(answer.is_err_and(|reason| !reason.is_empty()));
    }

    static HANGING: AtomicUsize = AtomicUsize::new(0);
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a look-up that may fail")]
    fn hang(_: &str) -> Result<Vec<SocketAddr>, String> {
        HANGING.fetch_add(1, Ordering::SeqCst);
        let open = GATE.1.wait_while(GATE.0.lock().unwrap(), |open| !*open).unwrap();
        drop(open);
        Ok(vec!["192.0.2.7:0".parse().unwrap()])
    }

    #[test]
    fn a_name_that_hangs_is_looked_up_once_and_threads_are_bounded() {
        let resolver = Resolver::new(hang);
        let (done, finished) = mpsc::channel();
        block_on(async {
            for _ in 0..100 {
                let mut first = Box::pin(resolver.addresses("db", 5432));
                assert!(timeout(Duration::ZERO, &mut first).await.is_err());
            }
            for host in 0..3 * LOOK_UPS_MAX {
                let name = format!("host{host}");
                let mut other = Box::pin(resolver.addresses(&name, 1));
                assert!(timeout(Duration::ZERO, &mut other).await.is_err());
            }
            assert_eq!(resolver.desk().threads, LOOK_UPS_MAX);
            assert_eq!(resolver.desk().asked.len(), 1 + 3 * LOOK_UPS_MAX);
            let last = resolver.clone();
            let waiting = tokio::spawn(async move { last.addresses("db", 5432).await });
            tokio::task::yield_now().await;
            assert!(HANGING.load(Ordering::SeqCst) <= LOOK_UPS_MAX);
            *GATE.0.lock().unwrap() = true;
            GATE.1.notify_all();
            assert_eq!(waiting.await.unwrap(), Ok(vec!["192.0.2.7:5432".parse().unwrap()]));
            // The queue is served in turn, so the last name is answered last.
            let last = format!("host{}", 3 * LOOK_UPS_MAX - 1);
            resolver.addresses(&last, 1).await.unwrap();
            done.send(()).unwrap();
        });
        finished.recv_timeout(LIMIT).unwrap();
        assert!(HANGING.load(Ordering::SeqCst) > 3 * LOOK_UPS_MAX);
    }
}
