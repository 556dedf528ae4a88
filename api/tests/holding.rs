//! Placements, rules, policies, capacity and events over HTTP.

#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod cell;

use berth_api::placement::Limits;
use berth_client::view::{
    AdmissionView, CapacityRequest, DemandRequest, ExtendRequest, HostPatch, PlacementItem,
    PlacementRequest, PolicyRequest, RuleKindView, RulePut, RuleRequest, TermView, WhatIfRequest,
};
use berth_client::{Client, ClientError, EventsQuery, ListQuery, WriteOptions};
use berth_model::Bytes;
use cell::{Cell, Size, http, with_cell};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::pin::pin;

fn client(cell: &Cell) -> Client {
    Client::new(&[format!("http://{}", cell.api)], None).unwrap()
}

/// So much of a host, labelled as one of an app.
fn item(cpu_millis: u64, app: &str) -> PlacementItem {
    PlacementItem {
        demand: DemandRequest {
            cpu_millis: Some(cpu_millis),
            memory_bytes: Some(64 << 20),
            ..DemandRequest::default()
        },
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ..PlacementItem::default()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    let error = answer.unwrap_err();
    error.problem().unwrap_or_else(|| panic!("{error:?}")).code.clone()
}

const NONE: WriteOptions = WriteOptions::NONE;

#[test]
fn a_place_is_held_kept_longer_and_given_back() {
    with_cell(2, |cell| async move {
        let client = client(&cell);
        let held = client.reserve(item(500, "web"), Some(600), &NONE).await.unwrap();
        assert_eq!((held.placed, held.refused), (1, 0));
        let id = held.items[0].id.clone().unwrap();
        let view = client.placement(&id).await.unwrap();
        assert_eq!(view.place.host, held.items[0].place.as_ref().unwrap().host);
        assert_eq!((view.charged.cpu_millis, view.demand.cpu_millis), (500, 500));
        let before = view.expires_at_ms.unwrap();
        let longer = ExtendRequest { hold_seconds: Some(6000) };
        let later = client.extend(&id, &longer, &NONE).await.unwrap();
        assert!(later.expires_at_ms.unwrap() > before);
        let until_released = client.extend(&id, &ExtendRequest::default(), &NONE).await.unwrap();
        assert_eq!(until_released.expires_at_ms, None);
        let host = client.host(&view.place.host).await.unwrap();
        assert_eq!((host.placed, host.charged.cpu_millis), (1, 500));
        let of_host = ListQuery { host: Some(view.place.host.clone()), ..ListQuery::default() };
        assert_eq!(client.placements(&of_host).await.unwrap().items.len(), 1);
        client.release(&id, &NONE).await.unwrap();
        assert_eq!(code(client.placement(&id).await), "not-found");
        let host = client.host(&view.place.host).await.unwrap();
        assert_eq!((host.placed, host.charged.cpu_millis), (0, 0));
    });
}

#[test]
fn a_batch_is_held_in_part_and_a_gang_whole_or_not_at_all() {
    with_cell(2, |cell| async move {
        let client = client(&cell);
        // Four CPUs a host, overcommitted four times: 16 on each of two hosts.
        let batch = client.reserve_batch(vec![item(10_000, "a"); 3], None, &NONE).await.unwrap();
        assert_eq!((batch.placed, batch.refused), (2, 1));
        let refused = batch.items.iter().find_map(|item| item.explanation.as_ref()).unwrap();
        assert_eq!(refused.refused["capacity"], 2);
        let gang = client.reserve_gang(vec![item(4_000, "b"); 4], None, &NONE).await;
        assert_eq!(code(gang), "no-room");
        assert_eq!(client.placements(&ListQuery::default()).await.unwrap().items.len(), 2);
        let gang = client.reserve_gang(vec![item(3_000, "b"); 4], None, &NONE).await.unwrap();
        assert_eq!((gang.placed, gang.refused), (4, 0));
        let name = gang.gang.unwrap();
        let path = format!("/v1/placements?gang={name}");
        let list = http::get(cell.api, &path).await.json();
        assert_eq!(list["items"].as_array().unwrap().len(), 4, "{list}");
    });
}

#[test]
fn what_is_only_decided_is_not_held() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let decide = PlacementRequest { request: Some(item(500, "web")), ..Default::default() };
        let decided = client.place(&decide, &NONE).await.unwrap();
        assert!(decided.items[0].place.is_some() && decided.items[0].id.is_none());
        let dry = WriteOptions { dry_run: true, ..NONE };
        let too_much = PlacementRequest {
            request: Some(item(1_000_000, "web")),
            reserve: true,
            ..Default::default()
        };
        let told = client.place(&too_much, &dry).await.unwrap();
        let explanation = told.items[0].explanation.as_ref().unwrap();
        assert_eq!(explanation.hosts.len(), 1);
        assert!(explanation.relaxation.is_some(), "{explanation:?}");
        assert_eq!(code(client.place(&too_much, &NONE).await), "no-room");
        assert!(client.placements(&ListQuery::default()).await.unwrap().items.is_empty());
        let held = PlacementRequest { hold_seconds: Some(5), ..decide };
        assert_eq!(code(client.place(&held, &NONE).await), "contradiction");
    });
}

