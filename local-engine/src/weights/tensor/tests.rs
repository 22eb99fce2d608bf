//! Numbers come out of a tensor as they went in.

use super::*;

fn of_halves(halves: impl Iterator<Item = u16>) -> Tensor {
    let bytes: Vec<u8> = halves.flat_map(u16::to_le_bytes).collect();
    Tensor { dtype: Dtype::F16, shape: vec![bytes.len() / 2], bytes: bytes.into() }
}

#[test]
fn every_half_is_widened_to_the_same_number() {
    let widened = of_halves(0..=u16::MAX).to_f32();

    for (bits, value) in (0..=u16::MAX).zip(widened) {
        let expected = f16::from_bits(bits).to_f32();
        assert!(
            value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
            "{bits:#06x}: {value} for {expected}"
        );
    }
}

#[test]
fn the_first_number_that_is_none_is_found_wherever_it_stands() {
    let (one, infinite, nan) = (0x3c00, 0xfc00, 0x7e00);
    for n in [1_usize, 255, 256, 257, 600] {
        assert_eq!(of_halves((0..n).map(|_| one)).first_not_finite(), None, "{n}");
        for bad in [infinite, nan] {
            let last_bad = of_halves((0..n).map(|at| if at == n - 1 { bad } else { one }));
            assert_eq!(last_bad.first_not_finite(), Some(n - 1), "{n}");
        }
    }
}

#[test]
fn a_type_is_found_by_its_own_name() {
    for dtype in Dtype::ALL {
        assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
    }
    assert_eq!(Dtype::from_name("F8_E4M3"), None);
}
