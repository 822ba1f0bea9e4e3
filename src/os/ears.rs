//! What services say of themselves: `sd_notify`, heard by keepup. Every run has a socket of its own.
//!
//! Must never take the word of a stranger, never be kept busy by a service that talks without end,
//! and hold no descriptor that a message brings.

pub mod message;
mod place;
mod socket;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::clock::now;
use super::{identity, procfs, watch};
use crate::core::event::{Event, Pid, Short, Time};
use crate::plan::{Name, Service};
use message::Word;
use place::Place;
use socket::{MESSAGE_MAX, Received, Sender};

/// Messages of one run that are heard in a second; further ones wait in the socket, and when that
/// is full the sender does.
const MESSAGES_PER_SECOND: u32 = 100;

/// Messages that are heard at the death of a run.
const LAST_WORDS_MAX: usize = 16;

/// How often people are told that a service says what is not heard.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Generations between a process and the main process of its run.
const GENERATIONS_MAX: usize = 64;

/// What was heard.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// For the core.
    Event(Event),
    /// For people: something was said that is not heeded.
    Complaint(Name, String),
}

/// All sockets.
#[derive(Debug)]
pub struct Ears {
    place: Place,
    open: HashMap<Name, Ear>,
    heard: VecDeque<Heard>,
}

#[derive(Debug)]
struct Ear {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
    /// Of the service.
    uid: u32,
    /// Its main process, once that runs.
    main: Option<Pid>,
    /// Since when messages are counted, and how many there were.
    second: Time,
    count: u32,
    complaints: Complaints,
}

#[derive(Debug, Default)]
struct Complaints {
    told_at: Option<Time>,
    untold: u32,
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Whoever still has the name finds nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Ears {
    /// Sockets are made in this folder, or where there is room for them.
    pub fn new(runtime_dir: &Path) -> Ears {
        Ears { place: Place::new(runtime_dir), open: HashMap::new(), heard: VecDeque::new() }
    }

    /// Makes the socket of a run that is about to start; what its environment must say. The error
    /// is a whole sentence. Needs a tokio runtime with its I/O enabled.
    pub fn open(&mut self, service: &Service, run: u64) -> Result<Vec<(String, String)>, String> {
        let owner = identity::owner(service).map(|it| it.0);
        let uid = owner.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        self.open.remove(&service.name);
        let (path, socket) = self.place.make(&service.name, run, uid)?;
        let address = path.display().to_string();
        let socket = watch::readable(socket)
            .map_err(|error| format!("cannot hear `{}`: {error}", service.name))?;
        let ear = Ear {
            socket,
            path,
            uid,
            main: None,
            second: now(),
            count: 0,
            complaints: Complaints::default(),
        };
        self.open.insert(service.name.clone(), ear);
        let mut variables = vec![("NOTIFY_SOCKET".to_owned(), address)];
        if let Some(heartbeat) = &service.heartbeat {
            let micros = heartbeat.unhealthy_after.as_micros();
            variables.push(("WATCHDOG_USEC".to_owned(), micros.to_string()));
        }
        Ok(variables)
    }

    /// Its program runs: from now on it is heard.
    pub fn attach(&mut self, name: &Name, main: Pid) {
        if let Some(ear) = self.open.get_mut(name) {
            ear.main = Some(main);
        }
    }

    /// It did not start.
    pub fn close(&mut self, name: &Name) {
        self.open.remove(name);
    }

    /// Its main process died: what it said before that, and nothing any more.
    pub fn last_words(&mut self, main: Pid) -> VecDeque<Heard> {
        let of_it = |it: &Ear| it.main == Some(main);
        let name = self.open.iter().find(|it| of_it(it.1)).map(|it| it.0.clone());
        if let Some(name) = name
            && let Some(mut ear) = self.open.remove(&name)
        {
            for _ in 0..LAST_WORDS_MAX {
                if !ear.hear(&name, &mut self.heard) {
                    break;
                }
            }
        }
        std::mem::take(&mut self.heard)
    }

    /// When those who have said enough for now are heard again.
    pub fn deadline(&self) -> Option<Time> {
        self.open.values().filter_map(Ear::full_until).min()
    }

    /// What is heard next; `None` if it means nothing. May be dropped at any time without losing
    /// anything; ask for [`Ears::deadline`] anew each time.
    pub async fn next(&mut self) -> Option<Heard> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let mut any = !self.heard.is_empty();
        if !any {
            for (name, ear) in &mut self.open {
                any |= ear.poll(cx, name, &mut self.heard);
            }
        }
        if any { Poll::Ready(self.heard.pop_front()) } else { Poll::Pending }
    }
}

