//! The placement API over HTTP, on a scheduler and nodes in this process.

#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod cell;

use berth_model::view::{ContainerVmView, ListView, ProblemView};
use cell::{http, with_cell};
use serde_json::json;

fn problem(answer: &http::Answer) -> ProblemView {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn a_container_vm_is_created_started_stopped_and_deleted() {
    with_cell(2, |cell| async move {
        cell.load_busybox().await;
        let body = json!({"image": "busybox", "name": "api-1", "command": ["sleep"],
            "labels": {"app": "x"}, "start": true});
        let created = http::post(cell.api, "/v1/container-vms?wait", &body.to_string()).await;
        assert_eq!(created.status, 201, "{created:?}");
        let view: ContainerVmView = serde_json::from_slice(&created.body).unwrap();
        assert_eq!((view.state.phase(), view.meta.endpoint.as_str()), ("running", "system"));
        assert!(view.host.is_some() && view.meta.cell.starts_with("cell-"));
        let path = format!("/v1/container-vms/{}", view.id);
        assert_eq!(created.header("location"), Some(path.as_str()));
        let by_name = http::get(cell.api, "/v1/container-vms/api-1").await;
        let etag = by_name.header("etag").unwrap().to_owned();
        let headers = [("if-none-match", etag.as_str())];
        let same = http::request(cell.api, "GET", &path, &headers, "").await;
        assert_eq!(same.status, 304);
        let labelled = http::get(cell.api, "/v1/container-vms?label=app%3Dx").await;
        let list: ListView<ContainerVmView> = serde_json::from_slice(&labelled.body).unwrap();
        assert_eq!(list.items.len(), 1);
        let stopped = http::post(cell.api, &format!("{path}/stop?wait"), "").await;
        assert_eq!(stopped.json()["state"]["phase"], "exited");
        let deleted = http::delete(cell.api, &format!("{path}?wait")).await;
        assert_eq!(deleted.status, 204);
        assert_eq!(problem(&http::get(cell.api, &path).await).code, "not-found");
    });
}

#[test]
fn a_dry_run_places_and_explains_without_doing() {
    with_cell(2, |cell| async move {
        cell.load_busybox().await;
        let explain = |memory: u64| {
            let body = json!({"image": "busybox", "command": ["sleep"], 
                "demand": {"memory_bytes": memory}});
            let body = body.to_string();
            let api = cell.api;
            async move { http::post(api, "/v1/container-vms?dry_run=true", &body).await.json() }
        };
        let fits = explain(64 << 20).await;
        assert!(fits["place"]["host"].as_str().unwrap().starts_with("host-"), "{fits}");
        let not = explain(64 << 30).await;
        assert_eq!(not["explanation"]["refused"]["capacity"], 2, "{not}");
        assert!(not["explanation"]["relaxation"].is_string(), "{not}");
        assert_eq!(http::get(cell.api, "/v1/container-vms").await.json()["items"], json!([]));
        let body =
            json!({"image": "busybox", "demand": {"memory_bytes": 64_u64 << 30}}).to_string();
        let refused = problem(&http::post(cell.api, "/v1/container-vms?wait", &body).await);
        assert_eq!((refused.status, refused.code.as_str()), (409, "no-room"));
        assert_eq!(refused.explanation.unwrap().considered, 2);
    });
}

#[test]
fn one_idempotency_key_has_one_effect() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let headers = [("idempotency-key", "order-77"), ("content-type", "application/json")];
        let body = json!({"image": "busybox", "command": ["sleep"]}).to_string();
        let post = |body: String| async move {
            http::request(cell.api, "POST", "/v1/container-vms?wait", &headers, &body).await
        };
        let first = post(body.clone()).await.json();
        let second = post(body).await.json();
        assert_eq!(first["id"], second["id"]);
        let list = http::get(cell.api, "/v1/container-vms").await.json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        let other = json!({"image": "busybox", "command": ["true"]}).to_string();
        assert_eq!(problem(&post(other).await).code, "key-reused");
    });
}

