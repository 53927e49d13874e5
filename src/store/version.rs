//! How a stored JSON object says that it is this crate's, and of which version: `{"relent": 1, …}`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::unreadable::Problem;

/// Reads only whose object it is.
#[derive(Deserialize)]
struct Whose {
    /// The version, under a name that no other program's object has.
    relent: Option<Value>,
}

/// Reads an object of the version `known`; `version` gets what the object itself says.
pub(super) fn read<T: DeserializeOwned>(
    text: &[u8],
    known: u64,
    version: impl FnOnce(&T) -> u64,
) -> Result<T, Problem> {
    match serde_json::from_slice(text) {
        Ok(object) if version(&object) == known => Ok(object),
        read => Err(problem(text, known, read.err())),
    }
}

/// Why a text is not such an object.
fn problem(text: &[u8], known: u64, error: Option<serde_json::Error>) -> Problem {
    let whose: Whose = match serde_json::from_slice(text) {
        Ok(whose) => whose,
        Err(error) => return Problem::Damaged(error.to_string()),
    };
    match (whose.relent.as_ref().map(Value::as_u64), error) {
        (None, _) => Problem::Foreign("it has no field `relent`".to_owned()),
        (Some(Some(found)), _) if found > known => Problem::Newer { found, known },
        (Some(Some(found)), Some(error)) if found == known => Problem::Damaged(error.to_string()),
        _ => Problem::Damaged("its version is not valid".to_owned()),
    }
}
