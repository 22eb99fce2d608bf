//! The randomness of a draw: noise that depends on the seed, the position and the token, and on nothing else.
//!
//! No state and no generator: a counter-based hash. So a draw is the same in any batch and after any
//! speculation, and two models that are given one seed choose alike wherever they think alike.
//!
//! Invariants: every token's noise is finite; [`Noise::bound`] is never below [`Noise::gumbel`].

use crate::request::TokenId;

/// What is added to a bound, so that rounding cannot make it too small.
const SLACK: f32 = 1e-3;

/// The noise of all tokens at one position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    keys: [u32; 2],
}

impl Noise {
    /// The greatest noise there is: a token this far behind the best score has lost.
    pub(super) const MAX: f32 = 33.0 * std::f32::consts::LN_2 + SLACK;

    pub(super) fn at(seed: u64, position: usize) -> Self {
        let key = spread(seed ^ spread(position as u64));
        Self { keys: [key as u32, (key >> 32) as u32] }
    }

    /// 32 random bits. Multiplications of 32 bits only, so that compilers do several tokens at once.
    #[inline(always)]
    fn bits(&self, token: TokenId) -> u32 {
        let mut word = token.wrapping_mul(0x9e37_79b1).wrapping_add(self.keys[0]);
        word = (word ^ (word >> 16)).wrapping_mul(0x21f0_aaad);
        word = (word ^ (word >> 15) ^ self.keys[1]).wrapping_mul(0x735a_2d97);
        word = (word ^ (word >> 15)).wrapping_mul(0x846c_a68b);
        word ^ (word >> 16)
    }

    /// Noise of the Gumbel distribution: the token with the greatest sum of log-probability and noise is
    /// a draw from the softmax. Tokens rarer than 2^-32 cannot be told apart by it.
    pub(super) fn gumbel(&self, token: TokenId) -> f32 {
        let uniform = (f64::from(self.bits(token)) + 0.5) / 4_294_967_296.0;
        -(-uniform.ln()).ln() as f32
    }

    /// At least [`Self::gumbel`], for a fraction of its price: `-ln(-ln u) <= -ln(1 - u)`, and the
    /// exponent of `1 - u` as a float is its logarithm rounded down.
    #[inline(always)]
    pub(super) fn bound(&self, token: TokenId) -> f32 {
        let rest = (!self.bits(token) >> 8) as i32 as f32;
        let exponent = (rest.to_bits() >> 23) as i32;
        (151 - exponent) as f32 * std::f32::consts::LN_2 + SLACK
    }
}

/// Every bit of the input changes half of the bits of the output.
fn spread(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_never_below_the_noise_nor_the_noise_above_its_maximum() {
        for position in 0..20 {
            let noise = Noise::at(7, position);
            for token in 0..50_000 {
                assert!(noise.gumbel(token) <= noise.bound(token), "token {token} at {position}");
                assert!(noise.gumbel(token) <= Noise::MAX && noise.gumbel(token).is_finite());
            }
        }
    }

    #[test]
    fn noise_has_the_moments_of_the_gumbel_distribution() {
        let n = 1_000_000;

        let noise: Vec<f64> = (0..n).map(|token| f64::from(Noise::at(3, 11).gumbel(token))).collect();
        let mean = noise.iter().sum::<f64>() / f64::from(n);
        let variance = noise.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(n);

        assert!((mean - 0.577_215_66).abs() < 0.005, "mean {mean}");
        assert!((variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.02, "variance {variance}");
    }

    /// The correlation of uniform noise along one of the three counters, by so many steps.
    fn correlation(bits: impl Fn(u32) -> u32) -> f64 {
        let n = 200_000;
        let uniform = |at| f64::from(bits(at)) / 4_294_967_296.0 - 0.5;
        (0..n).map(|at| uniform(at) * uniform(at + 1) * 12.0).sum::<f64>() / f64::from(n)
    }

    #[test]
    fn neighbours_in_token_position_and_seed_are_independent() {
        let by_token = correlation(|token| Noise::at(1, 2).bits(token));
        let by_position = correlation(|position| Noise::at(1, position as usize).bits(5));
        let by_seed = correlation(|seed| Noise::at(u64::from(seed), 2).bits(5));

        for found in [by_token, by_position, by_seed] {
            assert!(found.abs() < 0.01, "{by_token} {by_position} {by_seed}");
        }
    }

    #[test]
    fn every_bit_of_the_noise_is_set_half_of_the_time() {
        let n = 100_000;
        for bit in 0..32 {
            let n_set = (0..n).filter(|token| Noise::at(9, 1).bits(*token) >> bit & 1 == 1).count();
            assert!(n_set.abs_diff(n as usize / 2) < 1000, "bit {bit}: {n_set} of {n}");
        }
    }
}
