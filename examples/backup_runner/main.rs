//! A backup runner: an ordered plan over real services, in a journal that outlives whoever runs it.
//!
//! `cargo run --release --features file --example backup_runner`

mod journal;
mod runner;
mod world;

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use std::{env, fs, thread};

use relent::clock::MonotonicClock;
use runner::{Ended, Runner};
use world::Shell;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RUN: &str = "nightly";
const TARGETS: [&str; 2] = ["shop", "mail"];

fn main() -> ExitCode {
    let done = command();
    if let Err(error) = &done {
        println!("   stopped: {error}");
    }
    if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn command() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => story(),
        ["run", home, ref options @ ..] => run(Path::new(home), options),
        _ => Err(
            "usage: backup_runner run HOME [--max-steps N | --again | --settle OPERATION]".into(),
        ),
    }
}

/// One runner.
fn run(home: &Path, options: &[&str]) -> Result<()> {
    let world = Shell::new(home, RUN, env::var("DIE_AT").ok());
    let journal = home.join("vault/journal.json");
    let mut runner = Runner::open(&journal, MonotonicClock, RUN, &TARGETS, world)?;
    let mut max_steps = None;
    match options {
        ["--max-steps", steps] => max_steps = Some(steps.parse()?),
        ["--again"] => runner.again()?,
        ["--settle", operation] => runner.settle(operation, true)?,
        _ => {}
    }
    println!("   {}", runner.summary()?);
    match runner.run(max_steps)? {
        Ended::Complete => println!("   complete"),
        Ended::MaxSteps => println!("   that was enough; {}", runner.summary()?),
    }
    Ok(())
}

/// Runners that come and go, over two services.
fn story() -> Result<()> {
    let home = tempfile::tempdir()?;
    let home = home.path();
    Shell::new(home, RUN, None).set_up(&TARGETS)?;

    println!("Two services are to be backed up. The first runner is told to take one step.\n");
    runner(home, &["--max-steps", "1"])?;

    println!("\nThe second is killed once the shop is up again, before it could say so.\n");
    let mut second = spawn(home, &[], Some("effect of shop: start"))?;
    println!("   {}", second.wait()?);

    println!(
        "\nThe third finds out. Then the link is down for a while; a fourth has to stay out.\n"
    );
    let link = home.join("shop/offline");
    fs::write(&link, "")?;
    let mut third = spawn(home, &["--max-steps", "4"], None)?;
    thread::sleep(Duration::from_millis(300));
    runner(home, &[])?;
    thread::sleep(Duration::from_millis(300));
    fs::remove_file(&link)?;
    third.wait()?;

    println!("\nThe next is killed about to stop the mail, and the mail dies too, on its own.\n");
    let mut fifth = spawn(home, &[], Some("after pending, mail: stop"))?;
    println!("   {}", fifth.wait()?);
    let kill = r#"kill -9 "$(cat mail/pid)""#;
    Command::new("sh")
        .args(["-c", kill])
        .current_dir(home)
        .status()?;
    thread::sleep(Duration::from_millis(100));
    runner(home, &[])?;

    println!(
        "\nSomebody looks at it, and says that it is stopped well enough. But the data is damaged.\n"
    );
    let damage = home.join("mail/damaged");
    fs::write(&damage, "")?;
    runner(home, &["--settle", "mail: stop"])?;

    println!(
        "\nThe mail runs, with what it has. When that is repaired, all is done again from there.\n"
    );
    runner(home, &[])?;
    println!();
    fs::remove_file(damage)?;
    runner(home, &["--again"])?;

    let effects = fs::read_to_string(home.join("effects"))?;
    println!("\nWhat was done:\n\n{effects}");
    // What does not see its data any more ends.
    for target in TARGETS {
        fs::remove_dir_all(home.join(target).join("data"))?;
    }
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// Has a runner run, and its say.
fn runner(home: &Path, options: &[&str]) -> Result<()> {
    spawn(home, options, None)?.wait()?;
    Ok(())
}

fn spawn(home: &Path, options: &[&str], die_at: Option<&str>) -> Result<Child> {
    let mut runner = Command::new(env::current_exe()?);
    runner.arg("run").arg(home).args(options);
    Ok(runner.envs(die_at.map(|point| ("DIE_AT", point))).spawn()?)
}
