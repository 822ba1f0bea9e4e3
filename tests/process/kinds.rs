//! Every kind of probe, asked by a whole keepup.

use crate::harness::{Folder, Keepup, shell, supervisor};
use crate::world::{free_port, wait_until};

/// A sleeper with a probe that is asked often; `keys` for the probe.
fn asked(folder: Folder, script: &str, keys: &str) -> Keepup {
    let probe = format!(
        "[service.api.restart]\ndelay = \"10ms\"\n[service.api.liveness]\ninterval = \"20ms\"\n\
         retry_interval = \"20ms\"\nfailures = 100000\n{keys}\n"
    );
    Keepup::start_in(folder, "", &shell("api", script, &probe))
}

#[test]
fn a_file_is_judged_by_what_it_says() {
    let folder = Folder::new();
    folder.write("metrics.json", r#"{"status": "ok", "failures": 0}"#);
    let keys = "file = \"metrics.json\"\njson = { status = \"ok\" }\njson_max = { failures = 4 }";
    let mut keepup = asked(folder, "exec sleep 1000", keys);
    keepup.event("api", "ready");
    keepup.folder.write("metrics.json", r#"{"status": "ok", "failures": 5}"#);
    let miss = keepup.event("api", "miss");
    assert_eq!(
        (&miss["class"], &miss["detail"]),
        (&"body".into(), &"failures is 5, wanted at most 4".into())
    );
    std::fs::remove_file(keepup.folder.path("metrics.json")).unwrap();
    keepup.event_with("api", "miss", |it| {
        it["detail"].as_str().unwrap().ends_with(" does not exist")
    });
    keepup.folder.write("metrics.json", r#"{"status": "ok", "failures": 4}"#);
    keepup.event("api", "healthy");
}

#[test]
fn the_service_itself_must_listen() {
    let port = free_port();
    let script = format!(
        "exec python3 -c \"import socket, time; s = socket.socket(); \
         s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(1000)\""
    );
    let keys = format!("listening = \"127.0.0.1:{port}\"");
    let mut keepup = asked(Folder::new(), &script, &keys);
    keepup.event("api", "ready");
    let probe = keepup.service("api")["probes"][0].clone();
    assert_eq!(probe["kind"], "listening");
    assert_eq!(probe["target"], format!("127.0.0.1:{port}"));
}

#[test]
fn another_program_that_listens_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!("listening = \"{}\"", other.local_addr().unwrap());
    let mut keepup = asked(Folder::new(), "exec sleep 1000", &keys);
    let miss = keepup.event("api", "miss");
    let detail = miss["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("pid {} (", std::process::id())), "{miss}");
    assert_eq!(miss["class"], "other");
}

/// Python's own server, with a certificate that `openssl` made.
#[test]
fn https_is_asked_of_a_real_server() {
    let folder = Folder::new();
    let port = free_port();
    let made = folder
        .command("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .output();
    if !made.is_ok_and(|it| it.status.success()) {
        // There is no openssl here that makes certificates.
        return;
    }
    folder.write(
        "server.py",
        &format!(
            "import http.server, ssl\n\
             server = http.server.HTTPServer(('127.0.0.1', {port}), http.server.SimpleHTTPRequestHandler)\n\
             context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
             context.load_cert_chain('ca.pem', 'key.pem')\n\
             server.socket = context.wrap_socket(server.socket, server_side=True)\n\
             server.serve_forever()\n"
        ),
    );
    let probe = |host: &str, more: &str| {
        format!("http = \"https://{host}:{port}/server.py\"\ncontains = \"serve_forever\"\n{more}")
    };
    let keys = format!(
        "{}\n[[service.api.readiness]]\n{}\ninterval = \"20ms\"\n\
         [[service.api.readiness]]\n{}\ninterval = \"20ms\"\n",
        probe("localhost", "ca_file = \"ca.pem\""),
        probe("127.0.0.1", "ca_file = \"ca.pem\""),
        probe("localhost", ""),
    );
    let mut keepup = asked(folder, "exec python3 server.py", &keys);
    let about = |detail: &'static str| {
        move |it: &serde_json::Value| it["detail"].as_str().unwrap().contains(detail)
    };
    let named = keepup.event_with("api", "miss", about("is for localhost, not 127.0.0.1"));
    assert_eq!(named["class"], "tls", "{named}");
    keepup.event_with("api", "miss", about("not trusted (self-signed; ca_file or insecure)"));
    wait_until("the first probe passes", || keepup.service("api")["probes"][0]["ok"] == true);
}

#[test]
fn an_insecure_probe_is_warned_of() {
    let folder = Folder::new();
    let probe = "[service.api.liveness]\nhttp = \"https://127.0.0.1:1/\"\ninsecure = true\n";
    let file = format!("{}{}", supervisor(""), shell("api", "exec sleep 1000", probe));
    folder.write("supervisor.toml", &file);
    let checked = folder.command(env!("CARGO_BIN_EXE_keepup")).arg("check").output().unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("no certificate is checked"), "{said}");
}
