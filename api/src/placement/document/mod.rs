//! The OpenAPI 3.1 document, made of the table of operations and the schemas of the views.
//!
//! Promises: it shows every operation and nothing else; each answer lists its statuses, each
//! problem the codes that it may have; every whole number has its bounds.

use super::call::Call;
use super::errors::{Kind, PROBLEM_JSON, Problem};
use super::operation::{
    Answer, Body, Content, Link, Operation, SchemaOf, Verb, handler, schema_of,
};
use super::parameter::{Place, Shape};
use super::table::Route;
use actix_web::HttpResponse;
use berth_model::view::ProblemView;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const OPERATIONS: &[Operation] = &[Operation {
    verb: Verb::Get,
    path: "/v1/openapi.json",
    id: "getDocument",
    tag: "document",
    summary: "This document.",
    parameters: &[],
    body: None,
    answers: &[Answer {
        status: 200,
        summary: "An OpenAPI 3.1 document.",
        content: &[Content::Json(any_object)],
        etag: false,
    }],
    problems: &[],
    links: &[],
    handler: handler!(get),
}];

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let text = call.api.table.document_text.clone();
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Schemas of everything that the operations take and give.
pub struct Document {
    generator: SchemaGenerator,
    definitions: Map<String, Value>,
    /// Of answers that `fields` cut down; filled as they are referred to.
    partials: RefCell<Map<String, Value>>,
    problems: RefCell<Map<String, Value>>,
}

impl Document {
    pub fn new(operations: impl Iterator<Item = &'static Operation>) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        schema_of::<ProblemView>(&mut generator);
        for operation in operations {
            if let Some(body) = &operation.body {
                (body.schema)(&mut generator);
            }
            for content in operation.answers.iter().flat_map(|answer| answer.content) {
                if let Content::Json(schema) = content {
                    schema(&mut generator);
                }
            }
            for parameter in operation.parameters() {
                if let Shape::Fields(schema) = parameter.shape {
                    schema(&mut generator);
                }
            }
        }
        let mut definitions = generator.definitions().clone();
        for schema in definitions.values_mut() {
            bound(schema);
        }
        let (partials, problems) = Default::default();
        Self { generator, definitions, partials, problems }
    }

    /// Every schema that has a name.
    pub fn definitions(&self) -> &Map<String, Value> {
        &self.definitions
    }

    /// How the document refers to a type.
    pub fn refer(&self, schema: SchemaOf) -> Value {
        let mut value = schema(&mut self.generator.clone()).to_value();
        bound(&mut value);
        value
    }

    /// The whole document.
    pub fn finish(&self, routes: &[Arc<Route>]) -> Value {
        let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        let mut tags = BTreeSet::new();
        for route in routes {
            let operation = route.operation;
            tags.insert(operation.tag);
            let entry = paths.entry(operation.path).or_default();
            entry.insert(operation.verb.name().to_lowercase(), self.operation(route));
        }
        let mut schemas = self.definitions.clone();
        schemas.extend(self.partials.take());
        json!({
            "openapi": "3.1.0",
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "info": {
                "title": "berth placement API",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "Container VMs, where they go, and why.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{}, {"certificate": []}],
            "tags": tags.into_iter().map(|name| json!({"name": name})).collect::<Vec<Value>>(),
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": self.problems.take(),
                "securitySchemes": {
                    "certificate": {
                        "type": "mutualTLS",
                        "description": "A client certificate of the cell; loopback needs none.",
                    },
                },
            },
        })
    }

    fn operation(&self, route: &Route) -> Value {
        let operation = route.operation;
        let parameters: Vec<Value> =
            route.parameters.iter().map(|r| r.parameter.document(&r.fields)).collect();
        let mut shown = json!({
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": operation.summary,
            "responses": self.responses(operation),
        });
        if !parameters.is_empty() {
            shown["parameters"] = Value::Array(parameters);
        }
        if let Some(body) = &operation.body {
            shown["requestBody"] = self.body(body);
        }
        shown
    }

