//! Calibration sequences on their way through the layers, and what is kept of their activations.
//!
//! Tokenises nothing. Every token goes through every layer, because attention needs it; of the activations
//! some hundreds of tokens' are kept, and of all others the mean only.
//!
//! Invariants: every eighth sequence is held out: nothing is searched on it, and errors are measured on it
//! alone. What is kept does not depend on the number of threads.

use super::dense::{Panels, Rows};
use super::layer::{Layer, Place};
use super::{QuantiseError, threads};
use crate::model::{Hparams, RopeTable};
use crate::request::TokenId;
use crate::weights::Tensor;

/// Tokens whose activations a search sees, about; as many again would double its time.
const N_SEARCHED: usize = 512;
/// Tokens on which errors are measured, about.
const N_HELD: usize = 256;
const HELD_EVERY: usize = 8;

/// A sequence and its hidden states before the next layer.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) tokens: Vec<TokenId>,
    pub(super) is_held: bool,
    /// The positions whose activations are kept.
    pub(super) kept: Vec<usize>,
    /// As the float model has them.
    pub(super) float: Rows,
    /// As the quantised one has them; of held sequences.
    pub(super) quantised: Option<Rows>,
}

/// What matrices at a place read.
#[derive(Debug)]
pub(super) struct Inputs {
    /// Of each input's magnitude, over all tokens that are not held out.
    pub(super) mean_abs: Vec<f32>,
    pub(super) searched: Panels,
    pub(super) held: Panels,
}

#[derive(Debug)]
pub(super) struct Calibration {
    pub(super) sequences: Vec<Sequence>,
    rope: RopeTable,
}

impl Calibration {
    pub(super) fn new(
        hparams: &Hparams,
        embedding: &Tensor,
        texts: &[Vec<TokenId>],
    ) -> Result<Self, QuantiseError> {
        check(hparams, texts)?;
        let n_held = texts.len().div_ceil(HELD_EVERY);
        let n_kept = |is_held: bool| match is_held {
            true => N_HELD.div_ceil(n_held),
            false => N_SEARCHED.div_ceil(texts.len() - n_held),
        };
        let sequence = |(text_idx, tokens): (usize, &Vec<TokenId>)| {
            let is_held = text_idx % HELD_EVERY == 0;
            let mut float = Rows::zeros(tokens.len(), hparams.n_hidden);
            for (token, row) in tokens.iter().zip(float.values.chunks_exact_mut(hparams.n_hidden)) {
                embedding.read_floats(*token as usize * hparams.n_hidden, row);
            }
            let kept = spread(tokens.len(), n_kept(is_held));
            let quantised = is_held.then(|| float.clone());
            Sequence { tokens: tokens.clone(), is_held, kept, float, quantised }
        };
        let n_positions = texts.iter().map(Vec::len).max().unwrap_or(0);
        let rope = RopeTable::new(hparams, n_positions);
        Ok(Self { sequences: texts.iter().enumerate().map(sequence).collect(), rope })
    }

    /// Leaves the held sequences alone, where nothing is to be searched.
    pub(super) fn keep_held(&mut self) {
        self.sequences.retain(|sequence| sequence.is_held);
    }

    /// Takes the float model's states through its layer, and shows what its matrices read.
    pub(super) fn inputs(&mut self, layer: &Layer, n_threads: usize) -> [Inputs; 4] {
        let passed = threads::map(n_threads, self.sequences.len(), |idx| {
            let sequence = &self.sequences[idx];
            let mut x = sequence.float.clone();
            let mut kept = Place::ALL.map(|_| Kept::default());
            layer.forward(&mut x, &self.rope, &mut |place, rows| {
                kept[place as usize] = Kept::of(rows, &sequence.kept);
            });
            (x, kept)
        });
        let (states, kept): (Vec<Rows>, Vec<[Kept; 4]>) = passed.into_iter().unzip();
        for (sequence, state) in self.sequences.iter_mut().zip(states) {
            sequence.float = state;
        }
        Place::ALL.map(|place| self.gather(&kept, place))
    }

    fn gather(&self, kept: &[[Kept; 4]], place: Place) -> Inputs {
        let width = kept[0][place as usize].sums_abs.len();
        let (mut sums_abs, mut n_tokens) = (vec![0.0; width], 0);
        let (mut searched, mut held) = (Rows::zeros(0, width), Rows::zeros(0, width));
        for (sequence, kept) in self.sequences.iter().zip(kept) {
            let kept = &kept[place as usize];
            if sequence.is_held {
                held.values.extend_from_slice(&kept.values);
                continue;
            }
            searched.values.extend_from_slice(&kept.values);
            n_tokens += sequence.tokens.len();
            for (sum, more) in sums_abs.iter_mut().zip(&kept.sums_abs) {
                *sum += more;
            }
        }
        let mean = |sum: &f64| (sum / n_tokens.max(1) as f64) as f32;
        Inputs {
            searched: Panels::new(&searched),
            held: Panels::new(&held),
            mean_abs: sums_abs.iter().map(mean).collect(),
        }
    }

    /// Takes the held sequences' states through the quantised layer.
    pub(super) fn pass_quantised(&mut self, layer: &Layer, n_threads: usize) {
        let states = threads::map(n_threads, self.sequences.len(), |idx| {
            let mut x = self.sequences[idx].quantised.clone()?;
            layer.forward(&mut x, &self.rope, &mut |_, _| {});
            Some(x)
        });
        for (sequence, state) in self.sequences.iter_mut().zip(states) {
            sequence.quantised = state;
        }
    }
}

