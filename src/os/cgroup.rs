//! A control group for each service, where keepup was given some to make: what is in it is killed
//! at once and whole, however fast it forks, and is known to be gone.
//!
//! Needs cgroup v2, and only in a group that is keepup's own: a directory that was delegated (as
//! systemd does with `Delegate=yes`), or the root of a container's groups, with keepup as its first
//! process. No controller is switched on, so that keepup may stay where it is. Whatever fails here
//! leaves everything to process groups and tags.
//!
//! Source: Documentation/admin-guide/cgroup-v2.rst, systemd's "Control Group APIs and Delegation".

#![expect(unsafe_code, reason = "getxattr(2) is not in nix")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::plan::Name;

/// Set on a directory that was delegated: by root, or by a systemd that runs as root or not.
const DELEGATED: [&CStr; 2] = [c"user.delegate", c"trusted.delegate"];

/// The groups of the whole machine. Source: `PROC_CGROUP_INIT_INO` in the kernel's `proc_ns.h`.
const NAMESPACE_OF_MACHINE: u64 = 0xefff_fffb;

/// Such a file is shorter, in bytes.
const EVENTS_MAX: usize = 256;

/// The groups of one keepup.
#[derive(Debug)]
pub(super) struct ControlGroups {
    /// Where they are made; `None`: nowhere.
    folder: Option<PathBuf>,
    /// What their names begin with.
    prefix: String,
    made: HashMap<Name, ControlGroup>,
}

/// The group of a service, used by one run after the other.
#[derive(Clone, Debug)]
pub(super) struct ControlGroup {
    folder: Arc<OwnedFd>,
    /// A kernel that counts these may kill whoever is born in it from then on (seen in 6.18).
    killed: Arc<AtomicBool>,
}

impl ControlGroups {
    /// Those of the keepup of this name.
    pub(super) fn of(keepup: &str) -> ControlGroups {
        let folder = own_folder().filter(|it| is_own(it));
        ControlGroups { folder, prefix: format!("keepup-{keepup}."), made: HashMap::new() }
    }

    /// The group of a service, made where there is none yet; those that nobody is in any more go.
    pub(super) fn get(
        &mut self,
        service: &Name,
        is_in_use: impl Fn(&Name) -> bool,
    ) -> Option<ControlGroup> {
        let folder = self.folder.as_ref()?;
        let path = |name: &Name| folder.join(format!("{}{name}", self.prefix));
        if let Some(group) = self.made.get(service) {
            let is_fresh = !group.was_killed();
            if is_fresh || fs::remove_dir(path(service)).is_err() {
                return Some(group.clone());
            }
        }
        self.made.retain(|name, _| is_in_use(name) || fs::remove_dir(path(name)).is_err());
        let group = make(&path(service)).ok();
        match &group {
            Some(group) => _ = self.made.insert(service.clone(), group.clone()),
            None => self.folder = None,
        }
        group
    }

    /// Kills whoever is in one of them, also of those that an earlier process of this name made,
    /// and removes them. The services of which there was something left.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.made.clear();
        let Some(folder) = &self.folder else { return Vec::new() };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut ended = Vec::new();
        for entry in entries {
            let name = entry.file_name();
            let Some(service) = name.to_str().and_then(|it| it.strip_prefix(&self.prefix)) else {
                continue;
            };
            if let Ok(group) = ControlGroup::open(&entry.path())
                && group.is_populated()
            {
                group.kill();
                ended.push(service.to_owned());
            }
            // The dying are still in it: then it is left to who comes next.
            fs::remove_dir(entry.path()).ok();
        }
        ended
    }
}

impl Drop for ControlGroups {
    fn drop(&mut self) {
        self.end();
    }
}

impl ControlGroup {
    fn open(path: &Path) -> io::Result<ControlGroup> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let folder = Arc::new(open(path, flags, Mode::empty())?);
        Ok(ControlGroup { folder, killed: Arc::default() })
    }

    /// For whoever is to be born in it, or to enter it.
    pub(super) fn fd(&self) -> RawFd {
        self.folder.as_raw_fd()
    }

    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Everybody in it, and whom they are just forking.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        // Where it fails, the other ways to end a run remain.
        self.file(c"cgroup.kill", OFlag::O_WRONLY).and_then(|mut it| it.write_all(b"1")).ok();
    }

    /// Does anybody in it live?
    pub(super) fn is_populated(&self) -> bool {
        let mut bytes = [0; EVENTS_MAX];
        let length =
            self.file(c"cgroup.events", OFlag::O_RDONLY).and_then(|mut it| it.read(&mut bytes));
        let text = bytes.get(..length.unwrap_or(0)).unwrap_or_default();
        text.split(|&byte| byte == b'\n').any(|line| line == b"populated 1")
    }

    fn file(&self, name: &CStr, flags: OFlag) -> io::Result<File> {
        let file = openat(&*self.folder, name, flags | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(file.into())
    }
}

fn make(path: &Path) -> io::Result<ControlGroup> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let group = ControlGroup::open(path)?;
    // A kernel before 5.14 has no way to kill a group.
    group.file(c"cgroup.kill", OFlag::O_WRONLY)?;
    Ok(group)
}

/// Was it given to keepup to make groups in?
fn is_own(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    let is_delegated = DELEGATED.iter().any(|name| {
        let mut value = [0_u8; 1];
        // SAFETY: both strings are ended by a NUL, and the kernel writes one byte at most.
        let length = unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        length == 1 && value == *b"1"
    });
    is_delegated || is_roots_first()
}

/// Is this the first process of a container, which sees no group above its own?
fn is_roots_first() -> bool {
    nix::unistd::getpid().as_raw() == 1
        && own_group().as_deref() == Some("/")
        && fs::metadata("/proc/self/ns/cgroup").is_ok_and(|it| it.ino() != NAMESPACE_OF_MACHINE)
}

/// The folder of the v2 group that this process is in.
fn own_folder() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    folder_in(&mounts, &own_group()?)
}

fn own_group() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|it| it.strip_prefix("0::")).map(str::to_owned)
}

/// Source: `proc_pid_mountinfo(5)`.
fn folder_in(mounts: &str, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (begin, end) = line.split_once(" - ")?;
        let mut fields = begin.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        end.starts_with("cgroup2 ").then(|| Path::new(place).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_group_is_below_the_mount_that_shows_it() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let folder = |mounts, group| folder_in(mounts, group);
        assert_eq!(folder(unified, "/"), Some("/sys/fs/cgroup".into()));
        assert_eq!(
            folder(unified, "/system.slice/keepup.service"),
            Some("/sys/fs/cgroup/system.slice/keepup.service".into())
        );
        let part = "30 23 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(folder(part, "/docker/ab/x"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!(folder(part, "/"), None, "another's group is not shown");
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(folder(hybrid, "/"), None);
    }
}
