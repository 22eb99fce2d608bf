//! What a token of a local model costs: an hour's price, divided by what the machine was seen to do.
//!
//! Knows no clock and no engine: finished answers come in, prices go out.
//!
//! The time of an answer is explained as `n_prompt * a + n_output * b` by least squares over the answers
//! so far, older ones fading: prompts are computed many tokens at a time and cost far less each.
//!
//! Invariants: prices are finite and never negative; an hour that costs nothing makes every token free.

use std::time::Duration;

use crate::money::Rate;
use crate::pricing::Price;

/// What an answer weighs after the next one came: about the last hundred count.
const FADING: f64 = 0.99;
/// Seconds a token before anything was seen; the first few answers outweigh it.
const FIRST_GUESS_S: (f64, f64) = (0.002, 0.02);
/// How many tokens the guess counts for, squared.
const GUESS_WEIGHT: f64 = 100.0;

/// The throughput of one model on this machine, as its answers show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Throughput {
    /// Sums over answers: prompt², prompt·output, output², prompt·seconds, output·seconds.
    pp: f64,
    po: f64,
    oo: f64,
    ps: f64,
    os: f64,
}

impl Throughput {
    /// Takes a finished answer: tokens of its prompt that were computed, tokens it wrote, and its share of
    /// the machine's time.
    pub(super) fn see(&mut self, n_prompt: usize, n_output: usize, device: Duration) {
        let (p, o, s) = (n_prompt as f64, n_output as f64, device.as_secs_f64());
        for (sum, seen) in [
            (&mut self.pp, p * p),
            (&mut self.po, p * o),
            (&mut self.oo, o * o),
            (&mut self.ps, p * s),
            (&mut self.os, o * s),
        ] {
            *sum = *sum * FADING + seen;
        }
    }

    /// Seconds for a token of a prompt, and of an answer.
    pub(super) fn seconds(&self) -> (f64, f64) {
        // The guess never fades: answers of one shape alone determine nothing, and would divide by zero.
        let (prompt_s, output_s) = FIRST_GUESS_S;
        let (pp, oo) = (self.pp + GUESS_WEIGHT, self.oo + GUESS_WEIGHT);
        let (ps, os) = (self.ps + GUESS_WEIGHT * prompt_s, self.os + GUESS_WEIGHT * output_s);
        let determinant = pp * oo - self.po * self.po;
        let both = ((ps * oo - os * self.po) / determinant, (os * pp - ps * self.po) / determinant);
        // Answers of one shape cannot tell the two apart; then one of them carries all of the time.
        match both {
            (prompt, output) if prompt >= 0.0 && output >= 0.0 => (prompt, output),
            (prompt, _) if prompt < 0.0 => (0.0, os / oo),
            _ => (ps / pp, 0.0),
        }
    }

    pub(super) fn price(&self, usd_per_hour: f64) -> Price {
        let (prompt_s, output_s) = self.seconds();
        Price::of_own(rate(prompt_s, usd_per_hour), rate(output_s, usd_per_hour))
    }
}

/// Nano-dollars for a million tokens.
fn rate(seconds: f64, usd_per_hour: f64) -> Rate {
    let nanos = seconds / 3_600.0 * usd_per_hour * 1e9 * 1e6;
    // A cast saturates, and takes what is no number for zero.
    Rate::per_million(nanos.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_prompt_and_of_an_answer_are_told_apart() {
        let mut throughput = Throughput::default();

        for (p, o) in [(500, 20), (30, 100), (200, 5), (50, 50)].into_iter().cycle().take(200) {
            throughput.see(p, o, Duration::from_secs_f64(p as f64 * 0.001 + o as f64 * 0.010));
        }

        let (prompt_s, output_s) = throughput.seconds();
        assert!((prompt_s - 0.001).abs() < 1e-5, "{prompt_s}");
        assert!((output_s - 0.010).abs() < 1e-4, "{output_s}");
        let expected = Price::of_own(rate(prompt_s, 3.6), rate(output_s, 3.6));
        assert_eq!(throughput.price(3.6), expected);
    }

    #[test]
    fn a_faster_machine_makes_cheaper_tokens_soon() {
        let mut throughput = Throughput::default();
        let mut see = |n: usize, per_token_s: f64| {
            for i in 0..n {
                let (p, o) = (10 + i % 7, 20 + i % 5);
                throughput.see(p, o, Duration::from_secs_f64((p + o) as f64 * per_token_s));
            }
            throughput.seconds().1
        };

        let slow = see(300, 0.1);
        let fast = see(300, 0.01);

        assert!((slow - 0.1).abs() < 0.01, "{slow}");
        assert!(fast < 0.02, "{fast}");
    }

    #[test]
    fn answers_of_one_shape_never_make_a_negative_price() {
        let mut throughput = Throughput::default();
        for jitter in [0.0, 0.1] {
            for nth in 0..10_000 {
                let device_s = 0.2 + f64::from(nth % 3) * jitter;
                throughput.see(386, 99, Duration::from_secs_f64(device_s));

                let (prompt_s, output_s) = throughput.seconds();
                assert!(prompt_s >= 0.0 && output_s >= 0.0, "{prompt_s} {output_s}");
                let explained_s = 386.0 * prompt_s + 99.0 * output_s;
                assert!(explained_s < 1.0, "answer {nth} would cost {explained_s} s");
            }
        }
    }

    #[test]
    fn an_hour_that_costs_nothing_makes_every_token_free() {
        let free = Price::of_own(Rate::default(), Rate::default());

        assert_eq!(Throughput::default().price(0.0), free);
        assert_ne!(Throughput::default().price(2.10), free);
    }
}
