//! A start, prepared down to the last byte, and the fork that performs it.
//!
//! Everything that may allocate, read a file or fail in an interesting way happens here, before
//! the fork; `child` has system calls alone left to do.

#![expect(unsafe_code, reason = "fork, and the signal mask round it")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, LazyLock};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::cgroup::ControlGroup;
use super::child::{self, Inside, OwnPid};
use super::environment;
use super::identity::{self, Identity};
use super::init::PATH_DEFAULT;
use super::marker::Keepup;
use super::sockets::Handed;
use super::spawner::Spawner;
use super::tag::Tag;
use crate::core::event::Pid;
use crate::plan::{Limit, Resource, Service};

/// Folders of a PATH after these many are not searched.
const CANDIDATES_MAX: usize = 1000;

/// Where a stream of a process goes.
#[derive(Debug)]
pub enum Stream {
    /// Where keepup's own goes.
    Inherit,
    /// Here; closed in keepup once the process has it.
    To(OwnedFd),
}

/// Where a process writes.
#[derive(Debug)]
pub struct Output {
    /// Descriptor 1.
    pub stdout: Stream,
    /// Descriptor 2.
    pub stderr: Stream,
}

/// In which session a process is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// A new one, without a terminal.
    Own,
    /// keepup's, in a group of its own; on the terminal that both have, this is its place.
    Shared(Ground),
}

/// Whether a group may read from its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    Fore,
    Back,
}

/// What keepup was started with beyond the standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherited {
    Closed,
    Kept,
}

/// One start of one command, of a service or of a plain init.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// The files to try, in this order.
    pub(super) candidates: Vec<CString>,
    /// The PATH that they come from; `None`: the command names its file.
    pub(super) path: Option<String>,
    /// `None`: keepup's own, as with the mask below.
    pub(super) directory: Option<CString>,
    pub(super) umask: Option<libc::mode_t>,
    /// 0: as inherited.
    pub(super) nice: libc::c_int,
    pub(super) oom_score_adj: Option<CString>,
    pub(super) limits: Vec<(Resource, libc::rlimit)>,
    pub(super) tag: Option<Tag>,
    /// Where it is born, if not beside keepup.
    pub(super) group: Option<ControlGroup>,
    pub(super) identity: Option<Identity>,
    /// The user as the plan spells it, for people.
    pub(super) user: Option<String>,
    pub(super) no_new_privileges: bool,
    pub(super) session: Session,
    pub(super) inherited: Inherited,
    /// A number that is another when the variables of its files are.
    pub(super) files: u64,
    /// What follows the standard streams.
    pub(super) sockets: Vec<Arc<OwnedFd>>,
}

impl Launch {
    /// The error is a whole sentence for people.
    pub(super) fn prepare(
        service: &Service,
        command: &[String],
        (keepup, run): (&Keepup, &str),
        tag: Option<Tag>,
    ) -> Result<Launch, String> {
        let program = command.first().map_or("", String::as_str);
        let cannot = |why: String| format!("cannot start `{program}`: {why}");
        let (identity, login) =
            identity::look_up(service.user.as_deref(), service.group.as_deref()).map_err(cannot)?;
        let (environment, files) =
            environment::build(service, login.as_ref(), std::env::vars_os(), (keepup, run))
                .map_err(cannot)?;
        let path = environment.get(OsStr::new("PATH")).map(OsString::as_os_str).unwrap_or_default();
        let (path, candidates) = candidates(program, path).map_err(cannot)?;
        let words = command.iter().map(|it| c_string(it.as_bytes()));
        Ok(Launch {
            argv: words.collect::<Result<_, _>>().map_err(cannot)?,
            environment: assignments(environment).map_err(cannot)?,
            candidates,
            path,
            directory: Some(c_string(service.directory.as_os_str().as_bytes()).map_err(cannot)?),
            umask: Some(service.umask),
            nice: service.nice,
            oom_score_adj: match oom_score_adj(service.oom_score_adj) {
                None => None,
                Some(score) => Some(c_string(score.to_string().as_bytes()).map_err(cannot)?),
            },
            limits: service.limits.iter().map(|(&it, &limit)| (it, limit_value(limit))).collect(),
            tag,
            group: None,
            identity,
            user: service.user.clone(),
            no_new_privileges: service.no_new_privileges,
            session: Session::Own,
            inherited: Inherited::Closed,
            files,
            sockets: Vec::new(),
        })
    }

