//! The examples' own code, through failures, crashes and restarts, on clocks that tests move.

#[path = "recipes/operator.rs"]
mod operator;
#[cfg(all(feature = "sqlite", feature = "tokio"))]
#[path = "recipes/recoverer.rs"]
mod recoverer;
