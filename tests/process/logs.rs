//! What services write is kept, in order and to the last byte, and never holds them up.

use std::fs;
use std::time::Instant;

use crate::harness::{Folder, KEEPUP, Keepup, STDOUT, set_mode, shell, supervisor};
use crate::world::{code, free_port, get, is_root, kill, lives, wait_until};

#[test]
fn both_streams_stand_in_the_log_of_the_service_in_the_order_of_writing() {
    let script = "for it in 1 2 3; do echo out $it; echo err $it >&2; done; exec sleep 1000";
    let keepup = Keepup::start(&shell("api", script, ""));
    let all = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    wait_until("all is written", || keepup.folder.read("logs/api.log") == all);
}

#[test]
fn the_last_words_of_a_killed_process_are_kept_even_without_a_newline() {
    let script = "echo first; printf 'last words'; kill -9 $$";
    let keys = "[service.api.restart]\npolicy = \"never\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    assert_eq!(keepup.wait_code(), 4);
    let log = keepup.folder.read("logs/api.log");
    assert_eq!(log.trim_end(), "first\nlast words");
}

#[test]
fn much_that_is_written_just_before_the_end_is_kept() {
    let script = "seq 1 100000; kill -9 $$";
    let keys = "[service.api.restart]\npolicy = \"never\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    assert_eq!(keepup.wait_code(), 4);
    let log = keepup.folder.read("logs/api.log");
    assert_eq!(log.lines().count(), 100_000);
    assert_eq!(log.lines().last(), Some("100000"));
}

#[test]
fn what_a_run_wrote_last_is_in_its_log_when_its_end_is_told() {
    let names: Vec<String> = (0..8).map(|nth| format!("s{nth}")).collect();
    let service = |name: &String| {
        let keys = format!("[service.{name}.restart]\ndelay = \"20s\"\n");
        shell(name, "seq 1 8000; echo the end; kill -9 $$", &keys)
    };
    let mut keepup = Keepup::start(&names.iter().map(service).collect::<String>());
    for name in &names {
        keepup.event(name, "ended");
        let log = keepup.folder.read(&format!("logs/{name}.log"));
        assert!(log.ends_with("8000\nthe end\n"), "{} bytes of {name}", log.len());
    }
}

#[test]
fn the_last_line_of_a_run_was_taken_in_before_its_end_was_told() {
    // They print so often that their lines gather: without being asked for, the last comes too late.
    let script = "exec python3 -u -S -c \"
import os, time
for nth in range(100):
    print(nth)
    time.sleep(0.001)
print('the end')
os.kill(os.getpid(), 9)\"";
    let names: Vec<String> = (0..8).map(|nth| format!("s{nth}")).collect();
    let service = |name: &String| {
        let logs = format!("[service.{name}.logs]\nformat = \"text\"\n");
        shell(name, script, &format!("{logs}[service.{name}.restart]\ndelay = \"20s\"\n"))
    };
    let mut keepup = Keepup::start(&names.iter().map(service).collect::<String>());
    for name in &names {
        let ended = keepup.event(name, "ended");
        let log = keepup.folder.read(&format!("logs/{name}.log"));
        let last = log.lines().last().unwrap();
        assert!(last.ends_with(" stdout the end"), "{name}: {last}");
        // To the millisecond: 2026-01-02T03:04:05.678.
        assert!(last[..23] <= ended["at"].as_str().unwrap()[..23], "{last}: {ended}");
    }
}

#[test]
fn a_service_that_prints_often_is_looked_at_seldom() {
    let script = "exec python3 -u -c \"
import time
for nth in range(2000):
    print(nth)
    time.sleep(0.0005)
print('through')
time.sleep(1000)\"";
    for format in ["raw", "json"] {
        let keys = format!("[service.api.logs]\nformat = \"{format}\"\n");
        let keepup = Keepup::start(&shell("api", script, &keys));
        keepup.folder.wait_line("logs/api.log");
        let (start, before) = (Instant::now(), looks(keepup.pid));
        wait_until("it is through", || keepup.folder.read("logs/api.log").contains("through"));
        let a_second = f64::from(looks(keepup.pid) - before) / start.elapsed().as_secs_f64();
        // Without it nearly 2,000. At 300 lines a second it begins.
        assert!(a_second < 400.0, "{format}: {a_second} looks a second");
    }
}

