//! What wakes the loop: time and signals.

use std::time::Duration;

use keepup::core::event::Time;
use keepup::os::clock::{Alarm, now};
use keepup::os::signal::{MEANT_FOR_KEEPUP, Signals};
use keepup::plan::Signal;
use nix::sys::signal::{SigSet, Signal as NixSignal, raise};

use crate::common::alone;

alone! {
    async fn the_alarm_is_never_early_and_survives_being_dropped() {
        let mut alarm = Alarm::new().unwrap();
        alarm.at(Some(Time::default())).await;
        for delay in [0, 1, 7].map(Duration::from_millis) {
            let deadline = now() + delay;
            // Asked again and again, as a loop with other things to do does.
            loop {
                tokio::select! {
                    biased;
                    () = alarm.at(Some(deadline)) => break,
                    () = tokio::task::yield_now() => {}
                }
            }
            assert!(deadline <= now());
        }
        // A later deadline replaces an earlier one, and the other way round.
        let begin = now();
        let (near, far) = (begin + Duration::from_millis(5), begin + Duration::from_millis(20));
        for first in [near, far] {
            tokio::select! {
                biased;
                () = alarm.at(Some(first)) => {}
                () = std::future::ready(()) => {}
            }
        }
        alarm.at(Some(far)).await;
        assert!(far <= now());
        let hour = now() + Duration::from_secs(3600);
        tokio::select! {
            biased;
            () = alarm.at(Some(hour)) => panic!(),
            () = std::future::ready(()) => {}
        }
        let soon = now() + Duration::from_millis(2);
        alarm.at(Some(soon)).await;
        assert!(soon <= now());
        let never = tokio::time::timeout(Duration::from_millis(20), alarm.at(None)).await;
        assert!(never.is_err());
    }
}

alone! {
    async fn signals_are_heard_once_each_and_though_they_were_blocked() {
        SigSet::all().thread_set_mask().unwrap();
        let mut signals = Signals::new(&MEANT_FOR_KEEPUP).unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), SigSet::empty());
        raise(NixSignal::SIGHUP).unwrap();
        raise(NixSignal::SIGTERM).unwrap();
        raise(NixSignal::SIGPIPE).unwrap();
        assert_eq!(signals.next().await, Signal::TERM);
        assert_eq!(signals.next().await, Signal::HUP);
        let nothing = tokio::time::timeout(Duration::from_millis(20), signals.next()).await;
        assert!(nothing.is_err());
        raise(NixSignal::SIGUSR2).unwrap();
        assert_eq!(signals.next().await, Signal(12));
    }
}

alone! {
    /// Not a test but a measurement, with the command that runs it:
    /// `cargo test --release --test os crash_to_successor -- --ignored --nocapture`
    #[ignore = "it measures"]
    async fn crash_to_successor() {
        use keepup::core::event::Event;
        use keepup::os::{Happening, Processes};
        let mut processes = Processes::new().unwrap();
        let service = crate::common::service(&["/bin/sleep", "1000"]);
        let mut pid = crate::common::up(&mut processes, &service).await;
        let mut spent = Vec::new();
        let mut phases = [const { Vec::new() }; 3];
        for run in 0..300 {
            let killed = nix::unistd::Pid::from_raw(pid.0);
            let begin = now();
            nix::sys::signal::kill(killed, NixSignal::SIGKILL).unwrap();
            loop {
                match processes.next().await {
                    Happening::Core(Event::Exited { pid, .. }) => {
                        phases[0].push(now() - begin);
                        processes.sweep(pid);
                    }
                    Happening::Core(Event::Gone { .. }) => {
                        phases[1].push(now() - begin);
                        processes.spawn(&service, run, crate::common::inherit());
                        phases[2].push(now() - begin);
                    }
                    Happening::Core(Event::Spawned { pid: successor, .. }) => {
                        spent.push(now() - begin);
                        pid = successor;
                        break;
                    }
                    other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => {
                        panic!("{other:?}")
                    }
                }
            }
        }
        spent.sort_unstable();
        let mut bare = Vec::new();
        for _ in 0..300 {
            let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            let begin = now();
            child.kill().unwrap();
            child.wait().unwrap();
            let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            bare.push(now() - begin);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        bare.sort_unstable();
        for phase in &mut phases {
            phase.sort_unstable();
        }
        let at = |it: &[Duration], percent: usize| it[it.len() * percent / 100];
        let text = format!(
            "keepup: exited after {:?}, gone {:?}, forked {:?}, runs {:?} (90% {:?}); bare posix_spawn: median {:?}, 90% {:?}",
            at(&phases[0], 50),
            at(&phases[1], 50),
            at(&phases[2], 50),
            at(&spent, 50), at(&spent, 90), at(&bare, 50), at(&bare, 90)
        );
        crate::common::say(&text);
    }
}
