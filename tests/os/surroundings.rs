//! What a process finds when its program begins.

use std::collections::BTreeMap;

use keepup::core::event::{Event, Exit};
use keepup::os::{Happening, Processes};
use keepup::plan::{EnvFile, Limit, Resource};
use nix::sys::signal::{SigHandler, SigSet, Signal as NixSignal};

use crate::common::{alone, folder, is_root, run, service, shell};

/// What `/proc/self/status` says of a field.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|it| it.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.trim()
}

alone! {
    #[expect(unsafe_code, reason = "ignoring a signal is unsafe in nix")]
    async fn no_signal_is_blocked_or_ignored() {
        let mut processes = Processes::new().unwrap();
        // SAFETY: ignoring a signal installs no handler.
        unsafe { nix::sys::signal::signal(NixSignal::SIGHUP, SigHandler::SigIgn) }.unwrap();
        let mut blocked = SigSet::empty();
        blocked.add(NixSignal::SIGTERM);
        blocked.thread_block().unwrap();
        let (_, status) = run(&mut processes, &service(&["cat", "/proc/self/status"])).await;
        for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
            assert_eq!(u64::from_str_radix(field(&status, name), 16), Ok(0), "{name}\n{status}");
        }
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_eq!(field(&own, "SigBlk"), "0000000000004000", "keepup's own mask is as before");
    }
}

alone! {
    async fn a_session_and_a_group_of_its_own_and_nothing_open_but_the_streams() {
        let mut processes = Processes::new().unwrap();
        // Not CLOEXEC, as what a careless parent may have left open.
        let careless = std::fs::File::open("/dev/null").unwrap();
        let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
        nix::fcntl::fcntl(&careless, flags).unwrap();
        let script = "import os\n\
                      print(os.getsid(0) == os.getpid() == os.getpgid(0))\n\
                      print(sorted(int(it) for it in os.listdir('/proc/self/fd'))[:-1])\n\
                      print(os.readlink('/proc/self/fd/0'), os.read(0, 1))";
        let (_, output) = run(&mut processes, &service(&["python3", "-c", script])).await;
        assert_eq!(output, "True\n[0, 1, 2]\n/dev/null b''\n");
    }
}

alone! {
    async fn umask_nice_limits_oom_score_and_no_new_privileges() {
        let mut processes = Processes::new().unwrap();
        let mut service = shell(
            "umask; cut -d' ' -f19 /proc/self/stat; ulimit -n; ulimit -c; \
             cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; pwd",
        );
        service.umask = 0o27;
        service.nice = 7;
        service.limits =
            BTreeMap::from([(Resource::Nofile, Limit::At(123)), (Resource::Core, Limit::At(0))]);
        service.oom_score_adj = 321;
        service.no_new_privileges = true;
        service.directory = "/usr".into();
        let (_, output) = run(&mut processes, &service).await;
        assert_eq!(output, "0027\n7\n123\n0\n321\nNoNewPrivs:\t1\n/usr\n");
    }
}

alone! {
    async fn keepup_raises_its_own_limit_on_files_and_services_get_the_inherited_one() {
        use nix::sys::resource::{Resource as Kind, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Kind::RLIMIT_NOFILE).unwrap();
        setrlimit(Kind::RLIMIT_NOFILE, 256, hard).unwrap();
        let mut processes = Processes::new().unwrap();
        assert_eq!(getrlimit(Kind::RLIMIT_NOFILE).unwrap(), (hard, hard));
        let (_, output) = run(&mut processes, &shell("ulimit -Sn; ulimit -Hn")).await;
        assert_eq!(output, format!("256\n{hard}\n"));
    }
}

alone! {
    async fn another_user_with_its_groups_and_its_home() {
        if !is_root() {
            return;
        }
        let mut processes = Processes::new().unwrap();
        let mut service = shell("id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL");
        service.user = Some("nobody".into());
        let (_, output) = run(&mut processes, &service).await;
        let entry = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let (uid, gid) = (entry.uid, entry.gid);
        let (home, login_shell) = (entry.dir.display(), entry.shell.display());
        let wanted = format!("{uid}\n{gid}\n{gid}\n{home} nobody nobody {login_shell}\n");
        assert_eq!(output, wanted);
        // What the plan gives is not replaced; numbers need no entry.
        service = shell("id -u; id -g; id -G; echo $HOME");
        service.user = Some("54321".into());
        service.group = Some("54322".into());
        service.env.insert("HOME".into(), "/tmp".into());
        let (_, output) = run(&mut processes, &service).await;
        assert_eq!(output, "54321\n54322\n54322\n/tmp\n");
    }
}

