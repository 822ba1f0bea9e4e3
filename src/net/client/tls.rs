//! TLS on a connection: whose certificates are good, the handshake, and why there is none.
//!
//! It must never read a file on the loop, and never resume a session: a certificate that has
//! expired meanwhile would not be noticed.

#![expect(clippy::wildcard_enum_match_arm, reason = "the errors of rustls are many, and not ours")]

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, OtherError, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::aside::aside;
use super::certificate::{Judge, Wanted};
use super::tap::{Progress, Seen, Socket, Tap};
use super::words::{clipped, one_line, plain};
use super::{Failure, GREETING_MAX};
use crate::plan::{Class, Trust};

/// What a server may send until the handshake is done, in bytes.
const SHAKE_MAX: usize = 256 * 1024;

/// A file of certificates is not longer, in bytes.
const CA_FILE_MAX: u64 = 4 << 20;

/// The system's roots, once somebody needed them.
static ROOTS: OnceLock<Arc<WebPkiServerVerifier>> = OnceLock::new();

/// What is spoken through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// Speaks TLS to `name`. Without end, if nobody puts an end to it.
pub(super) async fn shake(
    stream: TcpStream,
    name: &str,
    trust: &Trust,
    speaks: Speaks,
) -> Result<TlsStream<Tap>, Failure> {
    let wanted = wanted(trust).await?;
    let config = config(wanted, speaks).map_err(|error| failure(&error.to_string()))?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| failure(&format!("`{name}` cannot be the name of a certificate")))?;
    let progress = Progress::new(SHAKE_MAX);
    let tap = Tap::new(Socket::Tcp(stream), progress.clone());
    let shaken = TlsConnector::from(Arc::new(config)).connect(server, tap).await;
    progress.seen().budget = None;
    shaken.map_err(|error| refused(&error, &progress.seen()))
}

/// The certificates of a PEM file; why not, as it follows the file's name.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let list = list.map_err(|error| one_line(&format!("is no PEM file: {error}")))?;
    if list.is_empty() {
        return Err("holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for (nth, certificate) in list.iter().enumerate() {
        let added = roots.add(certificate.clone());
        added.map_err(|_| format!("holds a broken certificate (number {})", nth + 1))?;
    }
    Ok(list)
}

async fn wanted(trust: &Trust) -> Result<Wanted, Failure> {
    match trust {
        Trust::Anyone => Ok(Wanted::Nothing),
        Trust::System => system_roots().await.map(Wanted::Rooted),
        Trust::Own(path) => {
            let file = path.clone();
            let read = aside(&path.to_string_lossy(), move || own_roots(&file)).await;
            let (roots, list) = read.and_then(|it| it).map_err(|text| failure(&text))?;
            Ok(Wanted::RootedOrOneOf(roots, list))
        }
    }
}

async fn system_roots() -> Result<Arc<WebPkiServerVerifier>, Failure> {
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let loaded = aside("the system's root certificates", || {
        rooted(rustls_native_certs::load_native_certs().certs).ok_or_else(|| {
            "this system has no root certificates (install ca-certificates, or set ca_file)"
                .to_owned()
        })
    });
    let roots = loaded.await.and_then(|it| it).map_err(|text| failure(&text))?;
    Ok(ROOTS.get_or_init(|| roots).clone())
}

type Own = (Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>);

fn own_roots(path: &Path) -> Result<Own, String> {
    let wrong = |why: &str| format!("ca_file `{}` {why}", path.display());
    let unread = |error: &io::Error| wrong(&format!("cannot be read: {}", plain(error)));
    let is_file = std::fs::metadata(path).map_err(|error| unread(&error))?;
    // A fifo would block, and a device has no end.
    if !is_file.is_file() || is_file.len() > CA_FILE_MAX {
        return Err(wrong("is no file of certificates"));
    }
    let pem = std::fs::read(path).map_err(|error| unread(&error))?;
    let list = certificates(&pem).map_err(|why| wrong(&why))?;
    let roots = rooted(list.clone()).ok_or_else(|| wrong("holds no certificate"))?;
    Ok((roots, list))
}

/// Nothing, if there is none that can vouch.
fn rooted(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}

fn config(wanted: Wanted, speaks: Speaks) -> Result<ClientConfig, Error> {
    let judge = Arc::new(Judge { wanted, provider: provider() });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(judge);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![match speaks {
        Speaks::Http1 => b"http/1.1".to_vec(),
        Speaks::Http2 => b"h2".to_vec(),
    }];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn failure(text: &str) -> Failure {
    Failure::new(Class::Tls, one_line(&format!("tls: {text}")))
}

/// Why a handshake failed.
fn refused(error: &io::Error, seen: &Seen) -> Failure {
    let alien = seen.first.first().is_some_and(|first| !(20..=24).contains(first));
    if alien {
        let greeting = clipped(&String::from_utf8_lossy(&seen.first), GREETING_MAX);
        let what = if seen.first.starts_with(b"HTTP/") { "not TLS, but HTTP" } else { "not TLS" };
        return failure(&format!("{what}: \"{greeting}\""));
    }
    if let Some(failure) = broken(error) {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => failure("connection closed during the handshake"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            failure("connection reset during the handshake")
        }
        _ if seen.overspent => failure("the handshake is too long"),
        _ => failure(&plain(error)),
    }
}

/// What TLS found wrong, if that is what the error is about.
pub(super) fn broken(error: &io::Error) -> Option<Failure> {
    let error: &Error = error.get_ref()?.downcast_ref()?;
    Some(failure(&match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(bad))) => bad.to_string(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of its client".to_owned()
        }
        Error::AlertReceived(alert) => {
            format!("the server refused: {}", spaced(&format!("{alert:?}")))
        }
        Error::PeerIncompatible(why) => {
            format!("nothing in common: {}", spaced(&format!("{why:?}")))
        }
        other => other.to_string(),
    }))
}

/// `HandshakeFailure` as `handshake failure`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(character.to_lowercase());
    }
    words
}
