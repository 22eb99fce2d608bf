//! A small checkpoint with what Hugging Face transformers makes of it, and a backend's answers beside them.
//!
//! `scripts/make_goldens.py` writes them. Judges nothing: what is near enough is for each backend's test.

use std::path::{Path, PathBuf};

use local_engine::backend::{BLOCK_TOKENS, Backend, Chunk, Logits};
use local_engine::kv::BlockId;
use local_engine::kv::block_pool::BlockPool;
use local_engine::request::TokenId;
use local_engine::weights::safetensors::SafetensorsFile;

/// All of them, by name.
pub(crate) const NAMES: [&str; 12] = [
    "llama-plain",
    "llama-llama3-tied",
    "llama-linear-biased",
    "mistral-window",
    "qwen2-yarn-tied",
    "qwen3-half-window",
    "llama-awq-128",
    "qwen2-awq-32",
    "llama-packed-channel",
    "llama-packed-asymmetric",
    "qwen3-packed-symmetric",
    "qwen3-packed-asymmetric",
];

pub(crate) struct Fixture {
    pub(crate) dir: PathBuf,
    pub(crate) prompt: Vec<TokenId>,
    /// Positions of the prompt, and the row of logits at each.
    pub(crate) positions: Vec<usize>,
    pub(crate) rows: Vec<Vec<f32>>,
    /// The likeliest continuation, each token ahead of the next by at least 0.05.
    pub(crate) greedy: Vec<TokenId>,
}

impl Fixture {
    pub(crate) fn read(name: &str) -> Self {
        let dir = dir_of(name);
        let file = SafetensorsFile::open(&dir.join("golden.safetensors")).expect("the answers are there");
        let numbers = |name: &str| file.tensor(name).expect("the script writes all").to_f32();
        let ids = |name: &str| numbers(name).into_iter().map(|id| id as TokenId).collect();
        let positions: Vec<usize> = numbers("positions").into_iter().map(|at| at as usize).collect();
        let logits = numbers("logits");
        let rows = logits.chunks_exact(logits.len() / positions.len()).map(<[f32]>::to_vec).collect();
        Self { dir, prompt: ids("prompt"), positions, rows, greedy: ids("greedy") }
    }
}

pub(crate) fn dir_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// What a backend makes of a fixture: the rows at its positions, and the likeliest continuation.
pub(crate) struct Answers {
    pub(crate) rows: Vec<Vec<f32>>,
    pub(crate) greedy: Vec<TokenId>,
}

/// The prompt goes in by chunks of `n_chunk`, the continuation token by token, into pages out of order.
pub(crate) fn answers(backend: &mut dyn Backend, fixture: &Fixture, n_chunk: usize) -> Answers {
    let n_blocks = (fixture.prompt.len() + fixture.greedy.len()).div_ceil(BLOCK_TOKENS);
    backend.alloc_kv(n_blocks).expect("there is memory");
    let mut pool = BlockPool::new(n_blocks as u32);
    let mut blocks: Vec<BlockId> =
        (0..n_blocks).map(|_| pool.take().expect("the pool is as large")).collect();
    blocks.reverse();
    let mut logits = Logits::default();
    let mut prompt_rows = Vec::new();
    for (chunk_idx, tokens) in fixture.prompt.chunks(n_chunk).enumerate() {
        let chunk = Chunk { tokens, start: chunk_idx * n_chunk, blocks: &blocks, n_logits: tokens.len() };
        backend.forward(&[chunk], &mut logits).expect("the step is possible");
        prompt_rows.extend((0..tokens.len()).map(|row_idx| logits.row(row_idx).to_vec()));
    }
    let mut greedy = vec![likeliest(prompt_rows.last().expect("the prompt is not empty"))];
    while greedy.len() < fixture.greedy.len() {
        let start = fixture.prompt.len() + greedy.len() - 1;
        let chunk = Chunk { tokens: &[greedy[greedy.len() - 1]], start, blocks: &blocks, n_logits: 1 };
        backend.forward(&[chunk], &mut logits).expect("the step is possible");
        greedy.push(likeliest(logits.row(0)));
    }
    let rows = fixture.positions.iter().map(|position| prompt_rows[*position].clone()).collect();
    Answers { rows, greedy }
}

pub(crate) fn likeliest(row: &[f32]) -> TokenId {
    let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.expect("a row is not empty").0 as TokenId
}
