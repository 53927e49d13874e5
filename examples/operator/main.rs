//! An operator: files that people edit, the parents, are kept rendered into other files, their
//! children, whatever fails on the way.
//!
//! `cargo run --release --example operator`

mod controller;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, fs, panic, thread};

use controller::{Children, Error, Handler, Operator, Outcome, Report, files};
use relent::clock::MonotonicClock;
use relent::{Backoff, Decision, Recovery};
use serde::{Deserialize, Serialize};

const POLICY: Backoff = Backoff::DEFAULT.give_up_after_failures(3);
const RESYNC: Duration = Duration::from_secs(3);

fn main() -> Result<(), Error> {
    // What panics is told as its parent's failure.
    panic::set_hook(Box::new(|_| {}));
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    let edit = |name: &str, text| fs::write(path("parents").join(name), text);
    let sites = Sites(home.path().to_owned());
    let mut operator = Operator::new(home.path(), sites, POLICY, Some(RESYNC), MonotonicClock)?;

    println!("Four sites. One is fine, one misspelt, one lacks a file, and one hits a bug.\n");
    edit(
        "home.json",
        r#"{ "title": "Home", "pages": ["index", "about"] }"#,
    )?;
    edit("blog.json", r#"{ "title": "Blog", "pages": ["index }"#)?;
    edit(
        "shop.json",
        r#"{ "title": "Shop", "pages": ["index"], "footer": "legal.html" }"#,
    )?;
    edit(
        "café.json",
        r#"{ "title": "Petit café", "pages": ["menu"] }"#,
    )?;
    let gave_up = |report: &Report| matches!(report.decision, Some(Decision::GiveUp(_)));
    watch(&mut operator, |report| {
        report.name == "shop" && gave_up(report)
    })?;

    println!("\nSomebody corrects two of them. What is edited is tried at once.\n");
    edit("blog.json", r#"{ "title": "Blog", "pages": ["index"] }"#)?;
    edit("café.json", r#"{ "title": "Café", "pages": ["menu"] }"#)?;
    let recovered = |report: &Report| report.recovery.is_some();
    watch(&mut operator, |report| {
        report.name == "café" && recovered(report)
    })?;

    println!("\nThe file is delivered. The shop was given up, but is looked at all the same.\n");
    fs::write(path("legal.html"), "<footer>All rights reserved</footer>")?;
    watch(&mut operator, |report| {
        report.name == "shop" && recovered(report)
    })?;

    println!("\nA site is deleted while somebody reads it. Its pages stay until they are done.\n");
    fs::write(path("home.reader"), "")?;
    fs::remove_file(path("parents/home.json"))?;
    watch(&mut operator, |report| {
        matches!(report.outcome, Outcome::FinalizeFailed(_))
    })?;
    let status = fs::read_to_string(path("status/home.json"))?;
    println!("   status/home.json: {status}");
    fs::remove_file(path("home.reader"))?;
    watch(&mut operator, |report| {
        matches!(report.outcome, Outcome::FinalizeSucceeded)
    })?;

    let rendered = files::names(&path("children"), "")?.join(", ");
    println!(
        "\nRendered: {rendered}. Still failing: {}.",
        operator.tracker.len()
    );
    Ok(())
}

/// Runs the operator until it reports what is waited for.
fn watch(operator: &mut Operator<Sites>, until: impl Fn(&Report) -> bool) -> Result<(), Error> {
    const POLL: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let reports = operator.tick()?;
        for report in &reports {
            println!("   {report}");
        }
        if reports.iter().any(&until) {
            return Ok(());
        }
        thread::sleep(operator.next_due().map_or(POLL, |due| due.min(POLL)));
    }
    Err("the operator did not come to this in ten seconds".into())
}

/// Web sites: each parent becomes some pages. Footers and marks of readers lie in this folder.
struct Sites(PathBuf);

#[derive(Deserialize)]
struct Site {
    title: String,
    pages: Vec<String>,
    footer: Option<String>,
}

#[derive(Serialize)]
struct SiteStatus {
    outcome: &'static str,
    error: Option<String>,
}

impl Handler for Sites {
    type Valid = Site;
    type Status = SiteStatus;

    fn validate(&self, _: &str, parent: &str) -> Result<Site, Error> {
        let site: Site = serde_json::from_str(parent)?;
        match site.pages.iter().find(|page| page.contains('/')) {
            None => Ok(site),
            Some(page) => Err(format!("{page:?} is no name of a page").into()),
        }
    }

    fn sync(&self, _: &str, site: &mut Site) -> Result<Children, Error> {
        let footer = site.footer.iter().map(|file| {
            fs::read_to_string(self.0.join(file)).map_err(|error| format!("{file}: {error}"))
        });
        let footer: String = footer.collect::<Result<_, _>>()?;
        // The bug: the tenth byte may be the middle of a letter.
        let short = &site.title[..site.title.len().min(10)];
        let pages = site.pages.iter().map(|page| {
            let html = format!("<title>{short}: {page}</title>{footer}");
            (format!("{page}.html"), html)
        });
        Ok(pages.collect())
    }

    fn finalize(&self, name: &str) -> Result<(), Error> {
        if self.0.join(format!("{name}.reader")).exists() {
            return Err("somebody reads it".into());
        }
        Ok(())
    }

    fn status(&self, _: &str, outcome: &Outcome) -> SiteStatus {
        SiteStatus {
            outcome: outcome.name(),
            error: outcome.error().map(ToString::to_string),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5} {}", self.name, self.outcome.name())?;
        if let Some(error) = self.outcome.error().or(self.untold.as_ref()) {
            write!(f, ": {error}")?;
        }
        if let Some(Recovery { failures, outage }) = self.recovery {
            write!(f, ", after {failures} failures in {outage:.1?}")?;
        }
        if let Some(Decision::GiveUp(reason)) = self.decision {
            write!(f, "; gave up, {reason}")?;
        }
        match self.again.filter(|_| self.decision.is_some()) {
            Some(again) => write!(f, "; again in {again:.1?}"),
            None => Ok(()),
        }
    }
}
