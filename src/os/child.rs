//! What happens in a new process between its fork and its program.
//!
//! Must never allocate, panic, take a lock or call anything that is not async-signal-safe: the
//! other threads of keepup are gone here, and may have held any lock (fork(2), signal-safety(7)),
//! or they go on in the very same memory (vfork(2)), which must not be written to.

#![expect(unsafe_code, reason = "nothing but system calls is left to do here")]

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use super::failure::{Failure, Report, Step};
use super::launch::{Ground, Inherited, Launch, Session};
use super::tag::RLIMIT_RTTIME;
use crate::plan::{Resource, SOCKETS_MAX};

/// The standard streams.
const FDS: usize = 3;
/// And the sockets that follow them.
const FDS_MAX: usize = FDS + SOCKETS_MAX;

/// What the child needs.
pub(super) struct Inside<'a> {
    pub(super) launch: &'a Launch,
    /// Ended by a null, as is the environment.
    pub(super) argv: &'a [*const libc::c_char],
    pub(super) environment: &'a [*const libc::c_char],
    /// What becomes descriptors 0, 1 and 2.
    pub(super) fds: [RawFd; FDS],
    /// Where a failure is written to.
    pub(super) told: RawFd,
    /// Of `environment`, if they are wanted.
    pub(super) own_pid: &'a OwnPid,
    /// The control group to enter first; `None`: it is where it should be.
    pub(super) entered: Option<RawFd>,
}

/// Variables whose value only the child knows.
#[derive(Debug)]
pub(super) struct OwnPid {
    pub(super) listen: PidVariable,
    pub(super) watchdog: PidVariable,
}

impl OwnPid {
    /// Source: `sd_listen_fds(3)`, `sd_watchdog_enabled(3)`.
    pub(super) fn new() -> OwnPid {
        let [listen, watchdog] = [&b"LISTEN_PID="[..], b"WATCHDOG_PID="];
        OwnPid { listen: PidVariable::new(listen), watchdog: PidVariable::new(watchdog) }
    }
}

/// One of them, with room for it.
#[derive(Debug)]
pub(super) struct PidVariable {
    name: &'static [u8],
    text: UnsafeCell<[u8; ROOM]>,
}

/// Of the largest pid, and some.
const DIGITS: usize = 20;
/// Of a name, its value, and a NUL.
const ROOM: usize = 40;

impl PidVariable {
    fn new(name: &'static [u8]) -> PidVariable {
        PidVariable { name, text: UnsafeCell::new([0; ROOM]) }
    }

    /// As one of the environment; ended by a NUL whenever it is read.
    pub(super) fn pointer(&self) -> *const libc::c_char {
        self.text.get().cast_const().cast()
    }

    /// Called in the child, which may be borrowing keepup's memory; but this is nobody else's.
    fn fill(&self) {
        // SAFETY: takes nothing.
        let mut pid = unsafe { libc::getpid() }.unsigned_abs();
        let mut digits = [0; DIGITS];
        let mut first = DIGITS;
        while first == DIGITS || pid > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(pid % 10).unwrap_or_default();
            pid /= 10;
        }
        // SAFETY: the thread that made it stands still, or is in another process.
        let text = unsafe { &mut *self.text.get() };
        let value = self.name.iter().chain(&digits[first..]).chain(&[0]);
        for (to, from) in text.iter_mut().zip(value) {
            *to = *from;
        }
    }
}

