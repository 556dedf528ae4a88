//! The cell itself.

use super::call::Call;
use super::errors::Problem;
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use super::page::revision;
use super::parameter::{CONSISTENCY, fields};
use super::wish::{reading, shown};
use actix_web::HttpResponse;
use berth_model::VmState;
use berth_model::view::{CellView, ReplicaView};

pub const OPERATIONS: &[Operation] = &[Operation {
    verb: Verb::Get,
    path: "/v1/cell",
    id: "getCell",
    tag: "cell",
    summary: "The cell, and the replica that answers.",
    parameters: &[&[CONSISTENCY, fields(schema_of::<CellView>)]],
    body: None,
    answers: &[Answer {
        status: 200,
        summary: "The cell.",
        content: &[Content::Json(schema_of::<CellView>)],
        etag: true,
    }],
    problems: &[],
    links: &[],
    handler: handler!(get),
}];

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let scheduler = &call.api.scheduler;
    let status = scheduler.replica();
    let counts = VmState::NAMES.iter().zip(fleet.counts());
    let view = CellView {
        cell: scheduler.cell().to_string(),
        revision: revision(fleet, fleet.index()),
        incarnation: fleet.incarnation().0,
        replica: ReplicaView {
            id: status.id,
            role: format!("{:?}", status.role).to_lowercase(),
            term: status.term,
            leader: status.leader,
            commit: status.commit,
            applied: status.applied,
        },
        container_vms: counts.map(|(name, count)| ((*name).to_owned(), count)).collect(),
        placements: fleet.reservations().count() as u64,
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(shown(&call, &reading, &view.revision.0, &view))
}