fn check(hparams: &Hparams, texts: &[Vec<TokenId>]) -> Result<(), QuantiseError> {
    let wrong = |what: String| Err(QuantiseError::Calibration(what));
    if texts.len() < 2 {
        return wrong(format!("has {} sequences, and two are the least: one is held out", texts.len()));
    }
    for (text_idx, tokens) in texts.iter().enumerate() {
        if tokens.len() < 2 || tokens.len() > hparams.context {
            let (n_tokens, context) = (tokens.len(), hparams.context);
            return wrong(format!(
                "has a sequence, the {text_idx}th, of {n_tokens} tokens; they may be 2 to {context} long"
            ));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= hparams.n_vocab) {
            let n_vocab = hparams.n_vocab;
            return wrong(format!(
                "has a token {token} in the {text_idx}th sequence, and the vocabulary has {n_vocab}"
            ));
        }
    }
    Ok(())
}

/// The first position and others at even distances; all of them where there are not more than asked for.
///
/// The first is what heads look at that have nothing to look at, and for that its state is a hundred times as
/// large as any other's. A search that does not see it may cut the very weights that make it so, and then
/// every token after it is wrong: SmolLM2-135M was then no better than rounded to nearest.
fn spread(n_tokens: usize, n_kept: usize) -> Vec<usize> {
    let (n_others, n_kept) = (n_tokens - 1, n_kept.clamp(1, n_tokens) - 1);
    let others = (0..n_kept).map(|kept_idx| 1 + (2 * kept_idx + 1) * n_others / (2 * n_kept));
    std::iter::once(0).chain(others).collect()
}

/// What is kept of one sequence at one place.
#[derive(Debug, Default)]
struct Kept {
    sums_abs: Vec<f64>,
    /// Of the kept positions, one after another.
    values: Vec<f32>,
}

impl Kept {
    fn of(rows: &Rows, positions: &[usize]) -> Self {
        let mut sums_abs = vec![0.0; rows.width];
        for row in rows.iter() {
            for (sum, value) in sums_abs.iter_mut().zip(row) {
                *sum += f64::from(value.abs());
            }
        }
        Self {
            sums_abs,
            values: positions.iter().flat_map(|position| rows.row(*position)).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use crate::quantise::fixtures::{skewed_weights, texts};
    use crate::weights::Weights;

    fn calibration(weights: &Weights) -> Calibration {
        Calibration::new(&weights.hparams, &weights.embedding, &texts(&weights.hparams, 12)).unwrap()
    }

    #[test]
    fn positions_are_the_first_and_even_ones_after_it() {
        assert_eq!(spread(9, 3), [0, 3, 7]);
        assert_eq!(spread(5, 4), [0, 1, 3, 4]);
        assert_eq!(spread(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(5, 6), [0, 1, 2, 3, 4]);
        assert_eq!(spread(512, 1), [0]);
        assert_eq!(spread(2, 2), [0, 1]);
    }

    #[test]
    fn every_eighth_sequence_is_held_out() {
        let calibration = calibration(&skewed_weights(Family::Llama));

        let held: Vec<bool> = calibration.sequences.iter().map(|sequence| sequence.is_held).collect();

        assert_eq!(held, [true, false, false, false, false, false, false, false, true, false]);
    }

    #[test]
    fn means_are_those_of_the_sequences_that_are_not_held() {
        let weights = skewed_weights(Family::Llama);
        let layer = Layer::new(&weights.hparams, 0, &weights.layers[0]);
        let mut calibration = calibration(&weights);
        let searched = calibration.sequences.iter().filter(|sequence| !sequence.is_held);
        let normed: Vec<Rows> = searched.map(|sequence| layer.attention_norm.of(&sequence.float)).collect();

        let inputs = calibration.inputs(&layer, 2);

        let n_tokens: usize = normed.iter().map(Rows::n_tokens).sum();
        let of_five =
            normed.iter().flat_map(Rows::iter).map(|row| row[5].abs()).sum::<f32>() / n_tokens as f32;
        let mean_abs = &inputs[Place::Attention as usize].mean_abs;
        assert!((mean_abs[5] / of_five - 1.0).abs() < 1e-4);
        assert!(mean_abs[5] > 20.0 * mean_abs[6]);
        assert_eq!(inputs[Place::Gated as usize].mean_abs.len(), weights.hparams.n_intermediate);
    }

    #[test]
    fn texts_that_cannot_be_used_are_refused_and_those_beside_them_are_not() {
        let weights = skewed_weights(Family::Llama);
        let error = |texts: &[Vec<TokenId>]| {
            let made = Calibration::new(&weights.hparams, &weights.embedding, texts);
            made.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let (context, n_vocab) = (weights.hparams.context, weights.hparams.n_vocab as TokenId);

        assert!(error(&[vec![1; 9]]).contains("has 1 sequences"));
        assert_eq!(error(&[vec![1; 9], vec![1; 9]]), "");
        assert!(error(&[vec![1; 9], vec![1; 1]]).contains("of 1 tokens"));
        assert_eq!(error(&[vec![1; 9], vec![1; 2]]), "");
        assert!(error(&[vec![1; 9], vec![1; context + 1]]).contains("513 tokens"));
        assert_eq!(error(&[vec![1; 9], vec![1; context]]), "");
        assert!(error(&[vec![1; 9], vec![1, n_vocab]]).contains("token 320"));
        assert_eq!(error(&[vec![1; 9], vec![1, n_vocab - 1]]), "");
    }
}
