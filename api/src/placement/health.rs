//! What probes ask: whether the process lives, whether it can serve, and its metrics.

use super::Api;
use super::errors::{Kind, Problem};
use actix_web::{HttpResponse, web};
use serde_json::json;

/// Commands that a replica may have yet to apply and still count as up to date.
const LAG_MAX: u64 = 10_000;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/healthz", web::get().to(alive))
        .route("/readyz", web::get().to(ready))
        .route("/metrics", web::get().to(metrics));
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

/// Ready: the cell is set up, a leader is known, and what is committed is applied here.
async fn ready(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let status = api.scheduler.replica();
    let lag = status.commit.saturating_sub(status.applied);
    if !api.scheduler.is_ready() {
        let reason = match status.leader {
            None => "no leader is known",
            Some(_) => "the cell is not set up yet",
        };
        return Err(Problem::new(Kind::NoLeader, reason));
    }
    if lag > LAG_MAX {
        return Err(Problem::new(
            Kind::NoLeader,
            format!("{lag} committed commands are not applied here yet"),
        ));
    }
    let body = json!({"ready": true, "leader": status.leader, "lag": lag});
    Ok(HttpResponse::Ok().json(body))
}

async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let text = berth_metrics::exposition::text(&api.registry)
        .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(berth_metrics::exposition::CONTENT_TYPE).body(text))
}
