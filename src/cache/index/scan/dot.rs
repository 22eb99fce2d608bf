//! Products of one row of bytes with many, as integers: the inner loop of the scan.
//!
//! Knows nothing of scales and errors.
//!
//! Invariants: every tier gives the same sums, exactly; no byte outside the slices is read.
#![expect(unsafe_code, reason = "instructions beyond the baseline may be missing, and loads take pointers")]

/// Rows are filled up to a multiple of this.
pub(super) const STEP: usize = 64;

/// Sets each sum to the product of its row of `codes` with `query`.
pub(super) fn sums(codes: &[u8], query: &[i8], sums: &mut [i32]) {
    assert!(!query.is_empty() && query.len().is_multiple_of(STEP), "rows are filled up to whole steps");
    assert_eq!(codes.len(), query.len() * sums.len(), "a row for each sum");
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the instructions are there.
            return unsafe { x86::with_vnni(codes, query, sums) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the instructions are there.
            return unsafe { x86::with_avx2(codes, query, sums) };
        }
    }
    plain(codes, query, sums);
}

/// Inlined into each tier, for the compiler to use its instructions.
#[inline(always)]
fn plain(codes: &[u8], query: &[i8], sums: &mut [i32]) {
    for (row, sum) in codes.chunks_exact(query.len()).zip(sums) {
        let products =
            row.iter().zip(query).map(|(a, b)| i32::from(i16::from(*a)) * i32::from(i16::from(*b)));
        *sum = products.sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::STEP;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn with_vnni(codes: &[u8], query: &[i8], sums: &mut [i32]) {
        let (query_steps, _) = query.as_chunks::<STEP>();
        for (row, total) in codes.chunks_exact(query.len()).zip(sums) {
            let mut sum = _mm512_setzero_si512();
            for (a, b) in row.as_chunks::<STEP>().0.iter().zip(query_steps) {
                // SAFETY: both are arrays of 64 bytes.
                let (a, b) =
                    unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
                sum = _mm512_dpbusd_epi32(sum, a, b);
            }
            *total = _mm512_reduce_add_epi32(sum);
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn with_avx2(codes: &[u8], query: &[i8], sums: &mut [i32]) {
        super::plain(codes, query, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tier = fn(&[u8], &[i8], &mut [i32]);

    /// Reaches both ends of both ranges.
    fn rows(n_rows: usize, stride: usize) -> (Vec<u8>, Vec<i8>) {
        let bytes = (0..n_rows * stride).map(|idx| (idx * 151 % 256) as u8).collect();
        let query = (0..stride).map(|idx| (idx * 83 % 255) as u8 as i8).collect();
        (bytes, query)
    }

    #[test]
    fn every_tier_gives_the_sums_of_the_definition() {
        for (n_rows, stride) in [(1, 64), (3, 128), (17, 384), (2, 1_024)] {
            let (codes, query) = rows(n_rows, stride);
            let expected: Vec<i32> = codes
                .chunks(stride)
                .map(|row| row.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum())
                .collect();
            let check = |tier: Tier| {
                let mut found = vec![7; n_rows];
                tier(&codes, &query, &mut found);
                assert_eq!(found, expected, "{n_rows} rows of {stride}");
            };

            check(sums);
            check(plain);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the instructions are there.
                check(|codes, query, sums| unsafe { x86::with_avx2(codes, query, sums) });
            }
        }
    }

    #[test]
    fn the_largest_products_do_not_overflow() {
        let (codes, query) = (vec![255; 4_096], vec![-127; 4_096]);
        let mut found = [0];

        sums(&codes, &query, &mut found);

        assert_eq!(found, [255 * -127 * 4_096]);
    }
}