    /// The same schema with nothing required; what it refers to is so, too.
    fn partial(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(words) => {
                let mut shown = Map::new();
                for (word, value) in words {
                    match (word.as_str(), value) {
                        ("required", Value::Array(_)) => {}
                        ("$ref", Value::String(reference)) => {
                            let name = reference.rsplit('/').next().unwrap_or_default();
                            let named = format!("Some{name}");
                            self.name_partial(name, &named);
                            let reference = format!("#/components/schemas/{named}");
                            shown.insert("$ref".to_owned(), json!(reference));
                        }
                        // Variants that lack their tag are told apart no more.
                        ("oneOf", value) => {
                            shown.insert("anyOf".to_owned(), self.partial(value));
                        }
                        (word, value) => {
                            shown.insert(word.to_owned(), self.partial(value));
                        }
                    }
                }
                Value::Object(shown)
            }
            Value::Array(all) => all.iter().map(|one| self.partial(one)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
        }
    }

    fn name_partial(&self, name: &str, named: &str) {
        let Some(whole) = self.definitions.get(name) else { return };
        // Entered first, so that what refers to itself ends.
        let known = self.partials.borrow_mut().insert(named.to_owned(), Value::Null);
        let shown = known.unwrap_or_else(|| self.partial(whole));
        self.partials.borrow_mut().insert(named.to_owned(), shown);
    }

    fn body(&self, body: &Body) -> Value {
        // A test reads every example into its type.
        let example: Value = serde_json::from_str(body.example).unwrap_or_default();
        json!({
            "required": body.required,
            "content": {
                "application/json": {"schema": self.refer(body.schema), "example": example},
            },
        })
    }

