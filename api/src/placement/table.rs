//! The table of all operations, and the routes that are made of it.

use super::call::Call;
use super::document::{self, Document};
use super::errors::{Kind, Problem};
use super::fields;
use super::operation::{Body, Operation, Verb};
use super::parameter::{Ready, Shape};
use super::schema::{self, Node};
use super::{
    Api, capacity, cell, clusters, container_vms, datastores, endpoints, events, health, hosts,
    images, networks, placements, policies, rules, what_if,
};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every operation, resource by resource.
const OPERATIONS: &[&[Operation]] = &[
    cell::OPERATIONS,
    clusters::OPERATIONS,
    policies::OPERATIONS,
    hosts::OPERATIONS,
    datastores::OPERATIONS,
    networks::OPERATIONS,
    endpoints::OPERATIONS,
    images::OPERATIONS,
    container_vms::OPERATIONS,
    placements::OPERATIONS,
    rules::OPERATIONS,
    capacity::OPERATIONS,
    what_if::OPERATIONS,
    events::OPERATIONS,
    document::OPERATIONS,
    health::OPERATIONS,
];

pub fn operations() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().copied().flatten()
}

/// An operation, its parameters and its body made ready to be held against.
pub struct Route {
    pub operation: &'static Operation,
    pub parameters: Vec<Ready>,
    pub body: Option<(Body, Node)>,
}

impl Route {
    fn new(operation: &'static Operation, document: &Document) -> Result<Self, String> {
        let definitions = document.definitions();
        let of =
            |schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema| document.refer(schema);
        let parameters = operation
            .parameters()
            .map(|parameter| {
                let names = match parameter.shape {
                    Shape::Fields(schema) => fields::names(&of(schema), definitions),
                    Shape::Truth
                    | Shape::Wait { .. }
                    | Shape::Number { .. }
                    | Shape::Word(_)
                    | Shape::Text { .. }
                    | Shape::Texts { .. } => Vec::new(),
                };
                Ready::new(parameter, names)
            })
            .collect::<Result<Vec<Ready>, String>>()?;
        let body = operation.body.map(|body| compiled(body, &of(body.schema), definitions));
        Ok(Self { operation, parameters, body: body.transpose()? })
    }
}

fn compiled(
    body: Body,
    schema: &Value,
    definitions: &Map<String, Value>,
) -> Result<(Body, Node), String> {
    let node = schema::compile(schema, definitions).map_err(|error| error.to_string())?;
    Ok((body, node))
}

/// What is served: made once, shared by all workers.
pub struct Table {
    routes: BTreeMap<&'static str, Vec<Arc<Route>>>,
    /// The document as it is sent.
    pub document: Value,
    pub document_text: web::Bytes,
}

impl Table {
    /// Fails only where the table contradicts itself, which a test would tell.
    pub fn new() -> Result<Self, String> {
        let document = Document::new(operations());
        let mut routes: BTreeMap<&'static str, Vec<Arc<Route>>> = BTreeMap::new();
        for operation in operations() {
            let route = Route::new(operation, &document)?;
            routes.entry(operation.path).or_default().push(Arc::new(route));
        }
        let all: Vec<Arc<Route>> = routes.values().flatten().cloned().collect();
        let document = document.finish(&all);
        let text = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
        Ok(Self { routes, document, document_text: text.into() })
    }

    /// Adds every route of the table, and nothing else.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        for (path, routes) in &self.routes {
            let mut resource = web::resource(*path);
            for route in routes {
                resource = resource.route(served(route, method(route.operation.verb)));
                if route.operation.verb == Verb::Get {
                    resource = resource.route(served(route, Method::HEAD));
                }
            }
            let allow = allow(routes);
            config.service(resource.default_service(web::to(move |request: HttpRequest| {
                let allow = allow.clone();
                async move { other_method(&request, &allow) }
            })));
        }
    }
}

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete => Method::DELETE,
    }
}

fn served(route: &Arc<Route>, method: Method) -> actix_web::Route {
    let route = route.clone();
    web::method(method)
        .to(move |request, payload, api| answer(route.clone(), request, payload, api))
}

async fn answer(
    route: Arc<Route>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let call = Call::read(&route, api, request, payload).await?;
    (route.operation.handler)(call).await
}

/// The methods that a path knows.
fn allow(routes: &[Arc<Route>]) -> String {
    let mut names: Vec<&str> = routes.iter().map(|route| route.operation.verb.name()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

fn other_method(request: &HttpRequest, allow: &str) -> HttpResponse {
    let mut response = if request.method() == Method::OPTIONS {
        HttpResponse::NoContent().finish()
    } else {
        let detail = format!("{} is not known here; there are: {allow}", request.method());
        Problem::new(Kind::MethodNotAllowed, detail).error_response()
    };
    if let Ok(value) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}
