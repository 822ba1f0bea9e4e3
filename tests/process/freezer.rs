//! Disks and mounts that do not answer, and that do again whatever becomes of a test.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::Folder;

/// A file system in a file that can be frozen; freezing never lasts longer than a minute.
pub(crate) struct Freezer {
    pub(crate) path: PathBuf,
    guard: Option<Child>,
}

impl Freezer {
    pub(crate) fn new(folder: &Folder, name: &str) -> Freezer {
        let (image, path) = (folder.path("image"), folder.path(name));
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir(&path).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(&path));
        Freezer { path, guard: None }
    }

    pub(crate) fn freeze(&mut self) {
        // Should this test be killed, its disk thaws all the same.
        let thaw = "sleep 60; exec fsfreeze -u \"$0\"";
        let mut guard = Command::new("sh");
        guard.args(["-c", thaw]).arg(&self.path).stdin(Stdio::null()).stderr(Stdio::null());
        self.guard = Some(guard.spawn().unwrap());
        run(Command::new("fsfreeze").arg("-f").arg(&self.path));
    }

    pub(crate) fn thaw(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            run(Command::new("fsfreeze").arg("-u").arg(&self.path));
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

pub(crate) fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).status();
    assert!(done.is_ok_and(|it| it.success()), "this test needs {command:?} to work");
}

/// A mount that nobody serves: whoever looks into it waits, until it is killed or this ends.
pub(crate) struct DeadMount {
    pub(crate) path: PathBuf,
    /// Holds the other end, and lets go of it after a minute.
    guard: Child,
}

impl DeadMount {
    pub(crate) fn new(folder: &Folder, name: &str) -> DeadMount {
        let path = folder.path(name);
        std::fs::create_dir(&path).unwrap();
        let script = "import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()
made = libc.mount(b'dead', sys.argv[1].encode(), b'fuse', 0, options)
open(sys.argv[2], 'w').write(f'{made}\\n')
time.sleep(60)";
        let mut guard = Command::new("python3");
        guard.args(["-c", script]).arg(&path).arg(folder.path("mounted")).stdin(Stdio::null());
        let mount = DeadMount { path, guard: guard.spawn().unwrap() };
        assert_eq!(folder.wait_line("mounted"), "0", "this test needs FUSE to be in the kernel");
        mount
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
pub(crate) fn cannot_freeze() {
    eprintln!("not run: this test mounts a disk, and that needs root");
}
