//! The arithmetic: every rule B, J, H and G by its number.

mod any;
mod give_up;
mod hint;
mod interval;
mod invalid;
mod jitter;
mod pathological;
mod preview;
mod schedule;
mod statistics;
