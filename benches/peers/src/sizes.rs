//! How large the future of a loop is.

use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use backon::Retryable as _;
use tower::Service as _;

use crate::loops::{Again, backoff_policy, backon_policy, tower_policy};
use crate::page;

const POLICY: relent::Backoff = relent::Backoff::exponential(Duration::ZERO, Duration::ZERO);

/// 255 bytes that live across an await, what is awaited, and where it stands: 257.
async fn operation() -> Result<u64, u64> {
    let bytes = black_box([0_u8; 255]);
    std::future::ready(()).await;
    Ok(u64::from(black_box(&bytes)[0]))
}

async fn marked() -> Result<u64, backoff::Error<u64>> {
    let bytes = black_box([0_u8; 255]);
    std::future::ready(()).await;
    Ok(u64::from(black_box(&bytes)[0]))
}

async fn by_hand() -> Result<u64, u64> {
    let mut failures = 0;
    loop {
        match operation().await {
            Err(_) if failures < 3 => tokio::time::sleep(Duration::from_millis(1)).await,
            result => return result,
        }
        failures += 1;
    }
}

pub fn section() -> String {
    let own = size(&operation());
    assert_eq!(
        (own, size(&marked())),
        (257, 257),
        "the operation's own future"
    );
    let mut service =
        tower::retry::Retry::new(Again(tower_policy()), tower::service_fn(|()| operation()));
    let waits = tokio_retry::strategy::ExponentialBackoff::from_millis(2)
        .map(tokio_retry::strategy::jitter);
    let sizes = [
        ("relent", size(&POLICY.retry_async(operation))),
        ("by hand, an async fn without a policy", size(&by_hand())),
        ("backon", size(&operation.retry(backon_policy()))),
        (
            "backoff",
            size(&backoff::future::retry(backoff_policy().build(), marked)),
        ),
        (
            "tokio-retry",
            size(&tokio_retry::Retry::start(waits, operation)),
        ),
        ("tower", size(&service.call(()))),
    ];
    let mut rows =
        vec![["future of a 257-byte operation", "bytes", "beside its own"].map(String::from)];
    rows.extend(sizes.map(|(name, size)| {
        [
            name.to_string(),
            size.to_string(),
            format!("+{}", size - own),
        ]
    }));
    page::table(&rows)
}

fn size<F: Future>(future: &F) -> usize {
    size_of_val(future)
}
