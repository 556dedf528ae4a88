//! What an operation of the API is: one value that routes, checks and documents it.
//!
//! Promises: there is no route without its entry in the document, and no parameter, body or answer
//! in the document that the API does not hold to, for all three are made from this.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::parameter::Parameter;
use actix_web::HttpResponse;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::pin::Pin;

pub type Handled = Pin<Box<dyn Future<Output = Result<HttpResponse, Problem>>>>;
/// Adds a type to the document, and says how to refer to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

pub struct Operation {
    pub verb: Verb,
    /// With its parameters in braces.
    pub path: &'static str,
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    /// In groups, so that lists share theirs.
    pub parameters: &'static [&'static [Parameter]],
    pub body: Option<Body>,
    pub answers: &'static [Answer],
    /// Beside those that follow from parameters and body.
    pub problems: &'static [Kind],
    /// Where an answer's ids lead.
    pub links: &'static [Link],
    pub handler: fn(Call) -> Handled,
}

impl Operation {
    pub fn parameters(&self) -> impl Iterator<Item = &'static Parameter> + use<> {
        self.parameters.iter().copied().flatten()
    }
}

#[derive(Clone, Copy)]
pub struct Body {
    pub schema: SchemaOf,
    pub required: bool,
    /// JSON.
    pub example: &'static str,
}

#[derive(Clone, Copy)]
pub struct Answer {
    pub status: u16,
    pub summary: &'static str,
    pub content: &'static [Content],
    /// Whether it names the state of what it shows.
    pub etag: bool,
}

#[derive(Clone, Copy)]
pub enum Content {
    Json(SchemaOf),
    /// Text of this media type.
    Text(&'static str),
}

/// From an answer's status and a place in its body to the path parameter of another operation.
#[derive(Clone, Copy)]
pub struct Link {
    pub status: u16,
    pub to: &'static str,
    pub parameter: &'static str,
    pub from: &'static str,
}

pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// An operation's handler out of an async function.
macro_rules! handler {
    ($function:path) => {
        |call| Box::pin($function(call))
    };
}
pub(super) use handler;
