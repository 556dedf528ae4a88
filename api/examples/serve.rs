//! Serves `/v1` of a cell in this process on a loopback port: a real scheduler, hosts that play
//! their part, and an object of each kind under the names that the API's examples use.
//!
//! `cargo run -p berth-api --example serve -- 127.0.0.1:7301` prints a line once all is there, and
//! serves until it is killed; a second argument sizes the hosts, in GiB of memory. For property-based runs against the OpenAPI document:
//! `schemathesis --config-file api/tests/schemathesis.toml run
//! http://127.0.0.1:7301/v1/openapi.json`. Waits are capped at a second, so that a run is not held
//! up by what cannot be.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool: it says so and ends")]

#[path = "../tests/cell/mod.rs"]
mod cell;

use berth_api::placement::Limits;
use berth_model::command::Principal;
use berth_model::{
    Bytes, Demand, EndpointId, HostState, MilliCpus, PlacementWish, RequestId, ReservationId,
};
use berth_scheduler::{PlaceMode, PlaceRequest, PlaceWish};
use cell::{Cell, Size, http, node};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HOSTS: usize = 6;
/// GiB of each host's memory, if the second argument does not say.
const MEMORY_GIB: u64 = 1024;

fn main() {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7301".to_owned());
    let memory = std::env::args().nth(2).map_or(MEMORY_GIB, |text| text.parse().unwrap());
    let size = Size { cpus: memory / 4, memory: Bytes::gib(memory) };
    actix_rt::System::new().block_on(async move {
        let limits = Limits { wait: Duration::from_secs(1), ..Limits::default() };
        let cell = Cell::start_with(HOSTS, size, limits, &at).await;
        furnish(&cell, size).await;
        println!("serving http://{}/v1/openapi.json", cell.api);
        std::future::pending::<()>().await;
    });
}

/// What the examples of the document name.
async fn furnish(cell: &Cell, size: Size) {
    cell.load_busybox().await;
    post(cell, "/v1/clusters", json!({"name": "spare"})).await;
    post(cell, "/v1/endpoints", json!({"name": "spare"})).await;
    for name in ["web-1", "web-2", "web-3"] {
        let body = json!({
            "image": "busybox", "name": name, "command": ["sleep"], "labels": {"app": "web"},
            "demand": {"cpu_millis": 100, "memory_bytes": 64 << 20}, "start": name == "web-1",
        });
        post(cell, "/v1/container-vms?wait=true", body).await;
    }
    for name in ["apart", "spare"] {
        let body = json!({
            "name": name, "rule": {"kind": "apart", "scope": "host"}, "weight": 5,
            "select": [{"op": "in", "label": "app", "values": ["web"]}],
        });
        post(cell, "/v1/rules", body).await;
    }
    hold(cell).await;
    lose_a_host(cell, size).await;
}

async fn post(cell: &Cell, path: &str, body: Value) {
    let answer = http::post(cell.api, path, &body.to_string()).await;
    assert!(answer.status < 300, "{path}: {answer:?}");
}

/// The reservations of the examples.
async fn hold(cell: &Cell) {
    let demand = Demand { cpu: MilliCpus(100), memory: Bytes::mib(64), ..Demand::default() };
    let items = (1..=3).map(|number| {
        let mut id = [0; 16];
        id[15] = number;
        PlaceWish { wish: 0, endpoint: EndpointId::SYSTEM, id: ReservationId::from_bytes(id) }
    });
    let request = PlaceRequest {
        principal: Principal::Local,
        request_id: RequestId::random(&mut rand::rng()),
        traceparent: None,
        deadline: Duration::from_secs(10),
        wishes: vec![Arc::new(PlacementWish { demand, ..PlacementWish::default() })],
        items: items.collect(),
        gang: None,
        mode: PlaceMode::Hold { hold_ms: None },
        wait: None,
        explain_hosts: 0,
    };
    let answer = cell.scheduler.place(request).await.unwrap();
    assert!(answer.items.iter().all(Result::is_ok), "{answer:?}");
}

/// One that is known and gone: `lost`.
async fn lose_a_host(cell: &Cell, size: Size) {
    let mut facts = node::facts(HOSTS + 1, size);
    facts.name = "lost".to_owned();
    let node = cell.join(facts).await;
    node.kill();
    let mut fleets = cell.scheduler.watch();
    let silent = |fleet: &berth_scheduler::Fleet| {
        let host = fleet.host_named("lost");
        host.is_some_and(|host| matches!(host.state, HostState::Silent { .. }))
    };
    fleets.wait_for(|fleet| silent(fleet)).await.unwrap();
}
