//! Composes an answer as a list of deltas, from the request and a behaviour alone.
//!
//! Knows no JSON shapes and no bytes: the wire modules render an [`Answer`] whole or streamed.
//!
//! Invariants: a delta is one output token; usage follows from the deltas unless a script says
//! otherwise; the same request and script give the same deltas.

use super::behaviour::Behaviour;
use super::bill::Usage;
use super::request::{Ask, Endpoint, Tool};
use super::schema;

/// Long prompts are echoed this far, so that an answer stays short.
const ECHOED_WORDS_MAX: usize = 48;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    Reasoning(String),
    Content(String),
    Refusal(String),
    ToolStart { at: usize, name: String },
    ToolArguments { at: usize, text: String },
}

#[derive(Debug, Clone)]
pub struct Choice {
    pub deltas: Vec<Delta>,
    pub finish: String,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub choices: Vec<Choice>,
    pub usage: Usage,
}

impl Answer {
    pub fn compose(ask: &Ask, behaviour: &Behaviour) -> Self {
        let n_choices = ask.n * if ask.endpoint == Endpoint::Completions { ask.texts.len() } else { 1 };
        let choices: Vec<Choice> = (0..n_choices).map(|at| choice(ask, behaviour, at)).collect();
        let deltas = || choices.iter().flat_map(|choice| &choice.deltas);
        let counts = &behaviour.counts;
        let usage = Usage {
            prompt: counts.prompt.unwrap_or(ask.n_prompt_tokens),
            completion: counts.completion.unwrap_or(deltas().count() as u64),
            cached: counts.cached,
            cache_write: counts.cache_write,
            reasoning: deltas().filter(|delta| matches!(delta, Delta::Reasoning(_))).count() as u64,
            audio_in: counts.audio_in,
            audio_out: counts.audio_out,
        };
        Self { choices, usage }
    }
}

fn choice(ask: &Ask, behaviour: &Behaviour, at: usize) -> Choice {
    let mut deltas: Vec<Delta> = (0..behaviour.n_reasoning)
        .map(|step| Delta::Reasoning(spaced(step, &format!("thought{step}"))))
        .collect();
    let mut finish = "stop";
    if behaviour.refusal {
        deltas.extend(pieces("I cannot help with that.", behaviour.n_chunks).into_iter().map(Delta::Refusal));
    } else if !ask.tools.is_empty() && behaviour.n_tool_calls > 0 {
        deltas.extend(tool_calls(&ask.tools, behaviour));
        finish = "tool_calls";
    } else {
        let text = spoken(ask, behaviour, at);
        deltas.extend(pieces(&text, behaviour.n_chunks).into_iter().map(Delta::Content));
    }
    if let Some(n_max) = ask.n_tokens_max.filter(|n_max| *n_max < deltas.len()) {
        deltas.truncate(n_max);
        finish = "length";
    }
    Choice { deltas, finish: behaviour.finish.clone().unwrap_or_else(|| finish.to_owned()) }
}

/// The words of choice `at`: the script's, JSON if that was asked for, or an echo that names the model.
fn spoken(ask: &Ask, behaviour: &Behaviour, at: usize) -> String {
    let text = match (&behaviour.text, &ask.schema) {
        (Some(text), _) => text.clone(),
        (None, Some(schema)) => schema::fill(schema).to_string(),
        (None, None) => echo(ask, behaviour, at),
    };
    let cut = ask.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    text[..cut.unwrap_or(text.len())].to_owned()
}

fn echo(ask: &Ask, behaviour: &Behaviour, at: usize) -> String {
    let prompt = &ask.texts[(at / ask.n).min(ask.texts.len() - 1)];
    let prompt = super::script::without_directive(prompt);
    let n_words = behaviour.n_chunks.unwrap_or(0);
    let mut words = vec![ask.model.clone(), "heard:".to_owned()];
    if at > 0 {
        words.insert(1, format!("(choice {at})"));
    }
    words.extend(prompt.split_whitespace().take(ECHOED_WORDS_MAX.max(n_words)).map(String::from));
    words.extend((words.len()..n_words).map(|nth| format!("word{nth}")));
    words.join(" ")
}

fn tool_calls(tools: &[Tool], behaviour: &Behaviour) -> Vec<Delta> {
    let mut deltas = Vec::new();
    for at in 0..behaviour.n_tool_calls {
        let tool = &tools[at % tools.len()];
        deltas.push(Delta::ToolStart { at, name: tool.name.clone() });
        let arguments = schema::fill(&tool.parameters).to_string();
        let texts = cut_evenly(&arguments, behaviour.n_chunks.unwrap_or(4));
        deltas.extend(texts.into_iter().map(|text| Delta::ToolArguments { at, text }));
    }
    deltas
}

/// Cuts a text before its words; into exactly `n` pieces if given and there are enough characters.
fn pieces(text: &str, n: Option<usize>) -> Vec<String> {
    let words: Vec<String> = text.split(' ').enumerate().map(|(at, word)| spaced(at, word)).collect();
    match n {
        None => words,
        Some(n) if n <= words.len() => {
            let (singles, rest) = words.split_at(n.saturating_sub(1));
            let mut pieces = singles.to_vec();
            pieces.extend((n > 0).then(|| rest.concat()));
            pieces
        }
        Some(n) => cut_evenly(text, n),
    }
}

fn spaced(at: usize, word: &str) -> String {
    if at == 0 { word.to_owned() } else { format!(" {word}") }
}

fn cut_evenly(text: &str, n: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let n = n.clamp(1, chars.len().max(1));
    (0..n).map(|at| chars[at * chars.len() / n..(at + 1) * chars.len() / n].iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text_and_are_as_many_as_asked() {
        for n in [1, 2, 3, 7, 11] {
            let cut = pieces("one two tree", Some(n));
            assert_eq!((cut.len(), cut.concat().as_str()), (n, "one two tree"));
        }
        assert_eq!(pieces("one two", None), ["one", " two"]);
        assert!(pieces("one two", Some(0)).is_empty());
    }
}
