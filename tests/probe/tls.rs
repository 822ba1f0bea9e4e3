//! `https`: whose certificates are good, and what is told when one is not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keepup::plan::{HttpAddress, ProbeKind, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::{LIMIT, SHORT, answer, ask, http, judged, read_head, run, says, server, told};

/// A certificate and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A file that goes with its owner.
struct PemFile(PathBuf);

impl PemFile {
    fn new(pem: &str) -> PemFile {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("keepup-tls-{}-{nth}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, pem).unwrap();
        PemFile(path)
    }

    fn trust(&self) -> Trust {
        Trust::Own(self.0.clone())
    }
}

impl Drop for PemFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "keepup test server");
    params
}

/// An authority of our own, and the file of its certificate.
fn authority(name: &str) -> (CertifiedIssuer<'static, KeyPair>, PemFile) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = PemFile::new(&issuer.pem());
    (issuer, file)
}

fn signed(issuer: &CertifiedIssuer<'static, KeyPair>, params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity { chain: vec![certificate.der().clone()], key }
}

fn self_signed(params: &CertificateParams) -> (Identity, PemFile) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = PemFile::new(&certificate.pem());
    (Identity { chain: vec![certificate.der().clone()], key }, file)
}

/// How a server ends a connection.
#[derive(Clone, Copy)]
enum End {
    Told,
    Untold,
}

/// A server that answers through TLS.
async fn secure(identity: Identity, answer: &str, end: End) -> u16 {
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            read_head(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.flush().await;
            if let End::Told = end {
                let _ = stream.shutdown().await;
            }
        }
    });
    port
}

fn kind(port: u16, host: &str, trust: Trust) -> ProbeKind {
    let mut probe = http(HttpAddress::Tls("127.0.0.1".to_owned(), port, trust));
    host.clone_into(&mut probe.host);
    probe.contains = Some("fine".to_owned());
    ProbeKind::Http(Box::new(probe))
}

async fn asked(identity: Identity, host: &str, trust: Trust) -> String {
    let port = secure(identity, &answer("200 OK", "fine"), End::Told).await;
    told(ask(kind(port, host, trust), LIMIT).await)
}

#[test]
fn a_certificate_that_an_own_authority_signed_passes() {
    run(async {
        let (issuer, file) = authority("one");
        let localhost = || signed(&issuer, &params(&["localhost", "127.0.0.1", "::1"]));
        assert_eq!(asked(localhost(), "localhost:8443", file.trust()).await, "pass");
        assert_eq!(asked(localhost(), "127.0.0.1", file.trust()).await, "pass");
        assert_eq!(asked(localhost(), "[::1]:443", file.trust()).await, "pass");
    });
}

#[test]
fn a_certificate_for_others_is_told_with_its_names() {
    run(async {
        let (issuer, file) = authority("one");
        let other = || signed(&issuer, &params(&["other.example"]));
        assert_eq!(
            asked(other(), "localhost", file.trust()).await,
            "tls: tls: certificate is for other.example, not localhost"
        );
        assert_eq!(
            asked(other(), "127.0.0.1:1", file.trust()).await,
            "tls: tls: certificate is for other.example, not 127.0.0.1"
        );
        let nameless = signed(&issuer, &params(&[]));
        assert_eq!(
            asked(nameless, "localhost", file.trust()).await,
            "tls: tls: certificate is for no host (it has no subjectAltName), not localhost"
        );
        let many = signed(&issuer, &params(&["a.example", "b.example", "10.0.0.1", "c.example"]));
        assert_eq!(
            asked(many, "localhost", file.trust()).await,
            "tls: tls: certificate is for a.example, b.example, 10.0.0.1 and others, not localhost"
        );
    });
}

#[test]
fn a_certificate_out_of_its_time_is_told_with_the_day() {
    run(async {
        let (issuer, file) = authority("one");
        let mut old = params(&["localhost"]);
        old.not_before = rcgen::date_time_ymd(2020, 1, 1);
        old.not_after = rcgen::date_time_ymd(2021, 2, 3);
        let expired = "tls: tls: certificate expired on 2021-02-03";
        assert_eq!(asked(signed(&issuer, &old), "localhost", file.trust()).await, expired);
        let (own, own_file) = self_signed(&old);
        assert_eq!(asked(own, "localhost", own_file.trust()).await, expired);
        let mut early = params(&["localhost"]);
        early.not_before = rcgen::date_time_ymd(2150, 1, 31);
        let soon = "tls: tls: certificate is not valid yet: it begins on 2150-01-31";
        assert_eq!(asked(signed(&issuer, &early), "localhost", file.trust()).await, soon);
        let (own, own_file) = self_signed(&early);
        assert_eq!(asked(own, "localhost", own_file.trust()).await, soon);
    });
}

#[test]
fn whom_nobody_vouches_for_is_not_trusted() {
    run(async {
        let unknown = "tls: tls: certificate is not trusted (its issuer is unknown; \
                       ca_file or insecure)";
        let own = "tls: tls: certificate is not trusted (self-signed; ca_file or insecure)";
        let (issuer, _) = authority("one");
        let (_, other_file) = authority("two");
        let (_, namesake_file) = authority("one");
        let localhost = || params(&["localhost"]);
        let foreign = signed(&issuer, &localhost());
        assert_eq!(asked(foreign, "localhost", other_file.trust()).await, unknown);
        let foreign = signed(&issuer, &localhost());
        assert_eq!(
            asked(foreign, "localhost", namesake_file.trust()).await,
            "tls: tls: certificate is not trusted (signed with another key; ca_file or insecure)"
        );
        assert_eq!(asked(self_signed(&localhost()).0, "localhost", other_file.trust()).await, own);
        let mut root = localhost();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(asked(self_signed(&root).0, "localhost", other_file.trust()).await, own);
        let foreign = signed(&issuer, &localhost());
        assert_eq!(asked(foreign, "whoever", Trust::Anyone).await, "pass");
        assert_eq!(asked(self_signed(&root).0, "whoever", Trust::Anyone).await, "pass");
    });
}