#[test]
fn lists_are_paged_by_opaque_tokens() {
    with_cell(3, |cell| async move {
        let mut names = Vec::new();
        let mut path = "/v1/hosts?limit=2".to_owned();
        loop {
            let page = http::get(cell.api, &path).await.json();
            names.extend(page["items"].as_array().unwrap().iter().map(|h| h["name"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/hosts?limit=2&page={next}");
        }
        names.sort_by_key(ToString::to_string);
        assert_eq!(json!(names), json!(["host-1", "host-2", "host-3"]));
        let invented = http::get(cell.api, "/v1/hosts?page=xyz").await;
        assert_eq!(problem(&invented).code, "unknown-token");
    });
}

#[test]
fn trouble_is_a_problem_that_names_it() {
    with_cell(1, |cell| async move {
        let get = |path: &'static str| http::get(cell.api, path);
        assert_eq!(problem(&get("/v1/frob").await).status, 404);
        let unknown = problem(&get("/v1/hosts?colour=red").await);
        assert!(unknown.detail.contains("`colour`"), "{unknown:?}");
        assert!(unknown.request_id.starts_with("request-"));
        let misspelt =
            http::post(cell.api, "/v1/container-vms", r#"{"image":"a","memory":1}"#).await;
        assert!(problem(&misspelt).detail.contains("unknown field `memory`"));
        let no_image = http::post(cell.api, "/v1/container-vms", r#"{"image":"nope"}"#).await;
        assert_eq!(problem(&no_image).status, 404);
        let large = format!(r#"{{"image":"{}"}}"#, "a".repeat(5 << 20));
        assert_eq!(problem(&http::post(cell.api, "/v1/container-vms", &large).await).status, 413);
    });
}

#[test]
fn clusters_and_endpoints_are_made_and_shown() {
    with_cell(1, |cell| async move {
        let body = r#"{"name":"edge","policy":{"strategy":"pack"}}"#;
        let made = http::post(cell.api, "/v1/clusters", body).await;
        assert_eq!((made.status, made.json()["policy"]["strategy"].clone()), (201, json!("pack")));
        let again = http::post(cell.api, "/v1/clusters", body).await;
        assert_eq!(problem(&again).code, "name-taken");
        let made = http::post(cell.api, "/v1/endpoints", r#"{"name":"team"}"#).await;
        assert_eq!(made.json()["default_memory_bytes"], 512 << 20);
        for (path, count) in
            [("/v1/clusters", 2), ("/v1/endpoints", 2), ("/v1/datastores", 1), ("/v1/hosts", 1)]
        {
            let list = http::get(cell.api, path).await.json();
            assert_eq!(list["items"].as_array().unwrap().len(), count, "{path}: {list}");
        }
        let main = http::get(cell.api, "/v1/clusters/main").await.json();
        assert_eq!(main["hosts"], 1);
        let stale = http::get(cell.api, "/v1/cell?consistency=stale").await;
        assert_eq!(stale.json()["replica"]["role"], "leader");
    });
}

#[test]
fn probes_and_metrics_answer() {
    with_cell(1, |cell| async move {
        assert_eq!(http::get(cell.api, "/healthz").await.text(), "ok\n");
        assert_eq!(http::get(cell.api, "/readyz").await.json()["ready"], true);
        cell.get("/info").await;
        let metrics = http::get(cell.api, "/metrics").await.text();
        let line =
            r#"berth_api_requests_total{api="docker",method="GET",route="/info",status="200"} 1"#;
        assert!(metrics.contains(line), "{metrics}");
        assert!(metrics.contains(r#"route="/readyz""#));
    });
}

#[test]
fn the_client_crate_speaks_all_of_it_and_skips_a_dead_scheduler() {
    use berth_client::view::{ContainerVmRequest, StopRequest};
    use berth_client::{Client, ClientError, ListQuery, WriteOptions};
    with_cell(2, |cell| async move {
        cell.load_busybox().await;
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let servers = [format!("http://{dead}"), format!("http://{}", cell.api)];
        let client = Client::new(&servers, None).unwrap();
        assert_eq!(client.cell().await.unwrap().replica.role, "leader");
        assert_eq!(client.hosts(&ListQuery::default()).await.unwrap().items.len(), 2);
        let request = ContainerVmRequest {
            image: "busybox".into(),
            name: Some("by-client".into()),
            command: vec!["sleep".into()],
            start: true,
            ..ContainerVmRequest::default()
        };
        let place = client.try_container_vm(&request).await.unwrap();
        assert!(place.place.is_some());
        let wait = WriteOptions::waiting();
        let made = client.create_container_vm(&request, &wait).await.unwrap();
        assert_eq!(made.state.phase(), "running");
        let taken = client.create_container_vm(&request, &wait).await.unwrap_err();
        assert_eq!(taken.problem().unwrap().code, "name-taken", "{taken}");
        let stopped =
            client.stop_container_vm("system/by-client", &StopRequest::default(), &wait).await;
        assert_eq!(stopped.unwrap().state.phase(), "exited");
        client.delete_container_vm(&made.id, &wait).await.unwrap();
        let gone = client.container_vm(&made.id).await.unwrap_err();
        assert!(matches!(gone, ClientError::Problem(_)), "{gone:?}");
    });
}

#[test]
fn beyond_loopback_a_client_needs_a_certificate_of_the_cell() {
    use berth_api::{Listener, ServeError, placement};
    use berth_client::{Client, ListQuery};
    use berth_wire::tls::Role;
    with_cell(1, |cell| async move {
        let registry = berth_metrics::Registry::new();
        let metrics = berth_metrics::api::ApiMetrics::register(&registry).unwrap();
        let serve = |address: &str, tls| {
            let listener = Listener { address: address.parse().unwrap(), tls };
            let options = placement::Options::new(listener);
            let identity = cell.identity(Role::Scheduler, "1");
            let (metrics, registry) = (metrics.clone(), registry.clone());
            placement::serve(options, cell.scheduler.clone(), identity, metrics, registry)
        };
        let plain = serve("0.0.0.0:0", false).await;
        assert!(matches!(plain, Err(ServeError::PlainBeyondLoopback(_))), "{plain:?}");
        let serving = serve("127.0.0.1:0", true).await.unwrap();
        let servers = [format!("https://{}", serving.address())];
        let hosts = async |role| {
            let client = Client::new(&servers, Some(&cell.identity(role, "someone"))).unwrap();
            client.hosts(&ListQuery::default()).await
        };
        assert_eq!(hosts(Role::Client).await.unwrap().items.len(), 1);
        assert!(hosts(Role::Switch).await.is_err());
        serving.shutdown().await;
    });
}
