//! Turns one TOML table into one section, and collects every mistake on the way.
//!
//! A deserializer stops at its first error; here the field at fault is noted, taken out and the
//! section read again, until it is good or something that must be there is missing.

use serde::de::DeserializeOwned;
use toml::Value;

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    /// The dotted path of the key, empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl Mistake {
    /// A word that this version does not have.
    pub(super) fn is_unknown_field(&self) -> bool {
        quoted_after(&self.problem, UNKNOWN_FIELD).is_some()
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}: {}", self.file, self.key, self.problem)
    }
}

/// How serde begins to tell of a field that a section does not have.
const UNKNOWN_FIELD: &str = "unknown field `";

/// More mistakes than this in one section are one mistake: it is another file.
const MAX_MISTAKES: usize = 50;

/// Reads `value`, which stands at `key`, as a `T` without the fields at fault, so that what spans two
/// sections can still be checked; `None` when nothing could be read.
pub(super) fn section<T: DeserializeOwned>(
    mut value: Value,
    key: &str,
    mistake: &mut impl FnMut(String, String),
) -> Option<T> {
    let mut taken_out: Vec<String> = Vec::new();
    let mut removed: Vec<Removed> = Vec::new();
    for _ in 0..MAX_MISTAKES {
        match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(read) => return Some(read),
            Err(error) => {
                let path = error.path().to_string();
                // Without the place, which the path tells better.
                let problem = error.inner().message().replace('\n', " ");
                let unknown = quoted_after(&problem, UNKNOWN_FIELD);
                let local = if path == "." { String::new() } else { path };
                let local = match &unknown {
                    Some(field) if !local.ends_with(field.as_str()) => join(&local, field),
                    Some(_) | None => local,
                };
                let full = join(key, &as_written(&local, &removed));
                // A field that was taken out is missing now, but what is wrong with it was told.
                if missing_at(&full, &problem).is_none_or(|field| !taken_out.contains(&field)) {
                    taken_out.push(full.clone());
                    mistake(full, problem);
                }
                if local.is_empty() || !remove(&mut value, &local) {
                    return None;
                }
                removed.extend(Removed::of(&as_written(&local, &removed)));
            }
        }
    }
    None
}

/// An item taken out of a list, so that those after it moved up.
struct Removed {
    list: String,
    idx: usize,
}

impl Removed {
    /// `None` where the path ends in a field.
    fn of(path: &str) -> Option<Self> {
        let (list, idx) = path.strip_suffix(']')?.rsplit_once('[')?;
        Some(Self { list: list.to_owned(), idx: idx.parse().ok()? })
    }
}

/// A path with its items numbered as they were before any was taken out.
fn as_written(path: &str, removed: &[Removed]) -> String {
    let mut written = String::new();
    let mut rest = path;
    while let Some((before, idx, after)) = next_index(rest) {
        written.push_str(before);
        let mut gone: Vec<usize> =
            removed.iter().filter(|item| item.list == written).map(|item| item.idx).collect();
        gone.sort_unstable();
        let idx = gone.into_iter().fold(idx, |idx, gone| idx + usize::from(gone <= idx));
        written.push_str(&format!("[{idx}]"));
        rest = after;
    }
    written + rest
}

/// Text before the first `[n]`, the number, and what follows.
fn next_index(path: &str) -> Option<(&str, usize, &str)> {
    let (before, rest) = path.split_once('[')?;
    let (digits, after) = rest.split_once(']')?;
    Some((before, digits.parse().ok()?, after))
}

/// The full key of a field that is missing from what stands at `key`.
fn missing_at(key: &str, problem: &str) -> Option<String> {
    quoted_after(problem, "missing field `").map(|field| join(key, &field))
}

fn quoted_after(text: &str, start: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once('`').map(|(name, _)| name.to_owned())
}

pub(super) fn join(parent: &str, child: &str) -> String {
    match (parent.is_empty(), child.is_empty()) {
        (true, _) => child.to_owned(),
        (_, true) => parent.to_owned(),
        (false, false) if child.starts_with('[') => format!("{parent}{child}"),
        (false, false) => format!("{parent}.{child}"),
    }
}

/// Takes the value at a path such as `ladder[1].up_to` out; says whether it was there.
fn remove(value: &mut Value, path: &str) -> bool {
    let steps: Vec<String> =
        path.replace('[', ".[").split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect();
    let Some((last, parents)) = steps.split_last() else {
        return false;
    };
    let mut at = value;
    for step in parents {
        let next = match (at, index(step)) {
            (Value::Array(items), Some(idx)) => items.get_mut(idx),
            (Value::Table(table), _) => table.get_mut(step),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (at, index(last)) {
        (Value::Array(items), Some(idx)) if idx < items.len() => {
            items.remove(idx);
            true
        }
        (Value::Table(table), _) => table.remove(last).is_some(),
        _ => false,
    }
}

fn index(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Section {
        port: u16,
        name: String,
        inner: Inner,
    }

    impl Default for Section {
        fn default() -> Self {
            Self { port: 1, name: String::new(), inner: Inner::default() }
        }
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        rate: f64,
    }

    #[test]
    fn every_mistake_of_a_section_is_found_with_its_key() {
        let value: Value =
            toml::from_str("port = 'x'\nnmae = 'a'\nname = 3\n[inner]\nrate = 'fast'\nrte = 1").unwrap();
        let mut found = Vec::new();

        let read: Option<Section> = section(value, "server", &mut |key, problem| found.push((key, problem)));

        let mut keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["server.inner.rate", "server.inner.rte", "server.name", "server.nmae", "server.port"]
        );
        assert!(found.iter().any(|(_, problem)| problem.contains("expected one of `port`, `name`, `inner`")));
        assert_eq!(read.unwrap().port, 1);
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "read only to be missed")]
        kind: u16,
        #[expect(dead_code, reason = "read only to be missed")]
        name: String,
    }

    #[test]
    fn a_field_at_fault_is_not_called_missing_too() {
        for (text, expected) in [("kind = 'x'\nname = 'a'", "up.a.kind"), ("kind = 1", "up.a")] {
            let mut found = Vec::new();

            let read: Option<Strict> =
                section(toml::from_str(text).unwrap(), "up.a", &mut |key, _| found.push(key));

            assert!(read.is_none());
            assert_eq!(found, [expected], "{text}");
        }
    }

    #[test]
    fn an_item_keeps_its_number_when_those_before_it_were_taken_out() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct List {
            #[expect(dead_code, reason = "read only to be at fault")]
            items: Vec<Strict>,
        }
        let value = toml::from_str(
            "items = [{ kind = 1, name = 'a' }, { kind = 'x', name = 'b' }, { kind = 2 }, \
             { kind = 3, name = 4 }, { kind = 5, name = 'e', nmae = 1 }]",
        );
        let mut found = Vec::new();

        let read: Option<List> = section(value.unwrap(), "up", &mut |key, _| found.push(key));

        assert!(read.is_some());
        assert_eq!(found, ["up.items[1].kind", "up.items[2]", "up.items[3].name", "up.items[4].nmae"]);
    }

    #[test]
    fn a_good_section_is_read() {
        let value: Value = toml::from_str("port = 7").unwrap();

        let read: Option<Section> =
            section(value, "server", &mut |key, problem| unreachable!("{key} {problem}"));

        let read = read.unwrap();
        assert_eq!((read.port, read.name.as_str(), read.inner.rate), (7, "", 0.0));
    }
}
