//! What must compile: every way of borrowing, inside `tokio::spawn`, with nothing annotated.

// What is tested is that the closure's argument needs no type.
#![expect(clippy::redundant_closure_for_method_calls)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use relent::RetryBudget;

use crate::forms::{Busy, Client, POLICY};

impl Client {
    async fn get(&self, question: &str) -> Result<usize, Busy> {
        tokio::task::yield_now().await;
        self.ask(question)
    }

    async fn get_mut(&mut self, question: &str) -> Result<usize, Busy> {
        self.get(question).await
    }
}

static BUDGET: RetryBudget = RetryBudget::new(1000, 0.5);

#[tokio::test]
async fn async_infers_the_error_in_every_hook() {
    let client = Client::new();
    let result = POLICY
        .retry_async(|| client.get("why"))
        .when(|e| e.is_transient())
        .retry_after(|e| e.hint)
        .notify(|failed| assert!(failed.error.is_transient() && failed.failures > 0))
        .timeout(Duration::from_secs(5), || Busy { hint: None })
        .budget(&BUDGET)
        .await;
    assert_eq!(result, Ok(3));
}

#[tokio::test]
async fn every_shared_borrow_runs_in_a_spawned_task() {
    fn owned() -> (Client, String) {
        (Client::new(), String::from("why"))
    }
    let closure_of_a_method = tokio::spawn(async {
        let (client, question) = owned();
        POLICY
            .retry_async(|| client.get(&question))
            .when(|e| e.is_transient())
            .await
    });
    let async_block = tokio::spawn(async {
        let (client, question) = owned();
        let (client, question) = (&client, &question);
        POLICY
            .retry_async(|| async move { client.get(question).await })
            .await
    });
    let async_closure = tokio::spawn(async {
        let (client, question) = owned();
        let mut notified = 0;
        let result = POLICY
            .retry_async(async || client.get(&question).await)
            .timeout(Duration::from_secs(5), || Busy { hint: None })
            .notify(|_| notified += 1)
            .budget(&BUDGET)
            .await;
        assert_eq!(notified, 2);
        result
    });
    let outcome = tokio::spawn(async {
        let (client, question) = owned();
        POLICY
            .retry_async(async || client.get(&question).await)
            .outcome()
            .await
            .result
    });
    let itself = tokio::spawn({
        let client = Arc::new(Client::new());
        POLICY.retry_async(move || {
            let client = client.clone();
            async move { client.get("why").await }
        })
    });
    let function = tokio::spawn({
        async fn three() -> Result<usize, Busy> {
            Ok(3)
        }
        POLICY.retry_async(three)
    });
    for task in [
        closure_of_a_method,
        async_block,
        async_closure,
        outcome,
        itself,
        function,
    ] {
        assert_eq!(task.await.unwrap(), Ok(3));
    }
}

#[tokio::test]
async fn async_mut_borrows_mutably() {
    let mut client = Client::new();
    let mut notified = 0;
    let result = POLICY
        .retry_async_mut(async || client.get_mut("why").await)
        .when(|e| e.is_transient())
        .notify(|_| notified += 1)
        .timeout(Duration::from_secs(5), || Busy { hint: None })
        .run()
        .await;
    assert_eq!((result, notified), (Ok(3), 2));
}

/// Not a test: that a generic caller can write the bounds.
#[expect(dead_code)]
async fn generic<F, A, T, E>(operation: F) -> Result<T, E>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, E>>,
{
    POLICY
        .retry_async(operation)
        .timeout(Duration::MAX, || unreachable!())
        .await
}