#[test]
fn one_key_holds_one_place() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let key = berth_model::IdempotencyKey::random(&mut rand::rng());
        let keyed = WriteOptions { key: Some(key), ..NONE };
        let first = client.reserve(item(500, "web"), None, &keyed).await.unwrap();
        let second = client.reserve(item(500, "web"), None, &keyed).await.unwrap();
        assert_eq!(first.items[0].id, second.items[0].id);
        assert_eq!(client.placements(&ListQuery::default()).await.unwrap().items.len(), 1);
    });
}

#[test]
fn a_container_vm_takes_over_what_is_held_for_it() {
    with_cell(3, |cell| async move {
        cell.load_busybox().await;
        let client = client(&cell);
        let mut wanted = item(1_500, "web");
        wanted.demand.host = Some("host-2".to_owned());
        wanted.demand.disk_bytes = Some(1 << 30);
        let held = client.reserve(wanted, None, &NONE).await.unwrap();
        let id = held.items[0].id.clone().unwrap();
        let body = json!({"image": "busybox", "name": "on-it", "command": ["sleep"],
            "reservation": id, "start": true});
        let made = http::post(cell.api, "/v1/container-vms?wait", &body.to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
        let made = made.json();
        assert_eq!(
            (&made["host"], &made["demand"]["cpu_millis"]),
            (&json!("host-2"), &json!(1500))
        );
        assert_eq!(code(client.placement(&id).await), "not-found");
        let gone = http::post(cell.api, "/v1/container-vms", &body.to_string()).await;
        assert_eq!((gone.status, &gone.json()["code"]), (404, &json!("not-found")));
    });
}

#[test]
fn rules_are_made_shown_with_what_breaks_them_replaced_and_removed() {
    with_cell(2, |cell| async move {
        let client = client(&cell);
        client.reserve_batch(vec![item(100, "web"); 3], None, &NONE).await.unwrap();
        let select = vec![TermView::In { label: "app".into(), values: vec!["web".into()] }];
        let apart = RuleKindView::Apart { scope: "host".to_owned(), unless_same: None };
        let request = RuleRequest {
            name: "web-apart".to_owned(),
            endpoint: None,
            labels: BTreeMap::new(),
            select: select.clone(),
            each: None,
            weight: None,
            rule: apart,
        };
        let rule = client.create_rule(&request, &NONE).await.unwrap();
        assert_eq!(code(client.create_rule(&request, &NONE).await), "name-taken");
        let status = client.rule("web-apart").await.unwrap().status.unwrap();
        assert_eq!((status.subjects, status.kept), (3, false));
        assert!(
            status.broken.iter().all(|breach| breach.at.as_deref().unwrap().starts_with("host-"))
        );
        // It holds for what comes: both hosts have one.
        assert_eq!(code(client.reserve(item(100, "web"), None, &NONE).await), "no-room");
        let put = RulePut {
            select,
            each: None,
            weight: None,
            rule: RuleKindView::AtMost { scope: "domain:rack".to_owned(), count: 4 },
        };
        let stale = WriteOptions { if_match: Some(rule.meta.created.clone()), ..NONE };
        let changed = client.replace_rule(&rule.id, &put, &stale).await.unwrap();
        assert_ne!(changed.meta.modified, rule.meta.modified);
        assert!(changed.status.unwrap().kept);
        assert_eq!(code(client.replace_rule(&rule.id, &put, &stale).await), "condition-failed");
        client.reserve(item(100, "web"), None, &NONE).await.unwrap();
        assert_eq!(code(client.reserve(item(100, "web"), None, &NONE).await), "no-room");
        let listed = ListQuery { status: true, ..ListQuery::default() };
        assert_eq!(
            client.rules(&listed).await.unwrap().items[0].status.as_ref().unwrap().subjects,
            4
        );
        client.delete_rule("web-apart", &NONE).await.unwrap();
        assert_eq!(code(client.rule("web-apart").await), "not-found");
    });
}

#[test]
fn policies_are_set_whole_and_on_condition() {
    with_cell(2, |cell| async move {
        let client = client(&cell);
        let before = client.policy("main").await.unwrap();
        let request = PolicyRequest {
            cpu_overcommit_permille: Some(1000),
            admission: Some(AdmissionView::FailoverHosts { hosts: vec!["host-1".to_owned()] }),
            ..PolicyRequest::default()
        };
        let on_it = WriteOptions { if_match: Some(before.meta.modified.clone()), ..NONE };
        let set = client.set_policy("main", &request, &on_it).await.unwrap();
        assert_eq!(set.policy.cpu_overcommit_permille, 1000);
        assert_eq!(set.policy.admission, request.admission.clone().unwrap());
        let other = PolicyRequest::default();
        assert_eq!(code(client.set_policy("main", &other, &on_it).await), "condition-failed");
        let held = client.reserve(item(100, "x"), None, &NONE).await.unwrap();
        assert_eq!(held.items[0].place.as_ref().unwrap().host, "host-2");
        let unknown = PolicyRequest {
            admission: Some(AdmissionView::FailoverHosts { hosts: vec!["nope".to_owned()] }),
            ..PolicyRequest::default()
        };
        assert_eq!(code(client.set_policy("main", &unknown, &NONE).await), "not-found");
        assert_eq!(client.policies(&ListQuery::default()).await.unwrap().items.len(), 1);
    });
}

#[test]
fn a_quota_holds_and_is_patched() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let patch = json!({"quota": {"cpu_millis": 1000}}).to_string();
        let json = [("content-type", "application/json")];
        let path = "/v1/endpoints/default";
        let patched = http::request(cell.api, "PATCH", path, &json, &patch).await;
        assert_eq!(patched.json()["quota"], json!({"cpu_millis": 1000}));
        let request = PlacementRequest {
            request: Some(item(600, "x")),
            endpoint: Some("default".to_owned()),
            reserve: true,
            ..PlacementRequest::default()
        };
        client.place(&request, &NONE).await.unwrap();
        assert_eq!(code(client.place(&request, &NONE).await), "quota-exceeded");
        assert_eq!(client.endpoint("default").await.unwrap().usage.cpu_millis, 600);
        let lifted = json!({"quota": {"cpu_millis": null}}).to_string();
        let lifted = http::request(cell.api, "PATCH", path, &json, &lifted).await;
        assert_eq!(lifted.json()["quota"], json!({}));
        client.place(&request, &NONE).await.unwrap();
    });
}

