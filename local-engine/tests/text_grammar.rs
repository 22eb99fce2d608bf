//! Constraints under random logits: whatever is drawn within the masks has the form that was asked for.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::path::PathBuf;
use std::sync::Arc;

use local_engine::grammar::{Constraint, GrammarError, GrammarFactory, GrammarSpec};
use local_engine::sampling::{Sampler, SamplingParams};
use local_engine::tokenizer::{Tokenizer, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};

struct Model {
    tokenizer: Arc<Tokenizer>,
    factory: GrammarFactory,
    eos: u32,
}

fn model(style: &str, eos: &str) -> Model {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(style);
    let tokenizer = Arc::new(Tokenizer::load(&dir).unwrap());
    let eos = tokenizer.token(eos).unwrap();
    Model { factory: GrammarFactory::new(&tokenizer, &[eos]).unwrap(), tokenizer, eos }
}

fn qwen() -> Model {
    model("qwen", "<|im_end|>")
}

/// Logits of no meaning, but with a liking for what ends texts, so that they end.
fn logits(n_vocab: usize, seed: u64, position: usize) -> Vec<f32> {
    let hash = |token: u64| {
        let mixed = (token + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ seed).wrapping_mul(position as u64 | 1);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
    };
    (0..n_vocab as u64).map(|token| hash(token) as f32 / (1 << 24) as f32 * 4.0).collect()
}

impl Model {
    /// One text, and its tokens; forced tokens are taken as forced if so asked.
    fn generate(&self, constraint: &mut dyn Constraint, seed: u64, takes_forced: bool) -> (String, Vec<u32>) {
        let vocabulary = self.tokenizer.vocabulary();
        let closes = |token: &u32| {
            let bytes = vocabulary.bytes(*token).unwrap_or_default();
            bytes.last().is_some_and(|last| b"\"}]!".contains(last))
                && !bytes.iter().any(|byte| b"{[,".contains(byte))
        };
        let closing: Vec<u32> = (0..vocabulary.len() as u32).filter(closes).collect();
        let sampler =
            Sampler::new(SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() }, &[]);
        let mut tokens = Vec::new();
        while tokens.len() < 600 {
            let forced = if takes_forced { constraint.forced() } else { Vec::new() };
            for token in forced {
                assert!(constraint.mask().unwrap().allows(token), "a forced token that the mask forbids");
                constraint.push(token).unwrap();
                tokens.push(token);
            }
            let mask = constraint.mask().unwrap();
            let mut row = logits(vocabulary.len(), seed, tokens.len());
            let eagerness = tokens.len() as f32 * 0.3;
            closing.iter().for_each(|token| row[*token as usize] += eagerness);
            row[self.eos as usize] += 3.0;
            let token = sampler.choose(&mut row, tokens.len(), Some(&mask), None).token;
            constraint.push(token).unwrap();
            if token == self.eos {
                assert!(constraint.is_done());
                let bytes: Vec<u8> =
                    tokens.iter().flat_map(|token| vocabulary.bytes(*token).unwrap()).copied().collect();
                return (String::from_utf8(bytes).unwrap(), tokens);
            }
            tokens.push(token);
        }
        panic!("no end after 600 tokens (seed {seed})");
    }
}

/// What a schema's answers have to be, said in Rust.
type Check = fn(&Value) -> bool;

fn is_tree(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.len() == 2)
        && value["value"].is_boolean()
        && value["below"].as_array().is_some_and(|below| below.len() <= 2 && below.iter().all(is_tree))
}

fn is_code(text: &str) -> bool {
    text.split_once('-').is_some_and(|(letters, digits)| {
        (2..=4).contains(&letters.len())
            && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte))
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && text.len() <= 8
    })
}

