//! Long reading: how to choose a policy, how to come from another crate, how the crates compare, how
//! this one is built.

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("docs/migration.md")]
pub mod migration {}
