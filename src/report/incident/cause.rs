//! What probably caused an incident, and what a person should do about it: guesses, each with what
//! it is guessed from.

use std::time::Duration;

use super::{Failure, Incident};
use crate::core::event::Short;
use crate::os::evidence::{HostSeen, ProcessSeen, ThreadSeen};
use crate::os::pressure::Stall;

/// A machine whose tasks wait for more of their time than this, in percent, is starved.
const STARVED: f64 = 40.0;

/// Whoever takes too much within this time took it from the start.
const AT_ONCE: Duration = Duration::from_secs(60);

/// The causes, the likeliest first, and what to do.
pub(super) fn of(it: &Incident) -> (Vec<String>, Vec<String>) {
    let mut found = Found::default();
    if let Some(holder) = &it.port_holder {
        found.add(
            format!("its port is taken: {holder} holds it"),
            "end the process that holds the port, or give one of the two another port",
        );
    } else if lines(it).any(|it| is_taken_port(it)) {
        found.add(
            "its port was taken: the last lines say `address already in use`".to_owned(),
            "look who has the port: ss -ltnp",
        );
    }
    if let Some(failure) = it.failures.last() {
        ends(failure, &mut found);
    }
    match it.reason.as_str() {
        "unhealthy" | "heartbeat-lost" | "never-ready" => hangs(it, &mut found),
        "over-memory" => takes_memory(it, &mut found),
        "over-cpu" => takes_processor(it, &mut found),
        _ => {}
    }
    if let Some(line) = last_line(it)
        && it.reason == "exited"
    {
        found.add(format!("the last line it printed: {line}"), "read its last lines, below");
    }
    let mut hosts = it.host.iter().chain(it.evidence.iter().map(|it| &it.host));
    if let Some(starved) = hosts.find_map(starved) {
        found.add(
            format!("the host was starved: {starved}"),
            "give the host more of it, or move something away: a starved service is late, not broken",
        );
    }
    if found.causes.is_empty() {
        found.add(
            "nothing that keepup saw tells; the evidence is all there is".to_owned(),
            "set hang_signal = \"ABRT\" and Python's faulthandler, to see where it hangs next time",
        );
    }
    (found.causes, found.follow_up)
}

#[derive(Default)]
struct Found {
    causes: Vec<String>,
    follow_up: Vec<String>,
}

impl Found {
    fn add(&mut self, cause: String, follow_up: &str) {
        self.causes.push(cause);
        if !self.follow_up.iter().any(|it| it == follow_up) {
            self.follow_up.push(follow_up.to_owned());
        }
    }
}

/// How the process died of itself.
fn ends(failure: &Failure, found: &mut Found) {
    if failure.reason == "spawn-failed" {
        found.add(
            format!("it could not be started: {}", failure.what),
            "correct the command, its folder or its user, and run: keepup check",
        );
        return;
    }
    let Some(exit) = failure.exit.as_ref().filter(|_| failure.reason == "exited") else { return };
    let oom = exit.oom == Some(true);
    match (exit.code, exit.signal.as_deref()) {
        _ if oom => found.add(
            "the kernel's OOM killer killed it: there was no memory left".to_owned(),
            "give it more memory, or find what it uses it for",
        ),
        (Some(0), _) => found.add(
            "it ended of itself, with success, though nobody asked it to".to_owned(),
            "a service must stay in the foreground; for a task that ends: oneshot = true",
        ),
        (Some(126 | 127), _) => found.add(
            format!("a command in it was not found, or could not be run ({})", exit.text),
            "look for the command that its last lines name",
        ),
        (_, Some("SIGKILL")) => found.add(
            "something outside killed it: the kernel's OOM killer, or a person".to_owned(),
            "look into the kernel's log: dmesg --ctime | grep -i -e oom -e killed",
        ),
        (_, Some("SIGTERM" | "SIGINT" | "SIGHUP" | "SIGQUIT")) => found.add(
            format!("somebody other than keepup ended it ({})", exit.text),
            "stop it with: keepup stop, so that keepup knows",
        ),
        (_, Some(_)) => found.add(
            format!("a fault in native code ({})", exit.text),
            "look for a core file: coredumpctl list",
        ),
        (Some(_), None) => {
            found.add(format!("it failed by itself ({})", exit.text), "read its last lines, below");
        }
        (None, None) => {}
    }
}

