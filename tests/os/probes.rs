//! Commands that are asked beside a service.

use keepup::core::event::{Exit, Ticket};
use keepup::os::{Happening, Processes};
use keepup::plan::Signal;

use crate::common::{alone, children, folder, is_root, run, shell, state, until};

type End = (Ticket, Result<Exit, String>, String);

async fn ended(processes: &mut Processes) -> End {
    match processes.next().await {
        Happening::ProbeEnded { ticket, exit, output } => {
            (ticket, exit, String::from_utf8(output).unwrap())
        }
        other @ Happening::Core(_) => panic!("{other:?}"),
    }
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

alone! {
    async fn exit_and_both_streams_are_told() {
        let mut processes = Processes::new().unwrap();
        let mut service = shell("exit");
        service.directory = "/usr".into();
        service.env.insert("X".into(), "y".into());
        processes.spawn_probe(Ticket(1), &service, &sh("echo out; echo err >&2; pwd; echo $X; exit 3"));
        let wanted = (Ticket(1), Ok(Exit::Code(3)), "out\nerr\n/usr\ny\n".to_owned());
        assert_eq!(ended(&mut processes).await, wanted);
        if is_root() {
            service.user = Some("nobody".into());
            processes.spawn_probe(Ticket(2), &service, &sh("id -un"));
            assert_eq!(ended(&mut processes).await.2, "nobody\n");
        }
    }
}

alone! {
    async fn much_output_is_cut_and_holds_nobody_up() {
        let mut processes = Processes::new().unwrap();
        processes.spawn_probe(Ticket(1), &shell(""), &sh("head -c 3000000 /dev/zero | tr '\\0' x"));
        let (_, exit, output) = ended(&mut processes).await;
        assert_eq!(exit, Ok(Exit::Code(0)));
        assert_eq!(output, "x".repeat(4096));
    }
}

alone! {
    async fn one_that_cannot_start_says_why() {
        let mut processes = Processes::new().unwrap();
        processes.spawn_probe(Ticket(4), &shell(""), &["/no/such".to_owned()]);
        let wanted = Err("cannot start `/no/such`: no such file".to_owned());
        assert_eq!(ended(&mut processes).await, (Ticket(4), wanted, String::new()));
    }
}

alone! {
    async fn a_child_that_keeps_the_pipe_open_is_not_waited_for() {
        let mut processes = Processes::new().unwrap();
        processes.spawn_probe(Ticket(1), &shell(""), &sh("setsid sleep 999 & echo done"));
        assert_eq!(ended(&mut processes).await.2, "done\n");
        // Nor left behind.
        let nothing_left = until(|| children().is_empty());
        tokio::select! {
            it = processes.next() => panic!("{it:?}"),
            () = nothing_left => {}
        }
    }
}

alone! {
    async fn a_killed_one_leaves_nothing_and_says_nothing() {
        let folder = folder();
        let file = folder.join("pid");
        let mut processes = Processes::new().unwrap();
        let script = format!("trap '' TERM; sleep 999 & echo $! > {}; wait; sleep 999", file.display());
        processes.spawn_probe(Ticket(1), &shell(""), &sh(&script));
        until(|| std::fs::read_to_string(&file).is_ok_and(|it| it.ends_with('\n'))).await;
        let sleeper: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        processes.kill_probe(Ticket(1));
        // And one that has not even made its group yet.
        processes.spawn_probe(Ticket(2), &shell(""), &sh("sleep 999"));
        processes.kill_probe(Ticket(2));
        processes.signal(keepup::core::event::Pid(sleeper), Signal::TERM);
        tokio::select! {
            it = processes.next() => panic!("{it:?}"),
            () = until(|| state(sleeper).is_none()) => {}
        }
        let (exit, _) = run(&mut processes, &shell("exit 1")).await;
        assert_eq!(exit, Exit::Code(1));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