/// Becomes the program, or reports why not.
pub(super) fn run(inside: &Inside<'_>) -> ! {
    let mut told = inside.told;
    let report = match prepare(inside, &mut told) {
        Ok(()) => execute(inside),
        Err(failure) => Report::of(failure),
    };
    let bytes = report.bytes();
    // SAFETY: plain system calls; the bytes live until the process does not.
    unsafe {
        libc::write(told, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

fn prepare(inside: &Inside<'_>, told: &mut RawFd) -> Result<(), Failure> {
    let launch = inside.launch;
    if let Some(group) = inside.entered {
        enter(group);
    }
    set_apart(launch.session);
    arrange_fds(inside, told)?;
    if let Some(umask) = launch.umask {
        // SAFETY: takes an integer.
        unsafe { libc::umask(umask) };
    }
    raise_limits(launch)?;
    become_user(launch)?;
    if launch.no_new_privileges {
        // SAFETY: this option takes integers alone.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        check(result, Step::NoNewPrivileges)?;
    }
    if let Some(directory) = &launch.directory {
        // SAFETY: the string lives in the parent's memory, of which this is a copy.
        check(unsafe { libc::chdir(directory.as_ptr()) }, Step::Directory)?;
    }
    reset_signals();
    Ok(())
}

/// Fails only where it then runs beside keepup, as it would without control groups.
fn enter(group: RawFd) {
    // SAFETY: the names live through the calls, and one byte is written, which stands for whoever
    // writes it.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let processes = libc::openat(group, c"cgroup.procs".as_ptr(), flags);
        libc::write(processes, c"0".as_ptr().cast(), 1);
        libc::close(processes);
    }
}

/// Makes it the leader of a group. The terminal, if it is to have one, is keepup's stdin.
fn set_apart(session: Session) {
    // SAFETY: integers in and out. The first two fail only for a leader, which a new child is not;
    // the last where the terminal is gone, and then the program finds out. As TTOU is blocked, it
    // does not stop who is not in the foreground yet.
    unsafe {
        match session {
            Session::Own => _ = libc::setsid(),
            Session::Shared(Ground::Back) => _ = libc::setpgid(0, 0),
            Session::Shared(Ground::Fore) => {
                libc::setpgid(0, 0);
                libc::tcsetpgrp(0, libc::getpid());
            }
        }
    }
}

/// Gives the streams and the sockets their places; what is not kept is closed by the exec.
fn arrange_fds(inside: &Inside<'_>, told: &mut RawFd) -> Result<(), Failure> {
    let sockets = &inside.launch.sockets;
    let count = FDS + sockets.len().min(SOCKETS_MAX);
    let first_free = RawFd::try_from(count).unwrap_or(RawFd::MAX);
    // First out of the way: a source may have the number of another's place.
    let mut moved = [-1; FDS_MAX];
    let sources = inside.fds.into_iter().chain(sockets.iter().map(AsRawFd::as_raw_fd));
    for (to, from) in moved.iter_mut().zip(sources) {
        *to = move_up(from, first_free)?;
    }
    *told = move_up(*told, first_free)?;
    for (place, from) in (0..first_free).zip(moved) {
        // SAFETY: takes integers. The copy loses CLOEXEC, as it must.
        check(unsafe { libc::dup2(from, place) }, Step::Streams)?;
    }
    match inside.launch.inherited {
        Inherited::Closed => close_inherited(first_free),
        Inherited::Kept => {}
    }
    inside.own_pid.listen.fill();
    inside.own_pid.watchdog.fill();
    Ok(())
}

fn close_inherited(first: RawFd) {
    let last = libc::c_uint::MAX;
    // SAFETY: takes integers; nothing is closed yet, so the way to report stays open.
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if closed != 0 {
        close_one_by_one(first);
    }
}

fn move_up(fd: RawFd, first_free: RawFd) -> Result<RawFd, Failure> {
    // SAFETY: takes integers.
    let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, first_free) };
    check(moved, Step::Streams)?;
    Ok(moved)
}

/// For kernels before 5.11. What keepup opens itself closes at the exec anyway; this is for what
/// it was started with.
fn close_one_by_one(first: RawFd) {
    for fd in first..4096 {
        // SAFETY: takes integers; it fails where there is no such descriptor.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// What may need privileges, while there are any.
fn raise_limits(launch: &Launch) -> Result<(), Failure> {
    if let Some(score) = &launch.oom_score_adj {
        write_file(c"/proc/self/oom_score_adj", score)?;
    }
    if launch.nice != 0 {
        // SAFETY: takes integers.
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, launch.nice) }, Step::Nice)?;
    }
    if let Some(tag) = launch.tag {
        let limit = tag.limit();
        // SAFETY: the kernel reads one limit, and a null for the old one is allowed. It may fail:
        // there is the mark in the environment, too.
        unsafe {
            let none = std::ptr::null_mut::<libc::rlimit64>();
            libc::syscall(libc::SYS_prlimit64, 0, RLIMIT_RTTIME, &raw const limit, none);
        }
    }
    for (place, &(resource, limit)) in (0..).zip(&launch.limits) {
        // SAFETY: the limit lives through the call.
        let result = unsafe { libc::setrlimit(resource_number(resource), &raw const limit) };
        check(result, Step::Limit).map_err(|failure| failure.at(place))?;
    }
    Ok(())
}

fn write_file(path: &CStr, text: &CStr) -> Result<(), Failure> {
    // SAFETY: both strings live through the calls, and the length is the text's.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd, Step::OomScore)?;
        let written = libc::write(fd, text.as_ptr().cast(), text.count_bytes());
        check(if written < 0 { -1 } else { 0 }, Step::OomScore)?;
        libc::close(fd);
    }
    Ok(())
}

