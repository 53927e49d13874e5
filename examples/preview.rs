//! What a policy does, before it does it: prints its preview, draws the range of its delays.
//!
//! ```text
//! cargo run --example preview -- --initial 1s --max 60s --exponent 2 --jitter full
//! cargo run --example preview -- policy.toml
//! ```

#[path = "herd/chart.rs"]
#[allow(dead_code, reason = "the pictures of the herd use the rest")]
mod chart;

use std::path::{Path, PathBuf};

use clap::Parser;
use plotters::prelude::*;
use relent::{Backoff, PreviewRow};
use serde::Deserialize;
use toml::{Table, Value};

use chart::{PENS, Result};

/// Shows what a retry policy does: a table, and a picture of its delays.
#[derive(Parser)]
struct Arguments {
    /// The policy, as TOML; flags change it.
    policy: Option<PathBuf>,
    /// The interval after the first failure, as in 500ms.
    #[arg(long)]
    initial: Option<String>,
    /// The longest delay, as in "1m 30s".
    #[arg(long)]
    max: Option<String>,
    /// What each failure multiplies the interval by.
    #[arg(long)]
    exponent: Option<f64>,
    /// none, full, equal, decorrelated; or a number for proportional.
    #[arg(long)]
    jitter: Option<String>,
    /// Round delays up to whole seconds.
    #[arg(long)]
    whole_seconds: bool,
    /// Give up at this many failures.
    #[arg(long)]
    give_up_after_failures: Option<u32>,
    /// Give up once the next attempt would begin later than this, as in 10m.
    #[arg(long)]
    give_up_after: Option<String>,
    /// The picture to write.
    #[arg(long, default_value = "target/preview.svg")]
    picture: PathBuf,
}

fn main() -> Result {
    let arguments = Arguments::parse();
    let policy = arguments.policy()?;
    print!("{}", policy.preview());
    if let Some(dir) = arguments.picture.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if draw(&policy, &arguments.picture)? {
        println!("Picture: {}", arguments.picture.display());
    }
    Ok(())
}

impl Arguments {
    /// Flags are read as the configuration that they stand for: one set of rules, one set of errors.
    fn policy(&self) -> Result<Backoff> {
        let mut policy = match &self.policy {
            Some(file) => std::fs::read_to_string(file)?.parse()?,
            None => Table::new(),
        };
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                policy.insert(field.to_owned(), value);
            }
        };
        let text = |value: &Option<String>| value.clone().map(Value::String);
        set("initial", text(&self.initial));
        set("max", text(&self.max));
        set("exponent", self.exponent.map(Value::Float));
        set("jitter", self.jitter.as_deref().map(jitter));
        let rounding = self.whole_seconds.then(|| "whole-seconds".into());
        set("rounding", rounding);
        let limits = policy
            .entry("give_up")
            .or_insert_with(|| Table::new().into());
        if let Value::Table(limits) = limits {
            if let Some(failures) = self.give_up_after_failures {
                limits.insert("after_failures".to_owned(), failures.into());
            }
            if let Some(elapsed) = &self.give_up_after {
                limits.insert("after_elapsed".to_owned(), elapsed.as_str().into());
            }
        }
        Ok(Backoff::deserialize(policy)?)
    }
}

fn jitter(text: &str) -> Value {
    match text.parse::<f64>() {
        Ok(proportion) => Table::from_iter([("proportional".to_owned(), proportion.into())]).into(),
        Err(_) => text.into(),
    }
}

/// The shortest, mean and longest delay of each failure, and below when attempts begin. Nothing to
/// draw if nothing is retried.
fn draw(policy: &Backoff, file: &Path) -> Result<bool> {
    let rows: Vec<PreviewRow> = policy.preview().rows().collect();
    let Some(last) = rows.last() else {
        return Ok(false);
    };
    let failures = 0.5..f64::from(last.failures) + 0.5;
    let longest = rows.iter().map(|row| row.longest.as_secs_f64());
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    // Steps, so that each failure is as wide as it is long: the value holds for that failure alone.
    let steps = |value: fn(&PreviewRow) -> std::time::Duration| -> Vec<(f64, f64)> {
        rows.iter()
            .flat_map(|row| {
                let (at, seconds) = (f64::from(row.failures), value(row).as_secs_f64());
                [(at - 0.5, seconds), (at + 0.5, seconds)]
            })
            .collect()
    };
    let page = chart::page(file, (860, 620))?;
    let (above, below) = page.split_vertically(330);

    let title = "Delay after each failure";
    let mut delays = chart::plot(&above, title, failures.clone(), 0.0..1.15 * longest)?;
    chart::axes(&mut delays, "failure", "delay (s)")?;
    let band = RGBColor(0xd6, 0xe4, 0xf2);
    let shortest = steps(|row| row.shortest);
    chart::area(&mut delays, &steps(|row| row.longest), 0.0, band, "longest")?;
    chart::area(&mut delays, &shortest, 0.0, WHITE, "shortest")?;
    chart::line(&mut delays, &steps(|row| row.mean), PENS[1], "mean")?;
    chart::legend(&mut delays, SeriesLabelPosition::UpperLeft)?;

    let elapsed = last.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let title = "When the next attempt begins, if delays are neither lucky nor unlucky";
    let mut sums = chart::plot(&below, title, failures, 0.0..1.1 * elapsed)?;
    chart::axes(&mut sums, "failure", "time since the first failure (s)")?;
    chart::line(
        &mut sums,
        &steps(|row| row.elapsed),
        PENS[0],
        "mean delays, cumulated",
    )?;
    chart::legend(&mut sums, SeriesLabelPosition::UpperLeft)?;
    page.present()?;
    Ok(true)
}
