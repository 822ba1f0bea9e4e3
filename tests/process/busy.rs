//! A real uvicorn that is starved is busy, and is let go on; one that hangs is not.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{Folder, Keepup};
use crate::world::{free_port, get, pause, uvicorn};

/// Each answer takes 50 ms of processor time.
const APP: &str = r#"
import time

async def app(scope, receive, send):
    begin = time.process_time()
    while time.process_time() < begin + 0.05 or scope["path"] == "/spin":
        pass
    if scope["path"] == "/sleep":
        time.sleep(1_000_000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})
"#;

/// A control group with a limit on processor time, removed with its owner.
struct Group {
    folder: PathBuf,
    /// The limit, and what to write there: 5 % of a processor, and no limit.
    limit: (&'static str, &'static str, &'static str),
}

impl Group {
    fn new() -> Option<Group> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("keepup-busy-{}-{nth}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/cpu", ("cpu.cfs_quota_us", "5000", "-1")),
            ("/sys/fs/cgroup", ("cpu.max", "5000 100000", "max 100000")),
        ];
        kinds.into_iter().find_map(|(mount, limit)| {
            let folder = Path::new(mount).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Group { folder, limit };
            fs::write(group.folder.join(limit.0), limit.1).ok()?;
            Some(group)
        })
    }

    fn take(&self, pid: i32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn starve(&self) {
        fs::write(self.folder.join(self.limit.0), self.limit.1).unwrap();
    }

    fn feed(&self) {
        fs::write(self.folder.join(self.limit.0), self.limit.2).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it may not be gone yet.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            pause();
        }
    }
}

fn start(port: u16) -> Keepup {
    let folder = Folder::new();
    folder.write("app.py", APP);
    let service = format!(
        "[service.api]\ncommand = [\"{}\", \"app:app\", \"--port\", \"{port}\", \"--lifespan\", \"off\"]\n\
         env = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\nstop_timeout = \"500ms\"\nevidence_timeout = \"100ms\"\n\
         restart = {{ delay = \"10ms\" }}\n\
         [service.api.liveness]\nhttp = \"http://127.0.0.1:{port}/\"\ninterval = \"500ms\"\n\
         retry_interval = \"100ms\"\ntimeout = \"500ms\"\nfailures = 3\n",
        uvicorn().display()
    );
    Keepup::start_in(folder, "", &service)
}

#[test]
fn a_starved_uvicorn_is_let_go_on_and_one_that_hangs_on_the_same_host_is_ended() {
    let Some(group) = Group::new() else {
        eprintln!("NOT TESTED: this needs root and a control group of processors");
        return;
    };
    let port = free_port();
    let mut keepup = start(port);
    let pid = keepup.up("api");
    keepup.event("api", "ready");

    // It is busy: 50 ms of work take a second.
    group.take(pid);
    let busy = keepup.event("api", "busy");
    assert!(busy["why"].as_str().unwrap().contains("timed out after 500ms"), "{busy}");
    let host = busy["host"].as_str().unwrap();
    assert!(host.contains("throttled in") && host.contains("waited for a processor"), "{host}");
    group.feed();
    keepup.event("api", "healthy");
    assert_eq!(keepup.service("api")["run"], 1);
    assert_eq!(keepup.events("api", "unhealthy").len(), 0);

    // It goes round in circles, on the same host: who could tell? It is let go on once.
    group.starve();
    let hung = std::thread::spawn(move || get(port, "/spin"));
    keepup.event("api", "busy");
    keepup.event("api", "unhealthy");
    assert_eq!(keepup.events("api", "busy").len(), 2);
    assert_eq!(keepup.event("api", "ended")["reason"], "unhealthy");
    assert!(hung.join().unwrap().is_err());

    // It waits for what never comes, while another starves beside it.
    let pid = keepup.up("api");
    keepup.event("api", "ready");
    let folder = Folder::new();
    let mut other = folder.command("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    group.take(other.id().cast_signed());
    group.take(pid);
    let hung = std::thread::spawn(move || get(port, "/sleep"));
    keepup.event("api", "unhealthy");
    keepup.event("api", "ready");
    assert!(hung.join().unwrap().is_err());
    other.kill().unwrap();
    other.wait().unwrap();
    keepup.end();
}
