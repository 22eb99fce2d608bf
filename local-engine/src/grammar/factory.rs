//! From what a caller asks for to a constraint.
//!
//! Compiled grammars are kept for the next request that asks for the same; each request gets a copy that
//! shares nothing with it, so that one request's limits are not another's.
//!
//! Does not validate answers: what a grammar lets through, it allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::matching::{Matching, plain};
use super::token_env::TokenEnv;
use super::{Constraint, GrammarError, GrammarSpec, limits};
use crate::request::TokenId;
use crate::tokenizer::{Tokenizer, Vocabulary};

/// Agents ask for the same few tools again and again.
const N_KEPT: usize = 32;

/// Between two looks for a place; compiling takes milliseconds.
const WAIT: Duration = Duration::from_millis(2);

/// Space between JSON's parts; endless space is a habit of small models.
const SPACE: &str = r"[\x20\x0A\x0D\x09]{1,64}";

/// Compiles grammars for one model.
pub struct GrammarFactory {
    parsers: Arc<ParserFactory>,
    eos: Box<[TokenId]>,
    n_compiling: Arc<AtomicUsize>,
    /// The last used first.
    kept: Mutex<Vec<(blake3::Hash, Matcher)>>,
}

impl std::fmt::Debug for GrammarFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarFactory").field("n_kept", &self.kept.lock().len()).finish_non_exhaustive()
    }
}

impl GrammarFactory {
    /// For a model's tokens, of which `eos` end a text.
    pub fn new(tokenizer: &Arc<Tokenizer>, eos: &[TokenId]) -> Result<Self, GrammarError> {
        Self::of(&tokenizer.vocabulary(), Some(Arc::clone(tokenizer)), eos)
    }

    /// For tokens alone: masks as with a tokenizer, but nothing is forced.
    pub fn from_vocabulary(vocabulary: &Vocabulary, eos: &[TokenId]) -> Result<Self, GrammarError> {
        Self::of(vocabulary, None, eos)
    }

    fn of(
        vocabulary: &Vocabulary,
        tokenizer: Option<Arc<Tokenizer>>,
        eos: &[TokenId],
    ) -> Result<Self, GrammarError> {
        let capabilities =
            InferenceCapabilities { ff_tokens: tokenizer.is_some(), ..InferenceCapabilities::default() };
        let env: TokEnv = Arc::new(TokenEnv::new(vocabulary, tokenizer, eos)?);
        let slices = SlicedBiasComputer::general_slices();
        let mut parsers = ParserFactory::new(&env, capabilities, &slices).map_err(invalid)?;
        parsers.quiet();
        *parsers.limits_mut() = limits::of_parser();
        Ok(Self {
            parsers: Arc::new(parsers),
            eos: eos.into(),
            n_compiling: Arc::default(),
            kept: Mutex::new(Vec::new()),
        })
    }

    /// A constraint for one text. What is wrong with a grammar, or not supported, is told by name.
    pub fn compile(&self, spec: &GrammarSpec) -> Result<Box<dyn Constraint>, GrammarError> {
        limits::check(spec)?;
        let key = key_of(spec);
        let matcher = match self.take_kept(&key) {
            Some(matcher) => matcher,
            None => self.compile_apart(spec)?,
        };
        let copy = matcher.deep_clone();
        let mut kept = self.kept.lock();
        kept.retain(|(kept, _)| *kept != key);
        kept.insert(0, (key, matcher));
        kept.truncate(N_KEPT);
        Ok(Box::new(Matching::new(copy, &self.eos)))
    }

    /// On a thread with room for the deepest grammar that the limits let through, and only for so long: a
    /// thread that is late ends by the compiler's own limits, and nobody waits for it.
    fn compile_apart(&self, spec: &GrammarSpec) -> Result<Matcher, GrammarError> {
        let (parsers, grammar) = (Arc::clone(&self.parsers), grammar_of(spec));
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let place = Place::take(&self.n_compiling)?;
        let compile = move || {
            // Given back when the thread ends, however late.
            let _place = place;
            // Nobody may be listening any more.
            let _ = send.send(compile_here(&parsers, grammar));
        };
        let builder = std::thread::Builder::new().name("grammar".into()).stack_size(limits::STACK_BYTES);
        builder.spawn(compile).map_err(invalid)?;
        receive.recv_timeout(limits::MOST_TIME).map_err(|error| match error {
            RecvTimeoutError::Timeout => GrammarError::Invalid(format!(
                "the grammar takes more than {:?} to compile",
                limits::MOST_TIME
            )),
            RecvTimeoutError::Disconnected => GrammarError::Invalid("the grammar breaks its compiler".into()),
        })?
    }

    /// Taken out, so that the lock is not held while it is copied; two requests at once compile twice.
    fn take_kept(&self, key: &blake3::Hash) -> Option<Matcher> {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|(kept, _)| kept == key)?;
        Some(kept.remove(place).1)
    }
}

/// One of the few places where a grammar may be compiled.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// Waits for one; not for ever, because those who have them may be late.
    fn take(n_compiling: &Arc<AtomicUsize>) -> Result<Self, GrammarError> {
        let until = Instant::now() + limits::MOST_TIME;
        let room = |n: usize| (n < limits::MOST_AT_ONCE).then_some(n + 1);
        while n_compiling.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            if Instant::now() >= until {
                return Err(GrammarError::Invalid("too many grammars are being compiled; try again".into()));
            }
            std::thread::sleep(WAIT);
        }
        Ok(Self(Arc::clone(n_compiling)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn compile_here(parsers: &ParserFactory, grammar: TopLevelGrammar) -> Result<Matcher, GrammarError> {
    let mut matcher = Matcher::new(Ok(parsers.create_parser(grammar).map_err(invalid)?));
    // What no text can match shows only here; and the copies begin with what this finds out.
    matcher.compute_mask_or_eos().map_err(invalid)?;
    Ok(matcher)
}

fn invalid(error: impl std::fmt::Display) -> GrammarError {
    GrammarError::Invalid(plain(&error.to_string()))
}

fn grammar_of(spec: &GrammarSpec) -> TopLevelGrammar {
    match spec {
        GrammarSpec::JsonObject => {
            TopLevelGrammar::from_json_schema(with_bounded_space(json!({"type": "object"})))
        }
        GrammarSpec::JsonSchema(schema) => {
            TopLevelGrammar::from_json_schema(with_bounded_space(schema.clone()))
        }
        GrammarSpec::Regex(regex) => TopLevelGrammar::from_regex(regex),
        GrammarSpec::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
    }
}

/// Unless the schema says itself how it is to be written.
fn with_bounded_space(mut schema: Value) -> Value {
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": SPACE}));
    }
    schema
}

fn key_of(spec: &GrammarSpec) -> blake3::Hash {
    let (kind, text) = match spec {
        GrammarSpec::JsonObject => (0, String::new()),
        GrammarSpec::JsonSchema(schema) => (1, schema.to_string()),
        GrammarSpec::Regex(regex) => (2, regex.clone()),
        GrammarSpec::Lark(grammar) => (3, grammar.clone()),
    };
    blake3::Hasher::new().update(&[kind]).update(text.as_bytes()).finalize()
}
