//! Clusters: made, shown, removed. Their policies are a resource of their own.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Link, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, LIST, Parameter, READ, WRITE, fields};
use super::policies;
use super::wish::{Wish, condition, done, located, newest, reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::CommandBody;
use berth_model::event::Subject;
use berth_model::view::{ClusterRequest, ClusterView, ListView, bounds};
use berth_model::{ClusterId, EndpointId};

const NAME: Parameter =
    Parameter::path("cluster", bounds::NAME, "Name or id of a cluster.", "main");
/// An empty one, so that the example can be tried.
const EMPTY: Parameter =
    Parameter::path("cluster", bounds::NAME, "Name or id of a cluster.", "spare");

const ONE: Answer = Answer {
    status: 200,
    summary: "The cluster.",
    content: &[Content::Json(schema_of::<ClusterView>)],
    etag: true,
};

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/clusters",
        id: "listClusters",
        tag: "clusters",
        summary: "Clusters, page by page.",
        parameters: &[LIST, &[fields(schema_of::<ClusterView>)]],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of clusters.",
            content: &[Content::Json(schema_of::<ListView<ClusterView>>)],
            etag: true,
        }],
        problems: &[],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/clusters",
        id: "createCluster",
        tag: "clusters",
        summary: "Makes a cluster; hosts join it by their configuration.",
        parameters: &[WRITE],
        body: Some(Body {
            schema: schema_of::<ClusterRequest>,
            required: true,
            example: r#"{"name": "edge", "policy": {"strategy": "pack"}}"#,
        }),
        answers: &[Answer { status: 201, summary: "The new cluster.", ..ONE }],
        problems: &[Kind::NameTaken, Kind::Conflict, Kind::Contradiction, Kind::NotFound],
        links: &[
            Link {
                status: 201,
                to: "getCluster",
                parameter: "cluster",
                from: "$response.body#/id",
            },
            Link {
                status: 201,
                to: "deleteCluster",
                parameter: "cluster",
                from: "$response.body#/id",
            },
        ],
        handler: handler!(create),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/clusters/{cluster}",
        id: "getCluster",
        tag: "clusters",
        summary: "A cluster, and what its hosts hold.",
        parameters: &[&[NAME, fields(schema_of::<ClusterView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/clusters/{cluster}",
        id: "deleteCluster",
        tag: "clusters",
        summary: "Removes a cluster without hosts.",
        parameters: &[&[EMPTY], CHANGE],
        body: None,
        answers: &[Answer { status: 204, summary: "It is gone.", content: &[], etag: false }],
        problems: &[Kind::InUse],
        links: &[],
        handler: handler!(delete),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.clusters(),
        |cluster| cluster.id.to_string(),
        |cluster| &cluster.meta.labels,
        |cluster| show::cluster(fleet, cluster),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let view = show::cluster(fleet, lookup::cluster(fleet, call.path("cluster"))?);
    // Sums over hosts change with the hosts, so the fleet's revision is the resource's.
    Ok(shown(&call, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: ClusterRequest = call.body()?;
    let reading = reading(&call).await?;
    let policy = policies::policy(&reading.fleet, wanted.policy)?;
    let id = ClusterId::from_bytes(wish.derive_short("cluster id"));
    let create = CommandBody::CreateCluster { id, name: wanted.name, policy };
    let api = &call.api;
    wish.submit(api, EndpointId::SYSTEM, "create cluster", create).await?;
    let fleet = newest(api);
    let cluster = fleet.cluster(id).ok_or_else(|| gone("cluster"))?;
    let etag = revision(&fleet, cluster.meta.modified);
    let answer = done(StatusCode::CREATED, &etag.0, &show::cluster(&fleet, cluster));
    Ok(located(answer, &format!("/v1/clusters/{id}")))
}

/// Somebody was faster.
pub fn gone(what: &str) -> Problem {
    Problem::new(Kind::Conflict, format!("the {what} was removed meanwhile"))
}

async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let reading = reading(&call).await?;
    let cluster = lookup::cluster(&reading.fleet, call.path("cluster"))?;
    let id = cluster.id;
    let subject = Subject::Cluster(id);
    let condition = condition(&call, &reading.fleet, subject, cluster.meta.modified)?;
    let remove = CommandBody::RemoveCluster { cluster: id };
    let api = &call.api;
    wish.submit_if(api, EndpointId::SYSTEM, "remove cluster", condition, remove).await?;
    Ok(HttpResponse::NoContent().finish())
}
