//! Control groups: where keepup was given one, each service has its own.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]
#![expect(unsafe_code, reason = "setxattr(2) has no safe form without another dependency")]

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepup::core::event::{Exit, Pid};
use keepup::os::state::{Saved, SavedProcess};
use keepup::os::{Processes, leftover};
use keepup::plan::{Service, Signal};

use crate::common::{alone, exited, folder, gone, service, shell, state, until, up};

/// The folder of a control group that this process is in; nothing where it cannot make one.
struct Own(PathBuf);

impl Own {
    fn new() -> Option<Own> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|it| it.contains(" - cgroup2 "))?;
        let group = Own(Path::new(mount.split(' ').nth(4)?).join(name()));
        let made = fs::create_dir(&group.0);
        made.and_then(|()| fs::write(group.0.join("cgroup.procs"), "0")).ok()?;
        // Killing a group came with Linux 5.14.
        group.0.join("cgroup.kill").exists().then_some(group)
    }

    /// One in which this process may make others.
    fn delegated() -> Option<Own> {
        let group = Own::new()?;
        let path = CString::new(group.0.to_str().unwrap()).unwrap();
        // SAFETY: both strings are ended by a NUL, and the value is as long as is said.
        let set = unsafe {
            let (name, value) = (c"user.delegate", c"1");
            libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), 1, 0)
        };
        (set == 0).then_some(group)
    }

    /// The groups in it.
    fn inner(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().map(|it| it.unwrap());
        entries.filter(|it| it.file_type().unwrap().is_dir()).map(|it| it.path()).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let above = self.0.parent().unwrap().join("cgroup.procs");
        let _ = fs::write(above, "0");
        for inner in self.inner() {
            let _ = fs::remove_dir(inner);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn name() -> String {
    format!("keepup-test-{}", std::process::id())
}

fn not_tested() {
    eprintln!("NOT TESTED: this needs root and a writable cgroup v2");
}

/// The group of a process.
fn group_of(pid: Pid) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|it| it.strip_prefix("0::")).unwrap().to_owned()
}

/// The service that a group is named after.
fn service_of(group: &str) -> &str {
    group.rsplit('.').next().unwrap()
}

alone! {
    async fn every_run_of_a_service_is_born_in_the_services_group() {
        let Some(own) = Own::delegated() else { return not_tested() };
        let mut processes = Processes::new().unwrap();
        let other = Service { name: "other".into(), ..shell("exec sleep 1000") };
        let other = up(&mut processes, &other).await;
        let mut groups = Vec::new();
        for _ in 0..3 {
            let pid = up(&mut processes, &shell("exec sleep 1000")).await;
            groups.push(group_of(pid));
            processes.signal(pid, Signal::KILL);
            exited(&mut processes, pid).await;
            gone(&mut processes, pid).await;
        }
        let begin = format!("/{}/keepup-", name());
        let is_of_api = |it: &String| it.contains(&begin) && service_of(it) == "api";
        assert!(groups.iter().all(is_of_api), "{groups:?}");
        assert!(groups.iter().all(|it| *it == groups[0]), "{groups:?}");
        assert_eq!(service_of(&group_of(other)), "other");
        assert_eq!(own.inner().len(), 2);
        processes.end_all(Duration::from_secs(5)).await;
        assert!(own.inner().is_empty(), "they go with keepup: {:?}", own.inner());
    }
}

/// A process that has lost everything that tells whose it is, and writes down its number.
fn escaping(pid_file: &Path) -> Service {
    let script = format!(
        "import os, resource, time
if os.fork() == 0:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_RTTIME, (-1, -1))
    if os.fork(): os._exit(0)
    os.execve('/bin/sh', ['sh', '-c', 'echo $$ > {}; exec sleep 999'], {{}})
time.sleep(999)",
        pid_file.display()
    );
    service(&["python3", "-c", &script])
}

fn number(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}

alone! {
    async fn who_has_lost_everything_else_that_tells_whose_it_is_dies_with_its_group() {
        let Some(_own) = Own::delegated() else { return not_tested() };
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let other = Service { name: "other".into(), ..shell("setsid sleep 1000 & wait") };
        let other = up(&mut processes, &other).await;
        let pid = up(&mut processes, &escaping(&file)).await;
        until(|| number(&file).is_some()).await;
        // Not through keepup: it ends as in a crash.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.0),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let killed = Exit::Signal { signal: Signal::KILL, core_dumped: false };
        assert_eq!(exited(&mut processes, pid).await, killed);
        gone(&mut processes, pid).await;
        assert!(matches!(state(number(&file).unwrap()), None | Some('Z')));
        assert_eq!(state(other.0), Some('S'));
        fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    /// Linux 6.18 kills a process that is born in a group which was killed less often than its parent's.
    async fn a_run_starts_though_the_kernel_kills_who_is_born_in_a_group() {
        let Some(own) = Own::delegated() else { return not_tested() };
        fs::write(own.0.parent().unwrap().join("cgroup.procs"), "0").unwrap();
        fs::write(own.0.join("cgroup.kill"), "1").unwrap();
        fs::write(own.0.join("cgroup.procs"), "0").unwrap();
        let mut processes = Processes::new().unwrap();
        for _ in 0..3 {
            let pid = up(&mut processes, &shell("exec sleep 1000")).await;
            assert_eq!(service_of(&group_of(pid)), "api");
            processes.signal(pid, Signal::KILL);
            exited(&mut processes, pid).await;
            gone(&mut processes, pid).await;
        }
        processes.end_all(Duration::from_secs(5)).await;
    }
}

alone! {
    async fn in_a_group_that_is_not_its_own_it_makes_none() {
        let Some(own) = Own::new() else { return not_tested() };
        let mut processes = Processes::new().unwrap();
        let pid = up(&mut processes, &shell("exec sleep 1000")).await;
        assert_eq!(group_of(pid), group_of(Pid(std::process::id().cast_signed())));
        assert!(own.inner().is_empty(), "{:?}", own.inner());
        processes.end_all(Duration::from_secs(5)).await;
    }
}

alone! {
    async fn what_an_earlier_keepup_left_in_its_groups_is_ended() {
        let Some(own) = Own::delegated() else { return not_tested() };
        let mut saved = Saved::new();
        saved.keepup = SavedProcess { pid: 4_000_000, start_time: 7 };
        let left = own.0.join(format!("keepup-{}-4000000-7.api", saved.pid_namespace));
        let others = own.0.join(format!("keepup-{}-4000000-8.api", saved.pid_namespace));
        let sleepers: Vec<_> = [&left, &others]
            .map(|group| {
                fs::create_dir(group).unwrap();
                let script = format!("echo 0 > {}/cgroup.procs; exec sleep 999", group.display());
                std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap()
            })
            .into();
        let is_populated = |group: &Path| {
            fs::read_to_string(group.join("cgroup.events")).unwrap().contains("populated 1")
        };
        until(|| is_populated(&left) && is_populated(&others)).await;
        let outcome = leftover::end(&saved, Duration::from_secs(10));
        let wanted = "ended the control group of service `api`, left by an earlier keepup";
        assert_eq!(outcome.texts, [wanted]);
        assert!(is_populated(&others), "another's is left alone");
        for mut it in sleepers {
            it.kill().unwrap();
            it.wait().unwrap();
        }
        until(|| !left.exists() || fs::remove_dir(&left).is_ok()).await;
    }
}
