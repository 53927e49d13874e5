//! relent beside other crates, on the same work in the same run; and what each does with hard input.
//!
//! ```console
//! cd benches/peers
//! cargo build --release && taskset -c 1 target/release/peers
//! ```
//!
//! prints the tables of `src/docs/comparison.md`; `target/release/peers --write` puts them there. The
//! names of parts (`steps`, `loops`, `futures`, `keys`, `inputs`, `crates`) print only those.
//!
//! Each contestant runs alone in its turn, in batches of at least 0.2 ms; the order changes in every
//! one of 400 rounds. `ratio` compares batches of the same round, so a machine that is busy at times
//! changes it little. Figures of other crates change with their versions: `Cargo.toml` pins them.

mod inputs;
mod keyed;
mod loops;
mod measure;
mod page;
mod sizes;
mod step;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _in = runtime.enter();
    for part in std::env::args().skip(1) {
        let text = match &*part {
            "steps" => step::section(),
            "loops" => loops::section(&runtime),
            "futures" => sizes::section(),
            "keys" => keyed::section(),
            "inputs" => inputs::section(),
            _ => panic!(),
        };
        println!("{text}");
    }
}
