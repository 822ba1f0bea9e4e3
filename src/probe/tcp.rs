//! `tcp`: a connection that comes about passes, and is closed at once.
//!
//! It says nothing to the service and takes nothing in.

use super::miss;
use crate::core::event::Answer;
use crate::net::client::{self, Limits};
use crate::plan::{Class, HttpAddress};

/// Connects to `address`, which is `host:port` with an IPv6 address in brackets.
pub async fn ask(address: &str, limits: Limits) -> Answer {
    let Some(address) = parse(address) else {
        return miss(Class::Other, format!("cannot connect: {address:?} is not host:port"));
    };
    touch(&address, limits).await
}

/// Connects, to a Unix socket perhaps.
pub(super) async fn touch(address: &HttpAddress, limits: Limits) -> Answer {
    match client::touch(address, limits).await {
        Ok(()) => Answer::Pass,
        Err(failure) => failure.into(),
    }
}

fn parse(address: &str) -> Option<HttpAddress> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| HttpAddress::Tcp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        let tcp = |host: &str, port| Some(HttpAddress::Tcp(host.to_owned(), port));
        assert_eq!(parse("db:5432"), tcp("db", 5432));
        assert_eq!(parse("[::1]:80"), tcp("::1", 80));
        assert_eq!(parse("::1:80"), tcp("::1", 80));
        for bad in ["", "db", "db:", ":80", "db:99999", "[]:1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
