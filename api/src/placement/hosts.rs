//! Hosts: shown, put into maintenance, forgotten.

use super::call::Call;
use super::clusters::gone;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, LIST, Parameter, READ, Shape, fields, named};
use super::wish::{Wish, condition, done, newest, reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::CommandBody;
use berth_model::event::Subject;
use berth_model::view::{HostPatch, HostView, ListView, bounds};
use berth_model::{EndpointId, Host, HostState};

const NAME: Parameter = Parameter::path("host", bounds::NAME, "Name or id of a host.", "host-1");
/// A silent one, so that the example can be tried.
const SILENT: Parameter = Parameter::path("host", bounds::NAME, "Name or id of a host.", "lost");

const ONE: Answer = Answer {
    status: 200,
    summary: "The host.",
    content: &[Content::Json(schema_of::<HostView>)],
    etag: true,
};

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/hosts",
        id: "listHosts",
        tag: "hosts",
        summary: "Hosts, page by page.",
        parameters: &[
            LIST,
            &[
                named("cluster", "Of this cluster alone.", "main"),
                Parameter::query(
                    "state",
                    Shape::Word(&["connected", "silent"]),
                    "In this state alone.",
                ),
                Parameter::query("maintenance", Shape::Truth, "In maintenance, or not."),
                fields(schema_of::<HostView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of hosts.",
            content: &[Content::Json(schema_of::<ListView<HostView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/hosts/{host}",
        id: "getHost",
        tag: "hosts",
        summary: "A host, and what it holds.",
        parameters: &[&[NAME, fields(schema_of::<HostView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Patch,
        path: "/v1/hosts/{host}",
        id: "patchHost",
        tag: "hosts",
        summary: "Begins or ends a host's maintenance: nothing new is placed there.",
        parameters: &[&[NAME], CHANGE],
        body: Some(Body {
            schema: schema_of::<HostPatch>,
            required: true,
            example: r#"{"maintenance": false}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Conflict],
        links: &[],
        handler: handler!(patch),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/hosts/{host}",
        id: "deleteHost",
        tag: "hosts",
        summary: "Forgets a host that is silent and holds nothing.",
        parameters: &[&[SILENT], CHANGE],
        body: None,
        answers: &[Answer { status: 204, summary: "It is gone.", content: &[], etag: false }],
        problems: &[Kind::InUse, Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(delete),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let cluster = call.text("cluster").map(|name| lookup::cluster(fleet, name)).transpose()?;
    let cluster = cluster.map(|cluster| cluster.id);
    let (state, maintenance) = (call.text("state"), call.text("maintenance"));
    let wanted = |host: &&Host| {
        let found = match host.state {
            HostState::Connected { .. } => "connected",
            HostState::Silent { .. } => "silent",
        };
        cluster.is_none_or(|cluster| cluster == host.cluster)
            && state.is_none_or(|state| state == found)
            && maintenance.is_none_or(|_| call.truth("maintenance") == host.maintenance)
    };
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.hosts().filter(wanted),
        |host| host.id.to_string(),
        |host| &host.facts.labels,
        |host| show::host(fleet, host),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let view = show::host(fleet, lookup::host(fleet, call.path("host"))?);
    // What it holds changes with what is placed, so the fleet's revision is the resource's.
    Ok(shown(&call, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn patch(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: HostPatch = call.body()?;
    let reading = reading(&call).await?;
    let host = lookup::host(&reading.fleet, call.path("host"))?;
    let id = host.id;
    let condition = condition(&call, &reading.fleet, Subject::Host(id), host.meta.modified)?;
    let set = CommandBody::SetMaintenance { host: id, maintenance: wanted.maintenance };
    let api = &call.api;
    wish.submit_if(api, EndpointId::SYSTEM, "set maintenance", condition, set).await?;
    let fleet = newest(api);
    let host = fleet.host(id).ok_or_else(|| gone("host"))?;
    let etag = revision(&fleet, host.meta.modified);
    Ok(done(StatusCode::OK, &etag.0, &show::host(&fleet, host)))
}

async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let reading = reading(&call).await?;
    let host = lookup::host(&reading.fleet, call.path("host"))?;
    let id = host.id;
    let condition = condition(&call, &reading.fleet, Subject::Host(id), host.meta.modified)?;
    let remove = CommandBody::RemoveHost { host: id };
    wish.submit_if(&call.api, EndpointId::SYSTEM, "remove host", condition, remove).await?;
    Ok(HttpResponse::NoContent().finish())
}
