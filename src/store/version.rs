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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{Problem, read};

    #[derive(Debug, Deserialize, PartialEq)]
    struct Object {
        relent: u64,
        n: u32,
    }

    fn read_3(text: &str) -> Result<u32, Problem> {
        let object = read(text.as_bytes(), 3, |object: &Object| object.relent);
        object.map(|object| object.n)
    }

    #[test]
    fn p5_only_an_object_of_the_known_version_is_read() {
        assert_eq!(read_3(r#"{"relent": 3, "n": 7}"#), Ok(7));
        let newer = Problem::Newer { found: 4, known: 3 };
        for text in [
            r#"{"relent": 4, "n": 7}"#,
            r#"{"relent": 4}"#,
            r#"{"relent": 4, "n": "7"}"#,
        ] {
            assert_eq!(read_3(text), Err(newer.clone()), "{text}");
        }
        for (text, why) in [
            (r#"{"relent": 3, "n": "7"}"#, "expected u32"),
            (r#"{"relent": 3}"#, "missing field `n`"),
            (r#"{"relent": 3, "n": 7"#, "EOF"),
            (r#"{"relent": 2, "n": 7}"#, "its version is not valid"),
            (r#"{"relent": 2}"#, "its version is not valid"),
            (r#"{"relent": "3", "n": 7}"#, "its version is not valid"),
        ] {
            let Err(Problem::Damaged(said)) = read_3(text) else {
                panic!("{text} was read");
            };
            assert!(said.contains(why), "{text}: {said}");
        }
        let foreign = read_3(r#"{"n": 7}"#);
        assert!(matches!(foreign, Err(Problem::Foreign(_))), "{foreign:?}");
    }
}