#[test]
fn a_self_signed_certificate_passes_where_it_is_the_ca_file() {
    run(async {
        // A root that is the server's own certificate is what `openssl req -x509` makes.
        for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            let mut localhost = params(&["localhost"]);
            localhost.is_ca = is_ca;
            let (identity, file) = self_signed(&localhost);
            assert_eq!(asked(identity, "localhost", file.trust()).await, "pass");
            let (identity, file) = self_signed(&localhost);
            assert_eq!(
                asked(identity, "elsewhere", file.trust()).await,
                "tls: tls: certificate is for localhost, not elsewhere"
            );
        }
    });
}

#[test]
fn the_system_s_roots_do_not_vouch_for_a_test() {
    run(async {
        let (identity, _) = self_signed(&params(&["localhost"]));
        let told = asked(identity, "localhost", Trust::System).await;
        let none = "tls: tls: this system has no root certificates (install ca-certificates, or \
                    set ca_file)";
        let own = "tls: tls: certificate is not trusted (self-signed; ca_file or insecure)";
        assert!([none, own].contains(&told.as_str()), "{told}");
    });
}

#[test]
fn a_ca_file_that_is_gone_or_broken_is_told() {
    run(async {
        let (identity, file) = self_signed(&params(&["localhost"]));
        let path = file.0.display().to_string();
        let port = secure(identity, &answer("200 OK", "fine"), End::Told).await;
        std::fs::write(&file.0, "nothing").unwrap();
        let miss = told(ask(kind(port, "localhost", file.trust()), LIMIT).await);
        let none = "holds no certificate (-----BEGIN CERTIFICATE-----)";
        assert_eq!(miss, format!("tls: tls: ca_file `{path}` {none}"));
        std::fs::remove_file(&file.0).unwrap();
        let miss = told(ask(kind(port, "localhost", file.trust()), LIMIT).await);
        let gone = "cannot be read: no such file or directory";
        assert_eq!(miss, format!("tls: tls: ca_file `{path}` {gone}"));
    });
}

#[test]
fn an_answer_that_ends_without_a_farewell_is_whole_if_http_says_so() {
    run(async {
        for (answer, wanted) in [
            (answer("200 OK", "fine"), "pass"),
            ("HTTP/1.0 200 OK\r\n\r\nall fine".to_owned(), "pass"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nfine".to_owned(),
                "body: connection closed in the middle of the answer",
            ),
            (String::new(), "other: connection closed before an answer"),
        ] {
            let (identity, _) = self_signed(&params(&["localhost"]));
            let port = secure(identity, &answer, End::Untold).await;
            assert_eq!(told(ask(kind(port, "x", Trust::Anyone), LIMIT).await), wanted);
        }
    });
}

#[test]
fn what_does_not_speak_tls_is_shown() {
    run(async {
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = plain.local_addr().unwrap().port();
        let (say, mut said) = tokio::sync::mpsc::channel::<&'static str>(1);
        tokio::spawn(async move {
            while let Some(text) = said.recv().await {
                let (mut stream, _) = plain.accept().await.unwrap();
                // Read, so that closing does not reset.
                stream.readable().await.unwrap();
                let _ = stream.try_read(&mut [0; 4096]);
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        for (text, wanted) in [
            (
                "HTTP/1.1 400 Bad Request\r\n\r\n",
                "tls: tls: not TLS, but HTTP: \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\"",
            ),
            ("SSH-2.0-x\r\n", "tls: tls: not TLS: \"SSH-2.0-x\\r\\n\""),
            ("", "tls: tls: connection closed during the handshake"),
        ] {
            say.send(text).await.unwrap();
            assert_eq!(told(ask(kind(port, "x", Trust::Anyone), LIMIT).await), wanted);
        }
        // The other way round: `http` asked of a server that speaks TLS.
        let alert = b"\x15\x03\x01\x00\x02\x02\x46".as_slice();
        assert!(judged(alert, |_| ()).await.starts_with("http: not HTTP, but TLS"));
        let port = says(b"\x15\x03\x03\x00\x02\x02\x28".as_slice()).await;
        // That server waits for the end of an HTTP request.
        let late = told(ask(kind(port, "x", Trust::Anyone), SHORT).await);
        assert_eq!(late, "timeout: timed out after 100ms during the TLS handshake");
    });
}

#[test]
fn an_alert_is_told_in_words() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            let _ = stream.try_read(&mut [0; 4096]);
            stream.write_all(b"\x15\x03\x03\x00\x02\x02\x28").await.unwrap();
        });
        let miss = told(ask(kind(port, "x", Trust::Anyone), LIMIT).await);
        assert_eq!(miss, "tls: tls: the server refused: handshake failure");
    });
}

#[test]
fn an_endless_handshake_ends_in_time() {
    run(async {
        let port = server(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let began = std::time::Instant::now();
        let miss = told(ask(kind(port, "x", Trust::Anyone), SHORT).await);
        assert_eq!(miss, "timeout: timed out after 100ms during the TLS handshake");
        assert!(began.elapsed() < Duration::from_secs(10));
    });
}
