//! Whether a backend that rounds gives nearly the logits that it should.
//!
//! Bits are not for here: what must be equal to the last one is compared where it is computed.

/// Fails unless a row points where the expected one does, and agrees on the likeliest token if that is clear:
/// if it is ahead by more than twice what any logit is off. Says whether it was.
pub(crate) fn assert_near(name: &str, found: &[f32], expected: &[f32], least_cosine: f64) -> bool {
    assert_eq!(found.len(), expected.len(), "{name}");
    let cosine = cosine(expected, found);
    assert!(cosine > least_cosine, "{name}: {cosine}");
    let noise = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (place, gap) = argmax(expected);
    let is_clear = gap > 2.0 * noise;
    if is_clear {
        assert_eq!(argmax(found).0, place, "{name}: gap {gap}, noise {noise}");
    }
    is_clear
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The greatest logit's place, and how far it is above the next.
fn argmax(row: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    (order[0], row[order[0]] - row[order[1]])
}
