//! What may happen to an engine: its shape, who arrives when with what, and what goes wrong.

use local_engine::backend::sim::Sim;
use local_engine::engine::EngineConfig;
use local_engine::request::{GenerateRequest, Stop, TokenId};
use local_engine::sampling::SamplingParams;
use local_engine::scheduler::Policy;
use local_engine::speculate::{SpeculationConfig, SpeculationKind};
use local_engine::tokenizer::Vocabulary;
use proptest::prelude::*;

use crate::oracle::letters;
use crate::pattern::Pattern;

/// The token by which the model ends a text.
pub(crate) const END: TokenId = 0;
pub(crate) const N_VOCAB: usize = 24;

pub(crate) fn vocabulary() -> Vocabulary {
    letters(N_VOCAB)
}

/// One life of an engine.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) sim: Sim,
    pub(crate) config: EngineConfig,
    pub(crate) draft: DraftModel,
    /// The step of the model, or of the draft model, that fails.
    pub(crate) fail_at: Option<usize>,
    pub(crate) draft_fail_at: Option<usize>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// Who guesses, if a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DraftModel {
    /// The model itself: each of its guesses must hold, or its pages are wrong.
    Same,
    /// One of the same habits that is otherwise of another mind.
    Similar,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) at_step: usize,
    /// Prompts of one family begin alike: how many tokens of the family, and how many of its own.
    pub(crate) family: (u32, usize),
    pub(crate) own: (u32, usize),
    pub(crate) max_tokens: usize,
    pub(crate) sampling: SamplingParams,
    pub(crate) stop_tokens: Vec<TokenId>,
    pub(crate) stop_strings: Vec<String>,
    pub(crate) ignore_eos: bool,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) salt: u64,
    pub(crate) tenant: u64,
    pub(crate) priority: i32,
    pub(crate) leaves: Leaves,
}

/// How a request ends if not by itself; steps are counted from its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    Never,
    Aborts(usize),
    Drops(usize),
    Deadline(usize),
}

impl Arrival {
    pub(crate) fn prompt(&self) -> Vec<TokenId> {
        let token = |seed: u32, idx: usize| {
            (seed.wrapping_mul(0x9E37_79B9).wrapping_add(idx as u32).wrapping_mul(0x85EB_CA6B) >> 16)
                % N_VOCAB as u32
        };
        let shared = (0..self.family.1).map(|idx| token(self.family.0, idx));
        shared.chain((0..self.own.1).map(|idx| token(self.own.0 + 100, idx))).collect()
    }

    pub(crate) fn request(&self) -> GenerateRequest {
        GenerateRequest {
            prompt: self.prompt().into(),
            max_tokens: self.max_tokens,
            sampling: self.sampling.clone(),
            stop: Stop {
                strings: self.stop_strings.clone(),
                tokens: self.stop_tokens.clone(),
                ignore_eos: self.ignore_eos,
            },
            constraint: self.pattern.clone().map(|pattern| Box::new(pattern) as _),
            logprobs: self.logprobs,
            salt: self.salt,
            tenant: self.tenant,
            priority: self.priority,
            deadline: None,
        }
    }
}

fn sampling() -> impl Strategy<Value = SamplingParams> {
    let warm = (any::<u64>(), 0.3..1.5_f32, 0..6_usize, 0.5..=1.0_f32, 0.0..0.2_f32);
    let warm = warm.prop_map(|(seed, temperature, top_k, top_p, min_p)| SamplingParams {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        ..SamplingParams::default()
    });
    let penalised =
        (0.8..1.3_f32, -0.5..1.0_f32, -0.5..1.0_f32).prop_map(|(repetition, presence, frequency)| {
            SamplingParams {
                repetition_penalty: repetition,
                presence_penalty: presence,
                frequency_penalty: frequency,
                logit_bias: [(3, 1.5)].into(),
                ..SamplingParams::default()
            }
        });
    prop_oneof![2 => Just(SamplingParams::default()), 2 => warm, 1 => penalised]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let one = (1..N_VOCAB as u32).prop_map(|token| vec![token]);
    let few = proptest::collection::vec(1..N_VOCAB as u32, 1..5);
    let places = proptest::collection::vec(prop_oneof![2 => one, 1 => few], 1..8);
    let broken_at = prop_oneof![9 => Just(None), 1 => (0..12_usize).prop_map(Some)];
    (places, 0..40_usize, 0..40_usize, broken_at).prop_map(|(places, end, done_after, broken_at)| Pattern {
        places,
        end: (end, END),
        done_after,
        broken_at,
        n_pushed: 0,
    })
}

