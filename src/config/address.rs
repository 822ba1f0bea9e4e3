//! Addresses, as they are written: `host:port`, `http://…`, `unix:…`, `tcp:…`.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use super::source::joined;
use super::value::Value;
use super::wrong::Wrong;
use crate::plan::{GrpcProbe, HttpAddress, HttpProbe, Question, Trust, WaitFor};

/// What an HTTP probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) written: String,
    pub(super) scheme: Scheme,
    pub(super) address: HttpAddress,
    /// The path and query; starts with a slash.
    pub(super) path: String,
    /// The `Host` header.
    pub(super) host: String,
}

/// What a URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Unix,
}

/// A URL: `http://host:port/path` or `unix:/socket:/path`.
///
/// Source: RFC 3986, section 3, without user names and fragments; a probe has no use for them.
pub(super) fn url(value: Value<'_>) -> Option<Url> {
    let written = value.full_text()?;
    if let Some(bad) = written.chars().find(|c| !c.is_ascii_graphic()) {
        let hint = if bad.is_ascii() {
            "write a space as %20"
        } else {
            "write the host in punycode, and the path percent-encoded"
        };
        let wrong = format!("cannot hold the character `{}`", bad.escape_debug());
        value.refuse(Wrong::hinted(wrong, hint));
        return None;
    }
    let read = match written.strip_prefix("unix:") {
        Some(rest) => unix_url(rest, value),
        None => tcp_url(&written),
    };
    let (scheme, address, path, host) = value.ok(read)?;
    Some(Url { written, scheme, address, path, host })
}

type Parts = (Scheme, HttpAddress, String, String);

fn unix_url(rest: &str, value: Value<'_>) -> Result<Parts, Wrong> {
    let (socket, path) = match rest.split_once(":/") {
        Some((socket, path)) => (socket, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    if socket.is_empty() || socket.contains(':') {
        return Err(Wrong::hinted(
            format!("must name a socket and a path, found `unix:{rest}`"),
            "write \"unix:/run/api.sock:/health\"",
        ));
    }
    let socket = joined(&value.at.source.folder, socket);
    check_socket_length(&socket)?;
    Ok((Scheme::Unix, HttpAddress::Unix(socket), path, "localhost".to_owned()))
}

/// Source: unix(7): `sun_path` has 108 bytes, the last of which ends it.
pub(super) fn check_socket_length(path: &std::path::Path) -> Result<(), Wrong> {
    let length = path.as_os_str().len();
    if length <= 107 {
        return Ok(());
    }
    Err(Wrong::new(format!(
        "is too long: a socket's path has at most 107 bytes, and this one has {length}"
    )))
}

fn tcp_url(written: &str) -> Result<Parts, Wrong> {
    let no_scheme = || {
        let hint = match written.strip_prefix("//").unwrap_or(written) {
            rest if rest.starts_with('/') => format!("write \"http://127.0.0.1:8000{rest}\""),
            rest => format!("write \"http://{rest}\""),
        };
        Wrong::hinted(format!("must be a URL, found `{written}`"), hint)
    };
    let (scheme, rest) = written.split_once("://").ok_or_else(no_scheme)?;
    let (scheme, usual_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        other => {
            return Err(Wrong::hinted(
                format!("has an unknown scheme `{other}`"),
                "known: `http://`, `https://`, `unix:`",
            ));
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Wrong::hinted(
            "cannot hold a user name",
            "send it with headers = { Authorization = \"Basic …\" }",
        ));
    }
    if path.contains('#') {
        return Err(Wrong::new("cannot hold a `#`: no server sees what follows it"));
    }
    let (host, port) = split_host(authority, Some(usual_port))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((scheme, HttpAddress::Tcp(host, port), path, authority.to_owned()))
}

/// The host without brackets, and the port.
fn split_host(text: &str, usual_port: Option<u16>) -> Result<(String, u16), Wrong> {
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, rest)) => {
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(Wrong::new(format!("holds no IPv6 address in its brackets: `{host}`")));
            }
            (host, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if port.matches(':').count() > 1 {
        return Err(Wrong::hinted(
            format!("has too many colons: `{text}`"),
            "an IPv6 address stands in brackets: [::1]:8000",
        ));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(good) {
        return Err(Wrong::new(format!("must name a host, found `{text}`")));
    }
    let port = match (port, usual_port) {
        ("", Some(usual)) => usual,
        ("", None) => {
            return Err(Wrong::hinted(
                format!("must name a port, found `{text}`"),
                format!("write \"{text}:5432\""),
            ));
        }
        (port, _) => self::port(port.strip_prefix(':').unwrap_or(port))?,
    };
    Ok((host.to_owned(), port))
}

fn port(text: &str) -> Result<u16, Wrong> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|&port| digits && port != 0);
    port.ok_or_else(|| Wrong::new(format!("must have a port of 1 to 65535, found `{text}`")))
}

