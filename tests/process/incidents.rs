//! What is left of a failure for people to read.

use serde_json::Value;

use crate::harness::{Folder, Keepup, shell};
use crate::world::{free_port, wait_until};

/// Answers twice, and then hangs in a read for ever, while another thread waits for a lock.
const HANGS: &str = r#"
import faulthandler, http.server, os, sys, threading
faulthandler.enable()
lock = threading.Lock()
count = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        count += 1
        if count > 2 and not os.path.exists("hung"):
            open("hung", "w").close()
            print("now it hangs", flush=True)
            os.read(os.pipe()[0], 1)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *rest):
        pass
lock.acquire()
threading.Thread(target=lock.acquire, daemon=True).start()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// The newest incident, once it says this of itself.
fn newest(keepup: &Keepup, outcome: &str) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("an incident is {outcome}"), || {
        let list: Value = serde_json::from_str(&keepup.ask(&["incidents", "--json"])).unwrap();
        found = list[0].clone();
        found["outcome"] == outcome
    });
    let id = found["id"].as_str().unwrap();
    serde_json::from_str(&keepup.ask(&["incidents", id, "--json"])).unwrap()
}

#[test]
fn a_hung_python_tells_where_it_hangs() {
    let folder = Folder::new();
    folder.write("app.py", HANGS);
    let port = free_port();
    let services = format!(
        "[service.api]\ncommand = [\"python3\", \"app.py\", \"{port}\"]\nhang_signal = \"ABRT\"\n\
         evidence_timeout = \"20s\"\nlimits = {{ core = 0 }}\n[service.api.restart]\ndelay = \"10ms\"\nstable_after = \"100ms\"\n\
         [service.api.liveness]\nhttp = \"http://127.0.0.1:{port}/\"\ninterval = \"100ms\"\n\
         retry_interval = \"100ms\"\ntimeout = \"1s\"\nfailures = 2\n\
         [service.web]\ncommand = \"sleep 1000\"\nafter = [\"api\"]\n"
    );
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.event("api", "unhealthy");
    let stopping = keepup.event("api", "stopping");
    assert_eq!(stopping["signal"], "SIGABRT", "{stopping}");
    let it = newest(&keepup, "recovered");
    assert_eq!((&it["reason"], &it["service"]), (&"unhealthy".into(), &"api".into()));
    assert_eq!((&it["affects"][0], &it["criticality"]), (&"web".into(), &"critical".into()));
    assert_eq!(it["failures"][0]["exit"]["signal"], "SIGABRT");

    let process = &it["evidence"][0]["processes"][0];
    let threads = process["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2, "{process}");
    assert!(threads.iter().all(|it| it["state"] == "S" && it["wait"].is_string()), "{process}");
    let call = threads[0]["call"].as_str().unwrap_or_default();
    assert!(call.starts_with("read of fd ") && call.contains("(pipe ["), "{process}");
    let listens = format!("socket tcp listens at 127.0.0.1:{port}");
    assert!(process["files"].to_string().contains(&listens), "{process}");

    let lines = it["log"].to_string();
    assert!(lines.contains("now it hangs") && lines.contains("in do_GET"), "{lines}");
    let probes = it["probes"].as_array().unwrap();
    assert!(probes.iter().any(|it| it["miss"].is_null()), "{probes:?}");
    assert!(probes.iter().any(|it| it["class"] == "timeout"), "{probes:?}");

    let text = keepup.ask(&["incidents", "last"]);
    assert!(text.starts_with("# api: unhealthy; recovered after "), "{text}");
    assert!(text.contains("waited in read of fd "), "{text}");
    let end = keepup.service("api")["last_end"].clone();
    assert_eq!(end["incident"], it["id"], "{end}");

    // The files are enough.
    keepup.end();
    assert_eq!(keepup.ask(&["incidents", "last"]), text);
    assert_eq!(keepup.client(&["incidents", "nothing-like-it"]).status.code(), Some(2));
}

#[test]
fn a_crash_loop_is_one_incident_and_names_who_has_its_port() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let script = format!("echo \"bind 127.0.0.1:{port}: address already in use\"; exit 3");
    let restart = "[service.api.restart]\ndelay = \"10ms\"\nmax_delay = \"10ms\"\nmax_restarts = 20\n\
                   on_cap = \"fail\"\n";
    let services = shell("api", &script, restart);
    let mut keepup = Keepup::start_in(Folder::new(), "stay = true", &services);
    keepup.event("api", "gave-up");
    let it = newest(&keepup, "given-up");
    assert_eq!(it["failures_count"], 21, "{it}");
    let holder = it["port_holder"].as_str().unwrap();
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    assert!(it["causes"][0].as_str().unwrap().contains("its port is taken"), "{it}");
    let list: Value = serde_json::from_str(&keepup.ask(&["incidents", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let what = "address already in use";
    wait_until("the problem quotes its last line", || keepup.ask(&["status"]).contains(what));
    keepup.end();
}

#[test]
fn an_incident_that_keepup_did_not_live_to_see_the_end_of_is_marked() {
    let services = "[service.api]\ncommand = \"false\"\n[service.api.restart]\ndelay = \"1h\"\n\
                    max_delay = \"1h\"\nmax_restarts = 0\n";
    let mut keepup = Keepup::start(services);
    keepup.event("api", "backoff");
    newest(&keepup, "open");
    let folder = keepup.die();
    let other = "[service.other]\ncommand = \"sleep 1000\"\n";
    let mut keepup = Keepup::start_in(folder, "", other);
    keepup.event("other", "up");
    assert_eq!(newest(&keepup, "unknown")["service"], "api");
    keepup.end();
}
