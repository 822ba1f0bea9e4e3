//! A real uvicorn whose log cannot be written, in every way there is: it keeps answering.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::freezer::{Freezer, cannot_freeze, run};
use crate::harness::{Folder, KEEPUP, Keepup, supervisor};
use crate::world::{body, code, free_port, get, is_root, lives, uvicorn, wait_until};

/// Prints 64 KiB for each request, besides what uvicorn prints itself.
const LOUD: &str = "
import sys

async def app(scope, receive, send):
    assert scope['type'] == 'http'
    sys.stdout.write(('x' * 127 + '\\n') * 512)
    sys.stdout.flush()
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'well'})
";

/// An uvicorn under keepup, with its log in `logs` of the folder.
struct Loud {
    keepup: Keepup,
    port: u16,
    own: u16,
    pid: i32,
}

impl Loud {
    /// `before`: shell commands before keepup takes their place.
    fn start(folder: Folder, before: &str) -> Loud {
        let (port, own) = (free_port(), free_port());
        folder.write("loud.py", LOUD);
        let service = format!(
            "[service.api]\ncommand = [\"{}\", \"--lifespan\", \"off\", \"--port\", \"{port}\", \"loud:app\"]\n\
             [service.api.logs]\nbuffer = \"64KiB\"\nmax_size = \"1MB\"\nkeep = 2\n",
            uvicorn().display()
        );
        let more = format!("listen = \"127.0.0.1:{own}\"");
        folder.write("supervisor.toml", &format!("{}{service}", supervisor(&more)));
        let _ = fs::create_dir(folder.path("logs"));
        let mut command = folder.keepup();
        if !before.is_empty() {
            // Mounts that nobody else sees, and that go with keepup.
            command = folder.command("unshare");
            if !is_root() {
                command.arg("--map-root-user");
            }
            command.args(["--mount", "sh", "-c", &format!("{before} exec {KEEPUP}")]);
        }
        let mut keepup = Keepup::launch(folder, command);
        let pid = keepup.up("api");
        wait_until("it answers", || get(port, "/").is_ok());
        Loud { keepup, port, own, pid }
    }

    /// It answers, and keepup does.
    fn answers(&self, times: u32) {
        for nth in 0..times {
            let answer = get(self.port, "/").unwrap_or_else(|it| panic!("request {nth}: {it}"));
            assert_eq!(code(&answer), 200, "request {nth}");
        }
        assert_eq!(code(&get(self.own, "/healthz").unwrap()), 200);
        assert!(lives(self.pid));
    }

    /// What the status says is wrong with its log; nothing if all is well.
    fn problem(&self) -> Option<String> {
        let log = &self.keepup.service("api")["log"];
        assert_eq!(log["problem"].is_null(), log["since"].is_null(), "{log}");
        log["problem"].as_str().map(str::to_owned)
    }

    /// Answers until this stands in the status.
    fn has_problem(&self, words: &str) {
        wait_until(&format!("`{words}` is told"), || {
            self.answers(1);
            self.problem().is_some_and(|it| it.contains(words))
        });
        let shown = self.keepup.ask(&["status", "api"]);
        assert!(shown.contains(words) && shown.contains(" log "), "{shown}");
        let shown = self.keepup.ask(&["status"]);
        assert!(shown.contains("api: log: ") && shown.contains(words), "{shown}");
        assert!(self.metrics().contains("keepup_log_problem{service=\"api\"} 1\n"));
    }

    /// Answers until nothing is wrong any more.
    fn recovers(&self) {
        wait_until("the log is written again", || {
            self.answers(1);
            self.problem().is_none()
        });
        assert!(self.metrics().contains("keepup_log_problem{service=\"api\"} 0\n"));
    }

    fn metrics(&self) -> String {
        body(&get(self.own, "/metrics").unwrap()).to_owned()
    }

    fn lost(&self) -> u64 {
        self.keepup.service("api")["log"]["lines_lost"].as_u64().unwrap()
    }

