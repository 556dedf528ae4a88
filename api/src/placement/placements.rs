//! Placements: places decided for one, a batch or a gang, and places held.

use super::call::Call;
use super::clusters::gone;
use super::container_vms::refused;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Link, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, DRY_RUN, LIST, Parameter, READ, WAIT, WRITE, fields, named};
use super::wish::{Wish, condition, done, newest, reading, shown};
use super::{lookup, resolve, show};
use crate::clock;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::CommandBody;
use berth_model::event::Subject;
use berth_model::view::{
    DecisionView, ExtendRequest, ListView, PlacementItem, PlacementRequest, PlacementsView,
    ReservationView,
};
use berth_model::{
    EndpointId, GangId, PlacementWish, Rejection, Reservation, ReservationId, Timestamp,
};
use berth_scheduler::{Fleet, PlaceAnswer, PlaceMode, PlaceRequest, PlaceWish, SubmitError};
use std::sync::Arc;
use std::time::Duration;

/// How long a decision and its commit may take, waiting apart.
const DEADLINE: Duration = Duration::from_secs(20);
/// Hosts whose own reasons are told if the request does not say: of one, and of each of many.
const EXPLAIN_ONE: u32 = 32;
const EXPLAIN_MANY: u32 = 0;

const fn id(example: &'static str) -> Parameter {
    Parameter::path("placement", "^reservation-[0-9a-f]{32}$", "Id of a reservation.", example)
}

const ONE: Answer = Answer {
    status: 200,
    summary: "The reservation.",
    content: &[Content::Json(schema_of::<ReservationView>)],
    etag: true,
};

