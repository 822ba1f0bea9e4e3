//! What is asked of a service, and what must be answered.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// One question, asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What the answer is for.
    pub role: Role,
    /// What is asked.
    pub kind: ProbeKind,
    /// From an answer to the next question.
    pub interval: Duration,
    /// From a miss to the next question.
    pub retry_interval: Duration,
    /// An answer that takes longer is a miss.
    pub timeout: Duration,
    /// Misses in a row until it fails.
    pub failures: u32,
    /// Passes in a row until it passes.
    pub successes: u32,
    /// From the start of a run to the first question.
    pub initial_delay: Duration,
    /// A pass that takes longer degrades the service.
    pub slow: Option<Duration>,
    /// Misses of these classes make it fail at once.
    pub definite: Vec<Class>,
}

/// What a probe's answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Until it passes, the others wait.
    Startup,
    /// Failing restarts the service.
    Liveness,
    /// Failing takes the service out of `/readyz`.
    Readiness,
    /// Failing degrades the service.
    Warning,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Startup => "startup",
            Role::Liveness => "liveness",
            Role::Readiness => "readiness",
            Role::Warning => "warning",
        })
    }
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// An HTTP request and what its answer must be.
    Http(Box<HttpProbe>),
    /// A connection to this `host:port`.
    Tcp(String),
    /// A command that must exit 0.
    Exec(Vec<String>),
    /// A file and what it must hold.
    File(Box<FileProbe>),
    /// A process of the service itself listens at exactly this address.
    Listening(SocketAddr),
    /// `grpc.health.v1.Health/Check`, which must answer SERVING.
    Grpc(Box<GrpcProbe>),
}

impl ProbeKind {
    /// The kind, as it is spelled in the file.
    pub fn name(&self) -> &'static str {
        match self {
            ProbeKind::Http(_) => "http",
            ProbeKind::Tcp(_) => "tcp",
            ProbeKind::Exec(_) => "exec",
            ProbeKind::File(_) => "file",
            ProbeKind::Listening(_) => "listening",
            ProbeKind::Grpc(_) => "grpc",
        }
    }

    /// What it is asked of.
    pub fn target(&self) -> String {
        match self {
            ProbeKind::Http(http) => http.url.clone(),
            ProbeKind::Tcp(address) => address.clone(),
            ProbeKind::Exec(command) => command.join(" "),
            ProbeKind::File(file) => file.path.display().to_string(),
            ProbeKind::Listening(address) => address.to_string(),
            ProbeKind::Grpc(grpc) => grpc.target.clone(),
        }
    }
}

impl fmt::Display for ProbeKind {
    /// What is asked of what; a URL says both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeKind::Http(http) => f.write_str(&http.url),
            ProbeKind::Tcp(_)
            | ProbeKind::Exec(_)
            | ProbeKind::File(_)
            | ProbeKind::Listening(_)
            | ProbeKind::Grpc(_) => {
                write!(f, "{} {}", self.name(), self.target())
            }
        }
    }
}

/// An HTTP request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The whole URL as written, for people.
    pub url: String,
    /// Where to connect.
    pub address: HttpAddress,
    /// The path and query to ask for; starts with a slash.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The request method, in upper case.
    pub method: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The request body.
    pub body: Option<String>,
    /// Status codes that pass.
    pub status: Vec<RangeInclusive<u16>>,
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// Fields that the JSON body must have: dotted path and value.
    pub json: Vec<(String, Scalar)>,
}

/// A question for the health of a gRPC server, or of one service in it.
///
/// Source: the gRPC Health Checking Protocol, `grpc.health.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// As written, for people.
    pub target: String,
    /// Where to connect.
    pub address: HttpAddress,
    /// The authority that is asked.
    pub host: String,
    /// The service that is asked for; empty: the whole server.
    pub service: String,
}

/// A file and what it must hold. With nothing wanted of it, it must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct FileProbe {
    /// Where it is.
    pub path: PathBuf,
    /// Fields that it must have: dotted path and value.
    pub json: Vec<(String, Scalar)>,
    /// Numbers that must not exceed these: dotted path and the greatest number.
    pub json_max: Vec<(String, f64)>,
    /// Times that must not be older than this, by the wall clock: dotted path and age.
    pub json_age: Vec<(String, Duration)>,
    /// The file itself must have been seen to change within this time; no clock but keepup's own
    /// steady one matters.
    pub max_age: Option<Duration>,
}

/// Where an HTTP probe connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// This host (name or address, without brackets) and port.
    Tcp(String, u16),
    /// The same, through TLS.
    Tls(String, u16, Trust),
    /// This Unix socket.
    Unix(PathBuf),
}

/// Whose certificates are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system's root certificates vouch for.
    System,
    /// Those that stand in this PEM file, and those that they vouch for.
    Own(PathBuf),
    /// Anybody's.
    Anyone,
}

/// A JSON value without parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Bool(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => write!(f, "{text:?}"),
            Scalar::Integer(number) => write!(f, "{number}"),
            Scalar::Float(number) => write!(f, "{number}"),
            Scalar::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

/// What kind of miss a miss is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// The name does not resolve.
    Dns,
    /// The certificate, or the handshake.
    Tls,
    /// The status code, or not HTTP at all.
    Http,
    /// The body is not what it must be.
    Body,
    /// A file is too old.
    Stale,
    /// Anything else.
    Other,
}

impl Class {
    /// All of them, with the word that names each.
    pub const ALL: [(&'static str, Class); 8] = [
        ("refused", Class::Refused),
        ("timeout", Class::Timeout),
        ("dns", Class::Dns),
        ("tls", Class::Tls),
        ("http", Class::Http),
        ("body", Class::Body),
        ("stale", Class::Stale),
        ("other", Class::Other),
    ];

    /// The word that names it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Refused => "refused",
            Class::Timeout => "timeout",
            Class::Dns => "dns",
            Class::Tls => "tls",
            Class::Http => "http",
            Class::Body => "body",
            Class::Stale => "stale",
            Class::Other => "other",
        }
    }
}