    /// Of a command that is to run as if it had been started in keepup's place.
    pub(super) fn as_keepup(command: &[String], session: Session) -> Result<Launch, String> {
        let program = command.first().map_or("", String::as_str);
        let cannot = |why: String| format!("cannot start `{program}`: {why}");
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
        let (path, candidates) = candidates(program, &path).map_err(cannot)?;
        let words = command.iter().map(|it| c_string(it.as_bytes()));
        Ok(Launch {
            argv: words.collect::<Result<_, _>>().map_err(cannot)?,
            environment: assignments(std::env::vars_os()).map_err(cannot)?,
            candidates,
            path,
            directory: None,
            umask: None,
            nice: 0,
            oom_score_adj: None,
            limits: Vec::new(),
            tag: None,
            group: None,
            identity: None,
            user: None,
            no_new_privileges: false,
            session,
            inherited: Inherited::Kept,
            files: 0,
            sockets: Vec::new(),
        })
    }

    /// It is given these, as systemd would. Source: `sd_listen_fds(3)`.
    pub(super) fn hand_over(&mut self, sockets: Handed) -> Result<(), String> {
        if sockets.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = sockets.iter().map(|it| it.0.as_str()).collect();
        let ours = [
            format!("LISTEN_FDS={}", sockets.len()),
            format!("LISTEN_FDNAMES={}", names.join(":")),
        ];
        // Those of its own configuration would say something else.
        let theirs: [&[u8]; 3] = [b"LISTEN_FDS=", b"LISTEN_FDNAMES=", b"LISTEN_PID="];
        self.environment.retain(|it| !theirs.iter().any(|name| it.as_bytes().starts_with(name)));
        for line in ours {
            self.environment.push(c_string(line.as_bytes())?);
        }
        self.sockets = sockets.into_iter().map(|it| it.1).collect();
        Ok(())
    }

    /// What a process of it finds in its environment: whom the sockets are for, if it has any, and
    /// whose signs of life are awaited, if they are.
    pub(super) fn environment(&self, own_pid: &OwnPid) -> Vec<*const libc::c_char> {
        let mut environment = pointers(&self.environment);
        if !self.sockets.is_empty() {
            environment.insert(0, own_pid.listen.pointer());
        }
        let has = |name: &[u8]| self.environment.iter().any(|it| it.as_bytes().starts_with(name));
        let watched = has(b"WATCHDOG_USEC=") && !has(b"WATCHDOG_PID=");
        if watched && self.inherited == Inherited::Closed {
            environment.insert(0, own_pid.watchdog.pointer());
        }
        environment
    }

