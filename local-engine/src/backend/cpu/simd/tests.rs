//! Every tier gives the scalar tier's bits, and the scalar tier is right.

use half::f16;

use super::*;

/// Numbers of all sizes, signs and exponents, and the edges.
fn samples() -> Vec<Lanes> {
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let mut samples: Vec<Lanes> = (0..400)
        .map(|round| {
            std::array::from_fn(|_| {
                let mantissa = (draw() >> 8) as f32 / (1 << 23) as f32 - 1.0;
                mantissa * 10_f32.powi(round % 24 - 12)
            })
        })
        .collect();
    samples.push([0.0; LANES]);
    samples.push([-0.0; LANES]);
    samples.push(std::array::from_fn(|lane| lane as f32 - 7.5));
    samples.push([f32::MAX; LANES]);
    samples.push([f32::MIN; LANES]);
    samples
}

/// All that a tier computes of two vectors, as bits.
fn computed<S: Simd>(simd: S, a: &Lanes, b: &Lanes) -> Vec<u32> {
    simd.run(
        #[inline(always)]
        || {
            let (x, y) = (simd.load(a), simd.load(b));
            let results = [
                simd.add(x, y),
                simd.sub(x, y),
                simd.mul(x, y),
                simd.div(x, y),
                simd.fma(x, y, x),
                simd.max(x, y),
                simd.min(x, y),
                simd.abs(x),
                simd.round(x),
                simd.keep(x, 0b1010_0000_1111_0001, 3.0),
                simd.exp(x),
                simd.exp2(simd.min(x, simd.splat(127.0))),
                simd.splat(a[3]),
                simd.step_of_bytes(x).0,
                simd.step_of_bytes(x).1,
                simd.splat(simd.first_lane(x)),
            ];
            let mut bits = vec![simd.max_of_lanes(x).to_bits(), simd.sum_of_lanes(x).to_bits()];
            bits.extend([a[7], 0.0, f32::MAX].map(|limit| u32::from(simd.any_above(x, limit))));
            for result in results {
                let mut lanes = [0.0; LANES];
                simd.store(result, &mut lanes);
                bits.extend(lanes.map(f32::to_bits));
            }
            bits
        },
    )
}

fn of_all_tiers(mut check: impl FnMut(Tier)) {
    check(Tier::Scalar(Scalar));
    #[cfg(target_arch = "x86_64")]
    {
        Avx2::detect().map(Tier::Avx2).into_iter().for_each(&mut check);
        Avx512::detect().map(Tier::Avx512).into_iter().for_each(&mut check);
    }
}

#[test]
fn tiers_agree_to_the_bit() {
    let samples = samples();
    of_all_tiers(|tier| {
        for (a, b) in samples.iter().zip(samples.iter().rev()) {
            let expected = computed(Scalar, a, b);
            let found = with_tier!(tier, simd => computed(simd, a, b));
            assert_eq!(found, expected, "{tier:?} of {a:?} and {b:?}");
        }
    });
}

#[test]
fn the_exponential_is_right_to_a_few_units_and_one_at_zero() {
    of_all_tiers(|tier| {
        let exp_of = |lanes: Lanes| {
            let mut result = [0.0; LANES];
            with_tier!(tier, simd => simd.run(|| simd.store(simd.exp(simd.load(&lanes)), &mut result)));
            result
        };
        for step in 0..17_000 {
            let x = step as f32 / 100.0 - 85.0;
            let (found, expected) = (exp_of([x; LANES])[5], f64::from(x).exp());
            assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "e^{x}: {found}");
        }
        assert_eq!(exp_of([0.0; LANES]), [1.0; LANES]);
        assert!(exp_of([f32::MIN; LANES])[0] < 1e-37);
        assert!(exp_of([f32::MAX; LANES])[0].is_finite());
    });
}

#[test]
fn powers_of_two_are_right_to_a_few_units_and_one_at_zero() {
    of_all_tiers(|tier| {
        let exp2_of = |lanes: Lanes| {
            let mut result = [0.0; LANES];
            with_tier!(tier, simd => simd.run(|| simd.store(simd.exp2(simd.load(&lanes)), &mut result)));
            result
        };
        for step in 0..25_000 {
            let x = step as f32 / 100.0 - 125.0;
            let (found, expected) = (exp2_of([x; LANES])[9], f64::from(x).exp2());
            assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "2^{x}: {found}");
        }
        assert_eq!(exp2_of([0.0; LANES]), [1.0; LANES]);
        assert_eq!(exp2_of([f32::MIN; LANES]), [f32::MIN_POSITIVE; LANES]);
    });
}

#[test]
fn small_numbers_are_widened_and_rounded_as_rust_does() {
    let halves: [u16; LANES] =
        std::array::from_fn(|lane| f16::from_f32(1.7_f32.powi(lane as i32 - 8)).to_bits());
    let bytes: [i8; LANES] = [-128, -127, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 126, 127];
    let floats: Lanes =
        [-127.0, -126.5, -2.5, -1.5, -0.5, -0.4, 0.0, 0.5, 0.6, 1.5, 2.5, 3.5, 99.5, 100.5, 126.5, 127.0];
    of_all_tiers(|tier| {
        let (mut wide, mut whole, mut rounded) = ([0.0; LANES], [0.0; LANES], [0; LANES]);

        let sum = with_tier!(tier, simd => simd.run(|| {
            simd.store(simd.load_f16(&halves), &mut wide);
            simd.store(simd.load_i8(&bytes), &mut whole);
            simd.store_i8(simd.load(&floats), &mut rounded)
        }));

        assert_eq!(wide, halves.map(|bits| f16::from_bits(bits).to_f32()));
        assert_eq!(whole, bytes.map(f32::from));
        assert_eq!(rounded, floats.map(|x| x.round_ties_even() as i8), "{tier:?}");
        assert_eq!(sum, rounded.iter().map(|x| i32::from(*x)).sum::<i32>(), "{tier:?}");
    });
}

#[test]
fn steps_are_the_least_powers_of_two_that_suffice() {
    for (greatest, expected) in [
        (127.0, 1.0),
        (126.9, 1.0),
        (127.1, 2.0),
        (-63.5, 0.5),
        (-63.6, 1.0),
        (1.0, 1.0 / 64.0),
        (0.0, 2_f32.powi(-100)),
        (1e-38, 2_f32.powi(-100)),
        (1e38, 2_f32.powi(100)),
    ] {
        let mut lanes = [0.0; LANES];
        lanes[11] = greatest;

        let (step, inverse) = Scalar.step_of_bytes(lanes);

        assert_eq!((step, inverse), ([expected; LANES], [1.0 / expected; LANES]), "{greatest}");
    }
}
