//! A model's own chat template: messages become the text that it was trained on.
//!
//! Jinja as transformers renders it: blocks trimmed, Python's methods on strings and dicts, its `tojson`,
//! `raise_exception`, `strftime_now`. Knows no tokens, and does not judge messages beyond what templates do.
//!
//! Invariants: rendering depends on its arguments alone; the time is one of them.

mod calendar;
mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, Value as Jinja};
use serde_json::{Map, Value};

use super::ChatError;

/// Which special tokens templates may name.
const SPECIALS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a template renders.
#[derive(Debug, Clone, Default)]
pub struct TemplateInput {
    /// As transformers wants them: contents are texts, arguments of calls are objects.
    pub messages: Vec<Value>,
    pub tools: Vec<Value>,
    /// End with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Seconds since 1970, for templates that tell the date; without it they think that there is none.
    pub now_unix_s: Option<i64>,
    /// What else the template knows, such as `enable_thinking`.
    pub args: Map<String, Value>,
}

/// The chat template of a model, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Names and sources; `default` and perhaps `tool_use`.
    sources: BTreeMap<String, String>,
    specials: BTreeMap<&'static str, String>,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja` or what `tokenizer_config.json` says, and the spellings of special tokens.
    pub fn load(dir: &Path) -> Result<Self, ChatError> {
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        let map = read_json(&dir.join("special_tokens_map.json"))?;
        let path = dir.join("chat_template.jinja");
        let (path, sources) = match read(&path)? {
            Some(source) => (path, BTreeMap::from([("default".to_owned(), source)])),
            None => (dir.join("tokenizer_config.json"), sources_of(&config)),
        };
        if sources.is_empty() {
            return Err(ChatError::NoTemplate { dir: dir.to_owned() });
        }
        let spelling = |name: &str| [&config[name], &map[name]].into_iter().find_map(spelling_of);
        let specials = SPECIALS.into_iter().filter_map(|name| Some((name, spelling(name)?))).collect();
        let mut environment = environment();
        for (name, source) in &sources {
            let added = environment.add_template_owned(name.clone(), without_training_marks(source));
            added.map_err(|error| ChatError::Parse {
                path: path.clone(),
                reason: python::message_of(&error),
            })?;
        }
        Ok(Self { environment, sources, specials })
    }

    /// The source of what renders, with or without tools.
    pub fn source(&self, with_tools: bool) -> &str {
        &self.sources[self.name(with_tools)]
    }

    /// Whether a template looks at the tools at all.
    pub fn knows_tools(&self) -> bool {
        let template = self.environment.get_template(self.name(true));
        template.is_ok_and(|template| template.undeclared_variables(false).contains("tools"))
    }

    /// The spelling of a special token, such as `eos_token`.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.specials.get(name).map(String::as_str)
    }

    pub fn render(&self, input: &TemplateInput) -> Result<String, ChatError> {
        let mut context: BTreeMap<String, Jinja> = BTreeMap::new();
        for (name, spelling) in &self.specials {
            context.insert((*name).to_owned(), Jinja::from(spelling.as_str()));
        }
        context.insert("documents".to_owned(), Jinja::from(()));
        for (name, value) in &input.args {
            context.insert(name.clone(), Jinja::from_serialize(value));
        }
        let tools =
            if input.tools.is_empty() { Jinja::from(()) } else { Jinja::from_serialize(&input.tools) };
        context.insert("tools".to_owned(), tools);
        let messages: Vec<Value> = input.messages.iter().map(without_nulls).collect();
        context.insert("messages".to_owned(), Jinja::from_serialize(&messages));
        context.insert("add_generation_prompt".to_owned(), Jinja::from(input.add_generation_prompt));
        if let Some(now_unix_s) = input.now_unix_s {
            let now = move |format: &str| calendar::format(now_unix_s, format);
            context.insert("strftime_now".to_owned(), Jinja::from_function(now));
        }
        let template = self.environment.get_template(self.name(!input.tools.is_empty()));
        let rendered = template.and_then(|template| template.render(context));
        rendered.map_err(|error| ChatError::Template(python::message_of(&error)))
    }

    fn name(&self, with_tools: bool) -> &str {
        let names = if with_tools { ["tool_use", "default"] } else { ["default", "default"] };
        let known = names.into_iter().find(|name| self.sources.contains_key(*name));
        // A list without a default has at least one template.
        known.or_else(|| self.sources.keys().next().map(String::as_str)).unwrap_or("default")
    }
}

/// A field that is null is one that is missing, as for transformers: templates would write `None` for it.
fn without_nulls(message: &Value) -> Value {
    match message {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, field)| !field.is_null());
            Value::Object(kept.map(|(name, field)| (name.clone(), field.clone())).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            message.clone()
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(python::call_method);
    environment.set_formatter(python::print);
    environment.add_filter("tojson", python::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// Marks that only training looks at become blocks that always render.
fn without_training_marks(source: &str) -> String {
    let mut rest = source;
    let mut kept = String::with_capacity(source.len());
    while let Some((before, tag)) = rest.split_once("{%") {
        kept.push_str(before);
        kept.push_str("{%");
        rest = tag;
        let Some((inside, after)) = tag.split_once("%}") else {
            continue;
        };
        let name = inside.trim_matches(['-', '+', ' ', '\t', '\n']);
        let instead = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        kept.push_str(&inside.replacen(name, &format!(" {instead} "), 1));
        kept.push_str("%}");
        rest = after;
    }
    kept + rest
}

/// One template, or a list of named ones.
fn sources_of(config: &Value) -> BTreeMap<String, String> {
    let named =
        |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
    match &config["chat_template"] {
        Value::String(source) => BTreeMap::from([("default".to_owned(), source.clone())]),
        Value::Array(entries) => entries.iter().filter_map(named).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => BTreeMap::new(),
    }
}

/// A special token is written as its spelling, or as an object that has it.
fn spelling_of(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}

fn read(path: &Path) -> Result<Option<String>, ChatError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ChatError::Read { path: PathBuf::from(path), source }),
    }
}

fn read_json(path: &Path) -> Result<Value, ChatError> {
    let Some(text) = read(path)? else {
        return Ok(Value::Null);
    };
    let parsed = serde_json::from_str(&text);
    parsed.map_err(|error| ChatError::Parse { path: path.to_owned(), reason: error.to_string() })
}