/// It outgrew its limit: at once, or in the course of time?
fn takes_memory(it: &Incident, found: &mut Found) {
    let Some(failure) = it.failures.last() else { return };
    let uptime = Duration::try_from_secs_f64(failure.uptime_seconds).unwrap_or_default();
    if uptime < AT_ONCE {
        found.add(
            format!("it takes so much soon after its start ({}): {}", Short(uptime), failure.what),
            "raise max_memory, or have it begin with less: fewer workers, smaller caches; another \
             restart changes nothing",
        );
    } else {
        found.add(
            format!("its memory grew for {}: {}", Short(uptime), failure.what),
            "look for what grows: a leak, or a cache without a limit; memray and tracemalloc show \
             it for Python",
        );
    }
}

/// It was busy for too long: who of it, and with what?
fn takes_processor(it: &Incident, found: &mut Found) {
    let Some(failure) = it.failures.last() else { return };
    found.add(
        format!("it kept the processor busy: {}", failure.what),
        "profile it while it is busy, for example: py-spy top --pid; or raise max_cpu, if it has so \
         much to do",
    );
    let Some(evidence) = it.evidence.last() else { return };
    let used = |it: &&ProcessSeen| it.cpu_seconds;
    let busiest = evidence.processes.iter().max_by(|a, b| used(a).total_cmp(&used(b)));
    if let Some(process) = busiest {
        let running = process.threads.iter().filter(|it| it.state == "R").count();
        let (pid, name, used) = (process.pid, &process.name, process.cpu_seconds);
        found.causes.push(format!(
            "the busiest of its processes is pid {pid} ({name}): {used:.0} s of processor time, \
             {running} of {} threads running",
            process.threads_count
        ));
    }
}

/// What its threads did while it hung.
fn hangs(it: &Incident, found: &mut Found) {
    let class = it.probes.iter().rev().find_map(|it| it.class.as_deref());
    let main = it.evidence.last().and_then(|it| it.processes.first());
    if let Some((cause, follow_up)) = main.and_then(stands) {
        found.add(cause, follow_up);
    }
    match class {
        Some("refused") => found.add(
            "nobody listened at its address any more, or not yet".to_owned(),
            "look into its log for why it closed its socket, and at the address it listens at",
        ),
        Some("http" | "body") => found.add(
            "it answered, and said that it is not well".to_owned(),
            "look at what it answered, in the probes below: the fault may lie behind it",
        ),
        Some("dns" | "tls") => found.add(
            "the probe could not reach it: name or certificate".to_owned(),
            "look at the probe's address and certificate",
        ),
        _ => {}
    }
}

/// What the state of a process says.
fn stands(process: &ProcessSeen) -> Option<(String, &'static str)> {
    let thread = process.threads.iter().find(|it| it.tid == process.pid)?;
    let others = process.threads.iter().filter(|it| it.tid != process.pid);
    let stuck = std::iter::once(thread).chain(others).find(|it| it.state == "D");
    if let Some(stuck) = stuck {
        let cause = format!(
            "thread {} of pid {} is stuck in the kernel, in {}: a disk or a mount that does not answer",
            stuck.tid,
            process.pid,
            waits(stuck)
        );
        return Some((cause, "look at the disks and mounts: dmesg, and findmnt for NFS"));
    }
    Some(match thread.state.as_str() {
        "T" | "t" => (
            format!("pid {} was stopped, by SIGSTOP or a debugger", process.pid),
            "find out who stopped it; keepup has let it go on before its end",
        ),
        "R" => (
            format!(
                "the main thread of pid {} was running: a loop that does not end?",
                process.pid
            ),
            "profile it while it hangs, for example: py-spy dump --pid",
        ),
        "Z" => (
            format!("pid {} was dead, and not reaped", process.pid),
            "look at its log: its main process died while others lived",
        ),
        _ => (
            format!("the main thread of pid {} waited in {}", process.pid, waits(thread)),
            "find what it waits for: the thread stacks in its last lines, and the files below",
        ),
    })
}

