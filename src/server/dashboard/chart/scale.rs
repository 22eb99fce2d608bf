//! From values to places on a chart: a linear scale with round steps that always holds zero.
//!
//! Knows nothing of SVG.
//!
//! Invariants: for any input, also a huge, negative or not finite one, places are finite numbers.

/// Beyond this a sum of two values could leave what a float holds.
const MOST: f64 = 1e300;
/// As many lines as can be read, and no fewer than say something.
const N_STEPS: [f64; 4] = [3.0, 4.0, 5.0, 6.0];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

/// What can be drawn of a value.
pub(super) fn drawable(value: f64) -> Option<f64> {
    value.is_finite().then(|| value.clamp(-MOST, MOST))
}

impl Scale {
    /// Covers zero and everything between `least` and `most`, in steps of at least `min_step`.
    pub(super) fn covering(least: f64, most: f64, min_step: f64) -> Self {
        let least = drawable(least).unwrap_or(0.0).min(0.0);
        let most = drawable(most).unwrap_or(0.0).max(0.0);
        let span = if most > least { most - least } else { 1.0 };
        let of_step = |step: f64| {
            let high = if most == 0.0 && least == 0.0 { step } else { (most / step).ceil() * step };
            Self { low: (least / step).floor() * step, high, step }
        };
        let scales = N_STEPS.map(|n_steps| of_step(round_step(span / n_steps).max(min_step)));
        // The one that leaves least of the chart empty; of two such, the one with fewer lines.
        let is_better = |new: &Self, old: &Self| new.high - new.low < (old.high - old.low) * (1.0 - 1e-9);
        scales
            .into_iter()
            .reduce(|old, new| if is_better(&new, &old) { new } else { old })
            .expect("there are some")
    }

    /// The distance from the top of a chart that is `height` high.
    pub(super) fn y(&self, value: f64, height: f64) -> f64 {
        let value = drawable(value).unwrap_or(0.0).clamp(self.low, self.high);
        (self.high - value) / (self.high - self.low) * height
    }

    /// Where lines are drawn, the lowest first.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let n_steps = ((self.high - self.low) / self.step).round() as usize;
        (0..=n_steps).map(|idx| self.low + self.step * idx as f64).collect()
    }
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    // Powers of tiny numbers are not exact; a little less is taken as equal.
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(least: f64, most: f64, ticks: &[f64]) {
        let found = Scale::covering(least, most, 0.0).ticks();
        let same = found.len() == ticks.len()
            && found.iter().zip(ticks).all(|(a, b)| (a - b).abs() <= b.abs() * 1e-9 + 1e-12);
        assert!(same, "{least}..{most}: {found:?}");
    }

    #[test]
    fn steps_are_round_and_cover_zero() {
        check(0.0, 100.0, &[0.0, 50.0, 100.0]);
        check(0.0, 101.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        check(0.0, 20.8, &[0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        check(3.0, 7.0, &[0.0, 2.5, 5.0, 7.5]);
        check(-30.0, 70.0, &[-40.0, -20.0, 0.0, 20.0, 40.0, 60.0, 80.0]);
        check(-4.0, -1.0, &[-4.0, -2.0, 0.0]);
        check(0.0, 0.0004, &[0.0, 0.0002, 0.0004]);
    }

    #[test]
    fn whole_things_have_no_half_steps() {
        assert_eq!(Scale::covering(0.0, 2.0, 1.0).ticks(), [0.0, 1.0, 2.0]);
        assert_eq!(Scale::covering(0.0, 0.0, 1.0).ticks(), [0.0, 1.0]);
    }

    #[test]
    fn any_value_has_a_place() {
        for (least, most) in
            [(0.0, f64::MAX), (f64::MIN, f64::MAX), (f64::NAN, 1.0), (0.0, f64::MIN_POSITIVE)]
        {
            let scale = Scale::covering(least, most, 0.0);
            for value in [least, most, 0.0, 1.0, f64::INFINITY, f64::NAN] {
                let y = scale.y(value, 200.0);
                assert!((0.0..=200.0).contains(&y), "{least}..{most}: {value} at {y}");
            }
            assert!((2..14).contains(&scale.ticks().len()), "{:?}", scale.ticks());
        }
    }

    #[test]
    fn the_greatest_value_is_at_the_top() {
        let scale = Scale::covering(-50.0, 50.0, 0.0);

        assert_eq!([50.0, 0.0, -50.0].map(|value| scale.y(value, 200.0)), [0.0, 100.0, 200.0]);
    }
}
