//! A recoverer
mod scheduler;
fn main() {}
