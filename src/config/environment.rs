//! The environment, read once, and its `${NAME}` places in configuration strings.
//!
//! Never prints a value: a mistake names the variable only.

use std::collections::BTreeMap;

use toml::Value;

/// The variables of the process at its start.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    pub fn read() -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Fills `${NAME}` and `${NAME:-default}` in every string of `value`; a name that is not set
    /// and has no default is a mistake.
    pub(super) fn fill(&self, value: &mut Value, key: &str, mistake: &mut impl FnMut(String, String)) {
        match value {
            Value::String(text) => match self.filled(text) {
                Ok(Some(filled)) => *text = filled,
                Ok(None) => {}
                Err(problem) => mistake(key.to_owned(), problem),
            },
            Value::Array(items) => {
                for (idx, item) in items.iter_mut().enumerate() {
                    self.fill(item, &format!("{key}[{idx}]"), mistake);
                }
            }
            Value::Table(table) => {
                for (name, item) in table.iter_mut() {
                    self.fill(item, &super::read::join(key, name), mistake);
                }
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    fn filled(&self, text: &str) -> Result<Option<String>, String> {
        let Some(first) = text.find("${") else {
            return Ok(None);
        };
        let mut out = text[..first].to_owned();
        let mut rest = &text[first..];
        while let Some(inner) = rest.strip_prefix("${") {
            let (place, after) = inner.split_once('}').ok_or("has `${` without `}`; close it")?;
            let (name, default) = match place.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (place, None),
            };
            let value = self.get(name).filter(|value| !value.is_empty()).or(default);
            out.push_str(value.ok_or_else(|| {
                format!("needs the environment variable `{name}`, which is not set; set it, or write ${{{name}:-default}}")
            })?);
            let next = after.find("${").unwrap_or(after.len());
            out.push_str(&after[..next]);
            rest = &after[next..];
        }
        Ok(Some(out))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_from_the_environment_or_their_default() {
        let env = Environment::from([("KEY", "k1"), ("EMPTY", "")]);
        for (text, expected) in [
            ("${KEY}", "k1"),
            ("a ${KEY} b ${KEY}", "a k1 b k1"),
            ("${NONE:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
        ] {
            assert_eq!(env.filled(text), Ok(Some(expected.to_owned())), "{text}");
        }
        assert_eq!(env.filled("plain $KEY"), Ok(None));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_key() {
        let mut value: Value = toml::from_str("[a]\nb = ['ok', '${NONE}', '${OPEN']").unwrap();
        let mut found = Vec::new();

        Environment::default().fill(&mut value, "", &mut |key, problem| found.push((key, problem)));

        assert_eq!(found.len(), 2);
        assert!(found[0].0 == "a.b[1]" && found[0].1.contains("`NONE`"), "{found:?}");
        assert!(found[1].0 == "a.b[2]" && found[1].1.contains("without `}`"), "{found:?}");
    }
}
