//! What templates expect of Python and minijinja does otherwise: how values are printed, and `json.dumps`.
//!
//! Does not try to be Python beyond what chat templates use.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value as Jinja};
use serde_json::Value;

/// Methods of strings, dicts and lists.
pub(super) fn call_method(
    state: &State<'_, '_>,
    value: &Jinja,
    method: &str,
    args: &[Jinja],
) -> Result<Jinja, Error> {
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// What `{{ value }}` prints: `True`, `None`, and dicts and lists as Python writes them.
pub(super) fn print(out: &mut Output<'_>, _state: &State<'_, '_>, value: &Jinja) -> Result<(), Error> {
    let text = match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => String::new(),
        (_, Some(text)) => text.to_owned(),
        (ValueKind::Bool | ValueKind::None | ValueKind::Number | ValueKind::Map | ValueKind::Seq, None) => {
            let mut text = String::new();
            write_repr(&serde_json::to_value(value).map_err(unserialisable)?, &mut text);
            text
        }
        (_, None) => value.to_string(),
    };
    out.write_str(&text).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// What went wrong, in a line; what a template raises, word for word.
pub(super) fn message_of(error: &Error) -> String {
    let place = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => format!("{detail}{place}"),
        (_, Some(detail)) => format!("{}: {detail}{place}", error.kind()),
        (_, None) => format!("{}{place}", error.kind()),
    }
}

/// `json.dumps(value, ensure_ascii=False, indent, separators, sort_keys)`.
pub(super) fn tojson(value: &Jinja, args: Kwargs) -> Result<Jinja, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::InvalidOperation, "what is undefined cannot be written as JSON"));
    }
    let indent: Option<usize> = args.get("indent")?;
    let separators: Option<Vec<String>> = args.get("separators")?;
    let sort_keys: Option<bool> = args.get("sort_keys")?;
    let ascii: Option<bool> = args.get("ensure_ascii")?;
    args.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "`separators` has to be a pair")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let value = serde_json::to_value(value).map_err(unserialisable)?;
    let (sort_keys, ascii) = (sort_keys == Some(true), ascii == Some(true));
    let mut writer = Writer { indent, item, key, sort_keys, ascii, depth: 0, text: String::new() };
    writer.write(&value);
    Ok(Jinja::from_safe_string(writer.text))
}

fn unserialisable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value cannot be written as JSON: {error}"))
}

/// JSON in the making, and how it is laid out.
struct Writer {
    indent: Option<usize>,
    item: String,
    key: String,
    sort_keys: bool,
    ascii: bool,
    depth: usize,
    text: String,
}

impl Writer {
    fn write(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) => self.text.push_str(&value.to_string()),
            Value::Number(number) => self.text.push_str(&number_of(number)),
            Value::String(string) => self.write_string(string),
            Value::Array(items) => self.write_all(['[', ']'], items.iter(), Self::write),
            Value::Object(fields) => {
                let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                if self.sort_keys {
                    fields.sort_by_key(|(name, _)| *name);
                }
                self.write_all(['{', '}'], fields.into_iter(), |writer, (name, field)| {
                    writer.write_string(name);
                    writer.text.push_str(&writer.key);
                    writer.write(field);
                });
            }
        }
    }

    fn write_all<T>(
        &mut self,
        brackets: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        let is_empty = items.len() == 0;
        self.text.push(brackets[0]);
        self.depth += 1;
        for (item_idx, item) in items.enumerate() {
            if item_idx > 0 {
                self.text.push_str(&self.item);
            }
            self.write_line();
            write(self, item);
        }
        self.depth -= 1;
        if !is_empty {
            self.write_line();
        }
        self.text.push(brackets[1]);
    }

    fn write_line(&mut self) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * self.depth));
        }
    }

    fn write_string(&mut self, string: &str) {
        for letter in Value::from(string).to_string().chars() {
            if letter.is_ascii() || !self.ascii {
                self.text.push(letter);
            } else {
                let units = letter
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect::<String>();
                self.text.push_str(&units);
            }
        }
    }
}

/// Rust and Python agree on digits, and on when there is an exponent, but not on how it is written.
fn number_of(number: &serde_json::Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let written = format!("{float:?}");
    match written.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => written,
    }
}

/// `repr`, and `str` of what is no string.
fn write_repr(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("None"),
        Value::Bool(true) => text.push_str("True"),
        Value::Bool(false) => text.push_str("False"),
        Value::Number(number) => text.push_str(&number_of(number)),
        Value::String(string) => write_quoted(string, text),
        Value::Array(items) => {
            text.push('[');
            for (item_idx, item) in items.iter().enumerate() {
                text.push_str(if item_idx > 0 { ", " } else { "" });
                write_repr(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            for (field_idx, (name, field)) in fields.iter().enumerate() {
                text.push_str(if field_idx > 0 { ", " } else { "" });
                write_quoted(name, text);
                text.push_str(": ");
                write_repr(field, text);
            }
            text.push('}');
        }
    }
}

fn write_quoted(string: &str, text: &mut String) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for letter in string.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            letter if letter == quote => text.extend(['\\', letter]),
            letter if letter.is_ascii_control() => text.push_str(&format!("\\x{:02x}", letter as u32)),
            letter => text.push(letter),
        }
    }
    text.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let numbers = [
            ("1", "1"),
            ("1.0", "1.0"),
            ("0.1", "0.1"),
            ("1e16", "1e+16"),
            ("1e15", "1000000000000000.0"),
            ("1.5e-5", "1.5e-05"),
            ("0.0001", "0.0001"),
            ("-2.5e300", "-2.5e+300"),
            ("1e-7", "1e-07"),
        ];
        for (json, python) in numbers {
            assert_eq!(number_of(&serde_json::from_str(json).unwrap()), python);
        }
    }

    #[test]
    fn values_are_quoted_as_python_quotes_them() {
        let mut text = String::new();
        write_repr(
            &serde_json::json!({"a": ["it's", "\"x\"", "'\"", true, null, 1.5, "\n\u{1}é"]}),
            &mut text,
        );
        assert_eq!(text, r#"{'a': ["it's", '"x"', '\'"', True, None, 1.5, '\n\x01é']}"#);
    }
}
