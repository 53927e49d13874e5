//! Policies as people write them, and as programs send them.
#![cfg(feature = "serde")]

use std::time::Duration;

use proptest::prelude::*;
use relent::{Backoff, BackoffState, GiveUp, Jitter, Rounding};

#[path = "policy/any.rs"]
#[allow(dead_code, reason = "shared with the tests of the arithmetic")]
mod any;

const EVERYTHING: Backoff = Backoff {
    initial: Duration::from_millis(1500),
    max: Duration::from_secs(600),
    exponent: 1.1,
    jitter: Jitter::Proportional(0.2),
    rounding: Rounding::WholeSeconds,
    give_up: GiveUp {
        after_failures: Some(10),
        after_elapsed: Some(Duration::from_secs(86_400)),
    },
};

#[test]
fn every_field_in_toml() {
    let written = r#"
        initial = "1s 500ms"
        max = "10m"
        exponent = 1.1
        jitter = { proportional = 0.2 }
        rounding = "whole-seconds"

        [give_up]
        after_failures = 10
        after_elapsed = "1d"
    "#;
    assert_eq!(toml::from_str(written), Ok(EVERYTHING));
}

#[test]
fn every_field_in_json() {
    let written = r#"{
        "initial": "1.5s", "max": "10 minutes", "exponent": 1.1, "jitter": {"proportional": 0.2},
        "rounding": "whole-seconds", "give_up": {"after_failures": 10, "after_elapsed": "24h"}
    }"#;
    assert_eq!(
        serde_json::from_str::<Backoff>(written).unwrap(),
        EVERYTHING
    );
}

#[test]
fn every_field_in_yaml() {
    let written = "
initial: 1s 500ms
max: 10min
exponent: 1.1
jitter: { proportional: 0.2 }
rounding: whole-seconds
give_up:
  after_failures: 10
  after_elapsed: 1day
";
    assert_eq!(
        serde_norway::from_str::<Backoff>(written).unwrap(),
        EVERYTHING
    );
}

/// Where structs are not written as maps are.
#[test]
fn every_field_in_ron() {
    let written = r#"(
        initial: "1s 500ms", max: "10m", exponent: 1.1, jitter: (proportional: 0.2),
        rounding: whole_seconds,
        give_up: (after_failures: Some(10), after_elapsed: Some("1d")),
    )"#;
    assert_eq!(ron::from_str(written), Ok(EVERYTHING));
}

#[test]
fn flattened_into_another_table_it_takes_only_its_own_fields() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Client {
        #[serde(flatten)]
        policy: Backoff,
        #[serde(flatten)]
        address: Address,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Address {
        host: String,
    }
    let expected = Client {
        policy: Backoff::DEFAULT.exponent(2.0),
        address: Address {
            host: "example.org".into(),
        },
    };
    let written = "host = \"example.org\"\nexponent = 2.0";
    assert_eq!(toml::from_str(written), Ok(expected));
}

#[test]
fn limits_that_are_all_commented_out_are_none() {
    let written = "exponent: 2.0\ngive_up:\n#  after_failures: 10\n";
    assert_eq!(
        serde_norway::from_str::<Backoff>(written).unwrap(),
        Backoff::DEFAULT.exponent(2.0)
    );
}

#[test]
fn what_is_missing_is_the_default() {
    assert_eq!(toml::from_str(""), Ok(Backoff::DEFAULT));
    assert_eq!(
        serde_json::from_str::<Backoff>("{}").unwrap(),
        Backoff::DEFAULT
    );
    let full = Backoff::DEFAULT
        .jitter(Jitter::Full)
        .give_up_after_failures(3);
    assert_eq!(
        toml::from_str("jitter = \"full\"\ngive_up.after_failures = 3"),
        Ok(full)
    );
}

