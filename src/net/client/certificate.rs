//! Whether a server's certificate is good, and in which words it is not.
//!
//! What the roots vouch for is judged by webpki; the little that it does not tell is read here.

#![expect(clippy::wildcard_enum_match_arm, reason = "the errors of rustls are many, and not ours")]

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// Names of a certificate that are shown.
const NAMES_SHOWN: usize = 3;

/// What a certificate must fulfil.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Nothing.
    Nothing,
    /// These roots vouch for it.
    Rooted(Arc<WebPkiServerVerifier>),
    /// It is one of these, or these roots vouch for it.
    RootedOrOneOf(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
}

/// Judges certificates, and says what is wrong with them.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) wanted: Wanted,
    pub(super) provider: Arc<CryptoProvider>,
}

/// What is wrong with a certificate, for people.
#[derive(Debug)]
pub(super) struct Bad(pub(super) String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match &self.wanted {
            Wanted::Nothing => return Ok(ServerCertVerified::assertion()),
            // A root that is used by a server itself, as `openssl req -x509` makes them, is refused
            // by webpki although it is the very certificate that was asked for.
            Wanted::RootedOrOneOf(_, own) if own.iter().any(|it| it == end_entity) => {
                judge_own(end_entity, server_name, now)
            }
            Wanted::Rooted(roots) | Wanted::RootedOrOneOf(roots, _) => roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(|_| ()),
        };
        match verdict {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                let bad = Bad(words(&error, end_entity, server_name));
                Err(CertificateError::Other(OtherError(Arc::new(bad))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Wanted::Nothing = self.wanted {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Wanted::Nothing = self.wanted {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate is trusted as it is: only its time and its names are left to judge.
fn judge_own(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let outline = Outline::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let time = compact(now).ok_or(CertificateError::BadEncoding)?;
    if time < outline.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if time > outline.not_after {
        return Err(CertificateError::Expired.into());
    }
    rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

fn words(error: &Error, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> String {
    let Error::InvalidCertificate(error) = error else {
        return format!("certificate is no good: {error}");
    };
    let outline = Outline::read(certificate);
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("certificate expired{}", on(error, outline.as_ref().map(|it| &it.not_after)))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let day = on(error, outline.as_ref().map(|it| &it.not_before));
            format!("certificate is not valid yet: it begins{day}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is for {}, not {}", names(error), name.to_str())
        }
        CertificateError::UnknownIssuer if !outline.as_ref().is_some_and(Outline::is_own) => {
            "certificate is not trusted (its issuer is unknown; ca_file or insecure)".to_owned()
        }
        // A self-signed one that is a root itself comes as one of the others.
        _ if outline.as_ref().is_some_and(Outline::is_own) => {
            "certificate is not trusted (self-signed; ca_file or insecure)".to_owned()
        }
        CertificateError::BadEncoding => "certificate cannot be read".to_owned(),
        CertificateError::Revoked => "certificate is revoked".to_owned(),
        // An authority of the same name, and another key.
        CertificateError::BadSignature => {
            "certificate is not trusted (signed with another key; ca_file or insecure)".to_owned()
        }
        other => format!("certificate is no good: {other}"),
    }
}

/// When it ended or begins; the certificate that did may be one of the chain.
fn on(error: &CertificateError, own: Option<&String>) -> String {
    let of_chain = match error {
        CertificateError::ExpiredContext { not_after, .. } => compact(*not_after),
        CertificateError::NotValidYetContext { not_before, .. } => compact(*not_before),
        _ => None,
    };
    let Some(time) = of_chain.as_ref().or(own) else { return String::new() };
    match (time.get(..4), time.get(4..6), time.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!(" on {year}-{month}-{day}"),
        _ => String::new(),
    }
}

/// The names that a certificate has, as rustls shows them: `DnsName("a")`, `IpAddress(127.0.0.1)`.
fn names(error: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { presented, .. } = error else {
        return "another host".to_owned();
    };
    let bare = |name: &String| {
        let inside = name.split_once('(').map_or(name.as_str(), |it| it.1);
        inside.trim_end_matches(')').trim_matches('"').to_owned()
    };
    let names: Vec<String> = presented.iter().take(NAMES_SHOWN).map(bare).collect();
    match (names.is_empty(), presented.len() > NAMES_SHOWN) {
        (true, _) => "no host (it has no subjectAltName)".to_owned(),
        (false, true) => format!("{} and others", names.join(", ")),
        (false, false) => names.join(", "),
    }
}

/// A time as digits, which sort as times do: `20261122002344`.
fn compact(time: UnixTime) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()?;
    Some(time.strftime("%Y%m%d%H%M%S").to_string())
}

/// The parts of a certificate that matter here. Source: RFC 5280, section 4.1.
#[derive(Debug, PartialEq, Eq)]
struct Outline<'a> {
    issuer: &'a [u8],
    not_before: String,
    not_after: String,
    subject: &'a [u8],
}

impl<'a> Outline<'a> {
    fn read(certificate: &'a [u8]) -> Option<Outline<'a>> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut rest, _) = element(certificate)?;
        // The version may be left out.
        if rest.first() == Some(&0xa0) {
            rest = element(rest)?.2;
        }
        let (_, _serial, rest) = element(rest)?;
        let (_, _algorithm, rest) = element(rest)?;
        let (_, issuer, rest) = element(rest)?;
        let (_, validity, rest) = element(rest)?;
        let (_, subject, _) = element(rest)?;
        let (tag, text, after) = element(validity)?;
        let not_before = time(tag, text)?;
        let (tag, text, _) = element(after)?;
        Some(Outline { issuer, not_before, not_after: time(tag, text)?, subject })
    }

    fn is_own(&self) -> bool {
        self.issuer == self.subject
    }
}

/// The first element: its tag, what is in it, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (inside, rest) = rest.split_at_checked(length)?;
    Some((tag, inside, rest))
}

/// A `UTCTime` or a `GeneralizedTime`, as digits.
fn time(tag: u8, text: &[u8]) -> Option<String> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    match (tag, digits.len()) {
        (0x17, 12) if digits < "50" => Some(format!("20{digits}")),
        (0x17, 12) => Some(format!("19{digits}")),
        (0x18, 14) => Some(digits.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_they_pass() {
        assert_eq!(time(0x17, b"491231235959Z").as_deref(), Some("20491231235959"));
        assert_eq!(time(0x17, b"500101000000Z").as_deref(), Some("19500101000000"));
        assert_eq!(time(0x18, b"20500101000000Z").as_deref(), Some("20500101000000"));
        for bad in [b"".as_slice(), b"Z", b"4912312359Z", b"491231235959", b"49123123595xZ"] {
            assert_eq!(time(0x17, bad), None);
        }
        let moment = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000_000_000));
        assert_eq!(compact(moment).as_deref(), Some("20010909014640"));
    }

    #[test]
    fn broken_certificates_are_not_read() {
        for bytes in [b"".as_slice(), b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\0"]
        {
            assert_eq!(Outline::read(bytes), None);
        }
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for length in 0..2000 {
            let bytes: Vec<u8> = (0..length % 90)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    if seed.is_multiple_of(4) { 0x30 } else { seed.to_le_bytes()[5] % 40 }
                })
                .collect();
            // It must not panic.
            let _ = Outline::read(&bytes);
        }
    }
}
