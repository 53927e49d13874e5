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
    println!("{}", step::section());
    println!("{}", loops::section(&runtime));
    println!("{}", sizes::section());
    println!("{}", keyed::section());
}
