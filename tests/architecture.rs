//! The architecture is as documented: what may import what, and what may stand in one place only.

use std::fs;
use std::path::{Path, PathBuf};

/// Each part, and what of the crate it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("atomic", &[]),
    ("cancel", &[]),
    ("clock", &["atomic"]),
    ("random", &["atomic"]),
    ("state", &["policy", "clock", "random", "atomic"]),
    (
        "retry",
        &["policy", "state", "clock", "random", "cancel", "atomic"],
    ),
    (
        "store",
        &["policy", "state", "clock", "random", "cancel", "atomic"],
    ),
];

/// What stands above the parts: the table of contents, and the long reading.
const ABOVE: &[&str] = &["lib", "docs"];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 10, "reads the real sources");
    found
}

/// The code lines of a source: without comments, the examples in them, and tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_start)
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.starts_with("//"))
}

/// `state`, `tracker` and `shard` for `src/state/tracker/shard.rs`.
fn modules(path: &Path) -> Vec<String> {
    let below = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    below
        .with_extension("")
        .components()
        .map(|module| module.as_os_str().to_string_lossy().into_owned())
        .collect()
}

/// `policy` for `src/policy.rs` and everything in `src/policy/`.
fn part(path: &Path) -> String {
    modules(path).swap_remove(0)
}

#[test]
fn every_part_is_drawn() {
    let mut parts: Vec<_> = sources().iter().map(|(path, _)| part(path)).collect();
    parts.sort();
    parts.dedup();
    let drawn = MAY_USE.iter().map(|(name, _)| *name);
    let mut drawn: Vec<_> = drawn.chain(ABOVE.iter().copied()).collect();
    drawn.sort_unstable();
    assert_eq!(parts, drawn);
}

#[test]
fn imports_point_one_way() {
    for (path, text) in sources() {
        let part = part(&path);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == part) else {
            assert!(ABOVE.contains(&part.as_str()), "{part} is not drawn");
            continue;
        };
        for line in code(&text) {
            for named in line.split("crate::").skip(1) {
                let named: String = named
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                assert!(
                    named == part || allowed.contains(&named.as_str()),
                    "{} names crate::{named}, which {part} must not know",
                    path.display()
                );
            }
        }
    }
}

/// Whether a line leaves a part by `super::` from a module that is `depth` levels deep in it.
/// Inline modules are not counted: from one of them, code that goes up so far has to say `crate::`.
fn escapes(line: &str, depth: usize) -> bool {
    line.contains(&"super::".repeat(depth))
}

#[test]
fn what_is_of_another_part_is_named_from_the_root() {
    for (path, text) in sources() {
        for line in code(&text) {
            let depth = modules(&path).len();
            assert!(!escapes(line, depth), "{}: {line}", path.display());
        }
    }
    assert!(escapes("use super::super::store::Lease;", 2));
    assert!(escapes("use super::store::Lease;", 1));
    assert!(!escapes("use super::super::Place;", 3));
}

/// Fails if one of `needles` stands in the code of any part, or file, but those `allowed`.
#[track_caller]
fn only_in(allowed: &[&str], needles: &[&str]) {
    for (path, text) in sources() {
        if allowed
            .iter()
            .any(|name| part(&path) == *name || path.ends_with(name))
        {
            continue;
        }
        for line in code(&text) {
            for needle in needles {
                assert!(!line.contains(needle), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn time_enters_in_one_place() {
    only_in(&["clock"], &["Instant::now", "SystemTime::now"]);
}

#[test]
fn entropy_enters_in_one_place() {
    only_in(&["random"], &["rand::", "getrandom", "RandomState"]);
}

#[test]
fn atomics_of_64_bits_come_from_one_place() {
    for (path, text) in sources() {
        if part(&path) == "atomic" {
            continue;
        }
        let mut imports = code(&text).filter(|line| line.contains("sync::atomic::"));
        let found = imports.find(|line| line.contains("AtomicU64") || line.contains("AtomicI64"));
        assert_eq!(found, None, "{}", path.display());
    }
}

/// Its major version is raised often, which must not concern users.
#[test]
fn the_crate_of_the_tables_is_hidden_in_the_tracker() {
    let hidden = ["state/tracker/hasher.rs", "state/tracker/shard.rs"];
    only_in(&hidden, &["hashbrown"]);
}

#[test]
fn only_loops_background_work_and_queues_sleep() {
    only_in(
        &[
            "cancel.rs",
            "retry",
            "store/blocking/background.rs",
            "store/future/heartbeat.rs",
            "store/future/flusher.rs",
            "store/sqlite/turn.rs",
        ],
        &["thread::sleep", "time::sleep", "Condvar", "park_timeout"],
    );
}

#[test]
fn the_step_is_computed_in_one_place() {
    for (path, text) in sources() {
        if part(&path) == "policy" {
            continue;
        }
        let once = usize::from(path.ends_with("state/decision.rs"));
        for (call, expected) in [
            (".wait_after(", once),
            (".gives_up(", once),
            (".interval_after(", 0),
            (".spread_after(", 0),
        ] {
            let calls = code(&text).filter(|line| line.contains(call)).count();
            assert_eq!(calls, expected, "{call} in {}", path.display());
        }
    }
}

#[test]
fn no_module_file_is_called_mod() {
    assert!(sources().iter().all(|(path, _)| !path.ends_with("mod.rs")));
}
