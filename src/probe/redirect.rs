//! Where an answer sends a probe on to: followed to the same host alone, as Kubernetes does, so that
//! no service can have keepup ask somebody else.

use hyper::header::LOCATION;

use crate::net::client::Head;
use crate::net::client::words::first_line;
use crate::plan::{HttpAddress, HttpProbe};

/// Further ones go round in circles.
pub(super) const REDIRECTS_MAX: usize = 10;

/// What an answer means for the way to the next one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is the answer.
    Ends,
    /// To this path of the same host.
    On(String),
    /// To somebody else, who is not asked.
    Elsewhere(String),
}

/// `path`: the one that was asked for.
pub(super) fn way(probe: &HttpProbe, path: &str, head: &Head) -> Way {
    let sends_on = matches!(head.status, 301 | 302 | 303 | 307 | 308);
    // The usual range says nothing of redirects; whoever names one wants just that.
    let usual = 200..=399;
    let wanted = probe.status.iter().any(|it| *it != usual && it.contains(&head.status));
    let Some(place) = head.headers.get(LOCATION).filter(|_| sends_on && !wanted) else {
        return Way::Ends;
    };
    let place = first_line(place.as_bytes());
    match on_same_host(probe, path, &place) {
        Some(path) => Way::On(path),
        None => Way::Elsewhere(place),
    }
}

/// Path and query, if it is the host that was asked.
///
/// Source: RFC 3986, 4.2 Relative Reference and 5.2.4 Remove Dot Segments (which servers do).
fn on_same_host(probe: &HttpProbe, path: &str, place: &str) -> Option<String> {
    let place = place.split('#').next().unwrap_or_default();
    let scheme = match probe.address {
        HttpAddress::Tls(..) => "https",
        HttpAddress::Tcp(..) | HttpAddress::Unix(_) => "http",
    };
    let absolute = match place.split_once("://") {
        Some((named, _)) if named.chars().any(|it| !it.is_ascii_alphanumeric()) => None,
        Some((named, rest)) if named.eq_ignore_ascii_case(scheme) => Some(rest),
        Some(_) => return None,
        None => place.strip_prefix("//"),
    };
    let Some(rest) = absolute else {
        return Some(match place.chars().next() {
            Some('/') => place.to_owned(),
            Some('?') => format!("{}{place}", path.split('?').next().unwrap_or("/")),
            Some(_) => {
                let folder = path.split('?').next().unwrap_or("/");
                format!("{}/{place}", folder.rsplit_once('/').map_or("", |it| it.0))
            }
            None => path.to_owned(),
        });
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let same = with_port(host, scheme).eq_ignore_ascii_case(&with_port(&probe.host, scheme));
    same.then(|| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn with_port(host: &str, scheme: &str) -> String {
    let named = host.rsplit_once(':').is_some_and(|it| it.1.parse::<u16>().is_ok());
    let usual = if scheme == "https" { 443 } else { 80 };
    if named { host.to_owned() } else { format!("{host}:{usual}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::RangeInclusive;

    use hyper::HeaderMap;

    use super::*;

    fn probe(host: &str, status: RangeInclusive<u16>) -> HttpProbe {
        HttpProbe {
            url: String::new(),
            address: HttpAddress::Tcp("x".to_owned(), 80),
            path: "/a/b?c".to_owned(),
            host: host.to_owned(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            status: vec![status],
            contains: None,
            json: vec![],
        }
    }

    fn sent(probe: &HttpProbe, status: u16, place: &str) -> Way {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, place.parse().unwrap());
        way(probe, &probe.path, &Head { status, reason: String::new(), headers })
    }

    #[test]
    fn the_same_host_is_asked_on_and_another_is_not() {
        let asked = probe("api:8000", 200..=399);
        for (place, path) in [
            ("/health", "/health"),
            ("health?x=1", "/a/health?x=1"),
            ("?d", "/a/b?d"),
            ("/x#part", "/x"),
            ("http://api:8000/x", "/x"),
            ("HTTP://API:8000", "/"),
            ("http://api:8000?q", "/?q"),
            ("//api:8000/y", "/y"),
            ("/go?to=http://other/", "/go?to=http://other/"),
        ] {
            assert_eq!(sent(&asked, 302, place), Way::On(path.to_owned()), "{place}");
        }
        for place in [
            "http://api/x",
            "http://api:8001/x",
            "https://api:8000/x",
            "http://api:8000@evil/",
            "http://other:8000/",
            "//other/x",
            "ftp://api:8000/",
        ] {
            assert_eq!(sent(&asked, 302, place), Way::Elsewhere(place.to_owned()), "{place}");
        }
        let plain = probe("api", 200..=399);
        assert_eq!(sent(&plain, 307, "http://api:80/x"), Way::On("/x".to_owned()));
    }

    #[test]
    fn a_status_that_is_wanted_is_the_end_of_the_way() {
        assert_eq!(sent(&probe("api", 302..=302), 302, "/x"), Way::Ends);
        assert_eq!(sent(&probe("api", 200..=200), 302, "/x"), Way::On("/x".to_owned()));
        assert_eq!(sent(&probe("api", 200..=399), 304, "/x"), Way::Ends);
        let head = Head { status: 302, reason: String::new(), headers: HeaderMap::new() };
        assert_eq!(way(&probe("api", 200..=399), "/", &head), Way::Ends);
    }
}
