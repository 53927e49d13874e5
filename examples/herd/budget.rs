//! Stands in for the crate's own `RetryBudget`, until that is there.

use std::cell::Cell;

pub(crate) struct RetryBudget {
    capacity: f64,
    deposit: f64,
    level: Cell<f64>,
}

impl RetryBudget {
    pub(crate) fn new(capacity: u32, deposit_per_success: f64) -> RetryBudget {
        RetryBudget {
            capacity: f64::from(capacity),
            deposit: deposit_per_success,
            level: Cell::new(f64::from(capacity)),
        }
    }

    pub(crate) fn withdraw(&self) -> bool {
        let level = self.level.get();
        let enough = level >= 1.0;
        self.level.set(if enough { level - 1.0 } else { level });
        enough
    }

    pub(crate) fn deposit(&self) {
        self.level
            .set((self.level.get() + self.deposit).min(self.capacity));
    }
}
