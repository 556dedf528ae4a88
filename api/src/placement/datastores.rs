//! Datastores: shown.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{LIST, Parameter, READ, Shape, fields, named};
use super::wish::{reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use berth_model::Datastore;
use berth_model::view::{DatastoreView, ListView, bounds};

const NAME: Parameter =
    Parameter::path("datastore", bounds::NAME, "Name or id of a datastore.", "shared");

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/datastores",
        id: "listDatastores",
        tag: "datastores",
        summary: "Datastores, page by page.",
        parameters: &[
            LIST,
            &[
                named("host", "That this host reaches.", "host-1"),
                Parameter::query(
                    "class",
                    Shape::Text { least: 0, most: 255, pattern: "^[^\\u0000]*$" },
                    "Of this class alone.",
                ),
                fields(schema_of::<DatastoreView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of datastores.",
            content: &[Content::Json(schema_of::<ListView<DatastoreView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/datastores/{datastore}",
        id: "getDatastore",
        tag: "datastores",
        summary: "A datastore, and what it holds.",
        parameters: &[&[NAME, fields(schema_of::<DatastoreView>)], READ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "The datastore.",
            content: &[Content::Json(schema_of::<DatastoreView>)],
            etag: true,
        }],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let host = call.text("host").map(|name| lookup::host(fleet, name)).transpose()?;
    let host = host.map(|host| host.id);
    let class = call.text("class");
    let wanted = |datastore: &&Datastore| {
        host.is_none_or(|host| datastore.hosts.contains(&host))
            && class.is_none_or(|class| class == datastore.class)
    };
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.datastores().filter(wanted),
        |datastore| datastore.id.to_string(),
        |datastore| &datastore.meta.labels,
        |datastore| show::datastore(fleet, datastore),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let view = show::datastore(fleet, lookup::datastore(fleet, call.path("datastore"))?);
    Ok(shown(&call, &reading, &revision(fleet, fleet.index()).0, &view))
}
