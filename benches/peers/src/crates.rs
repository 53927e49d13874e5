//! What the crates are: version, licence, oldest Rust, and how many others they bring along.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

use crate::inputs::CRATES;
use crate::page;

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
const LOCK: &str = include_str!("../Cargo.lock");

/// What turns on an async loop by tokio's timer, where there is a choice.
const TOKIO: [(&str, &str); 4] = [
    ("relent", "tokio"),
    ("backon", "tokio-sleep"),
    ("backoff", "tokio"),
    ("tower", "retry"),
];

/// The version of a crate that this program is built with.
pub fn version(name: &str) -> &'static str {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let rest = LOCK.split_once(&entry).map_or("?", |(_, rest)| rest);
    rest.split('"').next().unwrap_or("?")
}

pub fn section() -> Result<String, Box<dyn Error>> {
    let names = || CRATES.into_iter().chain(["governor"]);
    let workspace = workspace(names())?;
    let metadata: Value =
        serde_json::from_str(&cargo(&workspace, &["metadata", "--format-version=1"])?)?;
    let mut rows = vec![
        [
            "crate",
            "version",
            "licence",
            "Rust",
            "dependencies",
            "with tokio's timer",
            "without default features",
        ]
        .map(String::from),
    ];
    for name in names() {
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        let package = packages
            .find(|package| package["name"] == name && package["version"] == version(name))
            .ok_or("cargo does not know a crate it was told of")?;
        let text = |field: &str| package[field].as_str().unwrap_or("–").to_string();
        let tokio = if TOKIO.iter().any(|(other, _)| *other == name) {
            dependencies(&workspace, &format!("{name}-tokio"))?.to_string()
        } else {
            "–".to_string()
        };
        rows.push([
            name.to_string(),
            version(name).to_string(),
            text("license"),
            text("rust_version"),
            dependencies(&workspace, &format!("{name}-default"))?.to_string(),
            tokio,
            dependencies(&workspace, &format!("{name}-least"))?.to_string(),
        ]);
    }
    Ok(page::table(&rows))
}

/// A workspace with a member for each crate and choice of features, so that each has its own tree.
fn workspace<'a>(names: impl Iterator<Item = &'a str>) -> Result<PathBuf, Box<dyn Error>> {
    let root = Path::new(MANIFEST).join("target/crates");
    let mut members = String::new();
    for name in names {
        let source = if name == "relent" {
            format!("path = \"{MANIFEST}/../..\"")
        } else {
            format!("version = \"={}\"", version(name))
        };
        let tokio = TOKIO.iter().find(|(other, _)| *other == name);
        let choices = [
            ("default", String::new()),
            ("least", ", default-features = false".to_string()),
            (
                "tokio",
                format!(
                    ", features = [{:?}]",
                    tokio.map_or("", |(_, feature)| feature)
                ),
            ),
        ];
        for (choice, features) in &choices[..2 + usize::from(tokio.is_some())] {
            let member = format!("{name}-{choice}");
            fs::create_dir_all(root.join(&member).join("src"))?;
            fs::write(root.join(&member).join("src/lib.rs"), "")?;
            fs::write(
                root.join(&member).join("Cargo.toml"),
                format!(
                    "[package]\nname = {member:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                     [dependencies]\n{name} = {{ {source}{features} }}\n"
                ),
            )?;
            let _ = write!(members, "{member:?}, ");
        }
    }
    let manifest = format!("[workspace]\nresolver = \"2\"\nmembers = [{members}]\n");
    fs::write(root.join("Cargo.toml"), manifest)?;
    fs::copy(
        Path::new(MANIFEST).join("Cargo.lock"),
        root.join("Cargo.lock"),
    )?;
    Ok(root)
}

/// How many crates this one brings along, itself not counted.
fn dependencies(workspace: &Path, member: &str) -> Result<usize, Box<dyn Error>> {
    let tree = cargo(
        workspace,
        &[
            "tree",
            "--edges=normal",
            "--prefix=none",
            "--package",
            member,
        ],
    )?;
    let mut lines: Vec<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.retain(|line| !line.is_empty());
    // The member and the crate are no dependencies of the crate.
    Ok(lines.len() - 2)
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(workspace)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
