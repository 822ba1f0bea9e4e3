//! Another file while keepup runs: what changed is applied, and nothing else is touched.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Folder, Keepup, shell, supervisor};
use crate::held::{Load, Target, tiny};
use crate::world::{code, environ, free_port, get, lives, wait_until};

/// What the file says from now on.
fn write(keepup: &Keepup, services: &str) {
    keepup.folder.write("supervisor.toml", &format!("{}{services}", supervisor("")));
}

fn sleeper(name: &str, more: &str) -> String {
    shell(name, "exec sleep 1000", more)
}

/// The lines that `keepup reload` prints.
fn reload(keepup: &Keepup) -> Vec<String> {
    keepup.ask(&["reload"]).lines().map(str::to_owned).collect()
}

fn number(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

#[test]
fn what_changed_is_restarted_and_what_did_not_keeps_its_pid() {
    let mut keepup = Keepup::start(&(sleeper("api", "") + &sleeper("web", "")));
    let (api, web) = (keepup.up("api"), keepup.up("web"));
    write(&keepup, &(sleeper("api", "env = { A = \"1\" }") + &sleeper("web", "")));
    assert_eq!(
        keepup.ask(&["reload", "--dry-run"]),
        "nothing is changed; a reload would do this:\napi: restarted (env)\nweb: unchanged\n"
    );
    assert!(lives(api), "a dry run changes nothing");
    assert_eq!(reload(&keepup), ["api: restarted (env)", "web: unchanged"]);
    let event = keepup.event("api", "reloaded");
    assert_eq!(event["change"], "restarted", "{event}");
    assert_eq!(event["keys"], serde_json::json!(["env"]), "{event}");
    let next = keepup.up("api");
    assert!(environ(next).contains(&"A=1".to_owned()) && !lives(api));
    let status = keepup.service("api");
    assert_eq!((&status["restarts"], &status["restarts_in_window"]), (&0.into(), &0.into()));
    assert_eq!(status["last_end"]["reason"], "asked");
    assert_eq!((number(&keepup.service("web")["pid"]), lives(web)), (web, true));
    assert_eq!(reload(&keepup), ["api: unchanged", "web: unchanged"]);
    keepup.end();
}

#[test]
fn a_file_with_problems_changes_nothing() {
    let mut keepup = Keepup::start(&sleeper("api", ""));
    let api = keepup.up("api");
    write(&keepup, &sleeper("api", "env = { A = \"1\" }\nstop_timout = \"1s\"\nnice = 77"));
    for arguments in [["reload", "--dry-run"].as_slice(), &["reload"]] {
        let output = keepup.client(arguments);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        for words in [
            "supervisor.toml:11:1: unknown key `stop_timout`",
            ":12:8: ",
            "has 2 problems; nothing was changed",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
    keepup.wait_for(&["ERROR", "supervisor.toml:11:1: unknown key"]);
    keepup.wait_for(&["cannot reload", "2 problems"]);
    fs::remove_file(keepup.folder.path("supervisor.toml")).unwrap();
    keepup.folder.write("other.toml", &supervisor(""));
    let output = keepup.client(&["-c", "other.toml", "reload"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(number(&keepup.service_by("other.toml", "api")["pid"]), api);
    keepup.end();
}

#[test]
fn a_hang_up_reloads_where_there_is_no_terminal() {
    let mut keepup = Keepup::start(&sleeper("api", ""));
    keepup.up("api");
    write(&keepup, &(sleeper("api", "") + &sleeper("new", "after = [\"api\"]")));
    keepup.signal(libc::SIGHUP);
    keepup.wait_for(&["reloaded ", "new added; 1 unchanged"]);
    keepup.up("new");
    keepup.end();
}

#[test]
fn what_is_removed_leaves_nothing_behind() {
    let port = free_port();
    let script = "(setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &)
        echo printed; exec sleep 1000";
    let gone = shell("gone", script, "[service.gone.liveness]\nexec = [\"true\"]");
    let folder = Folder::new();
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    let mut keepup = Keepup::start_in(folder, &listen, &(gone + &sleeper("api", "")));
    let (gone, api) = (keepup.up("gone"), keepup.up("api"));
    keepup.event("gone", "ready");
    let metrics = || get(port, "/metrics").unwrap();
    assert!(metrics().contains("\"gone\""));
    keepup
        .folder
        .write("supervisor.toml", &format!("{}{}", supervisor(&listen), sleeper("api", "")));
    assert_eq!(reload(&keepup), ["api: unchanged", "gone: removed"]);
    wait_until("it is forgotten", || keepup.status()["services"].as_array().unwrap().len() == 1);
    assert!(!lives(gone) && lives(api));
    let mut expected = vec![keepup.pid, api];
    expected.sort_unstable();
    wait_until("nothing of it is left", || {
        let mut left = keepup.folder.processes();
        left.sort_unstable();
        left == expected
    });
    assert!(!metrics().contains("\"gone\""), "{}", metrics());
    let output = keepup.client(&["logs", "gone"]);
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    wait_until("the state forgets it", || !keepup.folder.read("state/state.json").contains("gone"));
    assert_eq!(keepup.folder.read("logs/gone.log"), "printed\n");
    keepup.end();
}

#[test]
fn a_held_socket_answers_throughout_and_refuses_nobody() {
    let folder = Folder::new();
    let port = free_port();
    let listen = format!("\"tcp:127.0.0.1:{port}\"");
    let services = tiny(&folder, &listen, "") + &sleeper("web", "");
    let mut keepup = Keepup::start_in(folder, "", &services);
    let first = keepup.up("api");
    let load = Load::on(&[Target::Tcp("127.0.0.1", port)]);
    load.wait_for_answer_of(first);
    // Others change: it is not even restarted.
    write(&keepup, &(tiny(&keepup.folder, &listen, "") + &sleeper("web", "nice = 1")));
    assert_eq!(reload(&keepup), ["api: unchanged", "web: restarted (nice)"]);
    // It changes itself: what comes meanwhile waits in the backlog.
    write(
        &keepup,
        &(tiny(&keepup.folder, &listen, "env = { A = \"1\" }") + &sleeper("web", "nice = 1")),
    );
    let began = std::time::Instant::now();
    assert_eq!(reload(&keepup), ["api: restarted (env)", "web: unchanged"]);
    let second = keepup.up("api");
    load.wait_for_answer_of(second);
    let (answers, missed) = load.judge(&[(began, std::time::Instant::now())]);
    assert!(answers > 10, "{answers}");
    // Only what the first was serving when it was asked to stop.
    assert!(missed <= 2, "{missed}");
    keepup.end();
}

#[test]
fn sockets_follow_the_file() {
    let folder = Folder::new();
    let (one, two) = (free_port(), free_port());
    let listen = |ports: &[u16]| {
        let each: Vec<String> = ports.iter().map(|it| format!("\"tcp:127.0.0.1:{it}\"")).collect();
        each.join(", ")
    };
    let services = tiny(&folder, &listen(&[one]), "");
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.up("api");
    // Another comes, in front of the one that stays.
    write(&keepup, &tiny(&keepup.folder, &listen(&[two, one]), ""));
    assert_eq!(reload(&keepup), ["api: restarted (listen)"]);
    let pid = keepup.up("api");
    for port in [one, two] {
        assert_eq!(Target::Tcp("127.0.0.1", port).ask().unwrap(), pid);
    }
    write(&keepup, &tiny(&keepup.folder, &listen(&[two]), ""));
    reload(&keepup);
    let pid = keepup.up("api");
    assert_eq!(Target::Tcp("127.0.0.1", two).ask().unwrap(), pid);
    let refused = Target::Tcp("127.0.0.1", one).ask().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    keepup.end();
}

#[test]
fn a_file_of_variables_that_changed_restarts_its_service_or_is_told_to_it() {
    let folder = Folder::new();
    folder.write("api.env", "A=1\n");
    folder.write("web.env", "A=1\n");
    let script = "trap 'echo again' HUP; while :; do sleep 0.05; done";
    let services = sleeper("api", "env_file = [\"api.env\"]")
        + &shell("web", script, "env_file = [\"web.env\"]\nreload_signal = \"HUP\"");
    let mut keepup = Keepup::start_in(folder, "", &services);
    let (api, web) = (keepup.up("api"), keepup.up("web"));
    keepup.folder.write("api.env", "# said otherwise\nA=1\n");
    assert_eq!(reload(&keepup), ["api: unchanged", "web: unchanged"]);
    keepup.folder.write("api.env", "A=2\n");
    keepup.folder.write("web.env", "A=2\n");
    assert_eq!(reload(&keepup), ["api: restarted (env_file)", "web: sent SIGHUP (env_file)"]);
    let next = keepup.up("api");
    assert!(environ(next).contains(&"A=2".to_owned()) && !lives(api));
    assert_eq!(keepup.folder.wait_line("logs/web.log"), "again");
    assert_eq!(reload(&keepup), ["api: unchanged", "web: unchanged"]);
    assert!(lives(web));
    // What cannot be read is no reason to touch what runs.
    keepup.folder.write("web.env", "A\n");
    let output = keepup.client(&["reload"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("web.env:1: `A` is not NAME=value; web keeps what it has"), "{output:?}");
    assert!(output.status.success() && lives(web), "{output:?}");
    keepup.end();
}

#[test]
fn keepup_itself_changes_as_far_as_it_can_and_says_what_it_cannot() {
    let mut keepup = Keepup::start(&sleeper("api", ""));
    keepup.up("api");
    let more = "log_level = \"debug\"\nshutdown_timeout = \"3s\"\nincidents_keep = 7\n";
    let more = format!("{more}control_group = \"root\"");
    keepup.folder.write("supervisor.toml", &format!("{}{}", supervisor(&more), sleeper("api", "")));
    let output = keepup.client(&["reload"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "api: unchanged\n");
    let told = String::from_utf8_lossy(&output.stderr);
    for key in ["control_group", "incidents_keep"] {
        let words = format!("`{key}` of [supervisor] is another now: restart keepup to apply that");
        assert!(told.contains(&words), "{output:?}");
    }
    assert!(!told.contains("log_level") && !told.contains("shutdown_timeout"), "{output:?}");
    keepup.end();
}

#[test]
fn a_log_that_is_to_be_another_is_another() {
    let script = "while :; do echo tick; sleep 0.05; done";
    let mut keepup = Keepup::start(&shell("api", script, ""));
    let api = keepup.up("api");
    keepup.folder.wait_line("logs/api.log");
    write(&keepup, &shell("api", script, "logs = { keep = 2 }"));
    assert_eq!(reload(&keepup), ["api: applied without a restart (logs)"]);
    assert!(lives(api));
    write(&keepup, &shell("api", script, "logs = { file = \"other.log\", format = \"text\" }"));
    assert_eq!(reload(&keepup), ["api: restarted (logs)"]);
    keepup.up("api");
    assert!(keepup.folder.wait_line("logs/other.log").ends_with("tick"));
    let shown = keepup.ask(&["logs", "api", "-n", "1"]);
    assert!(shown.contains("stdout"), "{shown}");
    keepup.end();
}

#[test]
fn a_command_line_has_no_file_to_reload() {
    let folder = Folder::new();
    let mut command = folder.keepup();
    command.args(["run", "--name", "api", "--", "sleep", "1000"]);
    command
        .env("STATE_DIRECTORY", folder.path("state"))
        .env("RUNTIME_DIRECTORY", folder.path("run"));
    command.env("LOGS_DIRECTORY", folder.path("logs"));
    let mut keepup = Keepup::launch(folder, command);
    keepup.up("api");
    let output = keepup.client(&["--socket", "run/control.sock", "reload"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("started without a file"));
    keepup.signal(libc::SIGHUP);
    keepup.wait_for(&["cannot reload", "without a file"]);
    keepup.end();
}

#[test]
fn visitors_cannot_reload_and_reloads_at_once_are_one_after_the_other() {
    let port = free_port();
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    let mut keepup = Keepup::start_in(Folder::new(), &listen, &sleeper("api", ""));
    keepup.up("api");
    let answer = crate::world::request(port, "POST", "/v1/reload").unwrap();
    assert_eq!(code(&answer), 403, "{answer}");
    let file = |it: u32| {
        let services = sleeper("api", &format!("env = {{ A = \"{it}\" }}"));
        format!("{}{services}", supervisor(&listen))
    };
    let mut clients = Vec::new();
    for it in 0..12 {
        keepup.folder.write("new.toml", &file(it));
        let path = |name: &str| keepup.folder.path(name);
        fs::rename(path("new.toml"), path("supervisor.toml")).unwrap();
        clients.push(keepup.folder.keepup().arg("reload").stdout(Stdio::null()).spawn().unwrap());
    }
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
    // The last one has seen the last file.
    wait_until("the last file is in force", || {
        let status = keepup.service("api");
        let pid = status["pid"].as_i64().filter(|_| status["state"] == "up");
        pid.is_some_and(|it| environ(i32::try_from(it).unwrap()).contains(&"A=11".to_owned()))
    });
    keepup.end();
}
