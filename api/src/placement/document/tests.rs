//! That the document and the routes say the same, and that every schema can be held against.

use super::*;
use crate::placement::table::{Table, operations};

#[test]
fn every_operation_is_in_the_document_and_nothing_else_is() {
    let table = Table::new().unwrap();
    let paths = table.document["paths"].as_object().unwrap();
    let mut shown = BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            shown.insert((path.clone(), method.clone(), id.to_owned()));
        }
    }
    let routed: BTreeSet<_> = operations()
        .map(|operation| {
            let method = operation.verb.name().to_lowercase();
            (operation.path.to_owned(), method, operation.id.to_owned())
        })
        .collect();
    assert_eq!(shown, routed);
    let ids: BTreeSet<&str> = operations().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations().count(), "an id is used twice");
}

#[test]
fn paths_and_parameters_name_each_other() {
    for operation in operations() {
        let in_path: BTreeSet<&str> = operation
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let declared: BTreeSet<&str> = operation
            .parameters()
            .filter(|parameter| parameter.place == Place::Path)
            .map(|parameter| parameter.name)
            .collect();
        assert_eq!(in_path, declared, "{}", operation.id);
    }
}

#[test]
fn examples_are_what_the_operation_takes() {
    let document = Document::new(operations());
    for operation in operations() {
        let Some(body) = &operation.body else { continue };
        let schema = document.refer(body.schema);
        let node = crate::placement::schema::compile(&schema, document.definitions()).unwrap();
        let checked = crate::placement::schema::check(&node, body.example.as_bytes());
        assert!(checked.is_ok(), "{}: {checked:?}", operation.id);
    }
}

#[test]
fn links_lead_to_operations_that_take_their_parameter() {
    for link in operations().flat_map(|operation| operation.links) {
        let target = operations().find(|operation| operation.id == link.to);
        let target = target.unwrap_or_else(|| panic!("no operation {}", link.to));
        assert!(takes(target, link.parameter), "{} takes {}", link.to, link.parameter);
    }
}

#[test]
fn requests_refuse_what_they_do_not_know_and_bound_what_they_do() {
    let document = Document::new(operations());
    let definitions = document.definitions();
    let mut wrong = Vec::new();
    for operation in operations() {
        let Some(body) = &operation.body else { continue };
        unbounded(&document.refer(body.schema), definitions, operation.id, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Collects what has no bound: numbers, texts, lists, maps, objects that take any member.
fn unbounded(schema: &Value, definitions: &Map<String, Value>, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return unbounded(&definitions[name], definitions, name, wrong);
    }
    for word in ["oneOf", "anyOf"] {
        for one in schema[word].as_array().into_iter().flatten() {
            unbounded(one, definitions, at, wrong);
        }
    }
    let is = |name: &str| {
        schema["type"] == name
            || schema["type"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    let mut demand = |word: &str| {
        if schema.get(word).is_none() {
            wrong.push(format!("{at}: no {word}"));
        }
    };
    if is("integer") {
        demand("minimum");
        demand("maximum");
    }
    if is("string") && schema.get("enum").is_none() && schema.get("const").is_none() {
        demand("maxLength");
    }
    if is("array") {
        demand("maxItems");
    }
    if is("object") && schema.get("properties").is_none() {
        demand("maxProperties");
        demand("propertyNames");
    }
    if is("object") && schema.get("properties").is_some() {
        demand("additionalProperties");
    }
    if let Some(items) = schema.get("items") {
        unbounded(items, definitions, &format!("{at}[]"), wrong);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(member, definitions, &format!("{at}.{name}"), wrong);
    }
}
