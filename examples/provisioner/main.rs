//! A provisioner: worker processes share a table of machines, and none of them is missed for long.
//!
//! `cargo run --release --features sqlite --example provisioner`

mod machines;
mod rack;
mod siege;
mod worker;

use std::env;
use std::path::Path;
use std::process::Command;

use machines::Machines;
use rack::Rack;
use relent::clock::MonotonicClock;
use siege::Result;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => story(),
        [home, name] => siege::work(Path::new(home), name),
        _ => Err("usage: provisioner [HOME NAME]".into()),
    }
}

fn story() -> Result<()> {
    let home = tempfile::tempdir()?;
    let home = home.path();
    siege::set_up(home)?;
    println!(
        "Eight machines, four workers. m2 and m4 fail at first, m3 and m4 are busy for a while.\n"
    );
    let program = env::current_exe()?;
    let spawn = |name: &str| Command::new(&program).arg(home).arg(name).spawn();
    let [killed, stopped] = siege::siege(home, spawn)?;

    println!("\nWhat the table says:\n");
    let machines = Machines::open(&home.join("machines.db"), MonotonicClock)?;
    let mut rows = machines
        .connection
        .prepare("SELECT id, os, down FROM machine")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (id, os, down): (String, Option<String>, bool) = row.try_into()?;
        let os = os.unwrap_or_else(|| "not initialized".to_owned());
        println!("   {id}: {os}{}", if down { ", down" } else { "" });
    }
    for ((machine, kind), what) in [(killed, "w1 was killed"), (stopped, "w2 was stopped")] {
        println!("\nThe history of {machine}, {kind}, on which {what}:\n");
        for entry in machines
            .store
            .namespace(&*kind)?
            .history(&machine, 20)?
            .iter()
            .rev()
        {
            let cause = entry.cause.as_deref().unwrap_or_default();
            println!("   {:?} {cause}", entry.event);
        }
    }
    let rack = Rack::open(&home.join("rack.db"))?;
    let refused = "SELECT count(*), coalesce(group_concat(DISTINCT worker), 'nobody') FROM orders
                   WHERE NOT taken";
    let (refused, whose): (i64, String) = rack
        .connection
        .query_row(refused, [], |row| row.try_into())?;
    println!(
        "\nOrders that the rack refused, as of a worker whom another had followed: {refused}, of {whose}."
    );
    Ok(())
}
