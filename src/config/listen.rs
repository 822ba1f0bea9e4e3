//! `listen`: the sockets that keepup holds for a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::check_socket_length;
use super::service::Draft;
use super::source::joined;
use super::value::{At, Value};
use super::wrong::{Wrong, did_you_mean};
use crate::plan::{Name, Probe, ProbeKind, SOCKETS_MAX, Service, Socket};

/// Who may connect to a Unix socket unless it says otherwise: everybody, as at systemd's and
/// uvicorn's. The folder it is in can be stricter.
const MODE: u32 = 0o666;

pub(super) fn read(value: Value<'_>) -> Option<Vec<Socket>> {
    let list = value.list_of(socket)?;
    if list.len() > SOCKETS_MAX {
        let wrong = format!("must have at most {SOCKETS_MAX} sockets, found {}", list.len());
        value.refuse(Wrong::new(wrong));
        return None;
    }
    Some(list)
}

/// The place of each of them, for what only shows later.
pub(super) fn places(value: Value<'_>) -> Vec<At<'_>> {
    value.list_of(|it| Some(it.at)).unwrap_or_default()
}

/// `tcp:ADDRESS:PORT`, `unix:PATH`, `unix:PATH,mode=0660` or `systemd:NAME`.
pub(super) fn socket(value: Value<'_>) -> Option<Socket> {
    let text = value.full_text()?;
    let (kind, rest) = text.split_once(':').unwrap_or((&text, ""));
    let parsed = match kind {
        "tcp" => tcp(&text, rest),
        "unix" | "systemd" if rest.is_empty() => {
            Err(Wrong::new(format!("must name what follows `{kind}:`")))
        }
        "unix" => unix(value, rest),
        "systemd" if rest.contains(':') => {
            Err(Wrong::new(format!("must be one name without `:`, found `{rest}`")))
        }
        "systemd" => Ok(Socket::Systemd(rest.to_owned())),
        _ => Err(Wrong {
            text: format!("must begin with `tcp:`, `unix:` or `systemd:`, found `{text}`"),
            hint: did_you_mean(kind, ["tcp", "unix", "systemd"]),
        }),
    };
    value.ok(parsed)
}

fn tcp(text: &str, rest: &str) -> Result<Socket, Wrong> {
    match rest.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(Wrong::new(format!("must have a port of 1 to 65535, found `{text}`")))
        }
        // Whether it takes IPv4, too, depends on all the others: see `settle`.
        Ok(address) => Ok(Socket::Tcp { address, v6_only: address.is_ipv6() }),
        Err(_) => Err(Wrong::hinted(
            format!("must hold an address and a port, found `{text}`"),
            "write \"tcp:0.0.0.0:8000\" or \"tcp:[::]:8000\"",
        )),
    }
}

fn unix(value: Value<'_>, rest: &str) -> Result<Socket, Wrong> {
    let (path, mode) = match rest.rsplit_once(",mode=") {
        Some((path, octal)) => (path, mode(octal)?),
        None => (rest, MODE),
    };
    let path = joined(&value.at.source.folder, path);
    check_socket_length(&path)?;
    Ok(Socket::Unix { path, mode })
}

fn mode(octal: &str) -> Result<u32, Wrong> {
    let digits = (3..=4).contains(&octal.len()) && octal.bytes().all(|it| it.is_ascii_digit());
    let mode = u32::from_str_radix(octal, 8).ok().filter(|&it| digits && it <= 0o777);
    mode.ok_or_else(|| {
        let text = format!("must have an octal mode of at most 0777, found `{octal}`");
        Wrong::hinted(text, "write \"unix:/run/api.sock,mode=0660\"")
    })
}