/// `host:port`, to connect to.
pub(super) fn host_port(value: Value<'_>) -> Option<String> {
    let text = address_text(value)?;
    value.ok(read_host_port(&text)).map(|_| text.clone())
}

/// What a gRPC probe asks: `host:port`, or `https://host:port`, and perhaps `/service` after it.
pub(super) fn grpc(value: Value<'_>) -> Option<(Scheme, GrpcProbe)> {
    let target = address_text(value)?;
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some((scheme, _)) => {
            let wrong = format!("has an unknown scheme `{scheme}`");
            value.refuse(Wrong::hinted(wrong, "write `host:port`, or `https://host:port`"));
            return None;
        }
        None => (Scheme::Http, target.as_str()),
    };
    let (authority, service) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = value.ok(read_host_port(authority))?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    if !service.bytes().all(good) {
        value.refuse(Wrong::new(format!("must name a service after its `/`, found `{service}`")));
        return None;
    }
    let (host_written, service) = (authority.to_owned(), service.to_owned());
    let address = HttpAddress::Tcp(host, port);
    let probe = GrpcProbe { target: target.clone(), address, host: host_written, service };
    Some((scheme, probe))
}

fn address_text(value: Value<'_>) -> Option<String> {
    match value.item {
        toml::de::DeValue::Integer(port) => {
            value.must_be("`host:port`", Some(format!("write \"127.0.0.1:{port}\"")));
            None
        }
        toml::de::DeValue::String(_)
        | toml::de::DeValue::Float(_)
        | toml::de::DeValue::Boolean(_)
        | toml::de::DeValue::Datetime(_)
        | toml::de::DeValue::Array(_)
        | toml::de::DeValue::Table(_) => value.full_text(),
    }
}

fn read_host_port(text: &str) -> Result<(String, u16), Wrong> {
    match text {
        _ if text.contains("://") => Err(Wrong::hinted(
            format!("must be `host:port`, found `{text}`"),
            "leave out what stands before and after",
        )),
        only if port(only.trim_start_matches(':')).is_ok() => Err(Wrong::hinted(
            format!("must name a host, found `{text}`"),
            format!("write \"127.0.0.1:{}\"", only.trim_start_matches(':')),
        )),
        both => split_host(both, None),
    }
}

/// An address to listen at: numbers only, since a name may stand for several.
pub(super) fn socket_addr(value: Value<'_>) -> Option<SocketAddr> {
    let text = value.full_text()?;
    let parse = || match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err(Wrong::new(format!("must have a port of 1 to 65535, found `{text}`"))),
        Err(_) => {
            let last = text.rsplit(':').next().unwrap_or_default();
            let port = port(last).unwrap_or(9180);
            Err(Wrong::hinted(
                format!("must be an address and a port, found `{text}`"),
                format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for everybody"),
            ))
        }
    };
    value.ok(parse())
}

/// Something to wait for: `tcp:HOST:PORT`, `unix:PATH` or a URL.
pub(super) fn wait_for(value: Value<'_>) -> Option<WaitFor> {
    let written = value.full_text()?;
    let question = if let Some(rest) = written.strip_prefix("tcp:") {
        let (host, port) = value.ok(split_host(rest, None))?;
        Question::Connect(HttpAddress::Tcp(host, port))
    } else if written.starts_with("unix:") || written.contains("://") {
        let url = url(value)?;
        match (url.scheme, url.address) {
            // Nothing is asked for, so nothing need speak HTTP.
            (Scheme::Unix, address) if written.matches(':').count() == 1 => {
                Question::Connect(address)
            }
            (Scheme::Https, HttpAddress::Tcp(host, port)) => {
                let address = HttpAddress::Tls(host, port, Trust::System);
                Question::Http(Box::new(plain_get(&written, address, url.path, url.host)))
            }
            (_, address) => {
                Question::Http(Box::new(plain_get(&written, address, url.path, url.host)))
            }
        }
    } else {
        value.refuse(Wrong::hinted(
            format!("must begin with `tcp:`, `unix:` or `http://`, found `{written}`"),
            "write \"tcp:db:5432\"",
        ));
        return None;
    };
    Some(WaitFor { written, question })
}

/// A GET that any answer of 200 to 399 satisfies.
fn plain_get(url: &str, address: HttpAddress, path: String, host: String) -> HttpProbe {
    HttpProbe {
        url: url.to_owned(),
        address,
        path,
        host,
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        body: None,
        status: vec![200..=399],
        contains: None,
        json: Vec::new(),
    }
}
