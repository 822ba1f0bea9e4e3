use std::process::{Child, Command, Stdio};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// A process that waits in a read until its stdin is closed.
fn cat() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid(i32::try_from(child.id()).unwrap())
}

/// Waits until it is in a call.
fn until_it_waits(child: &Child) {
    let until = Instant::now() + LIMIT;
    let path = format!("/proc/{}/syscall", child.id());
    let waits = || {
        let call = std::fs::read_to_string(&path).unwrap_or_default();
        call.starts_with(&format!("{} 0x0 ", libc::SYS_read))
    };
    while !waits() && Instant::now() < until {
        thread::yield_now();
    }
}

#[test]
fn a_process_that_waits_shows_what_for() {
    let mut child = cat();
    until_it_waits(&child);
    let look = Look::new();
    look::at_run(&look, pid(&child), Instant::now() + LIMIT);
    let seen = look.seen();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.incomplete, None);
    assert!(seen.took_ms.is_some());
    let process = &seen.processes[0];
    assert_eq!((process.pid, process.name.as_str()), (pid(&child).0, "cat"));
    assert_eq!(process.state, "S (sleeping)");
    assert_eq!(process.command.as_deref(), Some("cat"));
    assert_eq!(process.threads_count, 1);
    let thread = &process.threads[0];
    assert_eq!((thread.tid, thread.state.as_str()), (process.pid, "S"));
    assert!(process.memory_mib.is_some());
    assert!(process.maps.as_ref().is_some_and(|it| it.contains(" mappings of ")));
    assert!(process.files.iter().any(|it| it == "1 → /dev/null"), "{:?}", process.files);
    // One's own child may be looked at by anybody.
    let call = thread.call.as_deref().unwrap();
    assert!(call.starts_with("read of fd 0 (pipe ["), "{call}");
    let json = serde_json::to_string(&seen).unwrap();
    let read: Evidence = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

#[test]
fn a_process_that_is_gone_leaves_less_to_see() {
    let mut child = cat();
    child.kill().unwrap();
    child.wait().unwrap();
    let look = Look::new();
    look::at_run(&look, pid(&child), Instant::now() + LIMIT);
    let seen = look.seen();
    assert!(seen.processes.is_empty());
    assert!(seen.host.load1.is_some());
    assert!(seen.took_ms.is_some());
}

#[test]
fn without_time_there_is_the_main_process_at_least() {
    let mut child = cat();
    until_it_waits(&child);
    let look = Look::new();
    look::at_run(&look, pid(&child), Instant::now());
    let seen = look.seen();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.processes.len(), 1);
    assert_eq!(seen.took_ms, None);
    assert_eq!(seen.incomplete.as_deref(), Some("there was no time to see more"));
}

#[test]
fn looks_that_hang_have_a_limit_and_are_answered_all_the_same() {
    let (answers, mut answered) = mpsc::channel(4);
    let examiner = Examiner::new(answers);
    examiner.looks.store(LOOKS_MAX, Ordering::Relaxed);
    let name = Name::from("api");
    let look = examiner.examine(&name, Ticket(7), Pid(1), LIMIT);
    let incomplete = look.seen().incomplete.unwrap();
    assert_eq!(incomplete, "8 looks at other processes hang in the kernel");
    assert_eq!(answered.try_recv().unwrap(), Event::Examined { name, ticket: Ticket(7) });
    assert_eq!(examiner.looks.load(Ordering::Relaxed), LOOKS_MAX);
}

#[test]
fn a_look_ends_with_its_answer() {
    let (answers, mut answered) = mpsc::channel(4);
    let examiner = Examiner::new(answers);
    let mut child = cat();
    let name = Name::from("api");
    let look = examiner.examine(&name, Ticket(8), pid(&child), LIMIT);
    assert_eq!(answered.blocking_recv(), Some(Event::Examined { name, ticket: Ticket(8) }));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(look.seen().processes.len(), 1);
    assert_eq!(examiner.looks.load(Ordering::Relaxed), 0);
}