fn become_user(launch: &Launch) -> Result<(), Failure> {
    let Some(identity) = &launch.identity else { return Ok(()) };
    let gid = identity.gid;
    // SAFETY: the list lives through the call and has this length; the rest are integers. The
    // kernel is asked itself: libc's wrappers would do the same to keepup's threads, which they
    // know from the memory that this child may be borrowing.
    unsafe {
        if let Some(groups) = &identity.groups {
            let set = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
            check_long(set, Step::Groups)?;
        }
        check_long(libc::syscall(libc::SYS_setresgid, gid, gid, gid), Step::Groups)?;
        if let Some(uid) = identity.uid {
            check_long(libc::syscall(libc::SYS_setresuid, uid, uid, uid), Step::User)?;
        }
    }
    Ok(())
}

/// Every disposition to its default, then the mask to empty: what came meanwhile takes its effect.
fn reset_signals() {
    // As the kernel defines it: a handler of 0 (the default), no flags, an empty mask, on every
    // architecture in whatever order. libc's own call refuses the two signals it uses itself.
    let default = [0_u64; 8];
    let kernel_sigset_size = 8_usize;
    let none = std::ptr::null_mut::<libc::c_void>();
    for signal in 1..=64 {
        // SAFETY: the kernel reads less than these 64 bytes, and a null for the old one is
        // allowed. It refuses KILL and STOP, which have no disposition to reset.
        unsafe {
            let from = default.as_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, from, none, kernel_sigset_size);
        }
    }
    // SAFETY: the kernel reads eight bytes; a null for the old mask is allowed.
    unsafe {
        let (how, from) = (libc::SIG_SETMASK, default.as_ptr());
        libc::syscall(libc::SYS_rt_sigprocmask, how, from, none, kernel_sigset_size);
    }
}

/// Tries each candidate; returns only if none can be run. Source: execvp(3).
fn execute(inside: &Inside<'_>) -> Report {
    let mut denied = None;
    for (place, file) in (0..).zip(&inside.launch.candidates) {
        // SAFETY: the strings live, and both lists are ended by a null.
        unsafe {
            libc::execve(file.as_ptr(), inside.argv.as_ptr(), inside.environment.as_ptr());
        }
        let mut report = Report::of(Failure::new(Step::Exec).at(place));
        match report.failure.errno {
            // Where there is a file, what is missing is its interpreter.
            libc::ENOENT | libc::ENOTDIR => {
                if look_at(file, &mut report) {
                    return report;
                }
            }
            // Another folder of PATH may hold one that can be run.
            libc::EACCES => {
                look_at(file, &mut report);
                denied.get_or_insert(report);
            }
            _ => return report,
        }
    }
    denied.unwrap_or_else(|| Report::of(Failure::new(Step::NotFound)))
}

/// Adds what the file is; false if there is none.
fn look_at(file: &CStr, report: &mut Report) -> bool {
    // SAFETY: `stat` is written by the kernel before it is read; an all-zero one is valid, too.
    // The head is as long as is said.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::stat(file.as_ptr(), &raw mut stat) != 0 {
            return false;
        }
        report.mode = stat.st_mode;
        // Only what surely answers: a pipe or a device may not.
        if stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            let fd = libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            libc::read(fd, report.head.as_mut_ptr().cast(), report.head.len());
        }
    }
    true
}

fn check_long(result: libc::c_long, step: Step) -> Result<(), Failure> {
    if result < 0 { Err(Failure::new(step)) } else { Ok(()) }
}

fn check(result: libc::c_int, step: Step) -> Result<(), Failure> {
    if result < 0 { Err(Failure::new(step)) } else { Ok(()) }
}

/// The kernel's number for it; its type differs between C libraries.
macro_rules! resource_numbers {
    ($($word:ident => $number:ident),*) => {
        #[cfg(not(target_env = "musl"))]
        fn resource_number(resource: Resource) -> libc::__rlimit_resource_t {
            match resource { $(Resource::$word => libc::$number),* }
        }
        #[cfg(target_env = "musl")]
        fn resource_number(resource: Resource) -> libc::c_int {
            match resource { $(Resource::$word => libc::$number),* }
        }
    };
}

resource_numbers! {
    As => RLIMIT_AS, Core => RLIMIT_CORE, Cpu => RLIMIT_CPU, Data => RLIMIT_DATA,
    Fsize => RLIMIT_FSIZE, Memlock => RLIMIT_MEMLOCK, Nofile => RLIMIT_NOFILE,
    Nproc => RLIMIT_NPROC, Stack => RLIMIT_STACK
}