    /// The folder of its log, as it sees it.
    fn logs(&self) -> PathBuf {
        let folder = &self.keepup.folder.0;
        PathBuf::from(format!("/proc/{}/root{}/logs", self.keepup.pid, folder.display()))
    }

    /// All that is in the files of its log.
    fn log(&self) -> String {
        ["api.log.2", "api.log.1", "api.log"]
            .iter()
            .map(|it| fs::read_to_string(self.logs().join(it)).unwrap_or_default())
            .collect()
    }
}

#[test]
fn an_uvicorn_answers_while_its_log_is_on_a_full_disk_and_while_its_folder_is_gone() {
    let mount = "mount -t tmpfs -o size=512k none logs && head -c 256k /dev/zero > logs/filler &&";
    let loud = Loud::start(Folder::new(), mount);
    loud.has_problem("no space left on device");
    loud.answers(40);
    assert!(loud.lost() > 10_000, "{}", loud.lost());
    let metrics = loud.metrics();
    let counted = format!("keepup_log_lines_lost_total{{service=\"api\"}} {}\n", loud.lost());
    assert!(metrics.contains(&counted), "{counted}{metrics}");
    fs::remove_file(loud.logs().join("filler")).unwrap();
    // The disk is still too small for three files; what matters is that something is written.
    wait_until("the gap is told", || {
        loud.answers(1);
        loud.log().contains(" lines lost (no space left on device)\n")
    });

    // The folder is a mount point, and stays; all that is in it goes, again and again.
    for _ in 0..20 {
        for entry in fs::read_dir(loud.logs()).unwrap().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        loud.answers(5);
    }
    wait_until("it is begun anew", || {
        loud.answers(1);
        loud.logs().join("api.log").exists()
    });
}

#[test]
fn an_uvicorn_answers_while_the_folder_of_its_log_is_deleted_and_cannot_be_made() {
    let loud = Loud::start(Folder::new(), "");
    loud.answers(20);
    // In its place stands a file, in which no folder can be made.
    fs::remove_dir_all(loud.keepup.folder.path("logs")).unwrap();
    loud.keepup.folder.write("logs", "in the way");
    loud.has_problem("not a directory");
    loud.answers(40);
    fs::remove_file(loud.keepup.folder.path("logs")).unwrap();
    loud.recovers();
    assert!(loud.log().contains(" lines lost (not a directory)\n"), "{}", loud.lost());
}

#[test]
fn an_uvicorn_answers_while_the_disk_of_its_log_is_frozen() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let mut disk = Freezer::new(&folder, "logs");
    let loud = Loud::start(folder, "");
    loud.answers(5);
    let before = loud.lost();
    disk.freeze();
    loud.has_problem("the disk has not answered for 2s");
    loud.answers(40);
    // keepup's own word counts, too, although its own log is on that disk.
    assert_eq!(loud.keepup.service("api")["state"], "up");
    let lost = loud.lost() - before;
    assert!(lost > 10_000, "{lost}");
    disk.thaw();
    loud.recovers();
    let mark = format!("keepup: {} lines lost (the disk has not answered for 2s)\n", loud.lost());
    assert!(loud.log().contains(&mark), "{mark}");
    let Loud { mut keepup, .. } = loud;
    keepup.end();
    drop(disk);
}

#[test]
fn an_uvicorn_answers_while_the_disk_of_its_log_is_read_only_after_an_error() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let disk = Freezer::new(&folder, "logs");
    let loud = Loud::start(folder, "");
    loud.answers(5);
    // As after a bad sector: the kernel itself makes it read-only, although files are open.
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find(|it| it.contains(&disk.path.display().to_string())).unwrap();
    let device = mount.split([' ', '/']).nth(2).unwrap();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    loud.has_problem("read-only file system");
    loud.answers(40);
    // Another disk in its place.
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&disk.path));
    loud.recovers();
    assert!(loud.log().contains(" lines lost (read-only file system)\n"), "{}", loud.lost());
    let Loud { mut keepup, .. } = loud;
    keepup.end();
    let _ = Command::new("umount").arg("-l").arg(&disk.path).status();
}
