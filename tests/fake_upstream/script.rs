//! Scripts: which settings apply to which call.
//!
//! Does not interpret settings beyond splitting them; [`Behaviour`] does.
//!
//! Invariants: a script is checked when it is added; a `next` script is used up by exactly as many
//! calls as it was made for; faults under `fail_first` are counted per model and text.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;

use super::behaviour::{Behaviour, Fault};

const OPENING: &str = "[[fake:";
const CLOSING: &str = "]]";

/// Settings and the calls they are for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    next: Option<u32>,
    settings: String,
}

impl Script {
    /// For every call until a reset.
    pub fn always(settings: &str) -> Self {
        Self { model: None, next: None, settings: settings.to_owned() }
    }

    /// For every call that asks for `model`; replaces what was scripted for it before.
    pub fn model(model: &str, settings: &str) -> Self {
        Self { model: Some(model.to_owned()), ..Self::always(settings) }
    }

    /// For the next `n_calls` calls that no earlier `next` script takes.
    pub fn next(n_calls: u32, settings: &str) -> Self {
        Self { next: Some(n_calls), ..Self::always(settings) }
    }

    /// Narrows a `next` script to one model.
    pub fn of_model(self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }
}

type Settings = Vec<(String, String)>;

struct Queued {
    model: Option<String>,
    n_left: u32,
    settings: Settings,
}

/// All scripts in force.
#[derive(Default)]
pub struct Scripts {
    always: Settings,
    by_model: HashMap<String, Settings>,
    queue: VecDeque<Queued>,
    n_failed: HashMap<(String, String), u32>,
}

impl Scripts {
    pub fn add(&mut self, script: Script) -> Result<(), String> {
        let settings = split_settings(&script.settings, char::is_whitespace);
        apply(&mut Behaviour::default(), &settings)?;
        match (script.next, script.model) {
            (Some(n_left), model) => self.queue.push_back(Queued { model, n_left, settings }),
            (None, Some(model)) => drop(self.by_model.insert(model, settings)),
            (None, None) => self.always = settings,
        }
        Ok(())
    }

    /// Folds everything that applies to a call; `model` is the name before its `@`.
    pub fn behaviour(&mut self, model: &str, suffix: &str, text: &str) -> Result<Behaviour, String> {
        let mut behaviour = Behaviour::default();
        apply(&mut behaviour, &self.always)?;
        if let Some(settings) = self.by_model.get(model) {
            apply(&mut behaviour, settings)?;
        }
        if !suffix.is_empty() {
            apply(&mut behaviour, &split_settings(suffix, |c| c == ','))?;
        }
        if let Some((_, directive, _)) = cut_directive(text) {
            apply(&mut behaviour, &split_settings(directive, char::is_whitespace))?;
        }
        if let Some(settings) = self.take_next(model) {
            apply(&mut behaviour, &settings)?;
        }
        self.recover(&mut behaviour, model, text);
        Ok(behaviour)
    }

    fn take_next(&mut self, model: &str) -> Option<Settings> {
        let fits = |queued: &Queued| queued.model.as_deref().is_none_or(|wanted| wanted == model);
        let at = self.queue.iter().position(fits)?;
        let queued = &mut self.queue[at];
        queued.n_left = queued.n_left.saturating_sub(1);
        let settings = queued.settings.clone();
        if queued.n_left == 0 {
            self.queue.remove(at);
        }
        Some(settings)
    }

    /// Lifts the fault once it has struck as often as `fail_first` says.
    fn recover(&mut self, behaviour: &mut Behaviour, model: &str, text: &str) {
        let Some(n_faults) = behaviour.fail_first else { return };
        let n_failed = self.n_failed.entry((model.to_owned(), text.to_owned())).or_default();
        if *n_failed < n_faults {
            *n_failed += 1;
        } else {
            behaviour.fault = Fault::None;
            behaviour.headers.clear();
        }
    }
}

fn apply(behaviour: &mut Behaviour, settings: &Settings) -> Result<(), String> {
    settings.iter().try_for_each(|(key, value)| behaviour.set(key, value))
}

/// The text before a directive, its settings, and the text behind it.
fn cut_directive(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(OPENING)?;
    let (directive, after) = rest.split_once(CLOSING)?;
    Some((before, directive, after))
}

/// The text without its directive.
pub fn without_directive(text: &str) -> String {
    match cut_directive(text) {
        Some((before, _, after)) => format!("{}{after}", before.trim_end()).trim().to_owned(),
        None => text.to_owned(),
    }
}

/// Splits `a=1 b="x y" c` at separators outside quotes.
fn split_settings(text: &str, separates: impl Fn(char) -> bool) -> Settings {
    let mut quoted = false;
    let pieces = text.split(|c: char| {
        quoted ^= c == '"';
        !quoted && separates(c)
    });
    pieces
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            (key.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_places_win_over_earlier_ones() {
        let mut scripts = Scripts::default();
        scripts.add(Script::always("chunks=1 cached=5")).unwrap();
        scripts.add(Script::model("m", "chunks=2")).unwrap();
        scripts.add(Script::next(1, "chunks=9")).unwrap();

        let first = scripts.behaviour("m", "chunks=3", "hello [[fake: chunks=4]]").unwrap();
        let second = scripts.behaviour("m", "chunks=3", "hello [[fake: chunks=4]]").unwrap();
        let third = scripts.behaviour("m", "chunks=3,crlf", "hello").unwrap();

        assert_eq!((first.n_chunks, second.n_chunks, third.n_chunks), (Some(9), Some(4), Some(3)));
        assert_eq!(first.counts.cached, 5);
        assert!(third.travel.crlf);
    }

    #[test]
    fn a_fault_under_fail_first_strikes_that_often_per_text() {
        let mut scripts = Scripts::default();
        let mut fault = |text: &str| scripts.behaviour("m", "status=500,fail_first=2", text).unwrap().fault;

        let faults = [fault("a"), fault("a"), fault("b"), fault("a")];

        assert_eq!(faults, [Fault::Status(500), Fault::Status(500), Fault::Status(500), Fault::None]);
    }

    #[test]
    fn quotes_keep_a_value_together_and_unknown_settings_are_refused() {
        let mut scripts = Scripts::default();

        let text = scripts.behaviour("m", "", "[[fake: text=\"two words\" chunks=2]]").unwrap().text;

        assert_eq!(text.as_deref(), Some("two words"));
        assert!(scripts.add(Script::always("chunk=2")).unwrap_err().contains("`chunk`"));
        assert!(scripts.add(Script::always("chunks=two")).unwrap_err().contains("`two`"));
    }

    #[test]
    fn a_directive_is_not_part_of_what_was_said() {
        assert_eq!(without_directive("hello [[fake: crlf]]"), "hello");
        assert_eq!(without_directive("[[fake: crlf]] hello"), "hello");
        assert_eq!(without_directive("hello [[fake: "), "hello [[fake: ");
    }
}
