//! Long reading: how to choose a policy, how to come from another crate, how this one is built,
//! and whole programs.

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/recipes.md")]
pub mod recipes {}
