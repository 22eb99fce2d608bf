//! Measures what surrounds a forward pass: choosing tokens and computing a grammar's masks.
//!
//! Run with `cargo run --release -p local-engine --example text_speed`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use local_engine::grammar::{GrammarFactory, GrammarSpec, TokenMask};
use local_engine::sampling::{Sampler, SamplingParams};
use local_engine::tokenizer::{Author, TextOut, Tokenizer, Vocabulary};
use serde_json::json;

const N_VOCAB: usize = 151_936;

/// A row like a model's: most logits far below a few.
fn logits(seed: u32) -> Vec<f32> {
    let hash = |i: u32| (i ^ seed).wrapping_mul(0x9e37_79b1).wrapping_mul(i | 1) >> 8;
    let normal = |i: u32| (0..6).map(|k| hash(i * 6 + k) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>() * 1.4;
    let mut row: Vec<f32> = (0..N_VOCAB as u32).map(|i| normal(i) * 2.5 - 6.0).collect();
    for k in 0..20u32 {
        row[hash(k) as usize % N_VOCAB] = 14.0 - k as f32 * 0.5;
    }
    row
}

fn median_us(mut run: impl FnMut(usize)) -> f64 {
    let mut times: Vec<f64> = (0..201)
        .map(|i| {
            let start = Instant::now();
            run(i);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn sampling(out: &mut impl Write) -> std::io::Result<()> {
    let hot = || SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    let bias = (0..100).map(|i| (i * 1000, 1.0)).collect::<BTreeMap<_, _>>();
    let cases = [
        ("greedy", SamplingParams::default(), None),
        ("greedy, 5 log-probabilities", SamplingParams::default(), Some(5)),
        ("temperature 1", hot(), None),
        ("temperature 2", SamplingParams { temperature: 2.0, ..hot() }, None),
        ("top-k 50", SamplingParams { top_k: 50, ..hot() }, None),
        ("top-p 0.95", SamplingParams { top_p: 0.95, ..hot() }, None),
        ("top-p 0.95, temperature 3 (flat)", SamplingParams { top_p: 0.95, temperature: 3.0, ..hot() }, None),
        ("min-p 0.05", SamplingParams { min_p: 0.05, ..hot() }, None),
        (
            "top-k 50, top-p 0.95, min-p 0.05",
            SamplingParams { top_k: 50, top_p: 0.95, min_p: 0.05, ..hot() },
            None,
        ),
        (
            "penalties on 4,096 tokens, 100 biases",
            SamplingParams { repetition_penalty: 1.1, logit_bias: bias, ..hot() },
            None,
        ),
    ];
    let rows: Vec<Vec<f32>> = (0..8).map(logits).collect();
    let prompt: Vec<u32> = (0..4096).map(|i| i * 31).collect();
    let mut row = rows[0].clone();
    let copy = median_us(|i| row.copy_from_slice(&rows[i % 8]));
    for (name, params, n_top) in cases {
        let sampler = Sampler::new(params, &prompt);
        let mut sum = 0;
        let took = median_us(|i| {
            row.copy_from_slice(&rows[i % 8]);
            sum += sampler.choose(&mut row, i, None, n_top).token as usize;
        });
        writeln!(out, "{name:<40} {:>8.0} us   ({})", took - copy, sum % 10)?;
    }
    let mask = TokenMask::from_words(
        (0..N_VOCAB / 32).map(|i| if i % 9 == 0 { 0x0f0f } else { u32::MAX }).collect(),
    );
    let sampler = Sampler::new(hot(), &prompt);
    let took = median_us(|i| {
        row.copy_from_slice(&rows[i % 8]);
        sampler.choose(&mut row, i, Some(&mask), None);
    });
    writeln!(out, "{:<40} {:>8.0} us", "temperature 1 with a mask", took - copy)
}

/// Bytes, punctuation, numbers, and words of syllables with and without a space before them; token 0 ends.
fn vocabulary(n_tokens: usize) -> Vocabulary {
    let mut words: Vec<Vec<u8>> = vec![b"<end>".to_vec()];
    words.extend((0..=255u8).map(|byte| vec![byte]));
    words.extend(
        ["\": \"", "\", \"", "{\"", "\"}", "  ", "    ", "\n\n", "},", "\":"]
            .map(|mark| mark.as_bytes().to_vec()),
    );
    words.extend((0..1000).map(|number| format!("{number:03}").into_bytes()));
    let mut seen: std::collections::HashSet<Vec<u8>> = words.iter().cloned().collect();
    let mut state = 1u32;
    while words.len() < n_tokens {
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 10) % n
        };
        let mut word = if next(2) == 0 { " ".to_owned() } else { String::new() };
        for _ in 0..1 + next(4) {
            word.push(char::from(b"bcdfghjklmnprstvwz"[next(18) as usize]));
            word.push(char::from(b"aeiou"[next(5) as usize]));
        }
        if next(20) == 0 {
            word.push(['é', 'ß', '日', 'я'][next(4) as usize]);
        }
        if seen.insert(word.clone().into_bytes()) {
            words.push(word.into_bytes());
        }
    }
    Vocabulary::new(words.into_iter().map(Vec::into_boxed_slice).collect(), vec![0])
}

fn grammars() -> Vec<(&'static str, GrammarSpec)> {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
            "notes": {"type": "array", "items": {"type": "string"}, "minItems": 5},
        },
        "required": ["name", "age", "tags", "notes"],
        "additionalProperties": false,
    });
    let call = format!(
        "start: TEXT | TEXT call\nTEXT: /(?s:.*)/ & ~/(?s:.*)<tool_call>(?s:.*)/\ncall: \"<tool_call>\" %json {person}\n"
    );
    vec![
        ("any JSON object", GrammarSpec::JsonObject),
        ("JSON schema", GrammarSpec::JsonSchema(person)),
        ("regex", GrammarSpec::Regex(r"([A-Z][a-z]{2,9} ){20}[0-9]{4}".into())),
        ("text, then perhaps a tool call", GrammarSpec::Lark(call)),
    ]
}