/// How often the log threads of this keepup had to wait.
fn looks(pid: i32) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|it| it.unwrap().path());
    let logs = tasks.filter(|it| fs::read_to_string(it.join("comm")).unwrap() == "log\n");
    logs.map(|it| {
        let status = fs::read_to_string(it.join("status")).unwrap();
        let count = status.lines().find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse::<u32>().unwrap()
    })
    .sum()
}

#[test]
fn a_log_is_rotated_by_size_at_the_end_of_a_line() {
    let keys = "[service.api.logs]\nmax_size = \"10kB\"\nkeep = 2\n";
    let keepup = Keepup::start(&shell("api", "seq 100000 110000; exec sleep 1000", keys));
    wait_until("the last line is written", || {
        keepup.folder.read("logs/api.log").ends_with("110000\n")
    });
    let mut names: Vec<String> = fs::read_dir(keepup.folder.path("logs"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.starts_with("api.log"))
        .collect();
    names.sort();
    assert_eq!(names, ["api.log", "api.log.1", "api.log.2"]);
    let mut numbers = Vec::new();
    for name in ["api.log.2", "api.log.1", "api.log"] {
        let text = keepup.folder.read(&format!("logs/{name}"));
        assert!(text.len() <= 10_000 + 7, "{name}: {} bytes", text.len());
        assert!(text.ends_with('\n'), "{name}");
        numbers.extend(text.lines().map(|it| it.parse::<u32>().unwrap()));
    }
    let expected: Vec<u32> = (numbers[0]..=110_000).collect();
    assert_eq!(numbers, expected, "nothing lost, nothing twice, nothing torn");
}

#[test]
fn a_log_that_may_not_grow_is_rotated_early_and_nothing_is_lost() {
    let folder = Folder::new();
    let service = shell("api", "seq 100001 160000; exec sleep 1000", "");
    folder.write("supervisor.toml", &(supervisor("") + &service));
    // 64 KiB, which is not the end of a line, and far below `max_size`.
    let mut command = folder.command("sh");
    command.args(["-c", &format!("ulimit -f 128; exec {KEEPUP}")]);
    let keepup = Keepup::launch(folder, command);
    let read = |nth: u32| match nth {
        0 => keepup.folder.read("logs/api.log"),
        nth => keepup.folder.read(&format!("logs/api.log.{nth}")),
    };
    wait_until("all is written", || read(0).ends_with("160000\n"));
    let text: String = (0..10).rev().map(read).collect();
    let all: Vec<String> = (100_001..=160_000).map(|it| it.to_string()).collect();
    let all = all.join("\n") + "\n";
    assert!(text == all, "{} bytes instead of {}", text.len(), all.len());
    assert_eq!(read(1).len(), 65_536);
    let log = &keepup.service("api")["log"];
    assert_eq!((&log["lines_lost"], log["problem"].is_null()), (&0.into(), true), "{log}");
    assert!(keepup.ask(&["logs", "api", "-n", "all"]) == all, "as if it were one file");
}

#[test]
fn a_log_goes_on_where_the_last_keepup_left_it() {
    let service = shell("api", "echo line; exec sleep 1000", "");
    let mut keepup = Keepup::start(&service);
    wait_until("it wrote", || keepup.folder.read("logs/api.log") == "line\n");
    keepup.end();
    let folder = std::mem::replace(&mut keepup.folder, Folder(std::path::PathBuf::new()));
    let keepup = Keepup::start_in(folder, "", &service);
    wait_until("it wrote again", || keepup.folder.read("logs/api.log") == "line\nline\n");
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_on_usr1() {
    let script = "while :; do echo line; sleep 0.02; done";
    let keepup = Keepup::start(&shell("api", script, ""));
    keepup.folder.wait_line("logs/api.log");
    fs::rename(keepup.folder.path("logs/api.log"), keepup.folder.path("logs/moved")).unwrap();
    keepup.signal(libc::SIGUSR1);
    keepup.folder.wait_line("logs/api.log");
}

#[test]
fn on_the_console_each_line_carries_the_name_of_its_service() {
    let services =
        shell("api", "echo from the api; exec sleep 1000", "[service.api.logs]\nconsole = true\n")
            + &shell("quiet", "echo from the other; exec sleep 1000", "");
    let keepup = Keepup::start(&services);
    let line = keepup.folder.wait_line(STDOUT);
    assert!(line.contains("api") && line.ends_with("from the api"), "{line}");
    keepup.folder.wait_line("logs/quiet.log");
    assert!(!keepup.folder.read(STDOUT).contains("from the other"));
    assert_eq!(keepup.folder.read("logs/api.log"), "from the api\n");
}

#[test]
fn too_many_error_lines_degrade_a_service_and_are_counted() {
    // Three of stdout and stderr, one line in pieces, and one that never ends.
    let script = "echo ERROR one; echo all is well; echo CRITICAL >&2; printf ERR; sleep 0.1;
        echo OR; printf 'the last ERROR'; while ! test -e go; do sleep 0.01; done; kill -9 $$";
    let keys = "[service.api.logs]\nerror_pattern = \"ERROR|CRITICAL\"\nerrors_per_hour = 2\n\
        [service.api.restart]\ndelay = \"20s\"\n";
    let quiet = shell("quiet", "echo ERROR; exec sleep 1000", "");
    let mut keepup = Keepup::start_in(
        Folder::new(),
        &format!("listen = \"127.0.0.1:{}\"", free_port()),
        &format!("{}{quiet}", shell("api", script, keys)),
    );
    let degraded = keepup.event("api", "degraded");
    assert_eq!(degraded["text"], "degraded: more than 2 error lines within an hour");
    keepup.wait_status("api", "errors_last_hour", 3);
    let api = keepup.service("api");
    assert_eq!((&api["health"], &api["ready"]), (&"degraded".into(), &true.into()));
    assert!(keepup.service("quiet")["errors_last_hour"].is_null());
    let shown = keepup.client(&["status", "api"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("3 lines within an hour"), "{shown}");
    assert!(shown.contains("more than 2 error lines within an hour"), "{shown}");
    // Its last words count, in the metrics; the next run begins with none.
    keepup.folder.write("go", "");
    keepup.event("api", "ended");
    let listen = keepup.folder.read("supervisor.toml");
    let port = listen.split("127.0.0.1:").nth(1).unwrap().split('"').next().unwrap();
    let metrics = get(port.parse().unwrap(), "/metrics").unwrap();
    assert!(metrics.contains("keepup_log_error_lines_total{service=\"api\"} 4\n"), "{metrics}");
    assert!(metrics.contains("keepup_log_error_lines_total{service=\"quiet\"} 0\n"), "{metrics}");
}

#[test]
fn its_own_log_stands_beside_those_of_the_services() {
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", ""));
    let pid = keepup.up("api");
    wait_until("it is written", || {
        let log = keepup.folder.read("logs/keepup.log");
        log.contains("api") && log.contains(&format!("up, pid {pid}"))
    });
}

#[test]
fn a_log_folder_that_cannot_be_written_is_a_warning_and_the_service_runs() {
    let folder = Folder::new();
    folder.write("file", "not a folder");
    let text =
        "[supervisor]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nlog_dir = \"file/logs\"\n";
    let service = shell("api", "seq 1 20000; echo > written; exec sleep 1000", "");
    folder.write("supervisor.toml", &format!("{text}{service}"));
    let command = folder.keepup();
    let mut keepup = Keepup::launch(folder, command);
    keepup.wait_for(&["file/logs"]);
    keepup.up("api");
    wait_until("it wrote all of it", || keepup.folder.path("written").exists());
    assert_eq!(keepup.service("api")["state"], "up");
}

#[test]
fn a_deleted_log_folder_holds_up_nobody_and_is_made_again() {
    let script = "while :; do echo line; sleep 0.01; done";
    let keys = "[service.api.logs]\nmax_size = \"100B\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    let pid = keepup.up("api");
    keepup.folder.wait_line("logs/api.log");
    fs::remove_dir_all(keepup.folder.path("logs")).unwrap();
    keepup.folder.wait_line("logs/api.log");
    assert!(lives(pid));
}

#[test]
fn a_pipe_held_open_by_a_stranger_holds_up_nothing() {
    // The grandchild keeps the service's stdout; it is its own session, and heeds nothing.
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo > held; while :; do sleep 1000; done' &
        while ! test -e held; do sleep 0.01; done; exit 1";
    let keys = "[service.api.restart]\ndelay = \"10ms\"\nmax_restarts = 2\non_cap = \"fail\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

/// Answers each request after it wrote 64 KiB of lines.
const LOUD: &str = "
import http.server, sys
class Loud(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sys.stdout.write(('x' * 127 + '\\n') * 512)
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Loud).serve_forever()
";

#[test]
fn an_api_keeps_answering_while_the_disk_of_its_log_is_full() {
    let folder = Folder::new();
    let port = free_port();
    folder.write("loud.py", LOUD);
    let service = format!(
        "[service.api]\ncommand = [\"python3\", \"loud.py\", \"{port}\"]\n\
         [service.api.logs]\nbuffer = \"64KiB\"\n"
    );
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    fs::create_dir(folder.path("logs")).unwrap();
    // A small file system that nobody else sees, and that goes with keepup.
    let mount = format!(
        "mount -t tmpfs -o size=512k none logs && head -c 256k /dev/zero > logs/filler && \
         exec {KEEPUP}"
    );
    let mut command = folder.command("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &mount]);
    let mut keepup = Keepup::launch(folder, command);
    let pid = keepup.up("api");
    wait_until("it answers", || get(port, "/").is_ok());
    for nth in 0..40 {
        let answer = get(port, "/").unwrap_or_else(|it| panic!("request {nth}: {it}"));
        assert_eq!(code(&answer), 200);
    }
    assert!(lives(pid));
    // Space again: what was lost is told where the gap is, and writing goes on.
    let logs = format!("/proc/{}/root{}/logs", keepup.pid, keepup.folder.0.display());
    fs::remove_file(format!("{logs}/filler")).unwrap();
    wait_until("the gap is told", || {
        get(port, "/").unwrap();
        let log = fs::read_to_string(format!("{logs}/api.log")).unwrap_or_default();
        let told = log.to_lowercase();
        told.contains("lines lost (no space left on device)")
    });
    keepup.end();
}

#[test]
fn a_full_disk_of_the_state_holds_up_nothing() {
    let folder = Folder::new();
    let service = shell("api", "exec sleep 1000", "[service.api.restart]\ndelay = \"10ms\"\n");
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    fs::create_dir(folder.path("state")).unwrap();
    set_mode(&folder.path("state"), 0o755);
    let mount = format!(
        "mount -t tmpfs -o size=64k none state && {{ head -c 1M /dev/zero > state/filler; \
         exec {KEEPUP}; }} 2>&1"
    );
    let mut command = folder.command("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &mount]);
    let keepup = Keepup::launch(folder, command);
    wait_until("it answers", || keepup.client(&["status"]).status.success());
    keepup.wait_status("api", "state", "up");
    let pid = keepup.service("api")["pid"].as_i64().unwrap();
    kill(i32::try_from(pid).unwrap(), libc::SIGKILL);
    keepup.wait_status("api", "run", 2);
    keepup.wait_status("api", "state", "up");
    keepup.ask(&["stop", "api"]);
    assert_eq!(keepup.service("api")["state"], "down");
}

#[test]
fn the_logs_command_shows_all_files_with_and_without_a_running_keepup() {
    let keys = "[service.api.logs]\nmax_size = \"10kB\"\ncompress = \"gzip\"\n";
    let script = "seq 100000 106999; exec sleep 1000";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    let numbers: Vec<String> = (100_000..107_000).map(|it: u32| it.to_string()).collect();
    let all = numbers.join("\n") + "\n";
    wait_until("all is written", || keepup.folder.read("logs/api.log").ends_with("106999\n"));
    let logs = |keepup: &Keepup, arguments: &[&str]| {
        let ran = keepup.client(&[&["logs"], arguments].concat());
        assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    for running in [true, false] {
        assert!(logs(&keepup, &["api", "-n", "all"]) == all, "running: {running}");
        assert_eq!(logs(&keepup, &["api", "-n", "2"]), "106998\n106999\n");
        assert_eq!(logs(&keepup, &["--grep", "^10[0-9]001$", "-n", "1"]), "api | 106001\n");
        let json = logs(&keepup, &["api", "-n", "1", "--json"]);
        assert!(json.contains("\"message\":\"106999\""), "{json}");
        if running {
            keepup.end();
        }
    }
    let ran = keepup.client(&["logs", "api", "--since", "10m"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("log format is raw"), "{said}");
    assert_eq!(ran.status.code(), Some(2));
}
