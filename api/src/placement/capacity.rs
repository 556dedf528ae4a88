//! How many more of one shape fit, now and after the loss of any one host.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Operation, Verb, handler, schema_of};
use super::page::revision;
use super::what_if::ask_in_turn;
use super::wish::reading;
use super::{lookup, resolve, show};
use actix_web::HttpResponse;
use berth_model::view::{AfterLossView, CapacityRequest, CapacityView, ClusterCapacityView};
use berth_scheduler::Question;
use berth_scheduler::whatif::Answer as Found;
use std::sync::Arc;

const MOST: u64 = 100_000;

pub const OPERATIONS: &[Operation] = &[Operation {
    verb: Verb::Post,
    path: "/v1/capacity",
    id: "askCapacity",
    tag: "capacity",
    summary: "How many more of one shape fit, now and after the loss of any one host.",
    parameters: &[],
    body: Some(Body {
        schema: schema_of::<CapacityRequest>,
        required: true,
        example: r#"{"request": {"demand": {"cpu_millis": 500, "memory_bytes": 268435456}},
                     "most": 1000}"#,
    }),
    answers: &[Answer {
        status: 200,
        summary: "How many.",
        content: &[Content::Json(schema_of::<CapacityView>)],
        etag: false,
    }],
    problems: &[Kind::NotFound, Kind::Contradiction],
    links: &[],
    handler: handler!(ask),
}];

async fn ask(call: Call) -> Result<HttpResponse, Problem> {
    let wanted: CapacityRequest = call.body()?;
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let endpoint = lookup::owner(fleet, wanted.endpoint.as_deref())?;
    let wish = Arc::new(resolve::placement(fleet, endpoint, wanted.request)?);
    let most = wanted.most.unwrap_or(MOST);
    let question = Question::Capacity { endpoint, wish, most };
    let Found::Capacity(found) = ask_in_turn(&call, question).await? else {
        return Err(Problem::new(Kind::Internal, "the answer is to another question"));
    };
    let clusters = found.clusters.iter().map(|(cluster, now)| ClusterCapacityView {
        cluster: show::cluster_name(fleet, *cluster),
        now: *now,
    });
    let after_loss = found.after_loss.map(|loss| AfterLossView {
        host: show::host_name(fleet, loss.host),
        fit: loss.fit,
        homeless: loss.homeless,
        tried: loss.tried,
        exact: loss.exact,
    });
    let view = CapacityView {
        cell: show::cell_name(fleet),
        revision: revision(fleet, found.revision_index),
        most,
        now: found.now,
        clusters: clusters.collect(),
        after_loss,
    };
    Ok(HttpResponse::Ok().json(view))
}
