//! The loops, blocking and async, and the budget they share.

#[path = "retry/budget.rs"]
mod budget;
#[path = "retry/cancel.rs"]
mod cancel;
#[path = "retry/colours.rs"]
mod colours;
#[cfg(feature = "tracing")]
#[path = "retry/events.rs"]
mod events;
#[path = "retry/forms.rs"]
mod forms;
#[path = "retry/future.rs"]
mod future;
#[path = "retry/lent.rs"]
mod lent;
#[cfg(feature = "tokio")]
#[path = "retry/limits.rs"]
mod limits;
#[path = "retry/peers.rs"]
mod peers;
#[path = "retry/rules.rs"]
mod rules;
#[cfg(feature = "tokio")]
#[path = "retry/spawned.rs"]
mod spawned;
