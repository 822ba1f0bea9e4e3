//! Whatever a service answers, the probe comes to an end, and a miss has a reason of one line.

#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use keepup::core::event::Answer;
use keepup::net::client::Limits;
use keepup::plan::{HttpAddress, HttpProbe, Scalar};
use keepup::probe::http::ask;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("keepup-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
});

static LISTENER: LazyLock<UnixListener> = LazyLock::new(|| UnixListener::bind(&*SOCKET).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let answer = RUNTIME.block_on(async {
        let listener = &*LISTENER;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            // Whoever asked may have heard enough.
            let _ = stream.write_all(bytes).await;
        };
        let limits = Limits { timeout: Duration::from_secs(2), slack: Duration::ZERO, body: 65536 };
        let probe = probe();
        tokio::join!(ask(&probe, limits, |_| ()), serve).0
    });
    if let Answer::Miss(miss) = answer {
        assert!(!miss.text.trim().is_empty(), "a miss without a reason");
        assert!(!miss.text.contains(char::is_control), "{:?}", miss.text);
        assert!(miss.text.len() < 2000, "{}", miss.text);
    }
});

fn probe() -> HttpProbe {
    HttpProbe {
        url: "unix:/socket:/".into(),
        address: HttpAddress::Unix(SOCKET.clone()),
        path: "/".into(),
        host: "localhost".into(),
        method: "GET".into(),
        headers: BTreeMap::new(),
        body: None,
        status: vec![200..=399],
        contains: Some("healthy".into()),
        json: vec![("a.status".into(), Scalar::Text("healthy".into()))],
    }
}
