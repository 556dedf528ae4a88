//! Networks: shown, as hosts' configurations name them.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{LIST, Parameter, READ, fields, named};
use super::wish::{reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use berth_model::view::{ListView, NetworkView, bounds};
use std::collections::BTreeMap;

const NAME: Parameter = Parameter::path("network", bounds::NAME, "Name of a network.", "front");

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/networks",
        id: "listNetworks",
        tag: "networks",
        summary: "Networks, page by page. They carry no labels.",
        parameters: &[
            LIST,
            &[named("host", "That this host reaches.", "host-1"), fields(schema_of::<NetworkView>)],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of networks.",
            content: &[Content::Json(schema_of::<ListView<NetworkView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/networks/{network}",
        id: "getNetwork",
        tag: "networks",
        summary: "A network, and the hosts that reach it.",
        parameters: &[&[NAME, fields(schema_of::<NetworkView>)], READ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "The network.",
            content: &[Content::Json(schema_of::<NetworkView>)],
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
    let host = host.map(|host| host.facts.name.clone());
    let unlabelled = BTreeMap::new();
    let networks = show::networks(fleet);
    let list = Page::read(&call, fleet)?.of(
        fleet,
        networks
            .values()
            .filter(|network| host.as_ref().is_none_or(|host| network.hosts.contains(host))),
        |network| network.name.clone(),
        |_| &unlabelled,
        |network| (*network).clone(),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let name = call.path("network");
    let network = show::networks(fleet).remove(name);
    let network = network.ok_or_else(|| Problem::not_found(format!("no network `{name}`")))?;
    Ok(shown(&call, &reading, &revision(fleet, fleet.index()).0, &network))
}