const DECIDED: Answer = Answer {
    status: 200,
    summary: "Where each would go, or why nowhere; nothing is held.",
    content: &[Content::Json(schema_of::<PlacementsView>)],
    etag: false,
};

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/placements",
        id: "listPlacements",
        tag: "placements",
        summary: "Places that are held, page by page.",
        parameters: &[
            LIST,
            &[
                named("endpoint", "Of this endpoint alone.", "default"),
                named("host", "On this host.", "host-1"),
                named("cluster", "On the hosts of this cluster.", "main"),
                named("gang", "Of this gang.", "gang-00000000000000000000000000000001"),
                fields(schema_of::<ReservationView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of reservations.",
            content: &[Content::Json(schema_of::<ListView<ReservationView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/placements",
        id: "createPlacements",
        tag: "placements",
        summary: "Decides host and datastores of one request, a batch or a gang; holds them if \
                  asked to.",
        parameters: &[&[DRY_RUN, WAIT], WRITE],
        body: Some(Body {
            schema: schema_of::<PlacementRequest>,
            required: true,
            example: r#"{"request": {"demand": {"cpu_millis": 100, "memory_bytes": 67108864},
                         "labels": {"app": "web"}}, "reserve": true, "hold_seconds": 600}"#,
        }),
        answers: &[
            DECIDED,
            Answer { status: 201, summary: "Where each is held, or why nowhere.", ..DECIDED },
        ],
        problems: &[
            Kind::NotFound,
            Kind::Conflict,
            Kind::Contradiction,
            Kind::NoRoom,
            Kind::QuotaExceeded,
        ],
        links: &[
            Link {
                status: 201,
                to: "getPlacement",
                parameter: "placement",
                from: "$response.body#/items/0/id",
            },
            Link {
                status: 201,
                to: "patchPlacement",
                parameter: "placement",
                from: "$response.body#/items/0/id",
            },
            Link {
                status: 201,
                to: "deletePlacement",
                parameter: "placement",
                from: "$response.body#/items/0/id",
            },
        ],
        handler: handler!(create),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/placements/{placement}",
        id: "getPlacement",
        tag: "placements",
        summary: "A place that is held.",
        parameters: &[
            &[
                id("reservation-00000000000000000000000000000001"),
                fields(schema_of::<ReservationView>),
            ],
            READ,
        ],
        body: None,
        answers: &[ONE],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Patch,
        path: "/v1/placements/{placement}",
        id: "patchPlacement",
        tag: "placements",
        summary: "Holds a place for so long from now, or until it is released.",
        parameters: &[&[id("reservation-00000000000000000000000000000002")], CHANGE],
        body: Some(Body {
            schema: schema_of::<ExtendRequest>,
            required: true,
            example: r#"{"hold_seconds": 600}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(extend),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/placements/{placement}",
        id: "deletePlacement",
        tag: "placements",
        summary: "Gives a place back.",
        parameters: &[&[id("reservation-00000000000000000000000000000003")], CHANGE],
        body: None,
        answers: &[Answer { status: 204, summary: "It is gone.", content: &[], etag: false }],
        problems: &[Kind::Conflict],
        links: &[],
        handler: handler!(release),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = call.text("endpoint").map(|name| lookup::owner(fleet, Some(name))).transpose()?;
    let host = call.text("host").map(|name| lookup::host(fleet, name)).transpose()?;
    let cluster = call.text("cluster").map(|name| lookup::cluster(fleet, name)).transpose()?;
    let (host, cluster) = (host.map(|host| host.id), cluster.map(|cluster| cluster.id));
    let gang: Option<Option<GangId>> = call.text("gang").map(|id| id.parse().ok());
    let wanted = |held: &&Reservation| {
        let on = held.place.host;
        owner.is_none_or(|owner| owner == held.meta.endpoint)
            && host.is_none_or(|host| host == on)
            && gang.is_none_or(|gang| gang.is_some() && gang == held.gang)
            && cluster
                .is_none_or(|cluster| fleet.host(on).is_some_and(|host| host.cluster == cluster))
    };
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.reservations().filter(wanted),
        |held| held.id.to_string(),
        |held| &held.wish.labels,
        |held| show::reservation(fleet, held),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let held = lookup::reservation(fleet, call.path("placement"))?;
    let etag = revision(fleet, held.meta.modified);
    Ok(shown(&call, &reading, &etag.0, &show::reservation(fleet, held)))
}

/// How many were asked for, and how they hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Batch,
    Gang,
}

async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let body: PlacementRequest = call.body()?;
    if body.hold_seconds.is_some() && !body.reserve {
        let detail = "hold_seconds: nothing is held without `reserve`";
        return Err(Problem::new(Kind::Contradiction, detail).at("hold_seconds"));
    }
    let dry_run = call.truth("dry_run");
    let hold = body.reserve && !dry_run;
    if call.wait().is_some() && !hold {
        let detail = "wait: only for a place that is to be held is there something to wait for";
        return Err(Problem::new(Kind::Contradiction, detail));
    }
    let (form, items) = match (body.request, body.batch, body.gang) {
        (Some(one), _, _) => (Form::One, vec![one]),
        (None, Some(items), _) => (Form::Batch, items),
        (None, None, Some(items)) => (Form::Gang, items),
        (None, None, None) => return Err(Problem::bad("nothing is asked for")),
    };
    // Names change seldom, and apply looks again: what this replica has will do.
    let fleet = newest(&call.api);
    let owner = lookup::owner(&fleet, body.endpoint.as_deref())?;
    let (wishes, items) = wishes(&fleet, &wish, owner, items)?;
    let gang = (form == Form::Gang).then(|| GangId::from_bytes(wish.derive_short("gang")));
    let explain = body.explain_hosts.unwrap_or(match form {
        Form::One => EXPLAIN_ONE,
        Form::Batch | Form::Gang => EXPLAIN_MANY,
    });
    let mode = match hold {
        true => PlaceMode::Hold { hold_ms: body.hold_seconds.map(|seconds| seconds * 1000) },
        false => PlaceMode::Decide,
    };
    let asked: Vec<u32> = items.iter().map(|item| item.wish).collect();
    let request = PlaceRequest {
        principal: wish.principal.clone(),
        request_id: wish.request_id,
        traceparent: wish.traceparent.clone(),
        deadline: DEADLINE + call.wait().unwrap_or_default(),
        wishes: wishes.clone(),
        items,
        gang,
        mode,
        wait: call.wait(),
        explain_hosts: usize::try_from(explain).unwrap_or(0),
    };
    let answer = call.api.scheduler.place(request).await.map_err(trouble)?;
    let fleet = newest(&call.api);
    let refusal = answer.items.iter().find_map(|item| item.as_ref().err());
    if let (Form::One | Form::Gang, false, Some(refusal)) = (form, dry_run, refusal) {
        return Err(refused(&fleet, refusal));
    }
    let view = decided(&fleet, &wishes, &asked, &answer, gang.filter(|_| hold));
    let held = hold && view.placed > 0;
    let status = if held { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponse::build(status).json(view))
}

/// Ids follow from the key, so another's reservation is that of another request with the key.
fn trouble(error: SubmitError) -> Problem {
    if matches!(error, SubmitError::Rejected(Rejection::OtherReservation(_))) {
        return Rejection::KeyReused.into();
    }
    error.into()
}

/// Shapes seen lately that an item is held against before it counts as another: requests of many
/// have few.
const SHAPES_TRIED: usize = 8;

/// Each shape once, and which item has which.
fn wishes(
    fleet: &Fleet,
    wish: &Wish,
    owner: EndpointId,
    items: Vec<PlacementItem>,
) -> Result<(Vec<Arc<PlacementWish>>, Vec<PlaceWish>), Problem> {
    let mut shapes: Vec<PlacementItem> = Vec::new();
    let mut wishes = Vec::new();
    let mut placed = Vec::with_capacity(items.len());
    let many = items.len() > 1;
    for (position, item) in items.into_iter().enumerate() {
        let recent = shapes.len().saturating_sub(SHAPES_TRIED);
        let shape = match shapes.iter().skip(recent).position(|shape| *shape == item) {
            Some(found) => recent + found,
            None => {
                let resolved =
                    resolve::placement(fleet, owner, item.clone()).map_err(|problem| {
                        if many { within(problem, position) } else { problem }
                    })?;
                wishes.push(Arc::new(resolved));
                shapes.push(item);
                shapes.len() - 1
            }
        };
        let id = wish.derive_short(&format!("reservation {position}"));
        placed.push(PlaceWish {
            wish: u32::try_from(shape).unwrap_or(u32::MAX),
            endpoint: owner,
            id: ReservationId::from_bytes(id),
        });
    }
    Ok((wishes, placed))
}

/// Which of many is meant.
fn within(mut problem: Problem, position: usize) -> Problem {
    problem.detail = format!("[{position}] {}", problem.detail);
    problem.at = problem.at.map(|at| format!("[{position}].{at}"));
    problem
}

fn decided(
    fleet: &Fleet,
    wishes: &[Arc<PlacementWish>],
    asked: &[u32],
    answer: &PlaceAnswer,
    gang: Option<GangId>,
) -> PlacementsView {
    let nothing = PlacementWish::default();
    let demand = |wish: u32| {
        let wish = usize::try_from(wish).ok().and_then(|wish| wishes.get(wish));
        &wish.map_or(&nothing, AsRef::as_ref).demand
    };
    let decisions = asked.iter().zip(&answer.items);
    let items: Vec<DecisionView> =
        decisions.map(|(wish, item)| show::decision(fleet, demand(*wish), item)).collect();
    let placed = answer.items.iter().filter(|item| item.is_ok()).count();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    PlacementsView {
        cell: show::cell_name(fleet),
        revision: revision(fleet, answer.revision_index),
        placed: count(placed),
        refused: count(items.len() - placed),
        items,
        gang: gang.map(|gang| gang.to_string()),
    }
}

async fn extend(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: ExtendRequest = call.body()?;
    let reading = reading(&call).await?;
    let held = lookup::reservation(&reading.fleet, call.path("placement"))?;
    let (id, owner) = (held.id, held.meta.endpoint);
    let subject = Subject::Reservation(id);
    let condition = condition(&call, &reading.fleet, subject, held.meta.modified)?;
    let now = reading.fleet.time().max(clock::now());
    let expires_at =
        wanted.hold_seconds.map(|seconds| Timestamp(now.0.saturating_add(seconds * 1000)));
    let extend = CommandBody::Extend { id, expires_at };
    let api = &call.api;
    wish.submit_if(api, owner, "extend", condition, extend).await?;
    let fleet = newest(api);
    let held = fleet.reservation(id).ok_or_else(|| gone("reservation"))?;
    let etag = revision(&fleet, held.meta.modified);
    Ok(done(StatusCode::OK, &etag.0, &show::reservation(&fleet, held)))
}

async fn release(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let reading = reading(&call).await?;
    let held = lookup::reservation(&reading.fleet, call.path("placement"))?;
    let (id, owner) = (held.id, held.meta.endpoint);
    let subject = Subject::Reservation(id);
    let condition = condition(&call, &reading.fleet, subject, held.meta.modified)?;
    let release = CommandBody::Release { ids: vec![id] };
    wish.submit_if(&call.api, owner, "release", condition, release).await?;
    Ok(HttpResponse::NoContent().finish())
}
