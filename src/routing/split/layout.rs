//! Which arm owns which part of [0, 1).
//!
//! The interval is ten thousand places, one a basis point. The control owns what the others leave. Each
//! other arm has a fixed anchor, and takes its share from there on in one direction: the first arm upwards
//! from 0, the second downwards from 1, the third and fourth away from 1/2, the next pairs from 1/4, 3/4,
//! 1/8 and so on. What is taken already is stepped over.
//!
//! Why not one border after the other, in the order of the list: growing an arm in the middle would then push
//! the borders of all that follow. And why no scheme can do better than this one for every change: if moving
//! share between any two arms left the units of a third where they are, the units of an arm could depend on its
//! own share alone. With three arms, two that share the whole are complements of each other, so all three
//! would own the same units at the same share, and yet no unit may have two arms.
//!
//! Invariants, for shares that sum to the whole: every arm owns as many places as its share; an arm that
//! grows at the control's expense gets units and nobody else does, unless it runs into an arm listed after it,
//! which cannot happen to the last listed, nor where one or two arms stand beside the control; an arm added at
//! the end of the list takes from the control only.

/// Basis points in a whole.
pub const WHOLE: u32 = 10_000;

const N_PLACES: usize = WHOLE as usize;

/// The owner of each place, as the index of its arm.
#[derive(Debug)]
pub(super) struct Owners(Box<[u8]>);

impl Owners {
    /// `shares` sum to [`WHOLE`]; there are fewer than 256.
    pub(super) fn of(shares: &[u32], control_idx: usize) -> Self {
        let mut owners: Vec<Option<u8>> = vec![None; N_PLACES];
        let others = (0..).zip(shares).filter(|(idx, _)| usize::from(*idx) != control_idx);
        for (nth, (idx, share)) in others.enumerate() {
            let mut n_missing = *share;
            for place in way(nth) {
                if n_missing > 0 && owners[place].is_none() {
                    owners[place] = Some(idx);
                    n_missing -= 1;
                }
            }
        }
        let control = u8::try_from(control_idx).expect("a split has fewer than 256 arms");
        Self(owners.into_iter().map(|owner| owner.unwrap_or(control)).collect())
    }

    /// The owner of a position in [0, 1), given in parts of 2^64.
    pub(super) fn at(&self, position: u64) -> usize {
        let place = (u128::from(position) * u128::from(WHOLE)) >> 64;
        usize::from(self.0[place as usize])
    }
}

/// All places, in the order in which the `nth` arm beside the control takes them.
fn way(nth: usize) -> impl Iterator<Item = usize> {
    let anchor = anchor(nth / 2);
    let is_upwards = nth.is_multiple_of(2);
    (0..N_PLACES).map(move |step| {
        let place = if is_upwards { anchor + step } else { anchor + N_PLACES - 1 - step };
        place % N_PLACES
    })
}

/// 0, 1/2, 1/4, 3/4, 1/8, 5/8, …: each is as far from those before it as it can be.
fn anchor(nth: usize) -> usize {
    let mirrored = u64::from((nth as u32).reverse_bits());
    ((mirrored * u64::from(WHOLE)) >> 32) as usize
}
