//! relent beside other crates: what they are, what they do with hard input, and how long it takes.
//!
//! ```console
//! cd benches/peers
//! taskset -c 1 cargo run --release -- --write
//! ```
//!
//! prints the tables of `src/docs/comparison.md`, and puts them there. The names of parts
//! (`crates`, `inputs`, `steps`, `loops`, `futures`, `keys`) print only those.
//!
//! The contestants of a contest take turns in one thread, in batches of at least 0.2 ms; in each of
//! its 400 rounds their order is another. `best` and `median` are of a contestant's batches,
//! `spread` is the distance of their quartiles, and `ratio` compares batches of the same round, so
//! that a machine that is busy at times changes it little. What is around the work, a loop and a
//! call, is the same for all and is not subtracted.

mod crates;
mod inputs;
mod keyed;
mod loops;
mod measure;
mod page;
mod sizes;
mod step;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

use tokio::runtime::{Builder, Runtime};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/docs/comparison.md");

/// A part of the page, in its order: its name here, its heading there.
const PARTS: [(&str, &str); 6] = [
    ("crates", "The crates"),
    ("inputs", "Hard input"),
    ("steps", "The next delay"),
    ("loops", "The loop"),
    ("futures", "The size of the future"),
    ("keys", "State by key"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut wanted: Vec<String> = env::args().skip(1).collect();
    let write = wanted.iter().any(|argument| argument == "--write");
    wanted.retain(|argument| argument != "--write");
    if let Some(unknown) = wanted
        .iter()
        .find(|name| PARTS.iter().all(|(part, _)| part != name))
    {
        return Err(format!("{unknown} is no part: {PARTS:?}").into());
    }
    if write && !wanted.is_empty() {
        return Err("the page is written as a whole".into());
    }

    let runtime = Builder::new_current_thread().enable_time().build()?;
    // What makes a timer of tokio's needs to be in a runtime, in a loop or not.
    let _in = runtime.enter();
    let mut text = machine()?;
    for (part, heading) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|name| name == part) {
            write!(text, "\n# {heading}\n\n{}", section(part, &runtime)?)?;
        }
    }
    print!("{text}");
    if write {
        page::replace(Path::new(PAGE), &text)?;
    }
    Ok(())
}

fn section(part: &str, runtime: &Runtime) -> Result<String, Box<dyn Error>> {
    match part {
        "crates" => crates::section(),
        "inputs" => Ok(inputs::section()),
        "steps" => Ok(step::section()),
        "loops" => Ok(loops::section(runtime)),
        "futures" => Ok(sizes::section()),
        _ => Ok(keyed::section()),
    }
}

/// When and where.
fn machine() -> Result<String, Box<dyn Error>> {
    let now = humantime::format_rfc3339(SystemTime::now()).to_string();
    let date = now.split('T').next().unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output()?.stdout;
    let rustc = String::from_utf8(rustc)?;
    let rustc = rustc.split(" (").next().unwrap_or_default().trim();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let peers = inputs::CRATES.into_iter().skip(1).chain(["governor"]);
    let peers = peers.map(|name| format!("{name} {}", crates::version(name)));
    let peers = peers.collect::<Vec<_>>().join(", ");
    Ok(format!(
        "relent {} beside {peers}, on {date}: {rustc}, release profile, one thread of {processor}.\n",
        crates::version("relent")
    ))
}