fn leaves() -> impl Strategy<Value = Leaves> {
    prop_oneof![
        6 => Just(Leaves::Never),
        1 => (0..40_usize).prop_map(Leaves::Aborts),
        1 => (0..40_usize).prop_map(Leaves::Drops),
        1 => (0..40_usize).prop_map(Leaves::Deadline),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let at_step = prop_oneof![0..6_usize, 0..60_usize];
    let n_shared = prop_oneof![3 => 0..20_usize, 2 => 16..60_usize, 1 => 64..120_usize];
    let max_tokens = prop_oneof![1..30_usize, 30..120_usize];
    let text = (at_step, (0..3_u32, n_shared), (0..4_u32, 0..20_usize), max_tokens);
    let stop = (
        prop_oneof![3 => Just(vec![]), 1 => Just(vec![5, 9])],
        prop_oneof![3 => Just(vec![]), 1 => Just(vec!["cb".to_owned(), "d".to_owned()])],
        proptest::bool::weighted(0.8),
    );
    let rules = (sampling(), stop, proptest::option::weighted(0.3, pattern()));
    let who = (proptest::option::weighted(0.5, 0..3_usize), 0..2_u64, 0..3_u64, -1..2_i32, leaves());
    (text, rules, who).prop_map(|(text, rules, who)| {
        let (at_step, family, own, max_tokens) = text;
        let (sampling, (stop_tokens, stop_strings, ignore_eos), pattern) = rules;
        let (logprobs, salt, tenant, priority, leaves) = who;
        Arrival {
            at_step,
            family,
            // A prompt has at least one token.
            own: (own.0, own.1 + usize::from(family.1 == 0)),
            max_tokens,
            sampling,
            stop_tokens,
            stop_strings,
            ignore_eos,
            pattern,
            logprobs,
            salt,
            tenant,
            priority,
            leaves,
        }
    })
}

fn speculation() -> impl Strategy<Value = SpeculationConfig> {
    let kind = prop_oneof![
        1 => Just(SpeculationKind::Off),
        2 => Just(SpeculationKind::Lookup),
        2 => Just(SpeculationKind::Draft),
    ];
    (kind, 1..8_usize, 2..4_usize, 0..3_usize, any::<bool>()).prop_map(
        |(kind, n_draft, min_match, more, forced)| SpeculationConfig {
            kind,
            n_draft,
            min_match,
            max_match: min_match + more,
            forced,
        },
    )
}

fn config() -> impl Strategy<Value = EngineConfig> {
    let policy = prop_oneof![
        Just(Policy::Fcfs),
        Just(Policy::Priority),
        Just(Policy::Fair),
        Just(Policy::LongestPrefix)
    ];
    let n_blocks = prop_oneof![3 => 3..10_u32, 1 => 1..40_u32];
    let watermark = prop_oneof![2 => Just(0.0), 1 => 0.0..0.3_f64];
    let sizes = (n_blocks, 1..7_usize, 0..60_usize, 1..40_usize, watermark);
    (sizes, policy, proptest::bool::weighted(0.85), speculation()).prop_map(
        |(
            (n_blocks, max_running, more_tokens, max_chunk_tokens, watermark),
            policy,
            prefix_cache,
            speculation,
        )| {
            EngineConfig {
                n_blocks: Some(n_blocks),
                max_running,
                max_step_tokens: max_running + more_tokens,
                max_chunk_tokens,
                watermark,
                policy,
                prefix_cache,
                speculation,
                ..EngineConfig::default()
            }
        },
    )
}

pub(crate) fn traces() -> impl Strategy<Value = Trace> {
    let sim = (20..160_usize, any::<u64>(), prop_oneof![Just(0.0), Just(0.6), Just(1.0)])
        .prop_map(|(context, seed, habit)| Sim { n_vocab: N_VOCAB, context, seed, habit });
    let draft = prop_oneof![Just(DraftModel::Same), Just(DraftModel::Similar)];
    let rarely = || proptest::option::weighted(0.1, 0..80_usize);
    let arrivals = proptest::collection::vec(arrival(), 1..12);
    (sim, config(), draft, rarely(), rarely(), arrivals).prop_map(
        |(sim, config, draft, fail_at, draft_fail_at, arrivals)| Trace {
            sim,
            config,
            draft,
            fail_at,
            draft_fail_at,
            arrivals,
        },
    )
}
