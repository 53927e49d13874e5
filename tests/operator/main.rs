//! The operator's own code, on a clock that the tests move and real folders.

#[expect(dead_code, reason = "the story is for people to run")]
#[path = "../../examples/operator.rs"]
mod operator;

mod delays;
mod deletions;
mod edits;
mod outcomes;
mod rig;
