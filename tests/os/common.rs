//! A process of its own for every test, and a service to start in it.
//!
//! There is one reaper in a process, and it reaps everything: two tests cannot share one.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keepup::core::event::{Event, Exit, Pid};
use keepup::os::{Happening, Output, Processes, Stream};
use keepup::plan::{Logs, OnCap, Policy, Resources, Restart, Rewrite, Scope, Service, Signal};

/// For everything that a test waits for together.
const LIMIT: Duration = Duration::from_secs(30);

const SAID: &str = "measured: ";

/// A test that runs alone in a process.
macro_rules! alone {
    ($(#[$attribute:meta])* async fn $name:ident() $body:block) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            $crate::common::in_its_own_process(module_path!(), stringify!($name), async || $body);
        }
    };
}
pub(crate) use alone;

pub(crate) fn in_its_own_process(module: &str, name: &str, body: impl AsyncFnOnce()) {
    let name = format!("{}::{name}", module.split_once("::").unwrap().1);
    if std::env::var("KEEPUP_TEST_ALONE").as_deref() == Ok(&name) {
        return run_body(body);
    }
    // A file and no pipe: what a failed test leaves behind could hold a pipe open for ever.
    let folder = folder();
    let path = folder.join("output");
    let file = File::create(&path).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env("KEEPUP_TEST_ALONE", &name)
        .env_remove("KEEPUP_RUN")
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    let output = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(status.success(), "{output}");
    assert!(output.contains("1 passed"), "it did not run: {output}");
    for said in output.lines().filter(|it| it.starts_with(SAID)) {
        say(said.trim_start_matches(SAID));
    }
}

/// What a measurement found, for whoever runs it with `--nocapture`.
#[expect(clippy::print_stdout, reason = "it is what the measurement is for")]
pub(crate) fn say(text: &str) {
    println!("\n{SAID}{text}");
}

fn run_body(body: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let within_limit = async { tokio::time::timeout(LIMIT, body()).await };
        runtime.block_on(within_limit).expect("the test takes too long");
    }));
    runtime.block_on(async {
        Processes::new().unwrap().end_all(Duration::from_secs(5)).await;
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// The children of this process.
pub(crate) fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let files = tasks.map(|it| std::fs::read_to_string(it.unwrap().path().join("children")));
    let pids = |text: String| text.split_whitespace().map(|it| it.parse().unwrap()).collect();
    // A thread may end while it is looked at.
    files.flat_map(|text| -> Vec<i32> { pids(text.unwrap_or_default()) }).collect()
}

/// A service that runs this command, with nothing else set.
pub(crate) fn service(command: &[&str]) -> Service {
    Service {
        name: "api".into(),
        command: command.iter().map(|&it| it.to_owned()).collect(),
        directory: "/".into(),
        user: None,
        group: None,
        env: BTreeMap::new(),
        env_file: Vec::new(),
        clear_env: false,
        umask: 0o22,
        nice: 0,
        oom_score_adj: 0,
        no_new_privileges: false,
        limits: BTreeMap::new(),
        listen: Vec::new(),
        after: Vec::new(),
        wait_for: Vec::new(),
        pre_start: Vec::new(),
        post_stop: Vec::new(),
        oneshot: false,
        autostart: true,
        essential: false,
        notify: false,
        start_timeout: LIMIT,
        stop_signal: Signal::TERM,
        reload_signal: None,
        stop_timeout: LIMIT,
        stop_scope: Scope::Group,
        hang_signal: None,
        evidence_timeout: Duration::from_secs(1),
        rewrite: Rewrite::default(),
        resources: Resources::default(),
        restart: Restart {
            policy: Policy::Always,
            delay: LIMIT,
            max_delay: LIMIT,
            factor: 1.0,
            jitter: 0.0,
            max_restarts: 0,
            window: LIMIT,
            stable_after: LIMIT,
            on_cap: OnCap::Retry,
            retry_after: LIMIT,
            success_codes: Vec::new(),
            fatal_codes: Vec::new(),
        },
        probes: Vec::new(),
        heartbeat: None,
        logs: Logs::usual("/dev/null".into()),
    }
}

pub(crate) fn shell(script: &str) -> Service {
    service(&["/bin/sh", "-c", script])
}

pub(crate) fn inherit() -> Output {
    Output { stdout: Stream::Inherit, stderr: Stream::Inherit }
}

pub(crate) async fn up(processes: &mut Processes, service: &Service) -> Pid {
    processes.spawn(service, 1, inherit());
    match processes.next().await {
        Happening::Core(Event::Spawned { name, pid }) => {
            assert_eq!(name, service.name);
            pid
        }
        other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => panic!("{other:?}"),
    }
}

pub(crate) async fn exited(processes: &mut Processes, wanted: Pid) -> Exit {
    match processes.next().await {
        Happening::Core(Event::Exited { pid, exit }) => {
            assert_eq!(pid, wanted);
            exit
        }
        other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => panic!("{other:?}"),
    }
}

pub(crate) async fn gone(processes: &mut Processes, pid: Pid) {
    processes.sweep(pid);
    assert_eq!(processes.next().await, Happening::Core(Event::Gone { pid }));
}

/// Runs the service to its end; how it ended, and what it wrote to both streams.
pub(crate) async fn run(processes: &mut Processes, service: &Service) -> (Exit, String) {
    let folder = folder();
    let path = folder.join("output");
    let file = File::create(&path).unwrap();
    let stderr = Stream::To(file.try_clone().unwrap().into());
    processes.spawn(service, 1, Output { stdout: Stream::To(file.into()), stderr });
    let pid = match processes.next().await {
        Happening::Core(Event::Spawned { pid, .. }) => pid,
        other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => panic!("{other:?}"),
    };
    let exit = exited(processes, pid).await;
    gone(processes, pid).await;
    let output = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    (exit, output)
}

/// An empty folder that everybody may use; it bears this process's number.
pub(crate) fn folder() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("keepup-os-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Waits until this is so, looking at it again and again.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The state letter of a process; `None` when there is none.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