#[test]
fn maintenance_drain_and_capacity_are_told() {
    with_cell(2, |cell| async move {
        let client = client(&cell);
        let mut wanted = item(1000, "x");
        wanted.demand.host = Some("host-1".to_owned());
        client.reserve(wanted, None, &NONE).await.unwrap();
        let request = CapacityRequest { request: item(1000, "y"), ..CapacityRequest::default() };
        let capacity = client.capacity(&request).await.unwrap();
        assert_eq!((capacity.now, capacity.clusters[0].now), (31, 31));
        assert!(capacity.after_loss.unwrap().fit <= 16);
        let lose = WhatIfRequest { lose: Some(vec!["host-1".into()]), drain: None };
        assert!(client.what_if(&lose).await.is_ok());
        let drain = WhatIfRequest { lose: None, drain: Some("host-2".into()) };
        assert!(client.what_if(&drain).await.unwrap().moves.is_empty());
        let patch = HostPatch { maintenance: true };
        assert!(client.patch_host("host-2", &patch, &NONE).await.unwrap().maintenance);
        let held = client.reserve(item(100, "z"), None, &NONE).await.unwrap();
        assert_eq!(held.items[0].place.as_ref().unwrap().host, "host-1");
        let removed = client.delete_host("host-1", &NONE).await;
        assert!(["in-use", "conflict"].contains(&code(removed).as_str()));
    });
}

