//! `fields=`: which members an answer may be cut down to, and the cutting.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Levels that names reach down.
const LEVELS: usize = 3;

/// Every name that a value of `schema` may have, with dots between levels. Names inside maps of
/// clients' own names are not told: a map is shown whole.
pub fn names(schema: &Value, definitions: &Map<String, Value>) -> Vec<String> {
    let mut names = BTreeSet::new();
    walk(schema, definitions, "", 0, &mut names);
    names.into_iter().collect()
}

fn walk(
    schema: &Value,
    definitions: &Map<String, Value>,
    prefix: &str,
    level: usize,
    names: &mut BTreeSet<String>,
) {
    if level >= LEVELS {
        return;
    }
    let target = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    if let Some(target) = target.and_then(|target| definitions.get(target)) {
        walk(target, definitions, prefix, level, names);
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        for one in schema[word].as_array().into_iter().flatten() {
            walk(one, definitions, prefix, level, names);
        }
    }
    walk_items(schema, definitions, prefix, level, names);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        walk(member, definitions, &name, level + 1, names);
        names.insert(name);
    }
}

/// What stands in a list is named as if it stood there alone.
fn walk_items(
    schema: &Value,
    definitions: &Map<String, Value>,
    prefix: &str,
    level: usize,
    names: &mut BTreeSet<String>,
) {
    if let Some(items) = schema.get("items") {
        walk(items, definitions, prefix, level, names);
    }
}

/// `value` with no members but those named.
pub fn cut(value: Value, names: &[&str]) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().filter_map(|(name, member)| kept(name, member, names)).collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| cut(item, names)).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn kept(name: String, member: Value, names: &[&str]) -> Option<(String, Value)> {
    if names.contains(&name.as_str()) {
        return Some((name, member));
    }
    let deeper: Vec<&str> = names
        .iter()
        .filter_map(|wanted| wanted.strip_prefix(name.as_str())?.strip_prefix('.'))
        .collect();
    if deeper.is_empty() {
        return None;
    }
    Some((name, cut(member, &deeper)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::operation::schema_of;
    use berth_model::view::ContainerVmView;
    use schemars::SchemaGenerator;
    use serde_json::json;

    #[test]
    fn names_are_those_of_the_view() {
        let mut generator = SchemaGenerator::default();
        let schema = schema_of::<ContainerVmView>(&mut generator);
        let names = names(schema.as_value(), generator.definitions());
        for name in ["id", "labels", "cell", "state.phase", "state.exit_code", "demand.cpu_millis"]
        {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name == "meta"), "{names:?}");
    }

    #[test]
    fn only_what_is_named_is_kept() {
        let value = json!({"id": 1, "a": {"b": 2, "c": 3}, "list": [{"x": 1, "y": 2}]});
        let cut = cut(value, &["id", "a.b", "list.x"]);
        assert_eq!(cut, json!({"id": 1, "a": {"b": 2}, "list": [{"x": 1}]}));
    }
}