fn waits(thread: &ThreadSeen) -> String {
    let wait = thread.wait.as_deref().unwrap_or("an unknown place");
    match &thread.call {
        Some(call) => format!("{call} ({wait})"),
        None => wait.to_owned(),
    }
}

fn starved(host: &HostSeen) -> Option<String> {
    let waits = |what: &str, stall: Option<Stall>| {
        let part = stall?.some_avg10;
        (part >= STARVED).then(|| format!("tasks waited for {what} in {part:.0} % of the time"))
    };
    let pressure = &host.pressure;
    let all = [("processors", pressure.cpu), ("memory", pressure.memory), ("disks", pressure.io)];
    let found: Vec<String> = all.into_iter().filter_map(|it| waits(it.0, it.1)).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn lines(it: &Incident) -> impl Iterator<Item = &String> {
    it.log.iter().flat_map(|it| &it.lines)
}

/// The last line that says something.
pub(super) fn last_line(it: &Incident) -> Option<&String> {
    it.log.last()?.lines.iter().rev().find(|it| !it.trim().is_empty())
}

/// Does this line say that a port is taken?
pub(super) fn is_taken_port(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("address already in use") || line.contains("eaddrinuse")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::evidence::Evidence;
    use crate::report::incident::tests::incident;
    use crate::report::incident::{Answered, LogTail};
    use crate::status::{ExitStatus, Stamp};

    fn exit(code: Option<u8>, signal: Option<&str>) -> ExitStatus {
        let text = code.map_or_else(
            || format!("killed by {}", signal.unwrap_or("?")),
            |it| format!("exit code {it}"),
        );
        let signal = signal.map(str::to_owned);
        ExitStatus { code, signal, core_dumped: false, oom: None, text }
    }

    fn first(it: &Incident) -> String {
        of(it).0.remove(0)
    }

    #[test]
    fn each_end_has_its_cause() {
        let ended = |exit| {
            let mut it = incident("exited");
            it.failures[0].exit = Some(exit);
            first(&it)
        };
        assert!(ended(exit(Some(0), None)).contains("with success"));
        assert!(ended(exit(Some(3), None)).contains("exit code 3"));
        assert!(ended(exit(None, Some("SIGKILL"))).contains("OOM killer, or a person"));
        assert!(ended(exit(None, Some("SIGTERM"))).contains("other than keepup"));
        assert!(ended(exit(None, Some("SIGSEGV"))).contains("native code"));
        let oom = ExitStatus { oom: Some(true), ..exit(None, Some("SIGKILL")) };
        assert!(ended(oom).contains("no memory left"));
    }

    #[test]
    fn a_taken_port_comes_first_with_its_holder() {
        let mut it = incident("exited");
        let lines = vec!["[Errno 98] address already in use".to_owned()];
        it.log.push(LogTail { at: Stamp::now(), lines });
        assert!(first(&it).contains("its port was taken"));
        it.port_holder = Some("pid 812 (nginx) at 0.0.0.0:8000".to_owned());
        assert_eq!(first(&it), "its port is taken: pid 812 (nginx) at 0.0.0.0:8000 holds it");
    }

    #[test]
    fn a_hang_is_explained_by_its_main_thread() {
        let hung = |state: &str, call: Option<&str>| {
            let thread = ThreadSeen {
                tid: 7,
                state: state.to_owned(),
                wait: Some("anon_pipe_read".to_owned()),
                call: call.map(str::to_owned),
                ..ThreadSeen::default()
            };
            let process = ProcessSeen { pid: 7, threads: vec![thread], ..ProcessSeen::default() };
            let mut it = incident("unhealthy");
            it.evidence.push(Evidence { processes: vec![process], ..Evidence::default() });
            first(&it)
        };
        let waits = hung("S", Some("read of fd 3 (pipe [9])"));
        assert_eq!(
            waits,
            "the main thread of pid 7 waited in read of fd 3 (pipe [9]) (anon_pipe_read)"
        );
        assert!(hung("D", None).contains("stuck in the kernel, in anon_pipe_read"));
        assert!(hung("T", None).contains("was stopped"));
        assert!(hung("R", None).contains("was running"));
    }

    #[test]
    fn memory_that_is_taken_at_once_is_told_from_memory_that_grows() {
        let took = |seconds: f64| {
            let mut it = incident("over-memory");
            it.failures[0].what = "uses 1.2 GiB, max_memory is 1 GiB".to_owned();
            it.failures[0].uptime_seconds = seconds;
            of(&it)
        };
        let (causes, follow_up) = took(4.0);
        let wanted =
            "it takes so much soon after its start (4s): uses 1.2 GiB, max_memory is 1 GiB";
        assert_eq!(causes, [wanted]);
        assert!(follow_up[0].contains("raise max_memory"), "{follow_up:?}");
        let (causes, follow_up) = took(7200.0);
        assert_eq!(causes, ["its memory grew for 2h: uses 1.2 GiB, max_memory is 1 GiB"]);
        assert!(follow_up[0].contains("a leak"), "{follow_up:?}");
    }

    #[test]
    fn who_kept_the_processor_busy_is_named() {
        let mut it = incident("over-cpu");
        it.failures[0].what = "uses 99% of a processor, max_cpu is 95%, for 5m".to_owned();
        let (causes, follow_up) = of(&it);
        let what = "it kept the processor busy: uses 99% of a processor, max_cpu is 95%, for 5m";
        assert_eq!(causes, [what]);
        assert!(follow_up[0].contains("py-spy"), "{follow_up:?}");
        let process = |pid: i32, cpu_seconds: f64, states: &[&str]| ProcessSeen {
            pid,
            name: "python3".to_owned(),
            cpu_seconds,
            threads_count: states.len(),
            threads: states
                .iter()
                .map(|it| ThreadSeen { state: (*it).to_owned(), ..ThreadSeen::default() })
                .collect(),
            ..ProcessSeen::default()
        };
        let processes = vec![process(7, 2.0, &["S"]), process(8, 301.4, &["R", "S", "S"])];
        it.evidence.push(Evidence { processes, ..Evidence::default() });
        let busiest = "the busiest of its processes is pid 8 (python3): 301 s of processor time, 1 of 3 \
                       threads running";
        assert_eq!(of(&it).0, [what, busiest]);
    }

    #[test]
    fn what_the_probe_and_the_host_say_is_heard() {
        let mut it = incident("unhealthy");
        assert!(first(&it).contains("nothing that keepup saw tells"));
        it.probes.push(Answered {
            at: Stamp::now(),
            role: "liveness".to_owned(),
            probe: "http://x/".to_owned(),
            miss: Some("502".to_owned()),
            class: Some("http".to_owned()),
            took_ms: 1.0,
        });
        assert!(first(&it).contains("it answered"));
        let mut host = HostSeen::default();
        host.pressure.cpu = Some(Stall { some_avg10: 93.0, ..Stall::default() });
        it.host = Some(host);
        let (causes, follow_up) = of(&it);
        assert!(causes[1].contains("processors in 93 %"), "{causes:?}");
        assert_eq!(follow_up.len(), 2);
    }
}