#[test]
fn events_are_followed_without_a_gap() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let from = client.newest().await.unwrap();
        let mut follow = pin!(client.follow(Some(from.clone())));
        let mut ids = Vec::new();
        for _ in 0..5 {
            let held = client.reserve(item(100, "x"), None, &NONE).await.unwrap();
            ids.push(held.items[0].id.clone().unwrap());
        }
        let mut seen = Vec::new();
        let mut last = from.clone();
        while seen.len() < 5 {
            let revision = follow.next().await.unwrap().unwrap();
            assert_ne!(revision.revision, last);
            last = revision.revision;
            let held = revision.events.into_iter().filter(|event| event.kind == "placement");
            seen.extend(held.map(|event| event.id));
        }
        assert_eq!(seen, ids);
        // A page tells the same; a filter leaves the rest out.
        let query = EventsQuery {
            after: Some(from),
            kind: Some("placement".to_owned()),
            limit: Some(2),
            ..EventsQuery::default()
        };
        let page = client.events_of(&query).await.unwrap();
        assert_eq!(page.items.len(), 2);
        assert!(page.more);
        let rest = EventsQuery { after: Some(page.after), limit: None, ..query };
        assert_eq!(client.events_of(&rest).await.unwrap().items.len(), 3);
        let unknown = EventsQuery {
            after: Some(berth_model::revision::OpaqueRevision("0".repeat(44))),
            ..EventsQuery::default()
        };
        assert_eq!(code(client.events_of(&unknown).await), "unknown-token");
    });
}

#[test]
fn a_stream_resumes_where_it_was_cut() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let stream = async |last: &str| {
            let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
            http::Open::send(cell.api, "GET", "/v1/events", &headers, "").await
        };
        let from = client.newest().await.unwrap().0;
        let mut open = stream(&from).await;
        assert!(open.head.contains("text/event-stream"), "{}", open.head);
        client.reserve(item(100, "x"), None, &NONE).await.unwrap();
        let mut text = String::new();
        while !text.contains("event: revision") {
            text.push_str(&String::from_utf8(open.chunk().await.unwrap().unwrap()).unwrap());
        }
        let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        drop(open);
        client.reserve(item(100, "y"), None, &NONE).await.unwrap();
        let mut open = stream(&id).await;
        let mut text = String::new();
        while !text.contains("event: revision") {
            text.push_str(&String::from_utf8(open.chunk().await.unwrap().unwrap()).unwrap());
        }
        assert!(!text.contains(&format!("id: {id}\n")), "{text}");
    });
}

#[test]
fn streams_are_bounded_and_a_place_is_free_again_once_one_is_closed() {
    actix_rt::System::new().block_on(async {
        let limits = Limits { streams: 1, ..Limits::default() };
        let size = Size { cpus: 4, memory: Bytes::gib(4) };
        let cell = Cell::start_with(1, size, limits, "127.0.0.1:0").await;
        let headers = [("accept", "text/event-stream")];
        let open = http::Open::send(cell.api, "GET", "/v1/events", &headers, "").await;
        assert_eq!(open.status, 200);
        let second = http::request(cell.api, "GET", "/v1/events", &headers, "").await;
        assert_eq!((second.status, second.header("retry-after")), (429, Some("1")));
        drop(open);
        let client = client(&cell);
        loop {
            // The API sees that the client is gone when it has something to send.
            client.reserve(item(1, "x"), Some(1), &NONE).await.unwrap();
            let again = http::Open::send(cell.api, "GET", "/v1/events", &headers, "").await;
            if again.status == 200 {
                break;
            }
        }
    });
}

