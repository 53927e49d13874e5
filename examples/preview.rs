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
use std::process::ExitCode;
use std::time::Duration;

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

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result {
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
    /// Flags are read as the configuration that they stand for: one set of rules, one set of
    /// errors.
    fn policy(&self) -> Result<Backoff> {
        let mut policy = match &self.policy {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("{}: {error}", file.display()))?
                .parse()?,
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

/// The range of the delay after each failure, and below it when attempts begin. Returns `false`,
/// and draws nothing, if there are no retries, or no waits.
fn draw(policy: &Backoff, file: &Path) -> Result<bool> {
    let rows: Vec<PreviewRow> = policy.preview().rows().collect();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Ok(false);
    };
    let most = rows.iter().map(|row| row.longest).max().unwrap_or_default();
    if most.is_zero() {
        return Ok(false);
    }
    // Fewer than eight would be counted in fractions.
    let failures = 0.5..f64::from(last.failures.max(8)) + 0.5;
    // What jitter takes to nearly nothing is drawn at the floor: the scale is logarithmic. Above
    // there is room for the legend.
    let floor = first.longest.as_secs_f64().max(1e-8) / 10.0;
    let delays = floor..30.0 * seconds(most, floor);
    let sums = floor..10.0 * seconds(last.elapsed, floor);
    // A value holds for the whole width of its failure.
    let steps = |value: fn(&PreviewRow) -> Duration| -> Vec<(f64, f64)> {
        rows.iter()
            .flat_map(|row| {
                let (at, value) = (f64::from(row.failures), seconds(value(row), floor));
                [(at - 0.5, value), (at + 0.5, value)]
            })
            .collect()
    };
    let (longest, shortest) = (steps(|row| row.longest), steps(|row| row.shortest));
    let page = chart::page(file, (860, 640))?;
    let (above, below) = page.split_vertically(340);

    let title = "Delay after each failure";
    let mut plot = chart::plot(&above, title, failures.clone(), delays.log_scale())?;
    let range: Vec<_> = longest
        .iter()
        .chain(shortest.iter().rev())
        .copied()
        .collect();
    plot.draw_series([Polygon::new(range, RGBColor(0xe0, 0xea, 0xf4).filled())])?;
    chart::axes(&mut plot, "failure", "delay (s)")?;
    chart::line(&mut plot, &longest, PENS[0], "longest")?;
    chart::line(&mut plot, &steps(|row| row.mean), PENS[1], "mean")?;
    chart::line(&mut plot, &shortest, PENS[2], "shortest")?;
    chart::legend(&mut plot, SeriesLabelPosition::UpperLeft)?;

    let title = "When the next attempt begins, if delays are neither lucky nor unlucky";
    let mut plot = chart::plot(&below, title, failures, sums.log_scale())?;
    chart::axes(&mut plot, "failure", "time since the first failure (s)")?;
    let sums = steps(|row| row.elapsed);
    chart::line(&mut plot, &sums, PENS[1], "mean delays, cumulated")?;
    chart::legend(&mut plot, SeriesLabelPosition::UpperLeft)?;
    page.present()?;
    Ok(true)
}

fn seconds(duration: Duration, at_least: f64) -> f64 {
    duration.as_secs_f64().max(at_least)
}
