//! Fills a JSON schema with a value that satisfies it: required and optional properties, by type.
//!
//! Knows the part of JSON Schema that structured outputs and tools use; no formats, no patterns.
//!
//! Invariants: the same schema gives the same value; recursion through `$ref` ends.

use serde_json::{Map, Value, json};

/// Deep enough for real schemas, shallow enough for recursive ones.
const DEPTH_MAX: usize = 8;

pub fn fill(schema: &Value) -> Value {
    fill_at(schema, schema, 0)
}

fn fill_at(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, |target| fill_at(root, target, depth + 1));
    }
    let first_of = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|items| items.first());
    if let Some(value) = schema.get("const").or(first_of("enum")) {
        return value.clone();
    }
    if let Some(choice) = first_of("anyOf").or(first_of("oneOf")).or(first_of("allOf")) {
        return fill_at(root, choice, depth + 1);
    }
    let kind = schema.get("type");
    let kind = kind.and_then(Value::as_str).or(first_of("type").and_then(Value::as_str));
    match kind.unwrap_or("object") {
        "string" => json!("text"),
        "integer" => json!(7),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        "array" => schema.get("items").map_or(json!([]), |items| json!([fill_at(root, items, depth + 1)])),
        _ => fill_object(root, schema, depth),
    }
}

fn fill_object(root: &Value, schema: &Value, depth: usize) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let filled: Map<String, Value> =
        properties.map(|(name, property)| (name.clone(), fill_at(root, property, depth + 1))).collect();
    Value::Object(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_is_filled_by_its_type() {
        let schema = json!({
            "type": "object",
            "$defs": { "step": { "type": "object", "properties": { "note": { "type": "string" } } } },
            "properties": {
                "n": { "type": "integer" },
                "unit": { "enum": ["celsius", "kelvin"] },
                "steps": { "type": "array", "items": { "$ref": "#/$defs/step" } },
                "maybe": { "anyOf": [{ "type": "number" }, { "type": "null" }] },
            },
        });

        let filled = fill(&schema);

        assert_eq!(filled, json!({ "n": 7, "unit": "celsius", "steps": [{ "note": "text" }], "maybe": 1.5 }));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({ "type": "object", "properties": { "next": { "$ref": "#" } } });

        assert!(fill(&schema).to_string().ends_with('}'));
    }
}
