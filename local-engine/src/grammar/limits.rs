//! What a caller's grammar may cost, checked before it is compiled.
//!
//! The compiler has limits of its own for what only it can count; these are for what would overflow its
//! stack or keep it busy before it counts.
//!
//! Does not judge whether a grammar is one; the compiler does.

use std::collections::HashMap;
use std::time::Duration;

use llguidance::api::ParserLimits;
use serde_json::Value;

use super::{GrammarError, GrammarSpec, repeats};

const MOST_BYTES: usize = 256 * 1024;
/// The compiler copies whole parts where it joins `anyOf` with what stands beside it, so that its memory grows
/// with the square of them: 20,000 took more than 8 GB, 2,000 take tens of megabytes.
const MOST_NODES: usize = 2_000;
/// Of values, counting what references lead to, and of brackets. Compiling takes up to 30 kB of stack a level.
const MOST_DEPTH: usize = 256;
/// Of a grammar; they may refer to each other in a chain.
const MOST_RULES: usize = 500;
/// Enough for the deepest of all: [`super::factory`] compiles on a thread of its own.
pub(super) const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Counts such as `maxItems` become states.
const MOST_REPEATS: u64 = 10_000;
/// Of a regular expression with its repetitions written out.
const MOST_ATOMS: u64 = 50_000;
/// Compiling takes the square of their number.
const MOST_PROPERTIES: usize = 500;
/// Compiled at a time, over all callers: each may take much memory for a moment.
pub(super) const MOST_AT_ONCE: usize = 2;
/// What the limits before it cannot count.
pub(super) const MOST_TIME: Duration = Duration::from_secs(3);

const COUNTS: [&str; 6] =
    ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];
const PATTERNS: [&str; 2] = ["pattern", "whitespace_pattern"];

/// Those of the compiler, smaller where its own are meant for one caller at a time.
pub(super) fn of_parser() -> ParserLimits {
    ParserLimits {
        // An object of as many optional properties as are allowed has four items for each.
        max_items_in_row: 4 * MOST_PROPERTIES + 500,
        // A state takes 1 to 2 kB, each request has its own, and many may run.
        max_lexer_states: 10_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

pub(super) fn check(spec: &GrammarSpec) -> Result<(), GrammarError> {
    match spec {
        GrammarSpec::JsonObject => Ok(()),
        GrammarSpec::JsonSchema(schema) => check_schema(schema),
        GrammarSpec::Regex(regex) => {
            check_text("regular expression", regex).and_then(|()| check_regex(regex))
        }
        GrammarSpec::Lark(grammar) => {
            let n_rules = grammar.lines().filter(|line| line.contains(':')).count();
            if n_rules > MOST_RULES {
                return refuse("grammar", format!("has {n_rules} rules, and {MOST_RULES} is the most"));
            }
            check_text("grammar", grammar)
        }
    }
}

/// A schema alone; grammars that have one inside are texts to [`check`].
pub(crate) fn check_schema(schema: &Value) -> Result<(), GrammarError> {
    let mut size = Size { root: schema, n_nodes: 0, n_bytes: 0, below: HashMap::new() };
    size.depth_of(schema, 0).map(|_| ())
}

/// How large a schema is, as far as it was looked at.
struct Size<'a> {
    root: &'a Value,
    n_nodes: usize,
    n_bytes: usize,
    /// How deep it goes below the targets of references; nothing below those on the way here.
    below: HashMap<&'a str, usize>,
}

impl<'a> Size<'a> {
    fn depth_of(&mut self, value: &'a Value, depth: usize) -> Result<usize, GrammarError> {
        self.n_nodes += 1;
        if depth > MOST_DEPTH {
            return refuse("schema", format!("is nested deeper than {MOST_DEPTH}"));
        }
        if self.n_nodes > MOST_NODES {
            return refuse("schema", format!("has more than {MOST_NODES} values"));
        }
        let mut below = 0;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => self.add_text(text)?,
            Value::Array(items) => {
                for item in items {
                    below = below.max(1 + self.depth_of(item, depth + 1)?);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.add_text(name)?;
                    check_field(name, field)?;
                    below = below.max(1 + self.depth_of(field, depth + 1)?);
                }
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    below = below.max(1 + self.depth_of_target(target, depth + 1)?);
                }
            }
        }
        Ok(below)
    }

    /// Each target is looked at once; a reference to where it comes from is a cycle, which ends here.
    fn depth_of_target(&mut self, target: &'a str, depth: usize) -> Result<usize, GrammarError> {
        let known = self.below.get(target).copied();
        let below = match (known, self.resolve(target)) {
            (Some(below), _) => below,
            (None, None) => 0,
            (None, Some(value)) => {
                self.below.insert(target, 0);
                let below = self.depth_of(value, depth)?;
                self.below.insert(target, below);
                below
            }
        };
        if depth + below > MOST_DEPTH {
            return refuse("schema", format!("is nested deeper than {MOST_DEPTH}, through `{target}`"));
        }
        Ok(below)
    }

    /// As the compiler does: `#/` is the root, too, names are taken as they are spelt, and may be empty.
    fn resolve(&self, target: &str) -> Option<&'a Value> {
        if target == "#" || target == "#/" {
            return Some(self.root);
        }
        target.strip_prefix("#/")?.split('/').try_fold(self.root, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            Value::Object(fields) => fields.get(name),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }

    fn add_text(&mut self, text: &str) -> Result<(), GrammarError> {
        self.n_bytes += text.len();
        if self.n_bytes > MOST_BYTES {
            refuse("schema", format!("has more than {MOST_BYTES} bytes"))
        } else {
            Ok(())
        }
    }
}

fn check_field(name: &str, field: &Value) -> Result<(), GrammarError> {
    match field {
        Value::Number(count)
            if COUNTS.contains(&name) && field.as_f64().is_some_and(|n| n > MOST_REPEATS as f64) =>
        {
            refuse("schema", format!("has a `{name}` of {count}, and {MOST_REPEATS} is the greatest"))
        }
        Value::String(regex) if PATTERNS.contains(&name) => check_regex(regex),
        Value::Object(fields) if name == "patternProperties" => {
            fields.keys().try_for_each(|regex| check_regex(regex))
        }
        Value::Object(fields) if name == "properties" && fields.len() > MOST_PROPERTIES => refuse(
            "schema",
            format!("has {} properties in one object, and {MOST_PROPERTIES} are the most", fields.len()),
        ),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Ok(()),
    }
}

fn check_regex(regex: &str) -> Result<(), GrammarError> {
    let n_atoms = repeats::written_out(regex);
    if n_atoms > MOST_ATOMS {
        return refuse(
            "regular expression",
            format!("has {n_atoms} letters with its repetitions written out, and {MOST_ATOMS} is the most"),
        );
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), GrammarError> {
    if text.len() > MOST_BYTES {
        return refuse(what, format!("has {} bytes, and {MOST_BYTES} is the most", text.len()));
    }
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_DEPTH {
            return refuse(what, format!("has brackets nested deeper than {MOST_DEPTH}"));
        }
    }
    Ok(())
}

fn refuse<T>(what: &str, why: String) -> Result<T, GrammarError> {
    Err(GrammarError::Invalid(format!("the {what} {why}")))
}
