//! Tasks that do something one after the other.

use parking_lot::Mutex;

use crate::cancel::CancelToken;

/// Whose turn it is: that of the last one who took it, until that is over.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Option<CancelToken>>);

impl Turns {
    /// Waits for a turn.
    pub(super) async fn next(&self) -> Turn {
        loop {
            match self.take() {
                Ok(turn) => return turn,
                Err(theirs) => theirs.cancelled().await,
            }
        }
    }

    /// A turn; or if somebody has theirs, what is cancelled at its end.
    fn take(&self) -> Result<Turn, CancelToken> {
        let mut last = self.0.lock();
        match &*last {
            Some(theirs) if !theirs.is_cancelled() => Err(theirs.clone()),
            _ => Ok(Turn(last.insert(CancelToken::new()).clone())),
        }
    }
}

/// A turn, which lasts until it is dropped.
pub(super) struct Turn(CancelToken);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
