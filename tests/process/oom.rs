//! A service that the kernel kills for want of memory.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Folder, KEEPUP, Keepup, supervisor};

/// A control group with a limit on memory, removed with its owner.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Group> {
        let name = format!("keepup-test-{}", std::process::id());
        let path = Path::new("/sys/fs/cgroup/memory").join(name);
        fs::create_dir(&path).ok()?;
        let group = Group(path);
        fs::write(group.0.join("memory.limit_in_bytes"), "67108864").ok()?;
        // Absent where swap is not counted.
        let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), "67108864");
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it may not be gone yet.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            crate::world::pause();
        }
    }
}

#[test]
fn the_end_says_that_memory_ran_out() {
    let Some(group) = Group::new() else {
        eprintln!("NOT TESTED: this needs root and a writable memory control group (v1)");
        return;
    };
    let folder = Folder::new();
    let service = "[service.api]\ncommand = [\"python3\", \"-c\", \"import os, sys\\n\
                   if os.path.exists('full'): sys.stdin.read(); os.kill(os.getpid(), 9)\\n\
                   open('full', 'w').close()\\nx = bytearray(200 << 20)\"]\n\
                   restart = { delay = \"10ms\", max_restarts = 1, on_cap = \"fail\" }\n";
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("stay = true")));
    let mut command = folder.command("sh");
    let enter = format!("echo $$ >{}/cgroup.procs && exec {KEEPUP}", group.0.display());
    command.args(["-c", &enter]);
    let mut keepup = Keepup::launch(folder, command);
    let ended = keepup.event("api", "ended");
    let text = ended["text"].to_string();
    assert!(text.contains("killed by SIGKILL (out of memory: "), "{text}");
    // The next run kills itself, and nobody is to blame for that but itself.
    let text = keepup.event("api", "ended")["text"].to_string();
    assert!(text.contains("killed by SIGKILL") && !text.contains("memory"), "{text}");
    keepup.signal(libc::SIGTERM);
    keepup.wait_exit();
}