    fn responses(&self, operation: &Operation) -> Value {
        let mut responses = Map::new();
        let cut = takes(operation, "fields");
        for answer in operation.answers {
            let mut shown = self.answer(answer, cut);
            let links: Map<String, Value> = operation
                .links
                .iter()
                .filter(|link| link.status == answer.status)
                .map(link)
                .collect();
            if !links.is_empty() {
                shown["links"] = Value::Object(links);
            }
            responses.insert(answer.status.to_string(), shown);
        }
        if takes(operation, "If-None-Match") {
            let shown = json!({"description": "Nothing changed since.", "headers": headers(true)});
            responses.insert("304".to_owned(), shown);
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in problems(operation) {
            by_status.entry(kind.status()).or_default().push(kind);
        }
        for (status, kinds) in by_status {
            let name = self.problem(status, &kinds);
            let shown = json!({"$ref": format!("#/components/responses/{name}")});
            responses.insert(status.to_string(), shown);
        }
        Value::Object(responses)
    }

    /// The name of a shared response: many operations have the same problems.
    fn problem(&self, status: u16, kinds: &[Kind]) -> String {
        let words: Vec<String> = kinds.iter().map(|kind| kind.code().replace('-', "_")).collect();
        let name = format!("Problem{status}_{}", words.join("."));
        let mut problems = self.problems.borrow_mut();
        problems.entry(name.clone()).or_insert_with(|| problem(status, kinds));
        name
    }

    /// `cut` answers may lack whatever `fields` did not name.
    fn answer(&self, answer: &Answer, cut: bool) -> Value {
        let mut shown = json!({"description": answer.summary, "headers": headers(answer.etag)});
        let content: Map<String, Value> = answer
            .content
            .iter()
            .map(|content| match content {
                Content::Json(schema) => {
                    let whole = self.refer(*schema);
                    let schema = match cut {
                        false => whole,
                        true => json!({"anyOf": [whole, self.partial(&whole)]}),
                    };
                    ("application/json".to_owned(), json!({"schema": schema}))
                }
                Content::Text(media) => {
                    ((*media).to_owned(), json!({"schema": {"type": "string"}}))
                }
            })
            .collect();
        if !content.is_empty() {
            shown["content"] = Value::Object(content);
        }
        shown
    }
}

fn takes(operation: &Operation, name: &str) -> bool {
    operation.parameters().any(|parameter| parameter.name == name)
}

/// What can go wrong: what follows from the operation's form, and what it says itself.
fn problems(operation: &Operation) -> BTreeSet<Kind> {
    let mut kinds = BTreeSet::from([
        Kind::BadRequest,
        Kind::TooLarge,
        Kind::TooMany,
        Kind::Internal,
        Kind::NoLeader,
        Kind::Ending,
        Kind::TimedOut,
    ]);
    if operation.parameters().any(|parameter| parameter.place == Place::Path) {
        kinds.insert(Kind::NotFound);
    }
    if operation.body.is_some() {
        kinds.extend([Kind::MediaType, Kind::Invalid]);
    }
    if takes(operation, "Idempotency-Key") {
        kinds.extend([Kind::KeyReused, Kind::Unconfirmed]);
    }
    if takes(operation, "If-Match") {
        kinds.extend([Kind::UnknownToken, Kind::ConditionFailed]);
    }
    if takes(operation, "page") {
        kinds.extend([Kind::UnknownToken, Kind::Gone]);
    }
    kinds.extend(operation.problems);
    kinds
}

fn headers(etag: bool) -> Value {
    let mut headers = json!({
        "X-Request-Id": {
            "description": "The same in every log line that the request causes.",
            "required": true,
            "schema": {"type": "string", "pattern": "^request-[0-9a-f]{32}$"},
        },
    });
    if etag {
        let number = |what: &str| {
            json!({
                "description": what,
                "schema": {
                    "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX,
                },
            })
        };
        headers["Berth-Applied-Index"] = number("Of reads: what this replica has applied.");
        headers["Berth-Age-Ms"] =
            number("Of reads: for how long the answer may have been overtaken, at most.");
        headers["ETag"] = json!({
            "description": "The state that is shown: for If-None-Match, and for If-Match of a \
                            change.",
            "schema": {"type": "string", "pattern": r#"^"[0-9a-f]{44}"$"#},
        });
    }
    headers
}

fn problem(status: u16, kinds: &[Kind]) -> Value {
    let codes: Vec<&str> = kinds.iter().map(|kind| kind.code()).collect();
    let titles: Vec<String> =
        kinds.iter().map(|kind| format!("`{}`: {}.", kind.code(), kind.title())).collect();
    let mut headers = headers(false);
    if kinds.iter().any(|kind| kind.passes()) {
        headers["Retry-After"] = json!({
            "description": "Seconds.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 60},
        });
    }
    json!({
        "description": titles.join(" "),
        "headers": headers,
        "content": {
            PROBLEM_JSON: {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/ProblemView"}],
                    "properties": {"status": {"const": status}, "code": {"enum": codes}},
                },
            },
        },
    })
}

fn link(link: &Link) -> (String, Value) {
    let shown = json!({"operationId": link.to, "parameters": {link.parameter: link.from}});
    (link.to.to_owned(), shown)
}

/// Gives whole numbers without bounds those of their format.
fn bound(schema: &mut Value) {
    match schema {
        Value::Object(words) => {
            let most = match words.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(u64::from(u8::MAX)),
                Some("uint16") => Some(u64::from(u16::MAX)),
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint64") => Some(u64::MAX),
                Some("int16") => Some(i16::MAX as u64),
                Some("int32") => Some(i32::MAX as u64),
                Some(_) | None => None,
            };
            if let Some(most) = most {
                words.entry("maximum").or_insert_with(|| json!(most));
            }
            let least = match words.get("format").and_then(Value::as_str) {
                Some("int16") => Some(i64::from(i16::MIN)),
                Some("int32") => Some(i64::from(i32::MIN)),
                Some(_) | None => None,
            };
            if let Some(least) = least {
                words.entry("minimum").or_insert_with(|| json!(least));
            }
            words.values_mut().for_each(bound);
        }
        Value::Array(all) => all.iter_mut().for_each(bound),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
