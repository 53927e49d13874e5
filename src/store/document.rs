//! What a store keeps as JSON: for people to read, with a version and a checksum.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::unreadable::Problem;
use super::version;

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<T> {
    /// The version, under a name that no other program's document has.
    relent: u64,
    /// Of all bytes but its own. People who edit the document leave it out: then nothing is
    /// checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    content: T,
    /// The program's own data, which may be `null`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "there"
    )]
    data: Option<Value>,
}

/// A value that is there, even if it is `null`.
fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Stands for the checksum while it is computed.
const BLANK: &str = "00000000";

pub(super) fn encode<T: Serialize>(
    content: &T,
    data: Option<&Value>,
) -> Result<Vec<u8>, serde_json::Error> {
    let document = Document {
        relent: VERSION,
        checksum: Some(BLANK.to_owned()),
        content,
        data: data.cloned(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    let checksum = checksum(&bytes);
    replace_first(&mut bytes, BLANK, &checksum);
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(
    mut bytes: Vec<u8>,
) -> Result<(T, Option<Value>), Problem> {
    let document: Document<T> =
        version::read(&bytes, VERSION, |document: &Document<T>| document.relent)?;
    if let Some(written) = document.checksum {
        replace_first(&mut bytes, &written, BLANK);
        let real = checksum(&bytes);
        if written != real {
            return Err(Problem::Damaged(format!(
                "its checksum says {written}, but comes to {real}; if it was edited by hand, delete that line"
            )));
        }
    }
    Ok((document.content, document.data))
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// Replaces the first occurrence of `text` by another text of the same length. The first one is the
/// checksum itself: only the version comes before it.
fn replace_first(bytes: &mut [u8], text: &str, other: &str) {
    let (text, other) = (text.as_bytes(), other.as_bytes());
    let found = bytes
        .windows(text.len().max(1))
        .position(|window| window == text);
    let place = found.and_then(|at| bytes.get_mut(at..at + text.len()));
    if let Some(place) = place.filter(|place| place.len() == other.len()) {
        place.copy_from_slice(other);
    }
}