impl Ear {
    /// True if there was a message, whatever it was.
    fn poll(&mut self, cx: &mut Context<'_>, name: &Name, heard: &mut VecDeque<Heard>) -> bool {
        if self.main.is_none() || !self.has_room() {
            return false;
        }
        // An error means that the runtime is being shut down.
        while matches!(self.socket.poll_read_ready(cx), Poll::Ready(Ok(_))) {
            if self.hear(name, heard) {
                self.count += 1;
                return true;
            }
            if let Poll::Ready(Ok(mut ready)) = self.socket.poll_read_ready(cx) {
                ready.clear_ready();
            }
        }
        false
    }

    /// May one more be heard in this second?
    fn has_room(&mut self) -> bool {
        if self.count >= MESSAGES_PER_SECOND && self.full_until().is_none_or(|at| at <= now()) {
            (self.second, self.count) = (now(), 0);
        }
        self.count < MESSAGES_PER_SECOND
    }

    fn full_until(&self) -> Option<Time> {
        let full = self.count >= MESSAGES_PER_SECOND;
        full.then(|| self.second + Duration::from_secs(1))
    }

    /// Takes in one message; false if there is none.
    fn hear(&mut self, name: &Name, heard: &mut VecDeque<Heard>) -> bool {
        let mut buffer = [0; MESSAGE_MAX];
        let why = match socket::receive(self.socket.get_ref(), &mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return true,
            Err(_) => return false,
            Ok(Received::Message(length, sender)) => match self.stranger(sender) {
                Some(why) => why,
                None => return self.heed(&buffer[..length], name, heard),
            },
            Ok(Received::TooLong(sender)) => {
                format!("a message of pid {} has more than {MESSAGE_MAX} bytes", sender.pid)
            }
            Ok(Received::Nameless) => "a message has no sender".to_owned(),
        };
        self.complain(name, &why, heard);
        true
    }

    fn heed(&mut self, message: &[u8], name: &Name, heard: &mut VecDeque<Heard>) -> bool {
        let Some(pid) = self.main else { return true };
        for word in message::read(message) {
            match word {
                Word::News(news) => heard.push_back(Heard::Event(Event::Notified { pid, news })),
                Word::Beat => heard.push_back(Heard::Event(Event::Beat { pid })),
                Word::MainPid(said) if said == pid.0 => {}
                Word::MainPid(said) => {
                    let why = format!(
                        "MAINPID={said}: the main process of a run is the one that keepup started, \
                         pid {pid}, whose end is the run's (run the program in the foreground)"
                    );
                    self.complain(name, &why, heard);
                }
            }
        }
        true
    }

    /// Why this sender is not heeded, if it is not.
    fn stranger(&self, sender: Sender) -> Option<String> {
        let Sender { pid, uid } = sender;
        let main = self.main?;
        if uid != self.uid && uid != 0 {
            return Some(format!("pid {pid} runs as uid {uid}, the service as uid {}", self.uid));
        }
        if is_of(main, pid) {
            return None;
        }
        Some(match procfs::stat(pid) {
            Some(_) => format!("pid {pid} is no process of this run"),
            None => format!(
                "pid {pid} was gone before it could be seen whose process it was (let the sender \
                 wait, as `systemd-notify` does)"
            ),
        })
    }

    /// Tells people, but not again and again.
    fn complain(&mut self, name: &Name, why: &str, heard: &mut VecDeque<Heard>) {
        let now = now();
        let Complaints { told_at, untold } = &mut self.complaints;
        if told_at.is_some_and(|at| now < at + COMPLAINT_PAUSE) {
            *untold = untold.saturating_add(1);
            return;
        }
        let more = match std::mem::take(untold) {
            0 => String::new(),
            more => format!("; {more} more in the last {}", Short(COMPLAINT_PAUSE)),
        };
        *told_at = Some(now);
        let text = format!("cannot heed what it says by sd_notify: {why}, ignoring{more}");
        heard.push_back(Heard::Complaint(name.clone(), text));
    }
}

/// Is this a process of the run: the main process, of its session or group, or descended from it?
/// Reads nothing that can hang.
fn is_of(main: Pid, pid: Pid) -> bool {
    let mut at = pid;
    for _ in 0..GENERATIONS_MAX {
        if at == main {
            return true;
        }
        let Some(stat) = procfs::stat(at) else { return false };
        if stat.session == main || stat.group == main {
            return true;
        }
        at = stat.parent;
    }
    false
}
