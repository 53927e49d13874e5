//! Async loops without the feature `tokio`, and without `.sleep(..)`; and loops awaited that are no
//! futures.

use relent::Backoff;

async fn fetch() -> Result<u32, std::io::Error> {
    Ok(1)
}

pub async fn shared() -> Result<u32, std::io::Error> {
    Backoff::DEFAULT.retry_async(fetch).await
}

pub async fn outcome() -> Result<u32, std::io::Error> {
    Backoff::DEFAULT.retry_async(fetch).outcome().await.result
}

pub async fn mutable() -> Result<u32, std::io::Error> {
    Backoff::DEFAULT
        .retry_async_mut(async || fetch().await)
        .run()
        .await
}

pub async fn blocking() -> Result<u32, std::io::Error> {
    Backoff::DEFAULT.retry(|| Ok(1)).await
}

pub async fn not_run() -> Result<u32, std::io::Error> {
    Backoff::DEFAULT
        .retry_async_mut(async || fetch().await)
        .await
}