fn schemas() -> Vec<(Value, Check)> {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mood": {"enum": ["good", "bad", null]},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let tree = json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {"value": {"type": "boolean"}, "below": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/node"}}},
            "required": ["value", "below"],
            "additionalProperties": false,
        }},
    });
    let mixed = json!({"type": "array", "minItems": 2, "maxItems": 4, "items": {"anyOf": [
        {"type": "number", "exclusiveMinimum": -5, "maximum": 5},
        {"type": "string", "pattern": "^[a-f]{2,4}-[0-9]+$", "maxLength": 8},
        {"const": {"k": [1, "two"]}},
    ]}});
    vec![
        (person, |value| {
            let fields = value.as_object().unwrap();
            fields.keys().all(|name| ["name", "age", "mood"].contains(&name.as_str()))
                && (1..=12).contains(&fields["name"].as_str().unwrap().chars().count())
                && fields["age"].as_u64().unwrap() <= 150
                && fields
                    .get("mood")
                    .is_none_or(|mood| [json!("good"), json!("bad"), json!(null)].contains(mood))
        }),
        (tree, is_tree),
        (mixed, |value| {
            let items = value.as_array().unwrap();
            (2..=4).contains(&items.len())
                && items.iter().all(|item| match item {
                    Value::Number(number) => {
                        (-5.0..=5.0).contains(&number.as_f64().unwrap()) && number.as_f64() != Some(-5.0)
                    }
                    Value::String(text) => is_code(text),
                    Value::Object(_) => *item == json!({"k": [1, "two"]}),
                    Value::Null | Value::Bool(_) | Value::Array(_) => false,
                })
        }),
    ]
}

#[test]
fn json_of_a_schema_always_is_of_the_schema() {
    for (style, eos) in
        [("qwen", "<|im_end|>"), ("llama2", "</s>"), ("mistral", "</s>"), ("llama3", "<|eot_id|>")]
    {
        let model = model(style, eos);
        for (schema, is_right) in schemas() {
            for seed in 0..12 {
                let mut constraint = model.factory.compile(&GrammarSpec::JsonSchema(schema.clone())).unwrap();
                let (text, _) = model.generate(constraint.as_mut(), seed, seed % 2 == 0);
                let value: Value =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert!(is_right(&value), "{style}, seed {seed}: {text}");
            }
        }
    }
}

#[test]
fn any_object_is_an_object_and_ends_where_it_closes() {
    let model = qwen();
    for seed in 0..20 {
        let mut constraint = model.factory.compile(&GrammarSpec::JsonObject).unwrap();
        let (text, tokens) = model.generate(constraint.as_mut(), seed, true);
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");

        let mut again = model.factory.compile(&GrammarSpec::JsonObject).unwrap();
        for token in &tokens {
            assert!(!again.is_done() && !again.mask().unwrap().allows(model.eos));
            again.push(*token).unwrap();
        }
        assert!(again.is_done() && again.forced().is_empty());
        let mask = again.mask().unwrap();
        assert!(
            (0..model.tokenizer.vocabulary().len() as u32)
                .all(|token| mask.allows(token) == (token == model.eos))
        );
        again.push(model.eos).unwrap();
        assert!(again.is_done());
    }
}

#[test]
fn text_of_a_regular_expression_matches_it_as_a_whole() {
    let model = qwen();
    for seed in 0..30 {
        let mut constraint =
            model.factory.compile(&GrammarSpec::Regex(r"(yes|no), [0-9]{2,3}( [a-z]+)*!".into())).unwrap();
        let (text, _) = model.generate(constraint.as_mut(), seed, true);

        let rest = text.strip_prefix("yes, ").or(text.strip_prefix("no, ")).unwrap();
        let rest = rest.strip_suffix('!').unwrap();
        let mut words = rest.split(' ');
        let digits = words.next().unwrap();
        assert!(
            (2..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()),
            "{text}"
        );
        assert!(
            words.all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())),
            "{text}"
        );
    }
}

#[test]
fn text_of_a_grammar_is_in_its_language() {
    let model = qwen();
    let sums = "start: sum\nsum: term (\"+\" term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[1-9][0-9]?/\n";
    fn sum(rest: &str) -> Option<&str> {
        let mut rest = term(rest)?;
        while let Some(after) = rest.strip_prefix('+') {
            rest = term(after)?;
        }
        Some(rest)
    }
    fn term(rest: &str) -> Option<&str> {
        match rest.strip_prefix('(') {
            Some(inside) => sum(inside)?.strip_prefix(')'),
            None => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                ((1..=2).contains(&digits) && !rest.starts_with('0')).then(|| &rest[digits..])
            }
        }
    }
    for seed in 0..30 {
        let mut constraint = model.factory.compile(&GrammarSpec::Lark(sums.into())).unwrap();
        let (text, _) = model.generate(constraint.as_mut(), seed, true);
        assert_eq!(sum(&text), Some(""), "{text}");
    }
}

