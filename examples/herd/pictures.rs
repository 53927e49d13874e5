//! The pictures of the three scenarios.

use std::path::Path;

use plotters::prelude::*;

use super::chart::{self, INK, PENS, Pen, Result};
use super::contention::{Contention, Effort};
use super::lineup;
use super::outage::Outage;
use super::overload::{self, Allowance, Overload};
use super::policy::Policy;
use super::queue::SECOND;

/// `outage.svg` and `drain.svg`.
pub(crate) fn outage(outage: &Outage, dir: &Path) -> Result {
    arrivals(outage, &dir.join("outage.svg"))?;
    drain(outage, &dir.join("drain.svg"))
}

/// Arrivals over time, one panel a policy.
fn arrivals(outage: &Outage, file: &Path) -> Result {
    const SHOWN: f64 = 250.0;
    let capacity = f64::from(outage.capacity);
    let limit = [(0.0, capacity), (SHOWN, capacity)];
    let (floor, top) = (capacity / 100.0, capacity * 1e4);
    let shown = [
        (lineup::JITTERS[0], "Full jitter"),
        (
            lineup::CLAMPED,
            "Mistake: ±20 % of a growing power of two, then clamped to max",
        ),
        (
            lineup::DUE_IN_WHOLE_SECONDS,
            "Mistake: full jitter, but due times rounded up to whole seconds",
        ),
        (lineup::UNJITTERED, "Mistake: no jitter"),
    ];
    let page = chart::page(file, (860, 880))?;
    for (row, panel) in page.split_evenly((4, 1)).iter().enumerate() {
        let (policy, title) = shown[row];
        let aftermath = outage.run(&policy);
        let end = match aftermath.drained {
            Some(at) => format!(
                "last client served after {:.0} s",
                at as f64 / SECOND as f64
            ),
            None => format!(
                "{:.0} % of the clients served after {} s",
                100.0 * f64::from(aftermath.served) / f64::from(outage.clients),
                outage.horizon / SECOND
            ),
        };
        let title = format!("{title}: {end}");
        let mut plot = chart::plot(panel, &title, 0.0..SHOWN, (floor..top).log_scale())?;
        chart::axes(
            &mut plot,
            "time since the first failure (s)",
            "attempts a second",
        )?;
        let over_time = |rates: &mut dyn Iterator<Item = u64>| -> Vec<(f64, f64)> {
            rates
                .take(SHOWN as usize)
                .enumerate()
                .map(|(second, rate)| (second as f64, (rate as f64).max(floor)))
                .collect()
        };
        let peaks = over_time(&mut aftermath.arrivals.peak_rate());
        let rates = over_time(&mut aftermath.arrivals.per_second());
        chart::area(
            &mut plot,
            &rates,
            floor,
            RGBColor(0x8f, 0xb8, 0xde),
            "in each second",
        )?;
        let peak = Pen::new(RGBColor(0xb0, 0x3a, 0x00), 1, (i32::MAX, 0));
        chart::line(&mut plot, &peaks, peak, "in its busiest 10 ms, x 100")?;
        chart::line(&mut plot, &limit, Pen::LIMIT, "what the service can serve")?;
        if row == 0 {
            chart::legend(&mut plot, SeriesLabelPosition::UpperRight)?;
        }
    }
    page.present()?;
    Ok(())
}

/// How much longer than necessary the herd takes, one bar a policy.
fn drain(outage: &Outage, file: &Path) -> Result {
    const LEFT: i32 = 240;
    const BAR: i32 = 26;
    const DECADE: f64 = 380.0;
    let policies: Vec<(Policy, bool)> = lineup::JITTERS
        .iter()
        .chain(&lineup::WHOLE_SECONDS)
        .map(|&policy| (policy, false))
        .chain(lineup::MISTAKES.iter().map(|&policy| (policy, true)))
        .collect();
    let bottom = 40 + BAR * i32::try_from(policies.len())?;
    let page = chart::page(file, (860, bottom as u32 + 60))?;
    let x = |ratio: f64| LEFT + (ratio.log10() * DECADE) as i32;
    let text = |text: String, at: (i32, i32), size: u32| Text::new(text, at, chart::font(size));
    let title = format!(
        "Time until {} clients that failed together are all served, ÷ the ideal of {} s",
        outage.clients,
        outage.ideal() / SECOND
    );
    page.draw(&text(title, (12, 10), 16))?;
    for ratio in [1.0, 2.0, 5.0, 10.0, 20.0] {
        let line = vec![(x(ratio), 38), (x(ratio), bottom)];
        page.draw(&PathElement::new(line, INK.mix(0.3)))?;
        page.draw(&text(format!("{ratio}x"), (x(ratio) - 8, bottom + 6), 12))?;
    }
    let axis = "drain time ÷ ideal (log scale); dark = a classic mistake".to_owned();
    page.draw(&text(axis, (LEFT, bottom + 28), 13))?;
    for (row, (policy, mistake)) in (0..).zip(&policies) {
        let top = 40 + BAR * row;
        let drain = outage.drain(policy, 1);
        let longest = outage.horizon as f64 / outage.ideal() as f64;
        let end = x(drain.ratio.unwrap_or(longest));
        let color = if *mistake {
            PENS[1].color
        } else {
            PENS[4].color
        };
        let bar = [(LEFT, top + 3), (end, top + BAR - 3)];
        page.draw(&Rectangle::new(bar, color.filled()))?;
        page.draw(&text(policy.name.to_owned(), (12, top + 6), 13))?;
        let label = match drain.ratio {
            Some(ratio) => format!("{ratio:.2}x"),
            None => format!("{:.0} % served", 100.0 * drain.served),
        };
        page.draw(&text(label, (end + 6, top + 6), 13))?;
    }
    page.present()?;
    Ok(())
}

