//! The tables against the API document, and what they let through.

use super::*;
use crate::docker::routes::{ROUTES, Served};
use expect_test::expect;
use serde_json::json;
use std::collections::BTreeSet;

fn document() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/docker-api-v1.50.yaml");
    let text = std::fs::read_to_string(path).expect("the API document is in tests/fixtures");
    serde_yaml_ng::from_str(&text).expect("the API document is YAML")
}

/// Every path below a schema, in the terms of [`Field`].
fn walk(document: &Value, schema: &Value, path: &str, seen: &[&str], found: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a reference has a last part");
        assert!(!seen.contains(&name), "{name} contains itself: the walk would not end");
        let seen: Vec<&str> = seen.iter().copied().chain([name]).collect();
        return walk(document, &document["definitions"][name], path, &seen, found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        walk(document, part, path, seen, found);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let under = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.insert(under.clone());
        walk(document, property, &under, seen, found);
    }
    if schema["items"].is_object() {
        walk(document, &schema["items"], &format!("{path}[]"), seen, found);
    }
    // A list as a map's value (ports) has no names of its own, but PortBinding has; the rows stop
    // at the map, since its keys are refused with it.
    if schema["additionalProperties"]["$ref"].is_string() {
        walk(document, &schema["additionalProperties"], &format!("{path}{{}}"), seen, found);
    }
}

#[test]
fn every_field_of_the_create_request_has_a_row_and_every_row_a_field() {
    let document = document();
    let parameters = &document["paths"]["/containers/create"]["post"]["parameters"];
    let body = parameters
        .as_array()
        .and_then(|all| all.iter().find(|parameter| parameter["in"] == "body"))
        .expect("create has a body");
    let mut fields = BTreeSet::new();
    walk(&document, &body["schema"], "", &[], &mut fields);
    let rows: BTreeSet<String> = CONTAINER_CREATE.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(rows.len(), CONTAINER_CREATE.len(), "a row stands twice");
    assert!(fields.len() > 150, "the walk found too little: {}", fields.len());
    let missing: Vec<_> = fields.difference(&rows).collect();
    let invented: Vec<_> = rows.difference(&fields).collect();
    assert!(missing.is_empty(), "fields without a row: {missing:?}");
    assert!(invented.is_empty(), "rows without a field: {invented:?}");
}

#[test]
fn what_is_within_is_within_something_refused() {
    for Field(path, rule) in CONTAINER_CREATE {
        if matches!(rule, Rule::Within) {
            let held = CONTAINER_CREATE.iter().any(|Field(parent, rule)| {
                path.starts_with(&format!("{parent}."))
                    || path.starts_with(&format!("{parent}[]."))
                        && !matches!(rule, Rule::Honoured | Rule::Within)
            });
            assert!(held, "{path} is part of nothing that is refused");
        }
    }
}