    /// The program, as the plan spells it.
    pub(super) fn program(&self) -> String {
        self.argv.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Starts it. The pipe tells what became of it: its end without a word means that the program
    /// runs; otherwise there is a [`super::failure::Report`] in it.
    pub(super) fn start(
        self: &Arc<Launch>,
        spawner: &mut Spawner,
        stdin: BorrowedFd<'_>,
        output: &Output,
    ) -> Result<(Pid, OwnedFd), String> {
        self.try_start(spawner, stdin, output).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::EAGAIN) => "no more processes are allowed here (see pids.max of the \
                                       cgroup, `--pids-limit` of a container, `ulimit -u`)"
                    .to_owned(),
                Some(libc::ENOMEM) => "there is no memory for another process".to_owned(),
                Some(libc::EMFILE) => "keepup has too many open files (raise its `ulimit -n`, \
                                       LimitNOFILE= in its unit)"
                    .to_owned(),
                Some(libc::ENFILE) => "the machine has too many open files".to_owned(),
                _ => error.to_string(),
            };
            format!("cannot start `{}`: {why}", self.program())
        })
    }

    fn try_start(
        self: &Arc<Launch>,
        spawner: &mut Spawner,
        stdin: BorrowedFd<'_>,
        output: &Output,
    ) -> io::Result<(Pid, OwnedFd)> {
        let (heard, told) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&heard, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let fds = [stdin.as_raw_fd(), output.stdout.fd(1), output.stderr.fd(2)];
        let started = spawner.start(self, fds, told.as_raw_fd());
        let pid = started.unwrap_or_else(|| self.fork(fds, told.as_raw_fd()))?;
        Ok((pid, heard))
    }

    fn fork(&self, fds: [RawFd; 3], told: RawFd) -> io::Result<Pid> {
        let argv = pointers(&self.argv);
        let own_pid = OwnPid::new();
        let environment = self.environment(&own_pid);
        let inside = Inside {
            launch: self,
            argv: &argv,
            environment: &environment,
            fds,
            told,
            own_pid: &own_pid,
            entered: self.group.as_ref().map(ControlGroup::fd),
        };
        // With every signal blocked, keepup's handlers cannot run in the child: what is sent to it
        // before its program runs waits, and then has its default effect.
        let mask = block_all();
        // SAFETY: the child calls nothing but `child::run`, which allocates nothing, takes no lock
        // and does not return.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child::run(&inside);
        }
        let failed = io::Error::last_os_error();
        restore(&mask);
        if pid < 0 { Err(failed) } else { Ok(Pid(pid)) }
    }
}

impl Stream {
    fn fd(&self, inherited: RawFd) -> RawFd {
        match self {
            Stream::Inherit => inherited,
            Stream::To(fd) => fd.as_raw_fd(),
        }
    }
}

/// What every process reads: nothing.
pub(super) fn dev_null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// Where the program may be, as execvp(3) looks for it.
fn candidates(program: &str, path: &OsStr) -> Result<(Option<String>, Vec<CString>), String> {
    if program.contains('/') {
        return Ok((None, vec![c_string(program.as_bytes())?]));
    }
    let folders = path.as_bytes().split(|&byte| byte == b':').take(CANDIDATES_MAX);
    let files = folders.map(|folder| {
        let folder = if folder.is_empty() { b"." } else { folder };
        c_string(&[folder, b"/", program.as_bytes()].concat())
    });
    Ok((Some(path.to_string_lossy().into_owned()), files.collect::<Result<_, _>>()?))
}

fn assignments(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<CString>, String> {
    let lines = environment.into_iter().map(|(name, value)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend(value.into_vec());
        c_string(&line)
    });
    lines.collect()
}

/// What is to be set. keepup may be kept from the OOM killer, as its unit asks for; services are
/// not unless they ask for it. What makes keepup go first they inherit: it takes no privilege to
/// keep it, and one to lower it.
fn oom_score_adj(wanted: i32) -> Option<i32> {
    static OWN: LazyLock<i32> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    });
    (wanted != 0 || *OWN < 0).then_some(wanted)
}

fn limit_value(limit: Limit) -> libc::rlimit {
    let value = match limit {
        Limit::At(value) => value,
        Limit::Unlimited => libc::RLIM_INFINITY,
    };
    libc::rlimit { rlim_cur: value, rlim_max: value }
}

fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| "there is a NUL in its command or environment".to_owned())
}

/// As execve(2) wants it: ended by a null.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect()
}

pub(super) fn block_all() -> libc::sigset_t {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigfillset makes a signal set, and pthread_sigmask another from the kernel's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

fn restore(mask: &libc::sigset_t) {
    // SAFETY: the mask was made by `block_all`; a null for the old one is allowed.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
