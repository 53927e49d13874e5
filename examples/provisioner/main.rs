//! A provisioner: worker processes share a table of machines, and none of them is missed for long.
//!
//! `cargo run --release --features sqlite --example provisioner`, and with `sqlite,postgres` over a
//! PostgreSQL server that it starts, if one is installed.

mod home;
mod machines;
#[cfg(feature = "postgres")]
mod postgres;
mod rack;
#[cfg(feature = "postgres")]
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod siege;
mod sqlite;
mod worker;

use std::env;
use std::path::Path;
use std::process::Command;

use machines::{Kind, Machines};
use siege::Result;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => choose(),
        [home, name] => home::work(Path::new(home), name),
        _ => Err("usage: provisioner [HOME NAME]".into()),
    }
}

fn choose() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path();
    #[cfg(feature = "postgres")]
    if let Some(server) = servers::postgres::Server::new(&[]) {
        println!("Machines in PostgreSQL.");
        let database = home::postgres::Database::make(home, &server)?;
        return story(home, |kind| database.open("main", kind));
    }
    println!("Machines in SQLite.");
    story(home, |kind| home::sqlite(home, "main", kind))
}

fn story<M: Machines>(home: &Path, open: impl Fn(Kind) -> Result<M>) -> Result<()> {
    let machines = open(Kind::Initialize)?;
    siege::set_up(home, &machines)?;
    println!(
        "Eight of them, four workers. m2 and m4 fail at first, m3 and m4 are busy for a while.\n"
    );
    let program = env::current_exe()?;
    let spawn = |name: &str| Command::new(&program).arg(home).arg(name).spawn();
    let [killed, stopped] = siege::siege(home, &machines, spawn)?;

    println!("\nMachines that are left: {}.", machines.left()?);
    for ((machine, kind), what) in [(killed, "w1 was killed"), (stopped, "w2 was stopped")] {
        println!(
            "\nThe history of {machine}, {}, at which {what}:\n",
            kind.name()
        );
        for entry in open(kind)?.history(&machine)? {
            let cause = entry.cause.unwrap_or_default();
            println!("   {:?} {cause}", entry.event);
        }
    }
    let refused = "SELECT count(*), coalesce(group_concat(DISTINCT worker), 'nobody') FROM orders
                   WHERE NOT taken";
    let (orders, whose): (i64, String) =
        siege::rack(home)?
            .connection
            .query_row(refused, [], |row| row.try_into())?;
    println!("\nOrders refused, because another worker had followed: {orders}, of {whose}.");
    Ok(())
}