#[test]
fn one_key_for_another_request_is_refused() {
    with_cell(1, |cell| async move {
        let client = client(&cell);
        let key = berth_model::IdempotencyKey::random(&mut rand::rng());
        let keyed = WriteOptions { key: Some(key), ..NONE };
        client.reserve(item(500, "web"), None, &keyed).await.unwrap();
        assert_eq!(code(client.reserve(item(600, "web"), None, &keyed).await), "key-reused");
        let batch = vec![item(700, "web"), item(100, "web")];
        assert_eq!(code(client.reserve_batch(batch, None, &keyed).await), "key-reused");
    });
}

#[test]
fn an_answer_is_cut_down_to_the_fields_that_are_asked_for() {
    with_cell(1, |cell| async move {
        let host = http::get(cell.api, "/v1/hosts/host-1?fields=name,capacity.cpu_millis").await;
        assert_eq!(host.json(), json!({"name": "host-1", "capacity": {"cpu_millis": 4000}}));
        let list = http::get(cell.api, "/v1/hosts?fields=name").await.json();
        assert_eq!(list["items"], json!([{"name": "host-1"}]));
        assert!(list["revision"].is_string());
        let unknown = http::get(cell.api, "/v1/hosts?fields=colour").await;
        assert_eq!((unknown.status, &unknown.json()["code"]), (400, &json!("bad-request")));
    });
}

#[test]
fn a_misfit_is_named_by_its_place() {
    with_cell(1, |cell| async move {
        let post = async |path: &str, body: Value| {
            let answer = http::post(cell.api, path, &body.to_string()).await;
            (answer.status, answer.json())
        };
        let disk = json!({"batch": [{}, {"demand": {"disk_bytes": 1_u64 << 60}}]});
        let (status, problem) = post("/v1/placements", disk).await;
        assert_eq!((status, &problem["at"]), (422, &json!("batch[1].demand.disk_bytes")));
        let empty = json!({"request": {"labels": {"": "x"}}});
        assert_eq!(post("/v1/placements", empty).await.0, 422);
        let both = json!({"request": {}, "batch": [{}]});
        assert_eq!(post("/v1/placements", both).await.0, 422);
        let disks = json!({"image": "busybox", "disks": []});
        let (_, problem) = post("/v1/container-vms", disks).await;
        assert!(problem["detail"].as_str().unwrap().contains("delta disk alone"), "{problem}");
        let many = json!({"batch": vec![json!({}); 4097]});
        assert_eq!(post("/v1/placements", many).await.0, 422);
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let deep = http::post(cell.api, "/v1/placements", &deep).await;
        assert!((400..500).contains(&deep.status), "{deep:?}");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let form = http::request(cell.api, "POST", "/v1/rules", &form, "a=b").await;
        assert_eq!((form.status, &form.json()["code"]), (415, &json!("media-type")));
        let head = http::request(cell.api, "HEAD", "/v1/hosts/host-1", &[], "").await;
        assert!(head.status == 200 && head.header("etag").is_some() && head.body.is_empty());
        let put = http::request(cell.api, "PUT", "/v1/hosts", &[], "").await;
        assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
        let twice = http::get(cell.api, "/v1/hosts?limit=1&limit=2").await;
        assert_eq!(twice.status, 400);
    });
}

#[test]
fn the_document_is_served_to_whoever_asks() {
    with_cell(1, |cell| async move {
        let document = http::get(cell.api, "/v1/openapi.json").await;
        assert_eq!(document.header("content-type"), Some("application/json"));
        let document = document.json();
        assert_eq!(document["openapi"], "3.1.0");
        for path in ["/v1/placements", "/v1/rules/{rule}", "/v1/events", "/healthz"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
    });
}
