//! A token bucket that refills evenly over a minute.
//!
//! Pure: the time comes in as milliseconds. Does not know what its units are.
//!
//! Invariants: never holds more than its capacity; may go below zero only through [`Bucket::adjust`],
//! when a call turned out larger than it was taken for.

const MINUTE_MS: i128 = 60_000;

/// Levels are kept in sixty-thousandths of a unit, so that a refill of a millisecond is a whole number.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_minute: u64,
    level: i128,
    at_ms: i64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_minute: u64, now_ms: i64) -> Self {
        Self { per_minute, level: scaled(per_minute), at_ms: now_ms }
    }

    /// Takes `n`, or says in how many milliseconds they will be there. More than the capacity is
    /// taken from a full bucket, so that one large call waits but is never refused for ever.
    pub fn take(&mut self, n: u64, now_ms: i64) -> Result<(), u64> {
        self.refill(now_ms);
        let wanted = scaled(n.min(self.per_minute));
        if self.level >= wanted {
            self.level -= scaled(n);
            return Ok(());
        }
        Err(self.ms_until(wanted))
    }

    /// Corrects an earlier `take` by `n` more (positive) or fewer (negative).
    pub fn adjust(&mut self, n: i64, now_ms: i64) {
        self.refill(now_ms);
        self.level = (self.level - i128::from(n) * MINUTE_MS).min(self.capacity());
    }

    pub fn remaining(&self) -> u64 {
        u64::try_from(self.level / MINUTE_MS).unwrap_or(0)
    }

    /// Milliseconds until the bucket is full again.
    pub fn reset_ms(&self) -> u64 {
        self.ms_until(self.capacity())
    }

    /// Follows a new limit; what was used stays used.
    pub fn resize(&mut self, per_minute: u64) {
        let used = self.capacity() - self.level;
        self.per_minute = per_minute;
        self.level = self.capacity() - used;
    }

    pub fn per_minute(&self) -> u64 {
        self.per_minute
    }

    fn capacity(&self) -> i128 {
        scaled(self.per_minute)
    }

    fn refill(&mut self, now_ms: i64) {
        let elapsed_ms = i128::from((now_ms - self.at_ms).max(0));
        self.at_ms = self.at_ms.max(now_ms);
        self.level = (self.level + i128::from(self.per_minute) * elapsed_ms).min(self.capacity());
    }

    fn ms_until(&self, level: i128) -> u64 {
        let missing = (level - self.level).max(0);
        u64::try_from((missing + i128::from(self.per_minute) - 1) / i128::from(self.per_minute.max(1)))
            .unwrap_or(u64::MAX)
    }
}

fn scaled(n: u64) -> i128 {
    i128::from(n) * MINUTE_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_unit_is_given_and_the_next_refused_until_it_has_refilled() {
        let mut bucket = Bucket::new(60, 0);

        assert_eq!(bucket.take(60, 0), Ok(()));
        assert_eq!(bucket.take(1, 0), Err(1_000));
        assert_eq!(bucket.take(1, 999), Err(1));
        assert_eq!(bucket.take(1, 1_000), Ok(()));
    }

    #[test]
    fn a_call_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_back() {
        let mut bucket = Bucket::new(100, 0);

        assert_eq!(bucket.take(250, 0), Ok(()));
        assert_eq!(bucket.remaining(), 0);
        assert!(bucket.take(1, 60_000).is_err());
        assert_eq!(bucket.take(1, 91_000), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(60, 10_000);
        bucket.take(60, 10_000).unwrap();

        assert!(bucket.take(1, 5_000).is_err());
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_given_than_a_full_bucket_and_the_refill(
            asks in prop::collection::vec((1u64..30, 0i64..5_000), 1..200)
        ) {
            let mut bucket = Bucket::new(60, 0);
            let (mut now_ms, mut given) = (0, 0);
            for (n, wait_ms) in asks {
                now_ms += wait_ms;
                if bucket.take(n, now_ms).is_ok() {
                    given += n;
                }
            }
            prop_assert!(given as f64 <= 60.0 + now_ms as f64 / 1_000.0 + 1e-6);
        }
    }
}
