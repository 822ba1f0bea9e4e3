//! Work that may hang on a disk, beside the loop.
//!
//! It must never cost more than [`THREADS_MAX`] threads, and never do the same thing twice at once:
//! a disk that hangs costs one thread for each file that is asked for, however often it is asked.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Notify, Semaphore, oneshot};

use super::words::plain;

/// Works at the same time. So many may hang before others have to wait for them.
const THREADS_MAX: usize = 16;

/// None of the works needs much; pages that are not touched cost nothing.
const STACK_SIZE: usize = 512 * 1024;

static THREADS: Semaphore = Semaphore::const_new(THREADS_MAX);
static UNDER_WAY: Mutex<Option<HashSet<String>>> = Mutex::new(None);
static ENDED: Notify = Notify::const_new();

/// What `work` gives, done on a thread of its own; works of the same name one after the other.
///
/// It may take for ever: put a limit on it. A work that has begun goes on when nobody waits for it
/// any more; one that waits for its turn is given up. The error is a lack of threads, in words.
pub(crate) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let turn = Turn::wait(name).await;
    let Ok(room) = THREADS.acquire().await else {
        return Err("keepup has no threads any more".to_owned());
    };
    let (tell, told) = oneshot::channel();
    let builder = thread::Builder::new().name("aside".to_owned()).stack_size(STACK_SIZE);
    let started = builder.spawn(move || {
        let outcome = work();
        drop((room, turn));
        // Nobody may wait for it any more.
        let _ = tell.send(outcome);
    });
    match started {
        Ok(_) => told.await.map_err(|_| "the work broke off".to_owned()),
        Err(error) => Err(format!("cannot start a thread: {}", plain(&error))),
    }
}

/// The right to do the work of this name.
struct Turn(String);

impl Turn {
    async fn wait(name: &str) -> Turn {
        loop {
            let ended = ENDED.notified();
            if under_way().get_or_insert_default().insert(name.to_owned()) {
                return Turn(name.to_owned());
            }
            ended.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(names) = &mut *under_way() {
            names.remove(&self.0);
        }
        ENDED.notify_waiters();
    }
}

fn under_way() -> MutexGuard<'static, Option<HashSet<String>>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_hangs_is_done_once_and_holds_up_nobody_else() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (open, gate) = mpsc::channel::<()>();
            let hang = move || {
                BEGUN.fetch_add(1, Ordering::SeqCst);
                let _ = gate.recv();
            };
            let mut first = Box::pin(aside("test-dead", hang));
            while BEGUN.load(Ordering::SeqCst) == 0 {
                let _ = timeout(Duration::from_millis(1), &mut first).await;
            }
            drop(first);
            for _ in 0..50 {
                let again = aside("test-dead", || BEGUN.fetch_add(1, Ordering::SeqCst));
                assert!(timeout(Duration::ZERO, again).await.is_err());
            }
            let other = timeout(LIMIT, aside("test-alive", || 7)).await;
            assert_eq!(other, Ok(Ok(7)));
            assert_eq!(BEGUN.load(Ordering::SeqCst), 1);
            let waiting = tokio::spawn(aside("test-dead", || 8));
            tokio::task::yield_now().await;
            open.send(()).unwrap();
            assert_eq!(timeout(LIMIT, waiting).await.unwrap().unwrap(), Ok(8));
        });
    }

    #[test]
    fn a_work_that_panics_is_an_error_and_leaves_its_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..2 * THREADS_MAX {
                let broken = aside("test-panic", || panic!("as it should")).await;
                assert_eq!(broken, Err::<(), _>("the work broke off".to_owned()));
            }
        });
    }
}
