//! What would become of what is on hosts that were lost or drained.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Operation, Verb, handler, schema_of};
use super::page::revision;
use super::wish::reading;
use super::{lookup, show};
use actix_web::HttpResponse;
use berth_model::Demand;
use berth_model::view::{MoveView, WhatIfRequest, WhatIfView};
use berth_scheduler::whatif::{Answer as Found, Move, Subject};
use berth_scheduler::{Fleet, Question};

pub const OPERATIONS: &[Operation] = &[Operation {
    verb: Verb::Post,
    path: "/v1/what-if",
    id: "askWhatIf",
    tag: "capacity",
    summary: "Where everything on some hosts would go if they were lost, or one was drained.",
    parameters: &[],
    body: Some(Body {
        schema: schema_of::<WhatIfRequest>,
        required: true,
        example: r#"{"lose": ["host-1"]}"#,
    }),
    answers: &[Answer {
        status: 200,
        summary: "What would move, and where to.",
        content: &[Content::Json(schema_of::<WhatIfView>)],
        etag: false,
    }],
    problems: &[Kind::NotFound],
    links: &[],
    handler: handler!(ask),
}];

async fn ask(call: Call) -> Result<HttpResponse, Problem> {
    let wanted: WhatIfRequest = call.body()?;
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let host = |name: &String| lookup::host(fleet, name).map(|host| host.id);
    let question = match (&wanted.lose, &wanted.drain) {
        (Some(names), _) => {
            let hosts = names.iter().map(host).collect::<Result<_, Problem>>()?;
            Question::LoseHosts { hosts }
        }
        (None, Some(name)) => Question::Drain { host: host(name)? },
        (None, None) => return Err(Problem::bad("nothing is asked")),
    };
    let Found::Moves(found) = ask_in_turn(&call, question).await? else {
        return Err(Problem::new(Kind::Internal, "the answer is to another question"));
    };
    let moves: Vec<MoveView> = found.moves.iter().map(|one| shown(fleet, one)).collect();
    let placed = moves.iter().filter(|one| one.to.is_some()).count();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let view = WhatIfView {
        cell: show::cell_name(fleet),
        revision: revision(fleet, found.revision_index),
        placed: count(placed),
        refused: count(moves.len() - placed),
        moves,
    };
    Ok(HttpResponse::Ok().json(view))
}

/// Asks once it is this request's turn.
pub async fn ask_in_turn(call: &Call, question: Question) -> Result<Found, Problem> {
    let _turn = call.api.turn().await?;
    Ok(call.api.scheduler.what_if(question).await?)
}

fn shown(fleet: &Fleet, one: &Move) -> MoveView {
    let nothing = Demand::default();
    let (kind, id, name, demand) = match one.subject {
        Subject::ContainerVm(id) => {
            let vm = fleet.container(id);
            let demand = vm.map_or(&nothing, |vm| &vm.spec.demand);
            ("container-vm", id.to_string(), vm.map(|vm| vm.name.clone()), demand)
        }
        Subject::Reservation(id) => {
            let demand = fleet.reservation(id).map_or(&nothing, |held| &held.wish.demand);
            ("placement", id.to_string(), None, demand)
        }
    };
    MoveView {
        kind: kind.to_owned(),
        id,
        name,
        from: show::host_name(fleet, one.from),
        to: one.to.as_ref().ok().map(|place| show::place(fleet, demand, place)),
        explanation: one.to.as_ref().err().map(|refused| show::explanation(fleet, refused)),
    }
}
