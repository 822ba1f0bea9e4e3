//! `ca_file` and `insecure`: whose certificates are good.

use super::section::Section;
use super::source::reason;
use super::value::Value;
use super::wrong::Wrong;
use crate::net::client::tls;
use crate::plan::Trust;

/// Reads the keys; nothing if one of them is wrong, and reported.
pub(super) fn read(section: &Section<'_>) -> Option<Trust> {
    let ca_file = section.maybe("ca_file", ca_file);
    let insecure = section.or("insecure", false, Value::truth)?;
    match (ca_file?, insecure) {
        (None, false) => Some(Trust::System),
        (Some(trust), false) => Some(trust),
        (None, true) => {
            section.at("insecure").warn(Wrong::hinted(
                "`insecure` lets anybody answer in the name of the service: no certificate is checked",
                "set ca_file to the certificate of the service, or of who signed it",
            ));
            Some(Trust::Anyone)
        }
        (Some(_), true) => {
            let wrong = "`ca_file` cannot stand beside `insecure`, which trusts everybody";
            section.at("ca_file").refuse(Wrong::new(wrong));
            None
        }
    }
}

/// Refuses the keys where they ask for something; `why` follows a key's name.
pub(super) fn refuse(section: &Section<'_>, why: &str) {
    if let Some(value) = section.get("ca_file") {
        value.refuse(Wrong::new(why));
    }
    if let Some(value) = section.get("insecure")
        && value.item.as_bool() == Some(true)
    {
        value.refuse(Wrong::new(why));
    }
}

/// A file that holds certificates. It is read again whenever it is used.
fn ca_file(value: Value<'_>) -> Option<Trust> {
    let path = value.path()?;
    let read = value.at.reading.files.read(&path);
    let shown = path.display();
    let pem = value.ok(read.map_err(|error| {
        let why = reason(&error);
        Wrong::new(format!("names a file that cannot be read: `{shown}`: {why}"))
    }))?;
    value.ok(tls::certificates(pem.as_bytes())
        .map_err(|why| Wrong::new(format!("names a file that {why}: `{shown}`"))))?;
    Some(Trust::Own(path))
}
