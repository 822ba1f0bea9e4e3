//! The order of a look: what cannot hang comes first, and is there whatever follows.

use std::time::Instant;

use super::files::Sockets;
use super::host::HostSeen;
use super::{Look, ProcessSeen, files, task};
use crate::core::event::Pid;
use crate::os::family;

/// Processes that are looked at; the rest is counted.
const PROCESSES_MAX: usize = 24;

/// Looks at the run of this main process, until then at the longest.
pub(super) fn at_run(look: &Look, main: Pid, until: Instant) {
    let begun = Instant::now();
    let over = || until <= Instant::now();
    // The main process comes first: it is what matters, and finding the others takes longer.
    if let Some(seen) = task::process(main) {
        look.note(|it| it.processes.push(seen));
    }
    look.note(|it| it.host = HostSeen::now(Some(main)));
    let mut others: Vec<Pid> =
        family::descendants(main).into_iter().filter(|&it| it != main).collect();
    others.sort_unstable();
    let (near, far) = others.split_at(others.len().min(PROCESSES_MAX - 1));
    look.note(|it| it.processes_more = far.len());
    for &pid in near {
        if over() {
            return cut(look);
        }
        // It may be gone already.
        if let Some(seen) = task::process(pid) {
            look.note(|it| it.processes.push(seen));
        }
    }
    // From here on the kernel may want a lock that a process holds which hangs.
    let pids: Vec<i32> = look.seen().processes.iter().map(|it| it.pid).collect();
    let sockets = Sockets::of(main, until);
    let more: [fn(Pid, &Sockets, &mut ProcessSeen); 3] = [open_files, command, maps];
    for add in more {
        for (nth, &pid) in pids.iter().enumerate() {
            if over() {
                return cut(look);
            }
            let mut seen = ProcessSeen::default();
            look.note(|it| seen = it.processes[nth].clone());
            add(Pid(pid), &sockets, &mut seen);
            look.note(|it| it.processes[nth] = seen);
        }
    }
    look.note(|it| it.took_ms = u64::try_from(begun.elapsed().as_millis()).ok());
}

fn cut(look: &Look) {
    look.note(|it| it.incomplete = Some("there was no time to see more".to_owned()));
}

fn open_files(pid: Pid, sockets: &Sockets, seen: &mut ProcessSeen) {
    if let Some(found) = files::of(pid, sockets) {
        seen.files_count = Some(found.count);
        for thread in &mut seen.threads {
            thread.call = thread.call.take().map(|call| found.name_in(&call));
        }
        seen.files = found.shown();
    }
}

fn command(pid: Pid, _: &Sockets, seen: &mut ProcessSeen) {
    seen.command = task::command(pid);
}

fn maps(pid: Pid, _: &Sockets, seen: &mut ProcessSeen) {
    seen.maps = task::maps(pid);
}
