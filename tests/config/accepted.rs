//! What good files mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepup::config::{self, Checked, CommandLine, Files, Surroundings};
use keepup::plan::{
    Class, Errors, ExitMatch, FileProbe, HttpAddress, Limit, OnCap, Policy, ProbeKind, Resource,
    Role, Scalar, Scope, Service, Signal, Socket, Trust,
};

use crate::{folder, read, surroundings};

fn fixture(name: &str) -> Checked {
    read(&folder("valid").join(name)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn of_text(text: &str) -> Checked {
    let files = BTreeMap::new();
    let path = Path::new("/etc/keepup/supervisor.toml");
    config::read(text, path, &surroundings(), Files::Given(&files))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn service<'c>(checked: &'c Checked, name: &str) -> &'c Service {
    checked.plan.services.iter().find(|it| &*it.name == name).unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_service_with_nothing_but_a_command_has_the_documented_defaults() {
    let checked =
        of_text("[service.api]\ncommand = [\"uvicorn\"]\n[service.api.liveness]\ntcp = \"h:1\"");
    let api = service(&checked, "api");
    assert_eq!(api.directory, Path::new("/etc/keepup"));
    assert_eq!((api.umask, api.nice, api.oom_score_adj), (0o022, 0, 0));
    assert_eq!((api.oneshot, api.autostart, api.essential), (false, true, false));
    assert_eq!((api.start_timeout, api.stop_timeout), (seconds(60), seconds(8)));
    assert_eq!((api.hang_signal, api.evidence_timeout), (None, seconds(1)));
    assert_eq!((api.stop_signal, api.stop_scope), (Signal::TERM, Scope::Group));
    let restart = &api.restart;
    assert_eq!(restart.policy, Policy::Always);
    assert_eq!((restart.delay, restart.max_delay), (Duration::from_millis(500), seconds(60)));
    assert_eq!(
        (restart.factor.to_bits(), restart.jitter.to_bits()),
        (2_f64.to_bits(), 0.1_f64.to_bits())
    );
    assert_eq!((restart.max_restarts, restart.window), (10, seconds(1800)));
    assert_eq!((restart.stable_after, restart.retry_after), (seconds(60), seconds(300)));
    assert_eq!(restart.on_cap, OnCap::Retry);
    assert_eq!(restart.success_codes, [ExitMatch::Code(0)]);
    let probe = &api.probes[0];
    assert_eq!((probe.interval, probe.timeout), (seconds(10), seconds(5)));
    assert_eq!(probe.retry_interval, Duration::from_millis(3333));
    assert_eq!((probe.failures, probe.successes), (3, 1));
    assert_eq!(api.logs.file, Path::new("/var/log/keepup/api.log"));
    assert_eq!((api.logs.max_size, api.logs.keep, api.logs.buffer), (50_000_000, 10, 1 << 20));
    let keepup = &checked.plan.supervisor;
    assert_eq!(keepup.name, "keepup");
    assert_eq!(keepup.config.as_deref(), Some(Path::new("/etc/keepup/supervisor.toml")));
    assert_eq!(keepup.state_dir, Path::new("/var/lib/keepup"));
    assert_eq!(keepup.runtime_dir, Path::new("/run/keepup"));
    assert_eq!(keepup.shutdown_timeout, seconds(25));
}

#[test]
fn everything_that_is_written_is_in_the_plan() {
    let checked = fixture("everything.toml");
    let api = service(&checked, "api");
    assert_eq!(api.command[..2], ["uvicorn", "app.main:app"]);
    assert_eq!(api.directory, Path::new("/etc/keepup/app"));
    assert_eq!((api.user.as_deref(), api.group.as_deref()), (Some("api"), Some("1000")));
    assert_eq!(api.env["API_KEY"], "k-123");
    assert_eq!(api.env_file[0].path, Path::new("/etc/keepup/.env"));
    assert_eq!(api.env_file.iter().map(|it| it.optional).collect::<Vec<_>>(), [false, true]);
    assert_eq!(api.limits[&Resource::Nofile], Limit::At(65536));
    assert_eq!(api.limits[&Resource::Core], Limit::At(0));
    assert_eq!(api.limits[&Resource::As], Limit::At(2 << 30));
    assert_eq!(api.limits[&Resource::Stack], Limit::Unlimited);
    assert_eq!(api.umask, 0o077);
    assert_eq!(api.after, ["migrate".into()]);
    assert_eq!(api.stop_signal, Signal(2));
    assert_eq!((api.hang_signal, api.evidence_timeout), (Some(Signal::ABRT), seconds(2)));
    let pass_on = |it| api.rewrite.apply(it);
    assert_eq!(pass_on(Signal::HUP), Some(Signal::USR1));
    assert_eq!(pass_on(Signal::TERM), Some(Signal(3)));
    assert_eq!((pass_on(Signal(28)), pass_on(Signal::USR2)), (None, Some(Signal::USR2)));
    let codes = [ExitMatch::Code(0), ExitMatch::Signal(Signal::TERM)];
    assert_eq!(api.restart.success_codes, codes);
    assert_eq!(api.restart.fatal_codes, [ExitMatch::Code(3)]);
    let roles: Vec<Role> = api.probes.iter().map(|it| it.role).collect();
    assert_eq!(
        roles,
        [Role::Startup, Role::Liveness, Role::Liveness, Role::Readiness, Role::Warning]
    );
    let ProbeKind::Http(http) = &api.probes[1].kind else { panic!("no http probe") };
    assert_eq!(http.address, HttpAddress::Tcp("127.0.0.1".to_owned(), 8000));
    assert_eq!((http.path.as_str(), http.host.as_str()), ("/health?full=1", "api.example"));
    assert_eq!(http.headers["X-API-Key"], "k-123");
    assert_eq!(http.headers["Authorization"], "Bearer t-456");
    assert!(!http.headers.contains_key("Host"));
    assert_eq!(http.status, [200..=399, 404..=404]);
    let json = [
        ("status".to_owned(), Scalar::Text("healthy".to_owned())),
        ("daemon.metrics.status".to_owned(), Scalar::Text("ok".to_owned())),
        ("daemon.workers".to_owned(), Scalar::Integer(4)),
        ("ready".to_owned(), Scalar::Bool(true)),
    ];
    assert_eq!(http.json, json);
    assert_eq!(api.probes[1].slow, Some(seconds(2)));
    assert_eq!(api.probes[1].definite, [Class::Refused, Class::Dns]);
    assert_eq!(api.probes[1].initial_delay, Duration::ZERO);
    let ProbeKind::Http(unix) = &api.probes[3].kind else { panic!("no unix probe") };
    assert_eq!(unix.address, HttpAddress::Unix("/run/api.sock".into()));
    assert_eq!((unix.path.as_str(), unix.host.as_str()), ("/ready", "localhost"));
    assert_eq!(unix.status, [204..=204]);
    let exec =
        ProbeKind::Exec(vec!["/etc/keepup/bin/slow queries".to_owned(), "--max=3".to_owned()]);
    assert_eq!(api.probes[4].kind, exec);
    assert_eq!(
        api.heartbeat.as_ref().unwrap().file.as_deref(),
        Some(Path::new("/run/api/heartbeat"))
    );
    assert_eq!(api.logs.file, Path::new("/var/log/api/out.log"));
    assert!(api.logs.console);
    let errors = Errors { pattern: "ERROR|CRITICAL".to_owned(), per_hour: Some(100) };
    assert_eq!(api.logs.errors, Some(errors));
    assert_eq!(service(&checked, "migrate").restart.policy, Policy::OnFailure);
}

#[test]
fn an_https_probe_says_whom_it_trusts() {
    let checked = fixture("https.toml");
    let addresses: Vec<HttpAddress> = service(&checked, "api")
        .probes
        .iter()
        .map(|it| {
            let ProbeKind::Http(http) = &it.kind else { panic!("{it:?}") };
            http.address.clone()
        })
        .collect();
    let tls = |host: &str, port, trust| HttpAddress::Tls(host.to_owned(), port, trust);
    let wanted = [
        tls("api.example", 443, Trust::System),
        tls("127.0.0.1", 8443, Trust::Own("/etc/keepup/ca.pem".into())),
        tls("::1", 443, Trust::System),
    ];
    assert_eq!(addresses, wanted);
    let insecure = fixture("warn_insecure.toml");
    let ProbeKind::Http(http) = &service(&insecure, "api").probes[0].kind else { panic!() };
    assert_eq!(http.address, tls("127.0.0.1", 8443, Trust::Anyone));
}

#[test]
fn a_file_probe_has_its_wants() {
    let checked = fixture("probe_file.toml");
    let probes = &service(&checked, "api").probes;
    let ProbeKind::File(whole) = &probes[0].kind else { panic!("{:?}", probes[0]) };
    let wanted = FileProbe {
        path: "/tmp/daemon-metrics.json".into(),
        json: vec![("status".to_owned(), Scalar::Text("ok".to_owned()))],
        json_max: vec![("consecutive_failures".to_owned(), 4.0), ("load.one".to_owned(), 1.5)],
        json_age: vec![("last_poll".to_owned(), seconds(120))],
        max_age: Some(seconds(60)),
    };
    assert_eq!(**whole, wanted);
    let ProbeKind::File(bare) = &probes[1].kind else { panic!("{:?}", probes[1]) };
    assert_eq!(bare.path, Path::new("/etc/keepup/run/alive"));
    assert_eq!(
        (probes[1].kind.name(), probes[1].kind.target().as_str()),
        ("file", "/etc/keepup/run/alive")
    );
}

#[test]
fn a_listening_probe_has_an_address() {
    let text = "[service.api]\ncommand = 'x'\n[[service.api.liveness]]\nlistening = '0.0.0.0:8000'\n\
                [[service.api.readiness]]\nlistening = '[::]:8000'";
    let checked = of_text(text);
    let probes = &service(&checked, "api").probes;
    let at = |text: &str| ProbeKind::Listening(text.parse().unwrap());
    assert_eq!((&probes[0].kind, &probes[1].kind), (&at("0.0.0.0:8000"), &at("[::]:8000")));
    assert_eq!(probes[0].kind.to_string(), "listening 0.0.0.0:8000");
}

#[test]
fn a_grpc_probe_says_whom_and_how_it_asks() {
    let checked = fixture("probe_grpc.toml");
    let probes = &service(&checked, "api").probes;
    let asked = |nth: usize| {
        let ProbeKind::Grpc(grpc) = &probes[nth].kind else { panic!("{:?}", probes[nth]) };
        (grpc.address.clone(), grpc.host.as_str(), grpc.service.as_str())
    };
    let plain = HttpAddress::Tcp("127.0.0.1".to_owned(), 50051);
    assert_eq!(asked(0), (plain, "127.0.0.1:50051", ""));
    let system = HttpAddress::Tls("api.example".to_owned(), 443, Trust::System);
    assert_eq!(asked(1), (system, "api.example:443", "my.package.Service"));
    let own = HttpAddress::Tls("::1".to_owned(), 50051, Trust::Own("/etc/keepup/ca.pem".into()));
    assert_eq!(asked(2), (own, "[::1]:50051", ""));
    assert_eq!(probes[1].kind.to_string(), "grpc https://api.example:443/my.package.Service");
}

#[test]
fn services_come_in_the_order_of_the_file() {
    let names = |checked: &Checked| -> Vec<String> {
        checked.plan.services.iter().map(|it| it.name.to_string()).collect()
    };
    assert_eq!(names(&of_text("[service.z]\ncommand='x'\n[service.a]\ncommand='x'")), ["z", "a"]);
    assert_eq!(names(&fixture("include.toml")), ["main", "one", "two"]);
}

#[test]
fn an_included_file_has_its_own_folder() {
    let checked = fixture("include.toml");
    assert_eq!(service(&checked, "main").directory, Path::new("/etc/keepup"));
    let one = service(&checked, "one");
    assert_eq!(one.directory, Path::new("/etc/keepup/services"));
    assert_eq!(one.command, ["/etc/keepup/services/run"]);
    assert_eq!(one.stop_timeout, seconds(3), "the defaults are those of the main file");
}

#[test]
fn defaults_are_merged_key_by_key() {
    let checked = fixture("defaults.toml");
    let api = service(&checked, "api");
    assert_eq!(api.stop_timeout, seconds(5));
    assert_eq!(api.restart.delay, seconds(2));
    assert_eq!(api.restart.max_delay, seconds(20));
    let env: Vec<_> = api.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=service", "B=defaults", "C=service"]);
    assert_eq!(api.probes.len(), 2);
    assert_eq!(api.probes[0].kind, ProbeKind::Tcp("127.0.0.1:2".to_owned()));
    assert_eq!(api.probes[0].interval, seconds(2));
    assert_eq!(api.probes[1].role, Role::Readiness);
    let db = service(&checked, "db");
    assert_eq!(db.after, [], "the defaults do not make a service wait for itself");
    assert_eq!(api.after, ["db".into()]);
    assert_eq!((db.restart.max_restarts, db.restart.on_cap), (4, OnCap::Retry));
    assert_eq!((api.restart.max_restarts, api.restart.on_cap), (2, OnCap::Fail));
    assert_eq!(db.heartbeat, None, "defaults without a file are no heartbeat");
    assert_eq!(api.heartbeat.as_ref().unwrap().unhealthy_after, seconds(30));
}

#[test]
fn defaults_of_a_probe_are_laid_under_those_that_ask_the_same() {
    let text = "
        [defaults.liveness]
        interval = \"2s\"
        slow = \"1s\"
        status = 204
        [defaults.readiness]
        tcp = \"db:1\"
        timeout = \"1s\"
        [service.bare]
        command = [\"x\"]
        [service.web]
        command = [\"x\"]
        readiness = { exec = [\"ready\"] }
        [[service.web.liveness]]
        http = \"http://127.0.0.1:1/\"
        [[service.web.liveness]]
        http = \"http://127.0.0.1:2/\"
        interval = \"3s\"
    ";
    let checked = of_text(text);
    let bare = service(&checked, "bare");
    assert_eq!(bare.probes.len(), 1, "defaults that ask nothing are no probe");
    assert_eq!(bare.probes[0].timeout, seconds(1));
    let web = service(&checked, "web");
    assert_eq!(web.probes.iter().map(|it| it.interval.as_secs()).collect::<Vec<_>>(), [2, 3, 10]);
    assert_eq!(web.probes[0].slow, Some(seconds(1)));
    let ProbeKind::Http(http) = &web.probes[0].kind else { panic!("{web:?}") };
    assert_eq!(http.status, [204..=204]);
    assert_eq!(web.probes[2].timeout, seconds(5), "another kind of question has its own figures");
}

#[test]
fn on_failure_n_is_dockers() {
    let of = |restart: &str| {
        let text = format!("[service.a]\ncommand = [\"x\"]\n[service.a.restart]\n{restart}");
        of_text(&text).plan.services[0].restart.clone()
    };
    let capped = of("policy = \"on-failure:7\"");
    assert_eq!((capped.policy, capped.max_restarts), (Policy::OnFailure, 7));
    assert_eq!(capped.on_cap, OnCap::Fail);
    let asked = of("policy = \"on-failure:7\"\non_cap = \"exit\"");
    assert_eq!((asked.max_restarts, asked.on_cap), (7, OnCap::Exit));
    for (word, policy) in [
        ("always", Policy::Always),
        ("on-failure", Policy::OnFailure),
        ("unless-stopped", Policy::UnlessStopped),
        ("never", Policy::Never),
        ("no", Policy::Never),
    ] {
        assert_eq!(of(&format!("policy = \"{word}\"")).policy, policy);
    }
}

#[test]
fn of_a_cap_in_the_policy_and_one_in_max_restarts_the_nearer_holds() {
    let of = |defaults: &str, own: &str| {
        let text = format!(
            "[defaults.restart]\n{defaults}\n[service.a]\ncommand = 'x'\n[service.a.restart]\n{own}"
        );
        let restart = of_text(&text).plan.services[0].restart.clone();
        (restart.max_restarts, restart.on_cap)
    };
    assert_eq!(of("policy = 'on-failure:3'", "max_restarts = 5"), (5, OnCap::Retry));
    assert_eq!(of("max_restarts = 5", "policy = 'on-failure:3'"), (3, OnCap::Fail));
}

#[test]
fn the_other_half_of_a_heartbeat_follows() {
    let of = |keys: &str| {
        let text = format!("[service.a]\ncommand = 'x'\n[service.a.heartbeat]\nfile = 'h'\n{keys}");
        let beat = of_text(&text).plan.services[0].heartbeat.clone().unwrap();
        (beat.degraded_after.as_secs(), beat.unhealthy_after.as_secs())
    };
    assert_eq!(of(""), (60, 120));
    assert_eq!(of("unhealthy_after = '30s'"), (15, 30));
    assert_eq!(of("degraded_after = '5m'"), (300, 600));
}

#[test]
fn shutdown_is_faster_in_docker() {
    let of = |pid1, kubernetes| {
        let surroundings = Surroundings { root: true, pid1, kubernetes, ..Surroundings::default() };
        let files = BTreeMap::new();
        let text = "[service.a]\ncommand = 'x'";
        config::read(text, Path::new("/f"), &surroundings, Files::Given(&files))
            .unwrap()
            .plan
            .supervisor
            .shutdown_timeout
            .as_secs()
    };
    assert_eq!([of(true, false), of(true, true), of(false, false)], [9, 25, 25]);
}

fn line(command: &[&str]) -> CommandLine {
    CommandLine {
        command: command.iter().map(|&it| it.to_owned()).collect(),
        directory: "/srv".into(),
        ..CommandLine::default()
    }
}

#[test]
fn a_command_line_is_one_essential_service() {
    let options = CommandLine {
        restart: Some("on-failure:3".to_owned()),
        liveness: Some("http://127.0.0.1:8000/".to_owned()),
        heartbeat: Some("beat".to_owned()),
        http: Some("127.0.0.1:9180".to_owned()),
        ..line(&["/opt/My App.py", "${HOME}", "$HOME", "a b"])
    };
    let plan = config::command_line(&options, &surroundings()).unwrap().plan;
    assert_eq!(plan.supervisor.config, None);
    assert_eq!(plan.supervisor.listen.unwrap().port(), 9180);
    let [service] = plan.services.as_slice() else { panic!("one service") };
    assert_eq!(&*service.name, "my-app.py");
    assert!(service.essential);
    assert_eq!(service.command, ["/opt/My App.py", "${HOME}", "$HOME", "a b"]);
    assert_eq!(service.directory, Path::new("/srv"));
    assert_eq!(service.restart.max_restarts, 3);
    assert_eq!(service.probes[0].role, Role::Liveness);
    assert_eq!(service.heartbeat.as_ref().unwrap().file.as_deref(), Some(Path::new("/srv/beat")));
    let named = CommandLine { name: Some("web".to_owned()), ..line(&["x"]) };
    assert_eq!(
        &*config::command_line(&named, &surroundings()).unwrap().plan.services[0].name,
        "web"
    );
    for program in ["keepup", "/", "…"] {
        let plan = config::command_line(&line(&[program]), &surroundings()).unwrap().plan;
        assert_eq!(&*plan.services[0].name, "service");
    }
}

#[test]
fn a_wrong_argument_is_underlined() {
    let wrong = CommandLine {
        restart: Some("allways".to_owned()),
        liveness: Some("localhost:8000".to_owned()),
        ..line(&["sleep", "1"])
    };
    let problems = config::command_line(&wrong, &surroundings()).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "\
command line:1:22: `policy` cannot be `allways`
  |
1 | keepup run --restart allways --liveness localhost:8000 -- sleep 1
  |                      ^^^^^^^
hint: did you mean `always`?

command line:1:41: `http` must be a URL, found `localhost:8000`
  |
1 | keepup run --restart allways --liveness localhost:8000 -- sleep 1
  |                                         ^^^^^^^^^^^^^^
hint: write \"http://localhost:8000\""
    );
    assert!(config::command_line(&line(&[]), &surroundings()).is_err());
}

#[test]
fn the_runtime_folder_is_found_in_a_broken_file() {
    let folder = std::env::temp_dir().join(format!("keepup-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let of = |text: &str| {
        let path = folder.join("supervisor.toml");
        std::fs::write(&path, text).unwrap();
        config::runtime_dir(&path, &surroundings())
    };
    let here = |name: &str| folder.join(name);
    assert_eq!(of("[supervisor]\nruntime_dir = \"/run/x\""), PathBuf::from("/run/x"));
    assert_eq!(of("[supervisor]\nruntime_dir = \"r\"\nwrong = 1\n[x]\ny = \"${NO}\""), here("r"));
    assert_eq!(of("[supervisor]\nname = \"other\""), PathBuf::from("/run/other"));
    assert_eq!(of("[supervisor]\nname = \"Wrong Name\""), PathBuf::from("/run/keepup"));
    assert_eq!(of("[supervisor]\nruntime_dir = \"/run/x\"\n[[[\nbroken"), PathBuf::from("/run/x"));
    assert_eq!(of("supervisor = 1"), PathBuf::from("/run/keepup"));
    assert_eq!(of("[supervisor]\nruntime_dir = \"${UNSET}\""), PathBuf::from("/run/keepup"));
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = config::runtime_dir(&here("none.toml"), &surroundings());
    assert_eq!(missing, PathBuf::from("/run/keepup"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let problems = config::load(Path::new("/no/such.toml"), &surroundings()).unwrap_err();
    assert_eq!(problems.cause, config::Cause::Unreadable);
    assert_eq!(
        problems.to_string(),
        "cannot read `/no/such.toml`: no such file\nhint: `keepup init` writes a file to start from"
    );
    let path = std::env::temp_dir().join(format!("keepup-latin1-{}.toml", std::process::id()));
    std::fs::write(&path, b"a = 1\nb = \"\xe4\"\n").unwrap();
    let latin1 = config::load(&path, &surroundings()).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    assert!(latin1.ends_with("`: not UTF-8 in line 2"), "{latin1}");
    let folder = config::load(Path::new("/"), &surroundings()).unwrap_err();
    assert_eq!(folder.to_string(), "cannot read `/`: not a file");
}

#[test]
fn held_sockets_and_who_may_use_them() {
    let checked = fixture("listen.toml");
    let tcp = |address: &str, v6_only| Socket::Tcp { address: address.parse().unwrap(), v6_only };
    let unix = |path: &str, mode| Socket::Unix { path: path.into(), mode };
    let expected = [
        tcp("0.0.0.0:8000", false),
        // Beside one of IPv4 at the same port it has IPv6 alone; else it takes both.
        tcp("[::]:8000", true),
        tcp("[::1]:9000", true),
        tcp("[::]:8002", false),
        unix("/etc/keepup/api.sock", 0o666),
        unix("/run/b,c.sock", 0o660),
        Socket::Systemd("http".to_owned()),
    ];
    assert_eq!(service(&checked, "api").listen, expected);
}

#[test]
fn sockets_of_a_command_line_are_those_of_a_file() {
    let line = CommandLine {
        listen: vec!["tcp:127.0.0.1:80".to_owned(), "unix:x.sock".to_owned()],
        command: vec!["uvicorn".to_owned()],
        directory: "/srv".into(),
        ..CommandLine::default()
    };
    let checked = config::command_line(&line, &surroundings()).unwrap();
    let written: Vec<String> =
        checked.plan.services[0].listen.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["tcp:127.0.0.1:80", "unix:/srv/x.sock"]);
}

#[test]
fn a_heartbeat_without_a_file_is_a_watchdog_unless_it_only_stands_in_defaults() {
    let checked = fixture("heartbeat_no_file.toml");
    let heartbeats: Vec<_> = checked.plan.services.iter().map(|it| it.heartbeat.clone()).collect();
    let [Some(own), Some(notifies), None] = &heartbeats[..] else { panic!("{heartbeats:?}") };
    assert_eq!((&own.file, own.unhealthy_after), (&None, Duration::from_secs(150)));
    assert_eq!((&notifies.file, notifies.unhealthy_after), (&None, Duration::from_secs(120)));
    let heard: Vec<bool> = checked.plan.services.iter().map(Service::is_heard).collect();
    assert_eq!(heard, [true, true, false]);
}
