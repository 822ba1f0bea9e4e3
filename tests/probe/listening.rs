//! `listening`: real processes and their sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use keepup::core::event::Pid;
use keepup::plan::ProbeKind;

use crate::world::{LIMIT, ask_of, run, told};

/// Begins every script: ways to listen, and to say where.
const PRELUDE: &str = "
import os, socket, sys, time
def listen(host):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    it = socket.socket(family)
    it.bind((host, 0))
    it.listen()
    return it
def say(it):
    sys.stdout.write('%d %d\\n' % (os.getpid(), it.getsockname()[1]))
    sys.stdout.flush()
def stay():
    sys.stdin.read()
";

/// A service in a group of its own, which ends when its stdin does.
struct Service {
    child: Child,
    /// Who listens, and at which port.
    pid: u32,
    port: u16,
}

impl Service {
    fn start(script: &str, mark: &str) -> Service {
        let mut child = Command::new("python3")
            .args(["-c", &format!("{PRELUDE}{script}")])
            .env("KEEPUP_RUN", mark)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (pid, port) = line.trim().split_once(' ').unwrap();
        Service { child, pid: pid.parse().unwrap(), port: port.parse().unwrap() }
    }

    async fn asked(&self, address: &str) -> String {
        let main = Pid(i32::try_from(self.child.id()).unwrap());
        asked(Some(main), &address.replace("PORT", &self.port.to_string())).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.child.wait();
    }
}

async fn asked(main: Option<Pid>, address: &str) -> String {
    told(ask_of(main, ProbeKind::Listening(address.parse().unwrap()), LIMIT).await)
}

#[test]
fn the_main_process_passes_at_exactly_its_address() {
    run(async {
        let all = Service::start("it = listen('0.0.0.0'); say(it); stay()", "");
        assert_eq!(all.asked("0.0.0.0:PORT").await, "pass");
        let told = all.asked("127.0.0.1:PORT").await;
        let (pid, port) = (all.pid, all.port);
        let found = format!("other: pid {pid} (python3) listens at 0.0.0.0:{port}");
        assert_eq!(told, format!("{found}, wanted 127.0.0.1:{port}"));
        let local = Service::start("it = listen('127.0.0.1'); say(it); stay()", "");
        assert_eq!(local.asked("127.0.0.1:PORT").await, "pass");
        let (pid, port) = (local.pid, local.port);
        let found = format!("other: pid {pid} (python3) listens at 127.0.0.1:{port}");
        let wanted = format!("{found}, wanted 0.0.0.0:{port}");
        assert_eq!(local.asked("0.0.0.0:PORT").await, wanted);
    });
}

#[test]
fn a_child_passes_and_one_that_left_the_session_too() {
    run(async {
        let child = "
if os.fork() == 0:
    it = listen('127.0.0.1'); say(it)
stay()";
        let service = Service::start(child, "");
        assert_ne!(service.pid, service.child.id());
        assert_eq!(service.asked("127.0.0.1:PORT").await, "pass");
        let left = child.replace("    it =", "    os.setsid(); it =");
        let service = Service::start(&left, "");
        assert_eq!(service.asked("127.0.0.1:PORT").await, "pass");
        // Its parent is gone, and it has a session of its own: the mark tells whose it is.
        let stray = "
if os.fork() == 0:
    os.setsid()
    if os.fork() > 0: os._exit(0)
    it = listen('127.0.0.1'); say(it)
stay()";
        let service = Service::start(stray, "7-1-100/api/42");
        assert_eq!(service.asked("127.0.0.1:PORT").await, "pass");
        let service = Service::start(stray, "");
        let foreign = format!("other: pid {} (python3) listens there", service.pid);
        assert!(service.asked("127.0.0.1:PORT").await.starts_with(&foreign));
    });
}

#[test]
fn who_holds_the_port_instead_is_told() {
    run(async {
        let service = Service::start("it = listen('127.0.0.1'); say(it); stay()", "");
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, port) = (std::process::id(), other.local_addr().unwrap().port());
        let told = service.asked(&format!("127.0.0.1:{port}")).await;
        assert!(told.starts_with(&format!("other: pid {own} (")), "{told}");
        assert!(told.ends_with(") listens there, and is not of this service"), "{told}");
        let told = service.asked(&format!("0.0.0.0:{port}")).await;
        let begin = format!("refused: nobody listens at 0.0.0.0:{port}; pid {own} (");
        assert!(told.starts_with(&begin), "{told}");
        assert!(told.ends_with(&format!(", not of this service, at 127.0.0.1:{port}")), "{told}");
        drop(other);
        let told = service.asked(&format!("127.0.0.1:{port}")).await;
        let (pid, its) = (service.pid, service.port);
        let nobody = format!("refused: nobody listens at 127.0.0.1:{port}");
        assert_eq!(told, format!("{nobody}; pid {pid} (python3) listens at 127.0.0.1:{its}"));
    });
}

#[test]
fn ipv6_is_told_apart_from_ipv4() {
    run(async {
        if TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        let service = Service::start("it = listen('::1'); say(it); stay()", "");
        assert_eq!(service.asked("[::1]:PORT").await, "pass");
        let (pid, port) = (service.pid, service.port);
        let found = format!("other: pid {pid} (python3) listens at [::1]:{port}");
        assert_eq!(service.asked("[::]:PORT").await, format!("{found}, wanted [::]:{port}"));
    });
}

#[test]
fn a_service_that_does_not_run_listens_nowhere() {
    run(async {
        assert_eq!(asked(None, "127.0.0.1:1").await, "other: the service does not run");
        let gone = asked(Some(Pid(i32::MAX)), "127.0.0.1:1").await;
        assert!(gone.starts_with("other: cannot see who listens: "), "{gone}");
    });
}
