//! The loops, blocking and async, and the budget they share.

#![cfg(feature = "tokio")]

#[path = "retry/forms.rs"]
mod forms;
