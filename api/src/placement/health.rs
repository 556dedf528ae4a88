//! What probes ask: whether the process lives, whether it can serve, and its metrics.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use actix_web::HttpResponse;
use berth_model::view::ReadinessView;

/// Commands that a replica may have yet to apply and still count as up to date.
const LAG_MAX: u64 = 10_000;

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/healthz",
        id: "getHealth",
        tag: "probes",
        summary: "Whether the process lives.",
        parameters: &[],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "It does.",
            content: &[Content::Text("text/plain")],
            etag: false,
        }],
        problems: &[],
        links: &[],
        handler: handler!(alive),
    },
    Operation {
        verb: Verb::Get,
        path: "/readyz",
        id: "getReadiness",
        tag: "probes",
        summary: "Whether it can serve: the cell is set up, a leader is known, and what is \
                  committed is applied here.",
        parameters: &[],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "It can.",
            content: &[Content::Json(schema_of::<ReadinessView>)],
            etag: false,
        }],
        problems: &[Kind::NoLeader],
        links: &[],
        handler: handler!(ready),
    },
    Operation {
        verb: Verb::Get,
        path: "/metrics",
        id: "getMetrics",
        tag: "probes",
        summary: "Metrics of this process, as Prometheus reads them.",
        parameters: &[],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "Metrics.",
            content: &[Content::Text("text/plain")],
            etag: false,
        }],
        problems: &[Kind::Internal],
        links: &[],
        handler: handler!(metrics),
    },
];

async fn alive(_: Call) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n"))
}

async fn ready(call: Call) -> Result<HttpResponse, Problem> {
    let status = call.api.scheduler.replica();
    let lag = status.commit.saturating_sub(status.applied);
    if !call.api.scheduler.is_ready() {
        let reason = match status.leader {
            None => "no leader is known",
            Some(_) => "the cell is not set up yet",
        };
        return Err(Problem::new(Kind::NoLeader, reason));
    }
    if lag > LAG_MAX {
        let reason = format!("{lag} committed commands are not applied here yet");
        return Err(Problem::new(Kind::NoLeader, reason));
    }
    Ok(HttpResponse::Ok().json(ReadinessView { ready: true, leader: status.leader, lag }))
}

async fn metrics(call: Call) -> Result<HttpResponse, Problem> {
    let text = berth_metrics::exposition::text(&call.api.registry)
        .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(berth_metrics::exposition::CONTENT_TYPE).body(text))
}
