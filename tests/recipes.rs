//! The examples' own code, through failures, crashes and restarts, on clocks that tests move.

#[path = "recipes/operator.rs"]
mod operator;
