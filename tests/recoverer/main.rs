//! The recoverer's own code, through failures, crashes and restarts.

#[expect(dead_code, reason = "the story is for people to run")]
#[path = "../../examples/recoverer.rs"]
mod recoverer;

mod order;
mod restarts;
mod rig;
mod waits;
mod wake_ups;
