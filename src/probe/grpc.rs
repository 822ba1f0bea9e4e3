//! `grpc`: the health that a gRPC server tells of itself, or of one of its services.
//!
//! Source: the gRPC Health Checking Protocol, `grpc.health.v1`: a request with the name of a
//! service in field 1, an answer with an enumeration in field 1.

use super::miss;
use crate::core::event::Answer;
use crate::net::client::Limits;
use crate::net::client::grpc::{Call, Reply, call};
use crate::net::client::words::{clipped, one_line};
use crate::plan::{Class, GrpcProbe};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// A name is shown up to this many characters.
const NAME_MAX: usize = 80;

/// The codes of gRPC that have a meaning of their own here; the others are told by their names.
const NOT_FOUND: u32 = 5;
const UNIMPLEMENTED: u32 = 12;

/// Source: "Status codes and their use in gRPC".
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Asks, and judges the answer.
pub(super) async fn ask(probe: &GrpcProbe, limits: Limits) -> Answer {
    let message = request(&probe.service);
    let question = Call { host: probe.host.clone(), path: CHECK, message };
    match call(&probe.address, question, limits).await {
        Ok(reply) => judge(&probe.service, &reply),
        Err(failure) => failure.into(),
    }
}

/// Field 1, of a length that stands before it; left out if it is empty.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    message
}

fn judge(service: &str, reply: &Reply) -> Answer {
    let http = |text: String| miss(Class::Http, one_line(&text));
    let shown = clipped(service, NAME_MAX);
    match &reply.status {
        Some((0, _)) => {}
        Some((UNIMPLEMENTED, _)) => {
            return http("the server has no health service (grpc.health.v1)".to_owned());
        }
        Some((NOT_FOUND, _)) => return http(format!("the server has no service `{shown}`")),
        Some((code, text)) => return http(told(*code, text)),
        None if reply.http != 200 => return http(format!("not gRPC: HTTP status {}", reply.http)),
        None => return http("not gRPC: the answer has no grpc-status".to_owned()),
    }
    let status = match status(&reply.message) {
        Some(1) => return Answer::Pass,
        Some(0) => "UNKNOWN",
        Some(2) => "NOT_SERVING",
        Some(3) => "SERVICE_UNKNOWN",
        Some(_) | None => return http("the answer is no HealthCheckResponse".to_owned()),
    };
    let whose = if service.is_empty() { String::new() } else { format!(" of {shown}") };
    miss(Class::Body, one_line(&format!("status{whose} is {status}, wanted SERVING")))
}

fn told(code: u32, text: &str) -> String {
    let known = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    let name = known.map_or_else(|| format!("gRPC status {code}"), |name| (*name).to_owned());
    if text.trim().is_empty() { name } else { format!("{name}: {}", text.trim()) }
}

/// The number in field 1 of a message; zero if it is left out, none if the message is broken.
fn status(message: &[u8]) -> Option<u64> {
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        rest = match key & 7 {
            0 => {
                let (number, after) = varint(after)?;
                if key >> 3 == 1 {
                    status = number;
                }
                after
            }
            // Fields of a later version.
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

/// Source: Protocol Buffers, "Encoding": seven bits a byte, the lowest first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (nth, &byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * nth);
        if byte < 0x80 {
            return Some((number, &bytes[nth + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_protobuf() {
        assert_eq!(request(""), b"");
        assert_eq!(request("api.v1"), b"\x0a\x06api.v1");
        assert_eq!(request(&"x".repeat(300))[..3], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_status_is_found_among_other_fields() {
        for (message, wanted) in [
            (b"".as_slice(), Some(0)),
            (b"\x08\x01", Some(1)),
            (b"\x08\x02", Some(2)),
            (b"\x12\x02ab\x08\x01", Some(1)),
            (b"\x08\x01\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some(1)),
            (b"\x19abcdefgh\x25abcd\x08\x03", Some(3)),
            (b"\x08", None),
            (b"\x12\x05ab", None),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x0b", None),
        ] {
            assert_eq!(status(message), wanted, "{message:?}");
        }
    }
}