/// Environment variables are.
#[test]
fn numbers_may_be_texts() {
    for (written, exponent) in [("2", 2.0), ("1.5", 1.5), ("inf", f64::INFINITY)] {
        let json = format!(r#"{{"exponent": "{written}"}}"#);
        let policy: Backoff = serde_json::from_str(&json).unwrap();
        assert_eq!(policy, Backoff::DEFAULT.exponent(exponent));
    }
    serde_json::from_str::<Backoff>(r#"{"exponent": "NaN"}"#).unwrap_err();
}

#[test]
fn every_jitter_has_a_name() {
    for (name, jitter) in [
        ("none", Jitter::None),
        ("full", Jitter::Full),
        ("equal", Jitter::Equal),
        ("decorrelated", Jitter::Decorrelated),
    ] {
        let written = format!("jitter = {name:?}");
        assert_eq!(
            toml::from_str(&written),
            Ok(Backoff::DEFAULT.jitter(jitter))
        );
    }
}

#[test]
fn every_rounding_has_a_name_and_underscores_do() {
    for (name, rounding) in [
        ("none", Rounding::None),
        ("whole-seconds", Rounding::WholeSeconds),
        ("whole_seconds", Rounding::WholeSeconds),
    ] {
        let written = format!("rounding = {name:?}");
        let policy: Backoff = toml::from_str(&written).unwrap();
        assert_eq!(policy, Backoff::DEFAULT.rounding(rounding));
        // Only one of the two spellings is written.
        let again = toml::to_string(&policy).unwrap();
        assert!(again.contains(&format!("rounding = {:?}", name.replace('_', "-"))));
    }
}

/// A mistake in a file, and what its message must say: the field, the value, the remedy.
#[track_caller]
fn refused(toml: &str, says: &[&str]) {
    let messages = [
        toml::from_str::<Backoff>(toml).unwrap_err().to_string(),
        serde_json::from_value::<Backoff>(
            serde_json::to_value(toml::from_str::<toml::Table>(toml).unwrap()).unwrap(),
        )
        .unwrap_err()
        .to_string(),
    ];
    for message in messages {
        for part in says {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn mistakes_are_refused_in_words_that_help() {
    refused("inital = \"1s\"", &["unknown field `inital`", "`initial`"]);
    refused("initial = 500", &["initial: ", "500", "unit", "\"500ms\""]);
    refused("initial = \"500\"", &["initial: ", "\"500\"", "\"500ms\""]);
    refused(
        "max = \"ten minutes\"",
        &["max: ", "\"ten minutes\"", "\"1m 30s\""],
    );
    refused("max = \"-1s\"", &["max: ", "\"-1s\""]);
    refused("exponent = \"two\"", &["exponent: ", "two", "a number"]);
    refused("exponent = 0.5", &["exponent: 0.5 is below 1", "use 1"]);
    refused("exponent = nan", &["exponent: "]);
    refused(
        "jitter = \"some\"",
        &["jitter: ", "\"full\"", "{ proportional = 0.5 }"],
    );
    refused(
        "jitter = { proportional = 1.5 }",
        &["jitter: proportional 1.5", "0.5"],
    );
    refused("jitter = { full = true }", &["jitter: "]);
    refused(
        "rounding = \"seconds\"",
        &["rounding: ", "seconds", "whole-seconds"],
    );
    refused(
        "give_up = { after = 3 }",
        &["give_up: ", "`after`", "`after_failures`"],
    );
    refused("give_up = 3", &["give_up: ", "{ after_failures = 10"]);
    refused(
        "give_up = { after_failures = -1 }",
        &["give_up: after_failures: ", "-1"],
    );
    refused(
        "give_up = { after_elapsed = 60 }",
        &["give_up: after_elapsed: ", "60", "unit"],
    );
    refused(
        "initial = \"1h\"\nmax = \"1s\"\nexponent = 0.1",
        &[
            "max: 1s is below initial (3600s)",
            "exponent: 0.1 is below 1",
        ],
    );
}

/// Even in a file of many policies, where every message adds the place.
#[test]
fn mistakes_are_shown_where_they_are() {
    type File = std::collections::BTreeMap<String, Backoff>;
    for (mistake, column) in [
        (r#"max = "1x""#, 7),
        (r#"inital = "1s""#, 1),
        (r"initial = 500", 11),
        (r#"jitter = "ful""#, 10),
        (r#"rounding = "seconds""#, 12),
        (r"give_up = { after_failures = -1 }", 11),
    ] {
        let file = format!("[search]\nmax = \"1m\"\n\n[mail]\nexponent = 2.0\n{mistake}\n");
        let message = toml::from_str::<File>(&file).unwrap_err().to_string();
        let place = format!("line 6, column {column}");
        assert!(message.contains(&place), "{place} is not in {message}");
    }
    for mistake in [r#""max": "1x""#, r#""inital": "1s""#, r#""initial": 500"#] {
        let file = format!("{{\n  \"mail\": {{\n    {mistake}\n  }}\n}}");
        let message = serde_json::from_str::<File>(&file).unwrap_err().to_string();
        assert!(message.contains("at line 3"), "{message}");
    }
}

#[test]
fn twice_the_same_field_is_refused() {
    let message = serde_json::from_str::<Backoff>(r#"{"exponent": 2, "exponent": 3}"#)
        .unwrap_err()
        .to_string();
    assert!(message.contains("duplicate field `exponent`"), "{message}");
}

#[test]
fn written_as_people_would() {
    let text = toml::to_string(&EVERYTHING).unwrap();
    let expected = "initial = \"1s 500ms\"\nmax = \"10m\"\nexponent = 1.1\nrounding = \"whole-seconds\"\n\n\
                    [jitter]\nproportional = 0.2\n\n\
                    [give_up]\nafter_failures = 10\nafter_elapsed = \"1day\"\n";
    assert_eq!(text, expected);
}

/// Whether `serde_json` reads back the number that it wrote, which is a feature of its that ours
/// needs.
const JSON_IS_EXACT: bool = cfg!(feature = "file");

proptest! {
    #[test]
    fn round_trips_in_every_format(backoff in any::valid()) {
        prop_assert_eq!(backoff.validate(), Ok(()));
        let json = serde_json::to_string(&backoff).unwrap();
        let yaml = serde_norway::to_string(&backoff).unwrap();
        let bytes = postcard::to_allocvec(&backoff).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Backoff>(&bytes).unwrap(), backoff);
        let read = serde_json::from_str::<Backoff>(&json).expect(&json);
        if JSON_IS_EXACT {
            prop_assert_eq!(read, backoff);
        }
        prop_assert_eq!(serde_norway::from_str::<Backoff>(&yaml).expect(&yaml), backoff);
        let ron = ron::to_string(&backoff).unwrap();
        prop_assert_eq!(ron::from_str::<Backoff>(&ron).expect(&ron), backoff);
    }

    #[test]
    fn invalid_is_refused_in_every_format(backoff in any::backoff()) {
        prop_assume!(backoff.validate().is_err());
        let bytes = postcard::to_allocvec(&backoff).unwrap();
        prop_assert!(postcard::from_bytes::<Backoff>(&bytes).is_err());
        if JSON_IS_EXACT {
            let json = serde_json::to_string(&backoff).unwrap();
            prop_assert!(serde_json::from_str::<Backoff>(&json).is_err());
        }
    }

    #[test]
    fn names_count_in_binary_formats_too(failures in any::<u32>()) {
        #[derive(serde::Serialize)]
        struct Some { exponent: f64, give_up: Limits }
        #[derive(serde::Serialize)]
        struct Limits { after_failures: u32 }
        let some = Some { exponent: 2.0, give_up: Limits { after_failures: failures } };
        let bytes = rmp_serde::to_vec_named(&some).unwrap();
        let expected = Backoff::DEFAULT.exponent(2.0).give_up_after_failures(failures);
        prop_assert_eq!(rmp_serde::from_slice::<Backoff>(&bytes).unwrap(), expected);
        let bytes = rmp_serde::to_vec_named(&Limits { after_failures: failures }).unwrap();
        prop_assert!(rmp_serde::from_slice::<Backoff>(&bytes).is_err());
    }

    #[test]
    fn states_round_trip(state in any::state()) {
        let json = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<BackoffState>(&json).expect(&json), state);
        let ron = ron::to_string(&state).unwrap();
        prop_assert_eq!(ron::from_str::<BackoffState>(&ron).expect(&ron), state);
        let bytes = postcard::to_allocvec(&state).unwrap();
        prop_assert_eq!(postcard::from_bytes::<BackoffState>(&bytes).unwrap(), state);
    }

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = toml::from_str::<Backoff>(&text);
        let _ = toml::from_str::<Backoff>(&format!("initial = {text:?}"));
    }
}
