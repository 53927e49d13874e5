//! What type-erased stores have in common, blocking and async.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use super::change::Change;
use super::error::Fault;
use super::record::Record;

/// The error of a store of any type: displayed as the store's own error.
#[derive(Debug)]
pub struct AnyError {
    error: Box<dyn Error + Send + Sync>,
    fault: Fault,
}

impl AnyError {
    pub(super) fn of<E: Error + Send + Sync + 'static>(error: E, fault: Fault) -> AnyError {
        let error = Box::new(error);
        AnyError { error, fault }
    }

    /// The store's own error, whose type [`downcast_ref`](Error#method.downcast_ref) restores.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    pub(super) fn fault(&self) -> Fault {
        self.fault
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for AnyError {
    // Its message is that of the error it holds, so its source is the source of that error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// An answer of any type.
pub(super) type Answer = Box<dyn Any + Send>;

/// Changes to several keys, with answers of any type.
pub(super) type Changes =
    Box<dyn FnMut(usize, Option<&Record>, SystemTime) -> Change<Answer> + Send>;

pub(super) fn changes<R: Send + 'static>(
    mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
) -> Changes {
    Box::new(move |n, record, now| change(n, record, now).map(|answer| Box::new(answer) as Answer))
}

/// The answer, as the type that the change returned.
pub(super) fn told<R: 'static>(answer: Answer) -> R {
    let answer = answer.downcast();
    *answer.expect("a store returns what the change answered")
}