/// Refuses sockets that get into each other's way, and probes that a held socket deceives.
pub(super) fn check(drafts: &[Draft<'_>]) {
    let all: Vec<(&Name, &Socket, At<'_>)> = drafts
        .iter()
        .filter_map(|draft| Some((draft, draft.plan.as_ref()?)))
        .flat_map(|(draft, plan)| {
            let sockets = plan.listen.iter().zip(&draft.listen_at);
            sockets.map(|(socket, at)| (&draft.name, socket, *at))
        })
        .collect();
    for (nth, (name, socket, at)) in all.iter().enumerate() {
        if let Some((other, taken, _)) = all[..nth].iter().find(|it| conflicts(it.1, socket)) {
            let whose = if other == name { String::new() } else { format!(" of `{other}`") };
            let what = if taken == socket { "is held already" } else { "is part of what is held" };
            at.refuse(Wrong::new(format!("`{socket}` {what}: `{taken}`{whose}")));
        }
    }
    for draft in drafts {
        let Some(plan) = &draft.plan else { continue };
        for probe in &plan.probes {
            if let Some((socket, whose)) = deceived(probe, plan, drafts) {
                refuse_probe(draft, probe, socket, whose);
            }
        }
    }
}

fn conflicts(one: &Socket, other: &Socket) -> bool {
    match (one, other) {
        (Socket::Tcp { address: a, .. }, Socket::Tcp { address: b, .. }) => {
            let wide = a.ip().is_unspecified() || b.ip().is_unspecified();
            let same = a.ip() == b.ip() || (wide && a.is_ipv4() == b.is_ipv4());
            a.port() == b.port() && same
        }
        (Socket::Unix { path: a, .. }, Socket::Unix { path: b, .. }) => a == b,
        (Socket::Systemd(a), Socket::Systemd(b)) => a == b,
        (Socket::Tcp { .. } | Socket::Unix { .. } | Socket::Systemd(_), _) => false,
    }
}

/// The held socket that would answer a probe in the service's place, and whose it is.
fn deceived<'d>(
    probe: &Probe,
    own: &'d Service,
    drafts: &'d [Draft<'_>],
) -> Option<(&'d Socket, &'d Name)> {
    let all = drafts.iter().filter_map(|it| it.plan.as_ref());
    let all = all.flat_map(|it| it.listen.iter().map(|socket| (socket, &it.name)));
    match &probe.kind {
        ProbeKind::Tcp(target) => all.into_iter().find(|it| answers(it.0, target)),
        ProbeKind::Listening(at) => {
            let same = |it: &&Socket| matches!(it, Socket::Tcp { address, .. } if address == at);
            own.listen.iter().find(same).map(|it| (it, &own.name))
        }
        ProbeKind::Http(_) | ProbeKind::Exec(_) | ProbeKind::File(_) | ProbeKind::Grpc(_) => None,
    }
}

/// Would a connection to this `host:port` surely reach the held socket?
fn answers(socket: &Socket, target: &str) -> bool {
    let Socket::Tcp { address, .. } = socket else { return false };
    let Some((host, port)) = target.rsplit_once(':') else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let same = match (host, host.parse::<IpAddr>()) {
        ("localhost", _) => address.ip().is_unspecified() || local.contains(&address.ip()),
        (_, Ok(ip)) => ip == address.ip() || (address.ip().is_unspecified() && local.contains(&ip)),
        (_, Err(_)) => false,
    };
    same && port.parse() == Ok(address.port())
}

fn refuse_probe(draft: &Draft<'_>, probe: &Probe, socket: &Socket, whose: &Name) {
    let whose = if *whose == draft.name { String::new() } else { format!(" for `{whose}`") };
    draft.at_probe(probe.role).refuse(Wrong::hinted(
        format!(
            "`{}` would always pass: keepup itself holds `{socket}`{whose}, and it takes \
             connections whatever the service does",
            probe.kind.name()
        ),
        "use an `http`, `grpc` or `exec` probe, which needs an answer",
    ));
}

/// `[::]` takes IPv4, too, unless somebody has the same port of IPv4 to themselves.
pub(super) fn settle(services: &mut [Service]) {
    let sockets = services.iter().flat_map(|it| &it.listen);
    let ports_of_v4: Vec<u16> = sockets
        .filter_map(|it| match it {
            Socket::Tcp { address, .. } => address.is_ipv4().then(|| address.port()),
            Socket::Unix { .. } | Socket::Systemd(_) => None,
        })
        .collect();
    for socket in services.iter_mut().flat_map(|it| &mut it.listen) {
        if let Socket::Tcp { address, v6_only } = socket {
            let dual = address.ip().is_unspecified() && !ports_of_v4.contains(&address.port());
            *v6_only = address.is_ipv6() && !dual;
        }
    }
}
