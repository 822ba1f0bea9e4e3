//! What a service is given, and that it inherits nothing else.

use std::fs;

use crate::harness::{Folder, KEEPUP, Keepup, set_mode, shell, supervisor};
use crate::world::{environ, is_root, proc_status, wait_until};

fn variable(environ: &[String], name: &str) -> Option<String> {
    let mut values = environ.iter().filter_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().map(str::to_owned);
    assert_eq!(values.next(), None, "{name} twice");
    value
}

#[test]
fn a_service_has_a_clean_mask_clean_dispositions_three_files_and_a_session_of_its_own() {
    let folder = Folder::new();
    let text = format!("{}[service.api]\ncommand = [\"sleep\", \"1000\"]\n", supervisor(""));
    folder.write("supervisor.toml", &text);
    // keepup itself inherits ignored and blocked signals, and a file.
    let script = format!(
        "import os, signal\n\
         for it in (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR2): signal.signal(it, signal.SIG_IGN)\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGALRM])\n\
         os.set_inheritable(os.open('/dev/zero', os.O_RDONLY), True)\n\
         os.execv({KEEPUP:?}, [{KEEPUP:?}])\n"
    );
    let mut command = folder.command("python3");
    command.args(["-c", &script]);
    let mut keepup = Keepup::launch(folder, command);
    let pid = keepup.up("api");
    let none = "0000000000000000";
    for key in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(proc_status(pid, key), none, "{key}");
    }
    // The loader of the program has files of its own open for a moment.
    wait_until("it has the descriptors 0, 1 and 2 alone", || {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut files: Vec<_> = files.map(|it| it.unwrap().file_name()).collect();
        files.sort();
        files == ["0", "1", "2"]
    });
    let stdin = fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(stdin.to_str(), Some("/dev/null"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (group, session) = (fields[2], fields[3]);
    assert_eq!((group, session), (pid.to_string().as_str(), pid.to_string().as_str()));
}

#[test]
fn the_environment_loses_what_was_meant_for_keepup_and_gains_the_marks() {
    let folder = Folder::new();
    let service =
        "[service.api]\ncommand = [\"sleep\", \"1000\"]\nenv = { OWN = \"1\", HOME = \"/own\" }\n";
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    let mut command = folder.keepup();
    command.env("NOTIFY_SOCKET", "/no/such/socket").env("WATCHDOG_USEC", "1000000");
    command.env("WATCHDOG_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    command.env("LISTEN_FDNAMES", "x").env("MAINPID", "1").env("JOURNAL_STREAM", "1:1");
    command.env("KEEPUP_RUN", "outer/keepup/1").env("HOME", "/home").env("KEPT", "yes");
    let mut keepup = Keepup::launch(folder, command);
    let environ = environ(keepup.up("api"));
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "MAINPID",
        "JOURNAL_STREAM",
    ] {
        assert_eq!(variable(&environ, name), None, "{name}");
    }
    let of = |name: &str| variable(&environ, name).unwrap_or_default();
    assert_eq!((of("KEPT"), of("OWN"), of("HOME")), ("yes".into(), "1".into(), "/own".into()));
    assert_eq!(of("KEEPUP_SERVICE"), "api");
    let run = of("KEEPUP_RUN");
    assert!(run.starts_with("outer/keepup/1") && run.len() > "outer/keepup/1".len(), "{run}");
}

#[test]
fn a_cleared_environment_has_its_own_variables_and_the_marks_alone() {
    let service =
        "[service.api]\ncommand = [\"sleep\", \"1000\"]\nclear_env = true\nenv = { A = \"1\" }\n";
    let mut keepup = Keepup::start(service);
    let environ = environ(keepup.up("api"));
    let mut names: Vec<&str> = environ.iter().map(|it| it.split('=').next().unwrap()).collect();
    names.sort_unstable();
    names.retain(|it| *it != "PATH");
    assert_eq!(names, ["A", "KEEPUP_RUN", "KEEPUP_SERVICE"]);
}

#[test]
fn env_files_are_read_at_every_start_and_the_file_of_keepup_wins() {
    let folder = Folder::new();
    folder.write("vars", "# a comment\nFROM_FILE=first\nexport QUOTED=\"two words\"\nBOTH=file\n");
    let service = "[service.api]\ncommand = [\"sleep\", \"1000\"]\nenv_file = [\"vars\"]\nenv = { BOTH = \"toml\" }\n";
    let mut keepup = Keepup::start_in(folder, "", service);
    let first = environ(keepup.up("api"));
    let of = |environ: &[String], name: &str| variable(environ, name).unwrap_or_default();
    assert_eq!(of(&first, "FROM_FILE"), "first");
    assert_eq!(of(&first, "QUOTED"), "two words");
    assert_eq!(of(&first, "BOTH"), "toml");
    keepup.folder.write("vars", "FROM_FILE=second\n");
    keepup.ask(&["restart", "api"]);
    let second = environ(keepup.up("api"));
    assert_eq!(of(&second, "FROM_FILE"), "second");
    assert_eq!(variable(&second, "QUOTED"), None);
}

#[test]
fn user_group_umask_limits_and_niceness_are_those_of_the_file() {
    let identity = if is_root() { "user = \"nobody\"\n" } else { "" };
    let folder = Folder::new();
    set_mode(&folder.0, 0o777);
    let keys = format!(
        "{identity}umask = \"027\"\nnice = 5\noom_score_adj = 300\nno_new_privileges = true\n\
         limits = {{ nofile = 123, core = 0 }}\n"
    );
    let script = "touch made; id -u > id; echo written > /dev/stdout; exec sleep 1000";
    let mut keepup = Keepup::start_in(folder, "", &shell("api", script, &keys));
    let pid = keepup.up("api");
    keepup.folder.wait_line("id");
    if is_root() {
        let nobody = proc_status(pid, "Uid");
        let uid: Vec<&str> = nobody.split('\t').collect();
        assert!(uid.iter().all(|it| *it == "65534"), "{nobody}");
        let group = proc_status(pid, "Gid");
        assert!(group.split('\t').all(|it| it != "0"), "{group}");
        let groups = proc_status(pid, "Groups");
        assert!(groups.split(' ').all(|it| it != "0"), "{groups}");
        assert_eq!(proc_status(pid, "CapEff"), "0000000000000000");
    }
    assert_eq!(proc_status(pid, "Umask"), "0027");
    assert_eq!(proc_status(pid, "NoNewPrivs"), "1");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().to_owned();
    assert_eq!(nice, "5");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "300");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = |name: &str| limits.lines().find(|it| it.starts_with(name)).unwrap().to_owned();
    let files: Vec<String> = line("Max open files").split_whitespace().map(str::to_owned).collect();
    assert_eq!(files[3..5], ["123", "123"]);
    let core: Vec<String> =
        line("Max core file size").split_whitespace().map(str::to_owned).collect();
    assert_eq!(core[4..6], ["0", "0"]);
    // Its output is its own, whoever it is.
    wait_until("it could open its own stdout", || {
        keepup.folder.read("logs/api.log").contains("written")
    });
}

#[test]
fn a_group_may_differ_from_the_group_of_the_user() {
    if !is_root() {
        return;
    }
    let service =
        "[service.api]\ncommand = [\"sleep\", \"1000\"]\nuser = \"65534\"\ngroup = \"12\"\n";
    let mut keepup = Keepup::start(service);
    let pid = keepup.up("api");
    assert_eq!(proc_status(pid, "Gid").split('\t').next(), Some("12"));
}

#[test]
fn keepup_itself_holds_on_to_no_file_that_a_service_could_see() {
    // A service that is restarted often must not find more and more.
    let script =
        "ls /proc/self/fd | wc -l >> count; test $(wc -l < count) -lt 5 || exec sleep 1000";
    let keys = "[service.api.restart]\ndelay = \"1ms\"\nmax_delay = \"1ms\"\n";
    let keepup = Keepup::start(&shell("api", script, keys));
    wait_until("five runs", || keepup.folder.read("count").lines().count() == 5);
    let count = keepup.folder.read("count");
    let mut counts: Vec<&str> = count.lines().map(str::trim).collect();
    counts.dedup();
    assert_eq!(counts.len(), 1, "{count}");
}
