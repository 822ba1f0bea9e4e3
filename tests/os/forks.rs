//! Services that fork for ever: when they are over, nothing of them is left.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepup::core::event::{Exit, Pid};
use keepup::os::Processes;
use keepup::plan::{Limit, Resource, Service, Signal};

use crate::common::{alone, exited, folder, gone, is_root, service, shell, state, until, up};

const KILLED: Exit = Exit::Signal { signal: Signal::KILL, core_dumped: false };

/// Should a test fail, they end of themselves.
const BEGIN: &str = "import os, sys, time
end = time.monotonic() + 60
beat = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
";

/// Each process forks the next, which leaves for a session of its own, and ends: their parent is
/// always keepup, and nobody lives for longer than it takes to look.
const CHAIN: &str = "if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork(): os._exit(0)
        os.setsid()
        os.write(beat, b'.')
    os._exit(0)
time.sleep(60)";

/// Everybody forks for as long as that is allowed.
const TREE: &str = "while time.monotonic() < end:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: time.sleep(0.001)
    os.write(beat, b'.')";

/// A sign of life of every process of such a service: a byte in a file each time it forks.
struct Beat(PathBuf);

impl Beat {
    fn new() -> Beat {
        use std::os::unix::fs::PermissionsExt;
        let beat = Beat(folder().join("beat"));
        std::fs::write(&beat.0, "").unwrap();
        std::fs::set_permissions(&beat.0, std::fs::Permissions::from_mode(0o666)).unwrap();
        beat
    }

    fn count(&self) -> u64 {
        std::fs::metadata(&self.0).unwrap().len()
    }

    /// Waits until it forks again and again, while its dead are reaped.
    async fn is_there(&self, processes: &mut Processes) {
        tokio::select! {
            it = processes.next() => panic!("{it:?}"),
            () = until(|| self.count() > 100) => {}
        }
    }

    /// Nothing forks any more, for as long as many would take that do.
    async fn ends(self) {
        let count = self.count();
        let soon = tokio::time::timeout(Duration::from_millis(200), async {
            until(|| self.count() > count).await;
        });
        assert!(soon.await.is_err(), "it forks on");
        std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

fn forking(how: &str, beat: &Beat, environment: &[&str]) -> Service {
    let script = format!("{BEGIN}{how}");
    service(&[environment, &["python3", "-c", &script, path(&beat.0)]].concat())
}

/// Without the mark that every process of a service has in its environment.
const CLEARED: [&str; 2] = ["env", "-i"];

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn kill(pid: Pid) {
    let pid = nix::unistd::Pid::from_raw(pid.0);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Nobody but this one is taken for one of another's.
async fn bystander(processes: &mut Processes) -> Pid {
    up(processes, &Service { name: "other".into(), ..shell("setsid sleep 1000 & wait") }).await
}

fn assert_untouched(bystander: Pid) {
    assert_eq!(state(bystander.0), Some('S'));
    let children = format!("/proc/{bystander}/task/{bystander}/children");
    let children = std::fs::read_to_string(children).unwrap();
    assert_eq!(children.split_whitespace().count(), 1);
}

alone! {
    async fn a_chain_of_forks_ends_with_its_crashed_service() {
        let mut processes = Processes::new().unwrap();
        let other = bystander(&mut processes).await;
        for environment in [&CLEARED[..], &[]] {
            let beat = Beat::new();
            let pid = up(&mut processes, &forking(CHAIN, &beat, environment)).await;
            beat.is_there(&mut processes).await;
            kill(pid);
            assert_eq!(exited(&mut processes, pid).await, KILLED);
            gone(&mut processes, pid).await;
            beat.ends().await;
            assert_untouched(other);
        }
    }
}

alone! {
    async fn a_chain_of_forks_ends_with_its_killed_service() {
        let mut processes = Processes::new().unwrap();
        let other = bystander(&mut processes).await;
        let beat = Beat::new();
        let pid = up(&mut processes, &forking(CHAIN, &beat, &CLEARED)).await;
        beat.is_there(&mut processes).await;
        processes.signal(pid, Signal::KILL);
        assert_eq!(exited(&mut processes, pid).await, KILLED);
        gone(&mut processes, pid).await;
        beat.ends().await;
        assert_untouched(other);
    }
}

alone! {
    async fn a_tree_of_forks_ends_with_its_crashed_service() {
        if !is_root() {
            return eprintln!("NOT TESTED: only root can give a service a user with few processes");
        }
        let mut processes = Processes::new().unwrap();
        let other = bystander(&mut processes).await;
        let beat = Beat::new();
        let pid = up(&mut processes, &Service {
            // Nobody else's, whose processes would count.
            user: Some((1_000_000 + std::process::id()).to_string()),
            limits: BTreeMap::from([(Resource::Nproc, Limit::At(40))]),
            ..forking(TREE, &beat, &CLEARED)
        }).await;
        beat.is_there(&mut processes).await;
        kill(pid);
        assert_eq!(exited(&mut processes, pid).await, KILLED);
        gone(&mut processes, pid).await;
        beat.ends().await;
        assert_untouched(other);
    }
}

alone! {
    async fn forks_end_with_keepup() {
        let mut processes = Processes::new().unwrap();
        let beat = Beat::new();
        up(&mut processes, &forking(CHAIN, &beat, &CLEARED)).await;
        beat.is_there(&mut processes).await;
        assert_eq!(processes.end_all(Duration::from_secs(5)).await, []);
        beat.ends().await;
    }
}
