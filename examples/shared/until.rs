//! Waiting for what should come soon.

use super::processes::wait_until;

/// Waits until something holds, but no longer than people would.
pub(crate) fn until(
    what: &str,
    mut holds: impl FnMut() -> bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let or = format!("this did not happen: {what}");
    wait_until(&or, || Ok(holds().then_some(())))
}
