//! How many tokens to guess: many where guesses hold, none where they do not.
//!
//! Does not know who guesses.
//!
//! Invariants: never more than the most; after enough misses there is always another try.

/// After a miss at the shortest length this many steps pass before the next try, and twice as many after
/// each further miss.
const MIN_PAUSE: u32 = 4;
const MAX_PAUSE: u32 = 64;

/// The number of guesses of one sequence, adapted to how many held.
#[derive(Debug, Clone)]
pub struct Pace {
    n_most: usize,
    n_next: usize,
    n_resting: u32,
    pause: u32,
}

impl Pace {
    pub fn new(n_most: usize) -> Self {
        Self { n_most, n_next: n_most, n_resting: 0, pause: MIN_PAUSE }
    }

    /// How many to guess in the coming step; counts down a pause.
    pub fn n_wanted(&mut self) -> usize {
        if self.n_resting > 0 {
            self.n_resting -= 1;
            return 0;
        }
        self.n_next
    }

    pub fn learn(&mut self, n_drafted: usize, n_accepted: usize) {
        match n_accepted {
            0 if n_drafted <= 1 || self.n_next <= 1 => {
                self.n_next = 1;
                self.n_resting = self.pause;
                self.pause = (self.pause * 2).min(MAX_PAUSE);
            }
            0 => self.n_next = (self.n_next / 4).max(1),
            _ => {
                // One more than held, or twice as many if all did, so that growth is as fast as decline.
                let n_next = if n_accepted == n_drafted { n_accepted * 2 } else { n_accepted + 1 };
                self.n_next = n_next.min(self.n_most);
                self.pause = MIN_PAUSE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_that_never_hold_are_soon_given_up_but_tried_again() {
        let mut pace = Pace::new(8);

        let wanted: Vec<usize> = (0..40)
            .map(|_| {
                let n_wanted = pace.n_wanted();
                if n_wanted > 0 {
                    pace.learn(n_wanted, 0);
                }
                n_wanted
            })
            .collect();

        assert_eq!(wanted[..8], [8, 2, 1, 0, 0, 0, 0, 1]);
        assert_eq!(wanted.iter().sum::<usize>(), 8 + 2 + 1 + 1 + 1 + 1);
    }

    #[test]
    fn guesses_that_hold_are_doubled_up_to_the_most() {
        let mut pace = Pace::new(6);
        pace.learn(6, 0);
        pace.learn(1, 0);
        let rest: Vec<usize> = (0..5).map(|_| pace.n_wanted()).collect();
        assert_eq!(rest, [0, 0, 0, 0, 1]);

        for (n_drafted, n_accepted, n_next) in [(1, 1, 2), (2, 2, 4), (4, 4, 6), (6, 6, 6), (6, 2, 3)] {
            pace.learn(n_drafted, n_accepted);
            assert_eq!(pace.n_wanted(), n_next);
        }
    }

    #[test]
    fn a_guess_that_holds_shortens_the_next_pause() {
        let mut pace = Pace::new(1);
        pace.learn(1, 0);
        (0..4).for_each(|_| assert_eq!(pace.n_wanted(), 0));
        pace.learn(1, 0);
        (0..8).for_each(|_| assert_eq!(pace.n_wanted(), 0));

        pace.learn(1, 1);
        pace.learn(1, 0);

        (0..4).for_each(|_| assert_eq!(pace.n_wanted(), 0));
        assert_eq!(pace.n_wanted(), 1);
    }
}
