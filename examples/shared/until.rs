//! Waiting for what should come soon.

use std::time::Duration;

use relent::Backoff;

const SOON: Backoff =
    Backoff::fixed(Duration::from_millis(5)).give_up_after(Duration::from_secs(10));

/// Waits until something holds, or fails after ten seconds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let check = || holds().then_some(()).ok_or(());
    let held = SOON.retry(check).call();
    held.map_err(|()| format!("this did not happen within ten seconds: {what}"))
}
