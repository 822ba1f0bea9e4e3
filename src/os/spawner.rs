//! Threads that start programs without copying keepup's memory map, which is most of what a fork
//! costs.
//!
//! The child borrows keepup's memory, and the thread that made it stands still until the child has
//! its program or is dead (vfork(2)). That may take as long as a disk likes, so it must never be
//! the loop's thread: that one waits only until the child exists.

#![expect(unsafe_code, reason = "clone(2), and a word that two processes share, have no safe form")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::birth;
use super::child::{self, Inside, OwnPid};
use super::launch::{self, Launch};
use crate::core::event::Pid;

/// Threads; what comes while all of them stand still is forked.
const WORKERS_MAX: usize = 2;
/// Of a child until it has its program, and of a thread, in bytes.
const STACK: usize = 64 * 1024;

/// The threads, started when they are needed. By default there are none, and all is forked.
#[derive(Debug, Default)]
pub(super) struct Spawner {
    workers: Vec<Worker>,
    workers_max: usize,
}

#[derive(Debug)]
struct Worker {
    jobs: SyncSender<Job>,
    busy: Arc<AtomicBool>,
}

/// A program to start. Its descriptors stay open until the child exists.
#[derive(Debug)]
struct Job {
    launch: Arc<Launch>,
    fds: [RawFd; 3],
    told: RawFd,
    born: Arc<Born>,
}

/// Tells whether the child exists.
#[derive(Debug, Default)]
pub(super) struct Born(AtomicI32);

impl Spawner {
    pub(super) fn with_threads() -> Spawner {
        Spawner { workers: Vec::new(), workers_max: WORKERS_MAX }
    }

    /// Starts a program; `None` if no thread is free, or to be had. Returns as soon as the child
    /// exists, or cannot.
    pub(super) fn start(
        &mut self,
        launch: &Arc<Launch>,
        fds: [RawFd; 3],
        told: RawFd,
    ) -> Option<io::Result<Pid>> {
        let worker = self.free_worker()?;
        let born = Arc::new(Born::default());
        let job = Job { launch: Arc::clone(launch), fds, told, born: Arc::clone(&born) };
        worker.busy.store(true, Ordering::Release);
        worker.jobs.try_send(job).ok()?;
        Some(born.wait())
    }

    fn free_worker(&mut self) -> Option<&Worker> {
        let is_free = |it: &Worker| !it.busy.load(Ordering::Acquire);
        if let Some(free) = self.workers.iter().position(is_free) {
            return self.workers.get(free);
        }
        if self.workers.len() == self.workers_max {
            return None;
        }
        let (jobs, todo) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&busy);
        let thread = std::thread::Builder::new().name("spawn".to_owned()).stack_size(STACK);
        thread.spawn(move || work(&todo, &theirs)).ok()?;
        self.workers.push(Worker { jobs, busy });
        self.workers.last()
    }
}

fn work(jobs: &Receiver<Job>, busy: &AtomicBool) {
    // keepup's handlers must not run in a child that borrows its memory.
    launch::block_all();
    // Never written to by us: what no child touches takes no memory.
    let mut stack = Vec::with_capacity(STACK / size_of::<u128>());
    while let Ok(job) = jobs.recv() {
        job.start(stack.spare_capacity_mut());
        busy.store(false, Ordering::Release);
    }
}

/// What the child is handed.
pub(super) struct Handed<'a> {
    inside: Inside<'a>,
    born: &'a Born,
}

impl Job {
    /// Returns when the child has its program, or is dead.
    fn start(&self, stack: &mut [MaybeUninit<u128>]) {
        let group = self.launch.group.as_ref();
        let argv = launch::pointers(&self.launch.argv);
        let own_pid = OwnPid::new();
        let environment = self.launch.environment(&own_pid);
        let inside = Inside {
            launch: &self.launch,
            argv: &argv,
            environment: &environment,
            fds: self.fds,
            told: self.told,
            own_pid: &own_pid,
            entered: None,
        };
        let mut handed = Handed { inside, born: &self.born };
        if let Some(group) = group {
            let is_born = !group.was_killed() && birth::in_group(group.fd(), stack, &handed);
            // Whom the kernel killed at birth is nobody's, and is reaped as such.
            if is_born && self.born.is_told() {
                return;
            }
            handed.inside.entered = Some(group.fd());
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack is aligned, grows down from its end, and is used by nobody else: with
        // CLONE_VFORK this thread stands still, and `handed` lives, until the child uses neither
        // any more. The child calls nothing but `enter`, which allocates nothing and takes no lock.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            libc::clone(enter, top, flags, (&raw const handed).cast_mut().cast())
        };
        if pid < 0 {
            let error = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
            self.born.tell(-error);
        } else if !self.born.is_told() {
            // Killed before it could do so itself.
            self.born.tell(pid);
        }
    }
}

pub(super) extern "C" fn enter(handed: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is what `Job::start` handed over, and lives until this child is done with it.
    let handed = unsafe { &*handed.cast_const().cast::<Handed<'_>>() };
    // SAFETY: takes nothing.
    handed.born.tell(unsafe { libc::getpid() });
    child::run(&handed.inside)
}

impl Born {
    /// The child's pid, or an error number below zero. The child itself may call this.
    fn tell(&self, pid: i32) {
        self.0.store(pid, Ordering::Release);
        // SAFETY: the word lives, and the kernel only looks for who waits for it.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), WAKE, 1) };
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    fn wait(&self) -> io::Result<Pid> {
        loop {
            match self.0.load(Ordering::Acquire) {
                0 => {
                    let no_limit = std::ptr::null::<libc::timespec>();
                    // SAFETY: the word lives; the kernel compares it with 0 before it waits.
                    unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), WAIT, 0, no_limit) };
                }
                pid @ 1.. => return Ok(Pid(pid)),
                error => return Err(io::Error::from_raw_os_error(-error)),
            }
        }
    }
}

/// The child shares keepup's memory, so the word is private to one memory map.
const WAKE: libc::c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
const WAIT: libc::c_int = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
