//! All that is in the files of a log, in the order of writing, read back as lines and marks.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use keepup::plan::LogFormat;
use serde_json::Value;

/// What stands in a log.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    /// A line of this stream; the last one of a file may lack its end.
    Line { stream: usize, text: Vec<u8>, whole: bool },
    /// So many lines are lost here.
    Lost(u64),
    /// The beginning of a line whose rest is lost.
    Torn,
}

/// The bytes of the files of the log in this folder, oldest first; each once, in whatever form.
pub(crate) fn gather(folder: &Path) -> Vec<u8> {
    // The compressor may be at work while we read.
    for _ in 0..1_000 {
        match try_gather(folder) {
            Ok(bytes) => return bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("cannot read {}: {error}", folder.display()),
        }
    }
    panic!("the files of {} do not come to rest", folder.display());
}

fn try_gather(folder: &Path) -> std::io::Result<Vec<u8>> {
    let mut numbers: Vec<u32> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut packed = Vec::new();
    let mut current = false;
    for entry in entries {
        let name = entry?.file_name().into_string().unwrap();
        if name == "api.log" {
            current = true;
        }
        let Some(rest) = name.strip_prefix("api.log.") else { continue };
        if let Some(number) = rest.strip_suffix(".gz").and_then(|it| it.parse().ok()) {
            packed.push(number);
            numbers.push(number);
        } else if let Ok(number) = rest.parse() {
            numbers.push(number);
        }
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.dedup();
    let mut bytes = Vec::new();
    for number in numbers {
        if packed.contains(&number) {
            let file = fs::File::open(folder.join(format!("api.log.{number}.gz")))?;
            flate2::read::GzDecoder::new(file).read_to_end(&mut bytes)?;
        } else {
            bytes.extend(fs::read(folder.join(format!("api.log.{number}")))?);
        }
    }
    if current {
        bytes.extend(fs::read(folder.join("api.log"))?);
    }
    Ok(bytes)
}

/// The lines and marks in these bytes.
pub(crate) fn items(bytes: &[u8], format: LogFormat) -> Vec<Item> {
    let mut items = Vec::new();
    // The beginning of each stream's line that goes on in the next one.
    let mut split: [Vec<u8>; 2] = Default::default();
    for line in bytes.split_inclusive(|it| *it == b'\n') {
        let (text, whole) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let (stream, text, goes_on) = match format {
            LogFormat::Raw => match lost(text, b"keepup: ") {
                Some(lines) => {
                    items.push(Item::Lost(lines));
                    continue;
                }
                None => (0, text.to_vec(), false),
            },
            LogFormat::Text => {
                let Some((_, text)) = text.split_at_checked(27) else {
                    items.push(Item::Torn);
                    continue;
                };
                if let Some(text) = text.strip_prefix(b" keepup ") {
                    items.push(Item::Lost(lost(text, b"").unwrap()));
                    continue;
                }
                let stream = usize::from(text.starts_with(b" stderr "));
                let text = text.get(8..).unwrap_or_default();
                match text.strip_suffix(b" [split]") {
                    Some(text) => (stream, text.to_vec(), true),
                    None => (stream, text.to_vec(), false),
                }
            }
            LogFormat::Json => {
                let Ok(object) = serde_json::from_slice::<Value>(text) else {
                    items.push(Item::Torn);
                    continue;
                };
                let message = object["message"].as_str().unwrap();
                if object["stream"] == "keepup" {
                    items.push(Item::Lost(lost(message.as_bytes(), b"").unwrap()));
                    continue;
                }
                let stream = usize::from(object["stream"] == "stderr");
                (stream, message.as_bytes().to_vec(), object["split"] == true)
            }
        };
        split[stream].extend_from_slice(&text);
        if !goes_on {
            let text = std::mem::take(&mut split[stream]);
            items.push(Item::Line { stream, text, whole });
        }
    }
    items
}

/// Reads `3 lines lost (why)`.
fn lost(text: &[u8], prefix: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text.strip_prefix(prefix)?).ok()?;
    let (count, rest) = text.split_once(' ')?;
    let is = rest.starts_with("line lost (") || rest.starts_with("lines lost (");
    is.then(|| count.parse().ok())?
}