/// `contention.svg`: work and completion time against the number of clients.
pub(crate) fn contention(seed: u64, dir: &Path) -> Result {
    const CLIENTS: [u32; 10] = [1, 10, 25, 50, 75, 100, 125, 150, 175, 200];
    const RUNS: u32 = 25;
    let shown = [
        (lineup::CONTENDING[1], "no jitter"),
        (lineup::CONTENDING[0], "no backoff at all"),
        (lineup::CONTENDING[2], "equal"),
        (lineup::CONTENDING[3], "full"),
        (lineup::CONTENDING[4], "decorrelated, x3"),
    ];
    let efforts: Vec<Vec<Effort>> = shown
        .iter()
        .map(|(policy, _)| {
            CLIENTS
                .iter()
                .map(|&clients| Contention { clients, seed }.mean(policy, RUNS))
                .collect()
        })
        .collect();
    let file = dir.join("contention.svg");
    let page = chart::page(&file, (860, 420))?;
    let (left, right) = page.split_horizontally(430);
    let mut time = chart::plot(
        &left,
        "Time until all have written",
        0.0..200.0,
        (0.02..200.0).log_scale(),
    )?;
    chart::axes(&mut time, "contending clients", "completion time (s)")?;
    let mut work = chart::plot(
        &right,
        "Work for the server",
        0.0..200.0,
        (1.0..10_000.0).log_scale(),
    )?;
    chart::axes(
        &mut work,
        "contending clients",
        "writes, failed ones included",
    )?;
    for ((efforts, (_, name)), pen) in efforts.iter().zip(shown).zip(PENS) {
        let points = |figure: fn(&Effort) -> f64| -> Vec<(f64, f64)> {
            CLIENTS
                .iter()
                .zip(efforts)
                .map(|(&clients, effort)| (f64::from(clients), figure(effort)))
                .collect()
        };
        chart::line(
            &mut time,
            &points(|effort| effort.millis / 1000.0),
            pen,
            name,
        )?;
        chart::line(&mut work, &points(|effort| effort.writes), pen, name)?;
    }
    chart::legend(&mut work, SeriesLabelPosition::LowerRight)?;
    page.present()?;
    Ok(())
}

/// `overload.svg`: whether a service recovers from a stop of ten seconds.
pub(crate) fn overload(seed: u64, dir: &Path) -> Result {
    const SHOWN: f64 = 600.0;
    // The widest and lightest first: lines that coincide show through each other.
    let shown = [
        ("3 retries, no budget", 3, Allowance::Unlimited, PENS[4]),
        (
            "3 retries, budget of 10 % of requests",
            3,
            Allowance::PerRequest(0.1),
            PENS[2],
        ),
        ("no retries", 0, Allowance::Unlimited, PENS[0]),
        (
            "3 retries, budget of 10 % of successes",
            3,
            Allowance::PerSuccess(0.1),
            PENS[1],
        ),
    ];
    let file = dir.join("overload.svg");
    let page = chart::page(&file, (860, 400))?;
    let title = format!(
        "{} new requests a second at a service of {}; it stops from 60 s to 70 s",
        Overload::STANDARD.rate,
        overload::CAPACITY
    );
    let mut plot = chart::plot(&page, &title, 0.0..SHOWN, -4.0..104.0)?;
    chart::axes(&mut plot, "time (s)", "first tries that succeed (%)")?;
    for (name, retries, allowance, pen) in shown {
        let outcome = Overload {
            allowance,
            seed,
            ..Overload::STANDARD
        }
        .run(&lineup::backed_off(retries));
        let points: Vec<(f64, f64)> = outcome
            .first_tries
            .iter()
            .enumerate()
            .map(|(span, share)| (10.0 * span as f64 + 5.0, 100.0 * share))
            .take_while(|(at, _)| *at < SHOWN)
            .collect();
        chart::line(&mut plot, &points, pen, name)?;
    }
    chart::legend(&mut plot, SeriesLabelPosition::MiddleRight)?;
    page.present()?;
    Ok(())
}