alone! {
    async fn the_environment_is_built_in_order() {
        let folder = folder();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            EnvFile { path: folder.join(name), optional: false }
        };
        let mut processes = Processes::new().unwrap();
        let mut service = service(&["env"]);
        service.clear_env = true;
        service.env_file = vec![
            file("first", "A=1\nB=1\nC=1\n"),
            file("second", "export B='2'\nC=2"),
            EnvFile { path: folder.join("missing"), optional: true },
        ];
        service.env = BTreeMap::from([("C".into(), "3".into())]);
        let (exit, output) = run(&mut processes, &service).await;
        assert_eq!(exit, Exit::Code(0));
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        let mark = lines.iter().position(|it| it.starts_with("KEEPUP_RUN=")).unwrap();
        assert!(lines.remove(mark).ends_with("/api/1"));
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["A=1", "B=2", "C=3", "KEEPUP_SERVICE=api", path]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn what_was_meant_for_keepup_is_not_inherited() {
        // Its own environment cannot be changed, so another keepup's place is taken by `env`.
        const GIVEN: &str = "KEEPUP_TEST_GIVEN";
        if std::env::var_os(GIVEN).is_none() {
            let outcome = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["surroundings::what_was_meant_for_keepup_is_not_inherited", "--exact"])
                .args(["--nocapture", "--test-threads=1"])
                .envs([(GIVEN, "1"), ("KEEPUP_RUN", "above/outer/1"), ("LISTEN_ADDR", "kept")])
                .envs([("NOTIFY_SOCKET", "@x"), ("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1")])
                .envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "x")])
                .envs([("JOURNAL_STREAM", "8:1"), ("MAINPID", "1")])
                .status()
                .unwrap();
            assert!(outcome.success());
            return;
        }
        let mut processes = Processes::new().unwrap();
        let (_, output) = run(&mut processes, &service(&["env"])).await;
        for name in
            ["NOTIFY_", "WATCHDOG_", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDN", "JOURNAL", "MAINPID"]
        {
            assert!(!output.contains(&format!("\n{name}")), "{name}\n{output}");
        }
        assert!(output.contains("LISTEN_ADDR=kept\n"), "{output}");
        assert!(output.contains("KEEPUP_RUN=above/outer/1:"), "{output}");
    }
}

alone! {
    async fn sockets_follow_the_streams_however_a_process_is_made() {
        let mut processes = Processes::new().unwrap();
        let folder = folder();
        let of_it = |nth: u16| -> Vec<String> {
            let text = std::fs::read_to_string(folder.join(nth.to_string())).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        };
        // More at once than there are threads for: the others are forked.
        let mut ports = Vec::new();
        for nth in 0..12 {
            // Their own numbers are among those that they are to have.
            let held: Vec<std::net::TcpListener> =
                (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let port = |it: &std::net::TcpListener| it.local_addr().unwrap().port().to_string();
            ports.push(held.iter().rev().map(port).collect::<Vec<_>>().join(" "));
            let script = format!(
                "import os, socket\n\
                 names = os.environ['LISTEN_FDNAMES'].split(':')\n\
                 held = [socket.socket(fileno=fd) for fd in range(3, 3 + len(names))]\n\
                 text = [os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['LISTEN_FDS'], names,\n\
                 \x20       sorted(int(it) for it in os.listdir('/proc/self/fd'))[:-1],\n\
                 \x20       ' '.join(str(it.getsockname()[1]) for it in held)]\n\
                 with open('{}/{nth}', 'w') as file: file.write(''.join(f'{{it}}\\n' for it in text))",
                folder.display()
            );
            let mut service = service(&["python3", "-S", "-E", "-c", &script]);
            service.name = format!("s{nth}").into();
            service.env.insert("LISTEN_FDS".to_owned(), "of its own file".to_owned());
            let handed = held.into_iter().rev().map(|it| {
                ("web".to_owned(), std::sync::Arc::new(std::os::fd::OwnedFd::from(it)))
            });
            processes.spawn_with(&service, 1, crate::common::inherit(), handed.collect());
        }
        let mut exits = 0;
        while exits < 12 {
            if let Happening::Core(Event::Exited { exit, .. }) = processes.next().await {
                assert_eq!(exit, Exit::Code(0));
                exits += 1;
            }
        }
        for (nth, ports) in (0..).zip(ports) {
            let expected =
                ["True", "3", "['web', 'web', 'web']", "[0, 1, 2, 3, 4, 5]", ports.as_str()];
            assert_eq!(of_it(nth), expected);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
