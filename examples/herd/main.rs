//! What a policy does to a herd of clients, and to the service that is trying to recover.
//!
//! ```text
//! cargo run --release --example herd                 # all tables, and pictures in target/herd
//! cargo run --release --example herd -- --help
//! ```
//!
//! Three published models, each in a file of its name. All clients step by
//! [`Backoff::next`](relent::Backoff::next); the same seed gives the same figures.

mod arrivals;
mod chart;
mod contention;
mod dice;
mod lineup;
mod outage;
mod overload;
mod pictures;
mod policy;
mod queue;

use std::error::Error;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use contention::Contention;
use outage::Outage;
use overload::{Allowance, Overload};
use policy::Policy;
use queue::SECOND;

/// What a retry policy does to a herd of clients: prints tables, writes pictures.
#[derive(Parser)]
struct Arguments {
    /// Where the pictures go.
    #[arg(default_value = "target/herd")]
    dir: PathBuf,
    /// Only this scenario.
    #[arg(long)]
    only: Option<Scenario>,
    /// Clients of the outage; the capacity is a hundredth of them a second.
    #[arg(long, default_value_t = Outage::STANDARD.clients, value_parser = clap::value_parser!(u32).range(1000..))]
    clients: u32,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs to average over. By default, five of an outage and a hundred of a contention.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// No pictures.
    #[arg(long)]
    no_pictures: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scenario {
    Outage,
    Contention,
    Overload,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let seed = arguments.seed;
    let outage = Outage {
        seed,
        ..Outage::STANDARD
    }
    .of(arguments.clients);
    if !arguments.no_pictures {
        std::fs::create_dir_all(&arguments.dir)?;
    }
    let wanted = |scenario| arguments.only.is_none_or(|only| only == scenario);
    if wanted(Scenario::Outage) {
        print_outage(&outage, arguments.runs.unwrap_or(5));
        if !arguments.no_pictures {
            pictures::outage(&outage, &arguments.dir)?;
        }
    }
    if wanted(Scenario::Contention) {
        let runs = arguments.runs.unwrap_or(100);
        print_contention(seed, runs);
        if !arguments.no_pictures {
            pictures::contention(seed, &arguments.dir)?;
        }
    }
    if wanted(Scenario::Overload) {
        print_overload(seed);
        if !arguments.no_pictures {
            pictures::overload(seed, &arguments.dir)?;
        }
    }
    if !arguments.no_pictures {
        println!("Pictures: {}", arguments.dir.display());
    }
    Ok(())
}

fn print_outage(outage: &Outage, runs: u32) {
    println!(
        "OUTAGE: {} clients fail; down for {} s, then {} requests a second: {} s at best.\n\
         Means of {runs} runs; rhythm of one whose outage never ends, from 180 s to 600 s.\n\
         R: 1 = all attempts at one moment of the second, 0 = at any.\n",
        outage.clients,
        outage.down / SECOND,
        outage.capacity,
        outage.ideal() / SECOND,
    );
    let spread = Outage {
        spread: SECOND,
        ..*outage
    };
    let groups: [(&Outage, &str, &[Policy]); 6] = [
        (outage, "all at once", &lineup::JITTERS),
        (outage, "all at once", &lineup::WHOLE_SECONDS),
        (&spread, "over 1 s", &lineup::JITTERS[..1]),
        (&spread, "over 1 s", &lineup::WHOLE_SECONDS),
        (outage, "all at once", &lineup::MISTAKES),
        (&spread, "over 1 s", &lineup::MISTAKES),
    ];
    println!(
        "{:30} {:12} {:>8} {:>7} {:>9} {:>8} {:>9} {:>6} {:>7}",
        "jitter",
        "failures",
        "drain",
        "÷ ideal",
        "attempts",
        "peak 1 s",
        "peak 10ms",
        "R",
        "at max"
    );
    for (outage, failures, policies) in groups {
        for policy in policies {
            let drain = outage.drain(policy, runs);
            let rhythm = outage.rhythm(policy);
            println!(
                "{:30} {failures:12} {:>8} {:>7} {:>9.2} {:>8.2} {:>9.1} {:>6.3} {:>5.1} %",
                policy.name,
                or_never(drain.seconds, " s"),
                or_never(drain.ratio, "x"),
                drain.attempts,
                rhythm.peak_second,
                rhythm.peak_tick,
                rhythm.phase,
                100.0 * rhythm.at_max,
            );
        }
    }
    println!(
        "\n{:30} {:>8} {:>7} {:>9} {:>8} {:>8} {:>16}",
        "full jitter, limits",
        "drain",
        "÷ ideal",
        "attempts",
        "served",
        "gave up",
        "load in outage"
    );
    for policy in &lineup::LIMITS {
        let drain = outage.drain(policy, runs);
        println!(
            "{:30} {:>8} {:>7} {:>9.2} {:>6.1} % {:>6.1} % {:>12.0} / s",
            policy.name,
            or_never(drain.seconds, " s"),
            or_never(drain.ratio, "x"),
            drain.attempts,
            100.0 * drain.served,
            100.0 * drain.gave_up,
            outage.rhythm(policy).mean,
        );
    }
    println!();
}

fn or_never(figure: Option<f64>, unit: &str) -> String {
    match figure {
        Some(figure) if figure < 20.0 => format!("{figure:.2}{unit}"),
        Some(figure) => format!("{figure:.0}{unit}"),
        None => "never".to_owned(),
    }
}

fn print_contention(seed: u64, runs: u32) {
    let clients = [10, 50, 100, 200];
    println!(
        "CONTENTION: clients write one row by optimistic concurrency. Means of {runs} runs.\n"
    );
    print!("{:30}", "jitter");
    for clients in clients {
        print!(" {:>22}", format!("{clients} clients"));
    }
    println!();
    for policy in &lineup::CONTENDING {
        print!("{:30}", policy.name);
        for clients in clients {
            let effort = Contention { clients, seed }.mean(policy, runs);
            let figures = format!("{:.0} ms {:>6.0} writes", effort.millis, effort.writes);
            print!(" {figures:>22}");
        }
        println!();
    }
    println!();
}

fn print_overload(seed: u64) {
    println!(
        "OVERLOAD: a service of {} requests a second stops for 10 s; attempts time out after 1 s.\n\
         The highest rate of new requests, in steps of 5 a second, at which it recovers.\n",
        overload::CAPACITY,
    );
    println!(
        "{:8} {:10} {:24} {:>10}",
        "retries", "when", "budget", "recovers"
    );
    let print = |retries: u32, policy: &Policy, allowance: Allowance| {
        let overload = Overload {
            allowance,
            seed,
            ..Overload::STANDARD
        };
        let rate = overload.highest_recovering(policy);
        println!(
            "{retries:<8} {:10} {:24} {rate:>8} / s",
            policy.name,
            allowance.to_string()
        );
    };
    for retries in 1..=3 {
        print(retries, &lineup::at_once(retries), Allowance::Unlimited);
        print(retries, &lineup::backed_off(retries), Allowance::Unlimited);
    }
    let policy = lineup::backed_off(3);
    for allowance in [
        Allowance::PerRequest(0.1),
        Allowance::PerSuccess(0.05),
        Allowance::PerSuccess(0.1),
        Allowance::PerSuccess(0.2),
    ] {
        print(3, &policy, allowance);
    }
    println!();
}
