//! The units themselves: what they give, and what they take away.

use std::fs;

use crate::machine::{Unit, file, kill, not_tested, run, said, shell, text};

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn systemd_finds_nothing_wrong_with_the_units() {
    for unit in ["keepup.service", "keepup@any.service"] {
        let output = run(&["systemd-analyze", "verify", unit]);
        let said = text(&output);
        let ours: Vec<&str> = said.lines().filter(|it| it.contains("keepup")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn services_have_their_users_their_folders_and_no_word_with_systemd() {
    let script = "id; env; touch /etc/x /usr/x; echo > /var/tmp/keepup-NAME; exec sleep 100000";
    let file_text = shell("api", script, "user = \"daemon\"");
    let unit = Unit::start("user", &file_text);
    unit.wait("api", "state", "up");
    unit.wait_until("it has printed", || unit.journal().contains("Read-only file system"));
    let journal = unit.journal();
    assert!(journal.contains("uid=1(daemon)"), "{journal}");
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_USEC=", "JOURNAL_STREAM="] {
        assert!(!journal.contains(name), "{name}: {journal}");
    }
    let owner = said(&["stat", "-c", "%U %a", "/var/log/keepup-user/api.log"]);
    assert_eq!(owner.split(' ').next(), Some("root"), "{owner}");
    // A restart needs the same rights again.
    let pid = unit.service("api")["pid"].to_string();
    kill(&pid, "KILL");
    unit.wait("api", "run", 2);
    unit.wait("api", "state", "up");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn the_clock_the_kernel_and_the_name_of_the_machine_cannot_be_changed() {
    let script = "date -s 2001-01-01 && echo the clock was set
        echo 1 > /proc/sys/kernel/sysrq && echo the kernel was changed
        unshare -m true && echo a namespace was made
        hostname other && echo the name was changed
        echo tried; exec sleep 100000";
    let unit = Unit::start("rights", &shell("api", script, ""));
    unit.wait_until("it has tried", || unit.journal().contains("tried"));
    let journal = unit.journal();
    for words in ["was set", "was changed", "was made"] {
        assert!(!journal.contains(words), "{journal}");
    }
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn keepup_is_kept_from_the_oom_killer_and_its_services_are_not() {
    let script = "cat /proc/self/oom_score_adj; exec sleep 100000";
    let low = shell("low", script, "oom_score_adj = 500");
    let unit = Unit::start("oom", &(shell("api", script, "") + &low));
    let score = |pid: &str| said(&["cat", &format!("/proc/{pid}/oom_score_adj")]);
    let lowered = run(&["sh", "-c", "echo -900 > /proc/self/oom_score_adj"]);
    if lowered.status.success() {
        assert_eq!(score(&unit.main_pid()), "-900");
    } else {
        not_tested("OOMScoreAdjust=-900: not even root may lower a score on this machine");
    }
    let pid_of = |name: &str| unit.wait(name, "state", "up")["pid"].to_string();
    assert_eq!(score(&pid_of("api")), "0");
    assert_eq!(score(&pid_of("low")), "500");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn an_operator_needs_no_more_than_the_name_of_the_file() {
    let unit = Unit::start("operator", &shell("api", "exec sleep 100000", ""));
    unit.wait("api", "state", "up");
    let status = unit.keepup(&["status"]);
    assert!(status.status.success() && text(&status).contains("api"), "{}", text(&status));
    let health = unit.keepup(&["healthcheck"]);
    assert!(health.status.success(), "{}", text(&health));
    for folder in ["/var/lib/keepup-operator/state.json", "/var/log/keepup-operator/api.log"] {
        assert!(fs::metadata(file(folder)).is_ok(), "{folder}");
    }
}

/// The plain unit, over the file in /etc.
#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn the_plain_unit_runs_the_file_in_etc() {
    let config = file("/etc/keepup/supervisor.toml");
    let before = fs::read(&config);
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, shell("api", "exec sleep 100000", "")).unwrap();
    said(&["systemctl", "start", "keepup"]);
    let status = said(&["keepup", "status"]);
    assert!(status.contains("api"), "{status}");
    said(&["systemctl", "stop", "keepup"]);
    assert_eq!(run(&["keepup", "status"]).status.code(), Some(5));
    match before {
        Ok(text) => fs::write(config, text).unwrap(),
        Err(_) => fs::remove_file(config).unwrap(),
    }
}

/// As `.ci/systemd` has installed it.
#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn the_package_brings_an_example_that_is_accepted_and_starts_nothing_by_itself() {
    if !run(&["dpkg", "-s", "keepup"]).status.success() {
        not_tested("the Debian package: keepup was installed by hand");
        return;
    }
    let conffile = said(&["dpkg-query", "-W", "-f", "${Conffiles}", "keepup"]);
    assert!(conffile.contains("/etc/keepup/supervisor.toml"), "{conffile}");
    let example = include_str!("../../src/cli/supervisor.toml");
    for path in ["/usr/share/doc/keepup/examples/api.toml", "/usr/share/doc/keepup/README.md"] {
        // A small Debian may leave documentation out.
        assert!(fs::metadata(file(path)).is_ok(), "{path}");
    }
    fs::write(file("/root/example.toml"), example).unwrap();
    let check = run(&["keepup", "check", "/root/example.toml"]);
    assert!(check.status.success(), "{}", text(&check));
    assert_eq!(run(&["systemctl", "is-enabled", "keepup"]).status.code(), Some(1));
    let version = said(&["keepup", "--version"]);
    assert_eq!(version, format!("keepup {}", env!("CARGO_PKG_VERSION")));
}
