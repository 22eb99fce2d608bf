//! What a caller wants of an answer: calls or not, and the form of its text.
//!
//! Reads OpenAI's fields; whether a model can do it, [`super::Chat`] knows.

use serde_json::Value;

use super::ChatError;

/// Whether the answer may or must call tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    /// This tool and no other, once.
    Named(String),
}

impl ToolChoice {
    /// Reads `tool_choice`; null is as good as absent.
    pub fn read(value: &Value) -> Result<Self, ChatError> {
        match (value.as_str(), value["function"]["name"].as_str()) {
            (Some("auto"), _) => Ok(Self::Auto),
            (Some("none"), _) => Ok(Self::None),
            (Some("required"), _) => Ok(Self::Required),
            (None, Some(name)) => Ok(Self::Named(name.to_owned())),
            (None, None) if value.is_null() => Ok(Self::Auto),
            (Some(_) | None, _) => Err(ChatError::invalid(
                "tool_choice",
                "must be \"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}",
            )),
        }
    }
}

/// The form of the answer's text.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ResponseFormat {
    #[default]
    Text,
    JsonObject,
    JsonSchema(Value),
}

impl ResponseFormat {
    /// Reads `response_format`; null is as good as absent.
    pub fn read(value: &Value) -> Result<Self, ChatError> {
        let schema = &value["json_schema"]["schema"];
        match value["type"].as_str() {
            Some("text") => Ok(Self::Text),
            Some("json_object") => Ok(Self::JsonObject),
            Some("json_schema") if !schema.is_null() => Ok(Self::JsonSchema(schema.clone())),
            Some("json_schema") => {
                Err(ChatError::invalid("response_format.json_schema", "must have a `schema`"))
            }
            None if value.is_null() => Ok(Self::Text),
            Some(_) | None => Err(ChatError::invalid(
                "response_format",
                "its `type` must be \"text\", \"json_object\" or \"json_schema\"",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn choices_of_tools_are_read() {
        let named = json!({"type": "function", "function": {"name": "clock"}});
        assert_eq!(ToolChoice::read(&Value::Null).unwrap(), ToolChoice::Auto);
        assert_eq!(ToolChoice::read(&json!("auto")).unwrap(), ToolChoice::Auto);
        assert_eq!(ToolChoice::read(&json!("none")).unwrap(), ToolChoice::None);
        assert_eq!(ToolChoice::read(&json!("required")).unwrap(), ToolChoice::Required);
        assert_eq!(ToolChoice::read(&named).unwrap(), ToolChoice::Named("clock".into()));
        for wrong in [json!("any"), json!({}), json!(1), json!({"function": "clock"})] {
            assert!(ToolChoice::read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forms_of_the_text_are_read() {
        let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}});
        assert_eq!(ResponseFormat::read(&Value::Null).unwrap(), ResponseFormat::Text);
        assert_eq!(ResponseFormat::read(&json!({"type": "text"})).unwrap(), ResponseFormat::Text);
        assert_eq!(
            ResponseFormat::read(&json!({"type": "json_object"})).unwrap(),
            ResponseFormat::JsonObject
        );
        assert_eq!(
            ResponseFormat::read(&schema).unwrap(),
            ResponseFormat::JsonSchema(json!({"type": "null"}))
        );
        for wrong in [json!("text"), json!({"type": "xml"}), json!({"type": "json_schema"}), json!({})] {
            assert!(ResponseFormat::read(&wrong).is_err(), "{wrong}");
        }
    }
}