#[test]
fn every_parameter_of_a_served_endpoint_has_a_row_and_every_row_a_parameter() {
    let document = document();
    let mut wrong = Vec::new();
    for (method, path, served) in ROUTES {
        if !matches!(served, Served::By(_)) {
            continue;
        }
        let endpoint = format!("{method} {path}");
        let operation = &document["paths"][path][method.to_ascii_lowercase()];
        let in_document: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let Some((_, rows)) = QUERIES.iter().find(|(name, _)| *name == endpoint) else {
            wrong.push(format!("{endpoint} has no rows"));
            continue;
        };
        let rows: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
        if rows != in_document {
            wrong.push(format!("{endpoint}: rows {rows:?}, document {in_document:?}"));
        }
    }
    for (endpoint, _) in QUERIES {
        let known = ROUTES.iter().any(|(method, path, _)| format!("{method} {path}") == *endpoint);
        if !known {
            wrong.push(format!("{endpoint} has rows but is no endpoint"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_endpoint_of_the_document_has_a_route_and_every_route_an_endpoint() {
    let document = document();
    let mut in_document = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if operation.is_object() {
                in_document.insert(format!("{} {path}", method.to_ascii_uppercase()));
            }
        }
    }
    // `/grpc` is not in the document: BuildKit's clients use it all the same.
    in_document.insert("POST /grpc".to_owned());
    let routes: BTreeSet<String> =
        ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(routes, in_document);
}

fn check(body: Value) -> String {
    match check_container_create(body) {
        Ok(kept) => kept.to_string(),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn host_rights_and_host_paths_are_refused_by_name() {
    expect!["HostConfig.Privileged is refused: --privileged would give rights over a host, and a container VM has no host kernel to have rights over; name the capability that is needed once --cap-add is there"]
        .assert_eq(&check(json!({"HostConfig": {"Privileged": true}})));
    expect!["HostConfig.Binds is refused: host paths cannot be mounted: a container VM does not share a file system with its host; put the data into the image, or use a named volume once volumes are there"]
        .assert_eq(&check(json!({"HostConfig": {"Binds": ["/etc:/h"]}})));
    expect!["HostConfig.PidMode is refused: a container VM has a kernel of its own and shares no namespace with its host or with other container VMs; leave this option out"]
        .assert_eq(&check(json!({"HostConfig": {"PidMode": "host"}})));
}

#[test]
fn a_named_volume_is_not_there_yet_and_a_host_path_beside_it_is_refused_for_good() {
    assert!(check(json!({"HostConfig": {"Binds": ["v:/x"]}})).contains("not supported yet"));
    let both = check(json!({"HostConfig": {"Binds": ["v:/x", "/etc:/h"]}}));
    assert!(both.contains("is refused: host paths"), "{both}");
}

#[test]
fn a_key_of_a_map_asks_for_something_whatever_its_value() {
    for (option, value) in [
        ("Tmpfs", json!({"/x": ""})),
        ("Sysctls", json!({"net.ipv4.ip_forward": "0"})),
        ("Annotations", json!({"a": ""})),
        ("PortBindings", json!({"80/tcp": []})),
        ("LogConfig", json!({"Type": "", "Config": {"max-size": ""}})),
    ] {
        let said = check(json!({"HostConfig": {option: value}}));
        assert!(said.contains("not supported yet"), "{option}: {said}");
        let nothing = check(json!({"HostConfig": {option: {}}}));
        assert!(nothing.starts_with('{'), "{option}: {nothing}");
    }
    let endpoint = json!({"EndpointsConfig": {"default": {"IPAMConfig": {"IPv4Address": ""}}}});
    assert!(check(json!({"NetworkingConfig": endpoint})).starts_with('{'));
}

#[test]
fn no_paths_masked_is_a_wish_and_not_a_default() {
    for option in ["MaskedPaths", "ReadonlyPaths"] {
        assert!(check(json!({"HostConfig": {option: []}})).contains("not supported yet"));
        assert!(check(json!({"HostConfig": {option: null}})).starts_with('{'));
    }
}

#[test]
fn names_are_matched_without_regard_to_case_as_the_engine_does() {
    assert!(check(json!({"hostconfig": {"privileged": true}})).contains("HostConfig.Privileged"));
    assert_eq!(check(json!({"image": "a"})), r#"{"Image":"a"}"#);
}

#[test]
fn fields_that_the_document_does_not_name_are_dropped() {
    assert_eq!(check(json!({"Frob": 1, "HostConfig": {"Frob": {"a": 2}}})), r#"{"HostConfig":{}}"#);
}

#[test]
fn what_the_stock_client_sends_for_nothing_asked_passes() {
    for body in super::super::translate::fixtures::CLI_28_BODIES {
        let body: Value = serde_json::from_str(body).expect("a fixture is JSON");
        check_container_create(body).expect("the stock client's defaults pass");
    }
}

#[test]
fn a_refused_parameter_is_refused_by_name_and_an_unknown_one_is_dropped() {
    let query = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let refused = check_query("DELETE /containers/{id}", query("link", "1")).unwrap_err();
    assert!(refused.to_string().starts_with("link is refused"), "{refused}");
    assert!(check_query("DELETE /containers/{id}", query("link", "0")).unwrap().is_empty());
    assert!(check_query("DELETE /containers/{id}", query("frob", "1")).unwrap().is_empty());
}
