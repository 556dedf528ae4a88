//! Events: what happened, as a page of JSON or as a stream of server-sent events.
//!
//! ```text
//!  fleet's ring of events ─► feed (what comes after a revision, revision by revision)
//!                              ├─► page
//!                              └─► stream ─► bounded channel ─► the client
//! ```
//! Promises: a stream starts after the revision that is named (`Last-Event-ID` or `after`), or now;
//! it sends one message for each revision that changed anything that the client asks for, in
//! order and without a gap, and a comment now and then while nothing happens, which names the
//! revision that has been looked at. What is not kept any more is a problem (410), or a message
//! `gone` that ends the stream. Who does not read is cut.

mod feed;
mod stream;

pub use stream::Streams;

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use super::page::revision;
use super::parameter::{CONSISTENCY, Parameter, Shape, named};
use super::wish::{held, reading};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::header::ACCEPT;
use berth_model::Subject;
use berth_model::view::EventPageView;
use berth_scheduler::Fleet;
use feed::Filter;

const REVISION: Shape = Shape::Text { least: 44, most: 44, pattern: "^[0-9a-f]{44}$" };

pub const KINDS: &[&str] =
    &["cluster", "host", "datastore", "endpoint", "image", "container-vm", "placement", "rule"];

pub const OPERATIONS: &[Operation] = &[Operation {
    verb: Verb::Get,
    path: "/v1/events",
    id: "listEvents",
    tag: "events",
    summary: "What happened after a revision: a page, or with `Accept: text/event-stream` a \
              stream that goes on.",
    parameters: &[&[
        CONSISTENCY,
        Parameter::query("after", REVISION, "Only what came after this revision."),
        Parameter::header("Last-Event-ID", REVISION, "The same; the later of both counts."),
        Parameter::query(
            "limit",
            Shape::Number { least: 1, most: 1000 },
            "Events on a page; 100 if absent.",
        ),
        named("endpoint", "Of this endpoint's objects alone.", "default"),
        Parameter {
            example: Some("host"),
            ..Parameter::query("kind", Shape::Word(KINDS), "Of objects of this kind alone.")
        },
    ]],
    body: None,
    answers: &[Answer {
        status: 200,
        summary: "A page of events, the oldest first; or a stream of messages: `id` is the \
                  revision, `data` a RevisionView.",
        content: &[Content::Json(schema_of::<EventPageView>), Content::Text("text/event-stream")],
        etag: false,
    }],
    problems: &[Kind::NotFound, Kind::UnknownToken, Kind::Gone],
    links: &[],
    handler: handler!(list),
}];

const LIMIT: u64 = 100;

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = call.text("endpoint").map(|name| lookup::owner(fleet, Some(name))).transpose()?;
    let filter = Filter { owner, kind: call.text("kind").and_then(known) };
    let after = after(&call, fleet)?;
    if wants_stream(&call) {
        return stream::open(&call, after.unwrap_or(fleet.index()), filter);
    }
    // Without a revision, everything that is kept.
    let after = match after {
        Some(after) => after,
        None => fleet.events_after(0).map_or_else(|compacted| compacted.oldest, |_| 0),
    };
    let limit = usize::try_from(call.number("limit").unwrap_or(LIMIT)).unwrap_or(1);
    let page = feed::page(fleet, after, limit, &filter)?;
    let view = EventPageView {
        cell: show::cell_name(fleet),
        items: page.events,
        after: revision(fleet, page.after),
        more: page.more,
    };
    Ok(HttpResponse::Ok().json(view))
}

/// The word as the events know it.
fn known(kind: &str) -> Option<&'static str> {
    KINDS.iter().copied().find(|known| *known == kind)
}

fn wants_stream(call: &Call) -> bool {
    let accept = call.request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| {
        accept.split(',').any(|one| {
            let essence = one.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("text/event-stream")
        })
    })
}

/// The revision to go on from.
fn after(call: &Call, fleet: &Fleet) -> Result<Option<u64>, Problem> {
    let mut after = None;
    for name in ["after", "Last-Event-ID"] {
        let Some(text) = call.text(name) else { continue };
        let seen = held(fleet, text, name)?;
        if seen.incarnation != fleet.incarnation() {
            return Err(feed::gone("the cell was restored since that revision"));
        }
        after = after.max(Some(seen.index));
    }
    Ok(after)
}

/// An object's id as its own resource shows it.
fn id_of(subject: &Subject) -> String {
    match subject {
        Subject::Cluster(id) => id.to_string(),
        Subject::Host(id) => id.to_string(),
        Subject::Datastore(id) => id.to_string(),
        Subject::Endpoint(id) => id.to_string(),
        Subject::Image(id) => format!("sha256:{id}"),
        Subject::ContainerVm(id) => id.to_string(),
        Subject::Reservation(id) => id.to_string(),
        Subject::Rule(id) => id.to_string(),
    }
}
