//! How runs end, and that nothing is left of them.

use std::time::Duration;

use keepup::core::event::{Event, Exit, Pid};
use keepup::os::{Happening, Processes};
use keepup::plan::{Service, Signal};

use crate::common::{
    alone, children, exited, folder, gone, inherit, run, say, service, shell, state, until, up,
};

const KILLED: Exit = Exit::Signal { signal: Signal::KILL, core_dumped: false };

fn number(path: &std::path::Path) -> Option<i32> {
    let text = std::fs::read_to_string(path).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

alone! {
    async fn codes_and_signals_are_told() {
        let mut processes = Processes::new().unwrap();
        for code in [0, 3, 255] {
            let (exit, _) = run(&mut processes, &shell(&format!("exit {code}"))).await;
            assert_eq!(exit, Exit::Code(code));
        }
        // The last is a real-time signal, which some libraries cannot even name.
        for signal in [15, 9, 34, 64] {
            let script = format!("import os; os.kill(os.getpid(), {signal})");
            let (exit, _) = run(&mut processes, &service(&["python3", "-c", &script])).await;
            assert_eq!(exit, Exit::Signal { signal: Signal(signal), core_dumped: false });
        }
    }
}

alone! {
    async fn spawned_comes_before_the_exit_however_fast_it_dies() {
        let mut processes = Processes::new().unwrap();
        for count in 0..20 {
            let service = shell("exit 7");
            processes.spawn(&service, count, inherit());
            // It is dead before the loop turns once: its end is seen before its start.
            let pid = children()[0];
            while state(pid) != Some('Z') {
                std::thread::yield_now();
            }
            let spawned = Event::Spawned { name: service.name.clone(), pid: Pid(pid) };
            assert_eq!(processes.next().await, Happening::Core(spawned));
            assert_eq!(exited(&mut processes, Pid(pid)).await, Exit::Code(7));
            gone(&mut processes, Pid(pid)).await;
        }
    }
}

alone! {
    async fn a_failed_start_is_told_once_and_is_no_exit() {
        let mut processes = Processes::new().unwrap();
        for _ in 0..3 {
            processes.spawn(&service(&["/no/such"]), 1, inherit());
            assert!(matches!(
                processes.next().await,
                Happening::Core(Event::SpawnFailed { .. })
            ));
        }
        let (exit, _) = run(&mut processes, &shell("exit 2")).await;
        assert_eq!(exit, Exit::Code(2));
        assert_eq!(processes.runs().count(), 0);
    }
}

alone! {
    async fn the_group_dies_with_its_leader() {
        let folder = folder();
        let pid_file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; exit 4", pid_file.display());
        let pid = up(&mut processes, &shell(&script)).await;
        assert_eq!(exited(&mut processes, pid).await, Exit::Code(4));
        gone(&mut processes, pid).await;
        assert_eq!(state(number(&pid_file).unwrap()), None, "gone is told when it is gone");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_signal_reaches_the_group_and_nothing_after_the_end() {
        let mut processes = Processes::new().unwrap();
        let pid = up(&mut processes, &shell("sleep 1000 & sleep 1000; exit 0")).await;
        let runs: Vec<_> = processes.runs().collect();
        assert_eq!((runs.len(), runs[0].pid, runs[0].run), (1, pid, 1));
        assert!(runs[0].start_time > 0);
        processes.signal(pid, Signal::TERM);
        let exit = exited(&mut processes, pid).await;
        assert_eq!(exit, Exit::Signal { signal: Signal::TERM, core_dumped: false });
        processes.signal(pid, Signal::TERM);
        gone(&mut processes, pid).await;
        processes.signal(pid, Signal::TERM);
        gone(&mut processes, pid).await;
    }
}

alone! {
    async fn a_signal_sent_right_after_the_fork_is_not_lost() {
        let mut processes = Processes::new().unwrap();
        let _signals = keepup::os::signal::Signals::new(&[Signal::TERM]).unwrap();
        for _ in 0..50 {
            let service = service(&["sleep", "1000"]);
            processes.spawn(&service, 1, inherit());
            let pid = children()[0];
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGTERM,
            )
            .unwrap();
            let first = processes.next().await;
            assert!(matches!(first, Happening::Core(Event::Spawned { .. })), "{first:?}");
            let exit = exited(&mut processes, Pid(pid)).await;
            assert_eq!(exit, Exit::Signal { signal: Signal::TERM, core_dumped: false });
            gone(&mut processes, Pid(pid)).await;
        }
    }
}

/// Starts one that leaves this behind, and returns what `pid_file` holds once it is gone.
/// A zombie is no survivor: it is reaped in a later turn.
fn assert_dead(pid: i32) {
    assert!(matches!(state(pid), None | Some('Z')), "{:?}", state(pid));
}

fn assert_alive(pid: i32) {
    assert!(!matches!(state(pid), None | Some('Z')), "{:?}", state(pid));
}

async fn left_behind(
    processes: &mut Processes,
    service: &Service,
    pid_file: &std::path::Path,
) -> i32 {
    let pid = up(processes, service).await;
    let mut stray = None;
    until(|| {
        stray = number(pid_file);
        stray.is_some()
    })
    .await;
    processes.signal(pid, Signal::KILL);
    assert_eq!(exited(processes, pid).await, KILLED);
    gone(processes, pid).await;
    stray.unwrap()
}

alone! {
    async fn a_grandchild_in_a_session_of_its_own_does_not_survive() {
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let bystander = Service { name: "other".into(), ..shell("setsid sleep 1000 & wait") };
        let bystander = up(&mut processes, &bystander).await;
        let script = format!("setsid sh -c 'sleep 999 & echo $$ > {}; wait' & wait", file.display());
        let stray = left_behind(&mut processes, &shell(&script), &file).await;
        assert_dead(stray);
        assert!(processes.runs().any(|it| it.pid == bystander));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_daemon_without_a_mark_does_not_survive_the_only_run() {
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let script = format!("(env -i setsid sh -c 'echo $$ > {}; sleep 999' &) ; sleep 999", file.display());
        let stray = left_behind(&mut processes, &shell(&script), &file).await;
        assert_dead(stray);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_daemon_of_another_service_is_left_alone() {
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let script = format!("(setsid sh -c 'echo $$ > {}; exec sleep 999' &) ; sleep 999", file.display());
        let other = up(&mut processes, &Service { name: "other".into(), ..shell(&script) }).await;
        until(|| number(&file).is_some()).await;
        let daemon = number(&file).unwrap();
        let (exit, _) = run(&mut processes, &shell("exit 1")).await;
        assert_eq!(exit, Exit::Code(1));
        assert_alive(daemon);
        processes.signal(other, Signal::KILL);
        exited(&mut processes, other).await;
        gone(&mut processes, other).await;
        assert_dead(daemon);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn gone_waits_for_what_dies_slowly_and_not_for_a_zombie_kept_by_a_stranger() {
        // The parent of the zombie strayed with a mark of nobody, so it is not killed: it keeps a
        // dead child in the service's group and never reaps it.
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let _other = up(&mut processes, &Service { name: "other".into(), ..shell("sleep 999") }).await;
        let script = format!(
            "import os, resource, time\n\
             if os.fork() == 0:\n\
             \x20   if os.fork() == 0:\n\
             \x20       time.sleep(999)\n\
             \x20   os.setsid()\n\
             \x20   # Nor its tag.\n\
             \x20   resource.setrlimit(resource.RLIMIT_RTTIME, (-1, -1))\n\
             \x20   # Without its mark before anybody looks for it.\n\
             \x20   os.execve('/bin/sh', ['sh', '-c', 'echo $$ > {}; exec sleep 999'], {{}})\n\
             time.sleep(999)",
            file.display()
        );
        let keeper = left_behind(&mut processes, &service(&["python3", "-c", &script]), &file).await;
        assert_alive(keeper);
        assert_eq!(processes.end_all(Duration::from_secs(5)).await, []);
        assert_eq!(state(keeper), None);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn two_thousand_orphans_are_reaped() {
        let mut processes = Processes::new().unwrap();
        let script = "import os\n\
                      for _ in range(2000):\n\
                      \x20   if os.fork() == 0:\n\
                      \x20       if os.fork() == 0: os._exit(0)\n\
                      \x20       os._exit(0)\n\
                      os._exit(0)";
        let (exit, _) = run(&mut processes, &service(&["python3", "-c", script])).await;
        assert_eq!(exit, Exit::Code(0));
        let nothing = tokio::time::timeout(Duration::from_secs(20), async {
            tokio::select! {
                it = processes.next() => panic!("{it:?}"),
                () = until(|| children().is_empty()) => {}
            }
        });
        nothing.await.expect("all are reaped");
    }
}

alone! {
    async fn two_thousand_runs_lose_none() {
        let mut processes = Processes::new().unwrap();
        let service = service(&["/bin/true"]);
        let mut left = 2000;
        for batch in 0..20 {
            for run in 0..100 {
                processes.spawn(&service, batch * 100 + run, inherit());
            }
            let mut ends = 0;
            let mut known = std::collections::HashSet::new();
            while ends < 100 {
                match processes.next().await {
                    Happening::Core(Event::Spawned { pid, .. }) => assert!(known.insert(pid)),
                    Happening::Core(Event::Exited { pid, exit }) => {
                        assert!(known.contains(&pid), "it was spawned before");
                        assert_eq!(exit, Exit::Code(0));
                        processes.sweep(pid);
                    }
                    Happening::Core(Event::Gone { pid }) => {
                        assert!(known.remove(&pid));
                        ends += 1;
                    }
                    other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => panic!("{other:?}"),
                }
            }
            left -= ends;
        }
        assert_eq!(left, 0);
        assert!(children().is_empty());
    }
}

alone! {
    async fn at_the_end_nothing_is_left_below() {
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let script = format!(
            "trap '' TERM; (setsid sh -c 'setsid sleep 999 & echo $$ > {}; wait' &); wait; sleep 999",
            file.display()
        );
        up(&mut processes, &shell(&script)).await;
        until(|| number(&file).is_some()).await;
        assert_eq!(processes.end_all(Duration::from_secs(5)).await, []);
        assert_eq!(state(number(&file).unwrap()), None);
        assert!(children().is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn the_rest_is_left_alone_where_the_main_process_alone_was_asked() {
        let folder = folder();
        let heard = folder.join("heard");
        let mut processes = Processes::new().unwrap();
        // The child ends 300 ms after its parent, and would write down a TERM. The other one left
        // the group; it ends with the first.
        let script = format!(
            "import os, signal, sys, time\n\
             main = os.getpid()\n\
             if os.fork() == 0:\n\
             \x20   signal.signal(signal.SIGTERM, lambda *_: open('{0}', 'a').write('TERM'))\n\
             \x20   reading, writing = os.pipe()\n\
             \x20   if os.fork() == 0:\n\
             \x20       os.setsid()\n\
             \x20       os.close(writing)\n\
             \x20       os.read(reading, 1)\n\
             \x20       open('{0}', 'a').write('end')\n\
             \x20       os._exit(0)\n\
             \x20   os.close(reading)\n\
             \x20   open('{0}', 'a').write('begin')\n\
             \x20   while os.getppid() == main: time.sleep(0.01)\n\
             \x20   time.sleep(0.3)\n\
             \x20   os._exit(0)\n\
             time.sleep(1000)",
            heard.display()
        );
        let written = || std::fs::read_to_string(&heard).unwrap_or_default();
        let pid = up(&mut processes, &service(&["python3", "-c", &script])).await;
        until(|| written() == "begin").await;
        processes.signal_main(pid, Signal::TERM);
        let exit = exited(&mut processes, pid).await;
        assert_eq!(exit, Exit::Signal { signal: Signal::TERM, core_dumped: false });
        processes.await_rest(pid);
        assert_eq!(processes.next().await, Happening::Core(Event::Gone { pid }));
        assert_eq!(written(), "beginend");
        assert!(children().is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn the_rest_is_killed_when_it_is_waited_for_no_longer() {
        let mut processes = Processes::new().unwrap();
        let pid = up(&mut processes, &shell("sleep 1000 & setsid sleep 1000 & sleep 1000")).await;
        until(|| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .is_ok_and(|it| it.split_whitespace().count() == 3)).await;
        processes.signal_main(pid, Signal::TERM);
        exited(&mut processes, pid).await;
        processes.await_rest(pid);
        let soon = tokio::time::timeout(Duration::from_millis(300), processes.next()).await;
        assert!(soon.is_err(), "{soon:?}");
        assert_eq!(children().len(), 3);
        gone(&mut processes, pid).await;
        assert!(children().is_empty());
    }
}

alone! {
    /// The number of a dead main process is given to a stranger while what the run left still dies.
    async fn a_number_that_changes_hands_is_not_signalled() {
        let last = std::path::Path::new("/proc/sys/kernel/ns_last_pid");
        let before = std::fs::read_to_string(last).unwrap_or_default();
        if std::fs::write(last, before.trim()).is_err() {
            return say("NOT TESTED: this needs to say which number comes next");
        }
        let mut processes = Processes::new().unwrap();
        // Were there no other run, whatever comes to keepup without a mark would be the run's.
        up(&mut processes, &Service { name: "other".into(), ..shell("exec sleep 999") }).await;
        let pid = up(&mut processes, &shell("exec sleep 1000")).await;
        processes.signal(pid, Signal::KILL);
        assert_eq!(exited(&mut processes, pid).await, KILLED);
        // It was reaped, and nobody has asked yet whether anything of it is left.
        assert_eq!(state(pid.0), None);
        let mut stranger = None;
        // Others on this machine take numbers, too.
        for _ in 0..1000 {
            std::fs::write(last, (pid.0 - 1).to_string()).unwrap();
            let mut command = std::process::Command::new("sleep");
            let process_group = std::os::unix::process::CommandExt::process_group;
            let mut it = process_group(command.arg("999"), 0).spawn().unwrap();
            if it.id().cast_signed() == pid.0 {
                stranger = Some(it);
                break;
            }
            it.kill().unwrap();
            it.wait().unwrap();
        }
        let mut stranger = stranger.expect("the number comes again");
        // All that could be sent to the run, whose number and group are now somebody else's.
        processes.signal(pid, Signal::TERM);
        processes.signal_main(pid, Signal::KILL);
        processes.sweep(pid);
        let told = tokio::time::timeout(Duration::from_millis(300), processes.next()).await;
        drop(told);
        assert_eq!(stranger.try_wait().unwrap(), None, "it was not signalled");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
