//! Whatever is sent to the control socket, the next one is answered.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use keepup::control::{Control, Socket, Sources};
use keepup::report::{Journal, Metrics, Sampler};
use libfuzzer_sys::fuzz_target;
use tokio::sync::mpsc;

/// A control whose loop takes every request and answers none.
static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("keepup-fuzz-{}", std::process::id()));
    let path = folder.join("control.sock");
    let socket = Socket::bind(&path, None).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (requests, mut queue) = mpsc::channel(16);
            tokio::spawn(async move { while queue.recv().await.is_some() {} });
            let sources = Sources {
                requests,
                journal: Journal::in_memory(),
                metrics: Arc::new(Metrics::new().unwrap()),
                usage: Sampler::new(folder.clone()),
                incidents: Some(folder),
                open_log: None,
                log_counts: None,
            };
            Control::new(sources).serve_socket(socket).await.unwrap();
        });
    });
    path
});

/// Who ends with no more to say has hung up, as HTTP servers see it.
#[derive(PartialEq)]
enum Then {
    HangUp,
    Listen,
}

fn say(bytes: &[u8], then: Then) -> Vec<u8> {
    let mut stream = UnixStream::connect(&*SOCKET).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // It may have hung up on what it does not like.
    let _ = stream.write_all(bytes);
    if then == Then::HangUp {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fuzz_target!(|bytes: &[u8]| {
    say(bytes, Then::HangUp);
    let answer = say(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", Then::Listen);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
});