fn masks(out: &mut impl Write, n_tokens: usize) -> Result<(), Box<dyn std::error::Error>> {
    let vocabulary = vocabulary(n_tokens);
    let start = Instant::now();
    let factory = GrammarFactory::from_vocabulary(&vocabulary, &[0])?;
    writeln!(
        out,
        "\nmasks of {n_tokens} tokens; the factory takes {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    )?;
    for (name, spec) in grammars() {
        let start = Instant::now();
        factory.compile(&spec)?;
        let first = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        factory.compile(&spec)?;
        let again = start.elapsed().as_secs_f64() * 1e6;
        let mut times = Vec::new();
        for seed in 0..10 {
            let mut constraint = factory.compile(&spec)?;
            let sampler =
                Sampler::new(SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() }, &[]);
            for position in 0..100 {
                let start = Instant::now();
                let mask = constraint.mask()?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                let token = sampler.choose(&mut vec![0.0; n_tokens], position, Some(&mask), None).token;
                constraint.push(token)?;
                if token == 0 {
                    break;
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        writeln!(
            out,
            "{name:<32} compile {first:>6.1} ms, again {again:>5.0} us; a mask {:>5.0} us, p90 {:>5.0}, p99 {:>5.0}, worst {:>5.0} ({} masks)",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            times.len(),
        )?;
    }
    Ok(())
}

/// A prompt of much text and many marks, as a chat has it.
fn encoding(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizers/qwen");
    let tokenizer = Tokenizer::load(std::path::Path::new(dir))?;
    let content =
        "What is the weather in Berlin? It is 21 degrees; <b>tomorrow</b> it will rain. ".repeat(100);
    let guard = tokenizer.guard([content.as_str()]);
    let mut markup = String::new();
    let guarding = median_us(|_| {
        markup.clear();
        for _ in 0..10 {
            markup.push_str("<|im_start|>user\n");
            markup.push_str(&guard.guarded(&content, Author::Anybody));
            markup.push_str("<|im_end|>\n");
        }
    });
    let mut n_tokens = 0;
    let start = Instant::now();
    for _ in 0..20 {
        n_tokens = tokenizer.encode_markup(&markup, &guard)?.len();
    }
    let encoding = start.elapsed().as_secs_f64() * 1e6 / 20.0;
    let rate = |us: f64| markup.len() as f64 / us;
    writeln!(
        out,
        "\na prompt of {} bytes, {n_tokens} tokens: guarded at {:.0} MB/s, encoded at {:.1} MB/s",
        markup.len(),
        rate(guarding),
        rate(encoding)
    )?;
    let tokens = tokenizer.encode(&content, false)?;
    let mut text = TextOut::new(tokenizer.vocabulary(), vec!["</answer>".into(), "\n\nUser:".into()]);
    let start = Instant::now();
    let n_bytes: usize = tokens.iter().map(|token| text.push(*token).text.len()).sum();
    let ns = start.elapsed().as_secs_f64() * 1e9 / tokens.len() as f64;
    writeln!(out, "a token becomes text in {ns:.0} ns ({n_bytes} bytes, two stop strings)")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "choosing one of {N_VOCAB} tokens, medians of 201")?;
    sampling(&mut out)?;
    encoding(&mut out)?;
    masks(&mut out, 4_096)?;
    masks(&mut out, N_VOCAB)
}
