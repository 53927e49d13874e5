//! Policies from any bytes: whatever is accepted is valid, reads back as it was written, and obeys.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use relent::Backoff;

fuzz_target!(|bytes: &[u8]| {
    let Some((&format, bytes)) = bytes.split_first() else { return };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let policy: Option<Backoff> = match format % 3 {
        0 => toml::from_str(text).ok(),
        1 => serde_json::from_slice(bytes).ok(),
        _ => postcard::from_bytes(bytes).ok(),
    };
    let Some(policy) = policy else { return };
    assert_eq!(policy.validate(), Ok(()));

    let written = toml::to_string(&policy).expect("can be written");
    assert_eq!(toml::from_str::<Backoff>(&written).expect("reads what it wrote"), policy);

    let max = policy.normalized().max;
    assert!(policy.schedule_seeded(bytes.len() as u64).take(50).all(|wait: Duration| wait <= max));
    let _ = policy.preview().limit(20).to_string();
});