#[test]
fn what_is_forced_is_cut_as_the_model_cuts_it() {
    for (style, eos) in [("qwen", "<|im_end|>"), ("llama2", "</s>"), ("mistral", "</s>")] {
        let model = model(style, eos);
        let fixed = "The parcel should arrive within three working days.";
        let mut constraint = model.factory.compile(&GrammarSpec::Regex(fixed.replace('.', r"\."))).unwrap();

        let forced = constraint.forced();

        assert_eq!(constraint.forced(), forced, "asking changes nothing");
        let vocabulary = model.tokenizer.vocabulary();
        let bytes: Vec<u8> =
            forced.iter().flat_map(|token| vocabulary.bytes(*token).unwrap()).copied().collect();
        assert!(fixed.as_bytes().starts_with(&bytes) && bytes.len() > fixed.len() / 2, "{style}: {bytes:?}");
        let own = model.tokenizer.encode(&format!("x\n{fixed}"), false).unwrap();
        assert!(
            own.windows(forced.len()).any(|window| window == forced),
            "{style}: {forced:?} is not in {own:?}"
        );
    }
}

#[test]
fn a_control_token_is_never_a_grammars_text() {
    let model = qwen();
    let mut constraint = model.factory.compile(&GrammarSpec::Regex(r"<\|im_start\|>(?s:.*)".into())).unwrap();
    let start = model.tokenizer.token("<|im_start|>").unwrap();
    let forced = constraint.forced();

    assert!(!forced.contains(&start) && !forced.is_empty());
    for token in forced {
        constraint.push(token).unwrap();
    }
    for _ in 0..30 {
        let mask = constraint.mask().unwrap();
        assert!(!mask.allows(start) && !mask.allows(model.tokenizer.token("<|endoftext|>").unwrap()));
        constraint.push((0..400).find(|token| mask.allows(*token)).unwrap()).unwrap();
    }
}

#[test]
fn without_a_tokenizer_there_are_masks_and_nothing_is_forced() {
    // Two tokens of the same bytes are both allowed, and an end token of ordinary bytes is no text.
    let words: [&[u8]; 6] = [b"a", b"b", b"a", b"ab", b"", b"b"];
    let vocabulary = Vocabulary::new(words.iter().map(|word| Box::from(*word)).collect(), vec![]);
    let factory = GrammarFactory::from_vocabulary(&vocabulary, &[5]).unwrap();
    let mut constraint =
        factory.compile(&GrammarSpec::Regex("abc?".into())).map_err(|error| error.to_string()).unwrap();

    assert!(constraint.forced().is_empty());
    let mask = constraint.mask().unwrap();
    assert_eq!((0..40).filter(|token| mask.allows(*token)).collect::<Vec<_>>(), [0, 2, 3]);
    constraint.push(2).unwrap();
    let mask = constraint.mask().unwrap();
    assert_eq!((0..40).filter(|token| mask.allows(*token)).collect::<Vec<_>>(), [1]);
    constraint.push(1).unwrap();
    assert!(constraint.mask().unwrap().allows(5) && !constraint.is_done());
}

#[test]
fn a_token_that_the_mask_forbids_is_an_error_and_stays_one() {
    let model = qwen();
    let mut constraint = model.factory.compile(&GrammarSpec::JsonObject).unwrap();
    let letter = model.tokenizer.token("a").unwrap();

    let pushed = constraint.push(letter).unwrap_err();

    assert!(matches!(pushed, GrammarError::Failed(_)), "{pushed:?}");
    assert!(constraint.mask().is_err() && !constraint.is_done() && constraint.forced().is_empty());
    assert!(!pushed.to_string().contains("verbose") && !pushed.to_string().contains("<state>"));
}

fn refused(spec: GrammarSpec) -> String {
    match qwen().factory.compile(&spec) {
        Err(GrammarError::Invalid(message)) => message,
        other => panic!("{spec:?}: {other:?}"),
    }
}

#[test]
fn what_is_not_supported_is_told_by_name() {
    let cases = [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "strange"}), "strange"),
        (json!({"type": "string", "format": "strange"}), "strange"),
        (json!({"oneOf": [{"type": "string"}, {"maxLength": 3}]}), "oneOf"),
        (json!({"$ref": "http://example.com/x"}), "http://example.com/x"),
        (json!({"$ref": "#"}), "no token can continue"),
        (json!(false), "schema is false"),
        (json!("text"), "object or boolean"),
    ];
    for (schema, named) in cases {
        let message = refused(GrammarSpec::JsonSchema(schema.clone()));
        assert!(message.contains(named), "{schema}: {message}");
    }
    assert!(refused(GrammarSpec::Regex("a(?=b)".into())).contains("look-ahead"));
    assert!(refused(GrammarSpec::Lark("start: missing".into())).contains("missing"));
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!({"type": "null"}), |inner, _| json!({"items": inner}))
}

fn chained(n: usize) -> Value {
    let link = |i: usize| {
        (format!("d{i}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", i + 1)}, {"title": "t"}]}))
    };
    let mut links: serde_json::Map<String, Value> = (0..n).map(link).collect();
    links.insert(format!("d{n}"), json!({"type": "null"}));
    json!({"$ref": "#/$defs/d0", "$defs": links})
}

/// A schema so deep, half of it where a reference leads.
fn chained_at(name: &str, depth: usize) -> Value {
    let half = nested(depth / 2);
    let first =
        (0..depth / 2).fold(json!({ "$ref": format!("#/{name}") }), |inner, _| json!({"items": inner}));
    json!({"allOf": [first], name: half})
}

fn of_n_properties(n: usize) -> Value {
    let properties: serde_json::Map<String, Value> =
        (0..n).map(|i| (format!("p{i}"), json!({"type": "null"}))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

#[test]
fn hostile_grammars_are_refused_and_their_neighbours_are_not() {
    let schema = GrammarSpec::JsonSchema;
    let pattern = |n: usize| json!({"type": "string", "pattern": format!("^(a{{{n}}}){{10}}$")});
    let pairs = [
        (schema(nested(255)), schema(nested(256)), "deeper than 256"),
        (schema(chained(60)), schema(chained(280)), "deeper than 256"),
        (
            schema(json!({"type": "string", "maxLength": 10_000})),
            schema(json!({"type": "string", "maxLength": 10_001})),
            "maxLength",
        ),
        (schema(json!({"minItems": 3})), schema(json!({"items": {"minItems": 1e9}})), "minItems"),
        (schema(chained_at("a~1%", 10)), schema(chained_at("a~1%", 280)), "deeper than 256"),
        (schema(chained_at("", 10)), schema(chained_at("", 280)), "deeper than 256"),
        (schema(of_n_properties(60)), schema(of_n_properties(501)), "501 properties"),
        (schema(pattern(100)), schema(pattern(5001)), "written out"),
        (schema(json!({"enum": ["x"]})), schema(json!({"enum": vec!["x"; 2_001]})), "2000 values"),
        (schema(json!({"const": "x"})), schema(json!({"const": "x".repeat(300_000)})), "262144 bytes"),
        (
            GrammarSpec::Regex("a{50}".into()),
            GrammarSpec::Regex("((a{1000}){1000}){1000}".into()),
            "written out",
        ),
        (
            GrammarSpec::Regex("(".repeat(50) + "a" + &")".repeat(50)),
            GrammarSpec::Regex("(".repeat(257)),
            "deeper than 256",
        ),
        (
            GrammarSpec::Lark("start: \"a\"".into()),
            GrammarSpec::Lark((0..501).map(|i| format!("r{i}: \"a\"\n")).collect()),
            "501 rules",
        ),
    ];
    let model = qwen();
    for (taken, spec, why) in pairs {
        let taken = model.factory.compile(&taken);
        taken.unwrap_or_else(|error| panic!("{why}: {error}")).mask().unwrap();
        assert!(refused(spec).contains(why), "{why}");
    }
}

#[test]
fn a_kept_grammar_gives_each_request_a_text_of_its_own() {
    let model = qwen();
    let spec = GrammarSpec::Regex("[ab]{3}".into());
    let mut first = model.factory.compile(&spec).unwrap();
    let letter = model.tokenizer.token("a").unwrap();
    first.push(letter).unwrap();
    first.push(letter).unwrap();

    let mut second = model.factory.compile(&spec).unwrap();
    for _ in 0..3 {
        assert!(!second.is_done());
        second.push(letter).unwrap();
    }

    assert!(second.is_done() && !first.is_done());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn forced_tokens_change_no_text_that_masks_alone_would_not_allow(seed in any::<u64>(), shape in 0usize..3) {
        let model = qwen();
        let (schema, is_right) = schemas().swap_remove(shape);
        let spec = GrammarSpec::JsonSchema(schema);

        let (text, tokens) = model.generate(model.factory.compile(&spec).unwrap().as_mut(), seed, true);

        prop_assert!(is_right(&serde_json::from_str(&text).unwrap()));
        let mut again = model.factory.compile(&spec).unwrap();
        for token in tokens {
            prop_assert!(again.mask().unwrap().allows(token));
            again.push(token).unwrap();
        }
        prop_assert!(again.mask().unwrap().allows(model.eos));
    }
}
