//! The Docker endpoint over HTTP, on a scheduler and nodes in this process.

#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod cell;

use cell::{http, with_cell};
use serde_json::json;

#[test]
fn a_ping_says_what_clients_look_for() {
    with_cell(0, |cell| async move {
        let answer = http::get(cell.docker, "/_ping").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
        for (name, value) in [
            ("api-version", "1.50"),
            ("ostype", "linux"),
            ("docker-experimental", "false"),
            ("builder-version", "1"),
            ("swarm", "inactive"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        let head = http::request(cell.docker, "HEAD", "/_ping", &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
    });
}

#[test]
fn what_is_not_served_says_so_by_name() {
    with_cell(0, |cell| async move {
        let get = |path: &'static str| http::get(cell.docker, path);
        let answer = get("/v1.99/info").await;
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.message(),
            "client version 1.99 is too new. Maximum supported API version is 1.50"
        );
        let old = get("/v1.10/info").await;
        assert!(old.text().starts_with("client version 1.10 is too old."), "{old:?}");
        assert_eq!(
            (get("/frob").await.status, get("/frob").await.message().as_str()),
            (404, "page not found")
        );
        let volumes = get("/v1.50/volumes").await;
        assert_eq!(volumes.status, 501);
        assert!(volumes.message().contains("volumes are not supported yet"), "{volumes:?}");
        let pull = cell.post("/images/create?fromImage=nope&tag=latest").await;
        assert_eq!(pull.status, 501);
        assert!(pull.message().contains("docker load"), "{pull:?}");
    });
}

#[test]
fn an_image_is_loaded_recorded_and_shown() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let images = cell.get("/images/json").await.json();
        assert_eq!(images[0]["RepoTags"], json!(["busybox:latest"]));
        let by_name = cell.get("/images/busybox/json").await.json();
        let id = by_name["Id"].as_str().unwrap();
        let prefix = &id["sha256:".len()..][..12];
        assert_eq!(cell.get(&format!("/images/{prefix}/json")).await.json()["Id"], id);
        let none = cell.get("/images/nope/json").await;
        assert_eq!((none.status, none.message().as_str()), (404, "No such image: nope:latest"));
        let filtered = cell.get("/images/json?filters=%7B%22reference%22%3A%5B%22x%22%5D%7D").await;
        assert_eq!(filtered.json(), json!([]));
        let refused = cell.get("/images/json?filters=%7B%22frob%22%3A%5B%22x%22%5D%7D").await;
        assert!(refused.message().starts_with("invalid filter 'frob'"), "{refused:?}");
    });
}

#[test]
fn a_broken_archive_is_an_error_and_never_an_image() {
    with_cell(1, |cell| async move {
        let load = |body: &'static str| http::post(cell.docker, "/v1.50/images/load", body);
        let broken = load("broken").await;
        assert_eq!(
            (broken.status, broken.message().as_str()),
            (400, "the archive is no tar archive")
        );
        let empty = load("empty").await;
        assert_eq!((empty.status, empty.message().as_str()), (400, "the archive holds no image"));
        // After the first line the trouble comes inside the answer.
        let half = load("half").await;
        assert_eq!(half.status, 200);
        let lines = half.text();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"], "the second layer is cut short");
        assert_eq!(cell.get("/images/json").await.json(), json!([]));
    });
}

#[test]
fn create_refuses_what_cannot_be_and_names_what_is_missing() {
    with_cell(1, |cell| async move {
        let missing = cell.create("", json!({"Image": "nope"})).await;
        assert_eq!(
            (missing.status, missing.message().as_str()),
            (404, "No such image: nope:latest")
        );
        cell.load_busybox().await;
        let host = |member: &str, value: serde_json::Value| {
            cell.create("", json!({"Image": "busybox", "HostConfig": {member: value}}))
        };
        let privileged = host("Privileged", json!(true)).await;
        assert_eq!(privileged.status, 400);
        assert!(privileged.message().starts_with("HostConfig.Privileged is refused"));
        assert_eq!(host("Binds", json!(["/etc:/h"])).await.status, 400);
        assert_eq!(host("NetworkMode", json!("host")).await.status, 400);
        let ports = host("PortBindings", json!({"80/tcp": [{"HostPort": "80"}]})).await;
        assert_eq!(ports.status, 501);
        let name = cell.create("?name=a", json!({"Image": "busybox"})).await;
        assert!(name.message().starts_with("Invalid container name (a)"), "{name:?}");
        let platform = cell.create("?platform=linux/arm64", json!({"Image": "busybox"})).await;
        assert_eq!(platform.status, 404);
        assert_eq!(http::post(cell.docker, "/containers/create", "{").await.status, 400);
        assert_eq!(cell.get("/containers/json?all=1").await.json(), json!([]));
    });
}

#[test]
fn a_name_that_is_taken_is_a_conflict_that_names_the_holder() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("web", &["sleep"], json!({})).await;
        let again = cell.create("?name=web", json!({"Image": "busybox"})).await;
        assert_eq!(again.status, 409);
        assert_eq!(
            again.message(),
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{id}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            )
        );
        let warned = cell.create("", json!({"Image": "busybox"})).await.json();
        assert!(warned["Warnings"][0].as_str().unwrap().contains("/data"), "{warned}");
    });
}

#[test]
fn a_container_lives_its_life() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("life", &["say-and-sleep"], json!({})).await;
        assert_eq!(cell.get("/containers/life/json").await.json()["State"]["Status"], "created");
        let kill = cell.post("/containers/life/kill").await;
        assert_eq!((kill.status, kill.message().contains("is not running")), (409, true));
        assert_eq!(cell.post("/containers/life/start").await.status, 204);
        assert_eq!(cell.post("/containers/life/start").await.status, 304);
        let shown = cell.get(&format!("/containers/{}/json", &id[..12])).await.json();
        assert_eq!(shown["State"]["Status"], "running");
        assert_eq!(shown["Config"]["Labels"]["berth.host"], "host-1");
        let list = cell.get("/containers/json").await.json();
        assert_eq!(list[0]["Names"], json!(["/life"]));
        let busy = http::delete(cell.docker, "/containers/life").await;
        assert_eq!((busy.status, busy.message().contains("container is running")), (409, true));
        assert_eq!(cell.post("/containers/life/kill?signal=USR1").await.status, 204);
        assert_eq!(*cell.nodes[0].played.signals.lock().unwrap(), [10]);
        assert_eq!(cell.post("/containers/life/stop?t=1").await.status, 204);
        assert_eq!(cell.post("/containers/life/stop").await.status, 304);
        let wait = cell.post("/containers/life/wait").await;
        assert_eq!(wait.json(), json!({"StatusCode": 143}));
        assert_eq!(cell.post("/containers/life/restart").await.status, 204);
        assert_eq!(cell.post("/containers/life/kill").await.status, 204);
        assert_eq!(cell.post("/containers/life/wait").await.json()["StatusCode"], 137);
        let logs = cell.get("/containers/life/logs?stdout=1&stderr=1").await;
        assert_eq!(http::frames(&logs.body)[0], "up\nsignal 10\nup\n");
        assert_eq!(http::delete(cell.docker, "/containers/life").await.status, 204);
        let gone = cell.get("/containers/life/json").await;
        assert_eq!((gone.status, gone.message().as_str()), (404, "No such container: life"));
    });
}

#[test]
fn run_in_the_client_s_order_hears_every_byte_and_the_exit_code() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        for (command, want, code) in [
            (vec!["both"], ["out\n", "err\n", ""], 0),
            (vec!["exit", "7"], ["", "", ""], 7),
            (vec!["echo", "a", "b"], ["a b\n", "", ""], 0),
        ] {
            let id =
                cell.created("run1", &command, json!({"HostConfig": {"AutoRemove": true}})).await;
            let mut attached = http::attach(cell.docker, &id, "stderr=1&stdout=1&stream=1").await;
            assert_eq!(attached.status, 101);
            assert!(attached.head.contains("application/vnd.docker.multiplexed-stream"));
            let path = format!("/v1.50/containers/{id}/wait?condition=removed");
            // The head comes before anything is started.
            let mut wait = http::Open::send(cell.docker, "POST", &path, &[], "").await;
            assert_eq!(wait.status, 200);
            assert_eq!(cell.post(&format!("/containers/{id}/start")).await.status, 204);
            let output = attached.body().await.unwrap();
            assert_eq!(http::frames(&output), want);
            let end: serde_json::Value =
                serde_json::from_slice(&wait.body().await.unwrap()).unwrap();
            assert_eq!(end["StatusCode"], code);
        }
        assert_eq!(cell.get("/containers/json?all=1").await.json(), json!([]));
    });
}

#[test]
fn stdin_reaches_the_process_and_so_does_its_end() {
    use tokio::io::AsyncWriteExt as _;
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let more = json!({"OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
        let id = cell.created("cat1", &["cat"], more).await;
        let query = "stdin=1&stderr=1&stdout=1&stream=1";
        let mut attached = http::attach(cell.docker, &id, query).await;
        let stream = attached.stream.get_mut();
        stream.write_all(b"early ").await.unwrap();
        assert_eq!(cell.post(&format!("/containers/{id}/start")).await.status, 204);
        let stream = attached.stream.get_mut();
        stream.write_all(b"late").await.unwrap();
        stream.shutdown().await.unwrap();
        let output = attached.body().await.unwrap();
        assert_eq!(http::frames(&output)[0], "early late");
        let wait = cell.post(&format!("/containers/{id}/wait")).await;
        assert_eq!(wait.json()["StatusCode"], 0);
    });
}

#[test]
fn a_missing_program_fails_the_start_with_the_words_that_clients_know() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id =
            cell.created("miss", &["no-such"], json!({"HostConfig": {"AutoRemove": true}})).await;
        let path = format!("/v1.50/containers/{id}/wait?condition=removed");
        let mut wait = http::Open::send(cell.docker, "POST", &path, &[], "").await;
        let start = cell.post(&format!("/containers/{id}/start")).await;
        assert_eq!(start.status, 400);
        assert!(start.message().contains("executable file not found"), "{start:?}");
        // The stock client waits for the removal before it ends.
        wait.body().await.unwrap();
        assert_eq!(cell.get("/containers/json?all=1").await.json(), json!([]));
    });
}

#[test]
fn a_full_cluster_refuses_with_its_reason_and_leaves_nothing_behind() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let huge = json!({"HostConfig": {"Memory": 64_u64 << 30}});
        let mut body = json!({"Image": "busybox", "Cmd": ["sleep"]});
        body["HostConfig"] = huge["HostConfig"].clone();
        let never = cell.create("", body).await;
        assert_eq!(never.status, 503, "{never:?}");
        assert!(never.message().contains("0 of 1 hosts fit"), "{never:?}");
        assert_eq!(cell.get("/containers/json?all=1").await.json(), json!([]));
        // Room for two; the third is refused at its start and not left waiting.
        for name in ["one-1", "two-2", "three-3"] {
            cell.created(name, &["sleep"], json!({"HostConfig": {"Memory": 1_500_000_000}})).await;
        }
        assert_eq!(cell.post("/containers/one-1/start").await.status, 204);
        let refused = cell.post("/containers/two-2/start").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.message().contains("refused by capacity"), "{refused:?}");
        let state = cell.get("/containers/two-2/json").await.json();
        assert_eq!(state["State"]["Status"], "created");
    });
}

#[test]
fn logs_select_streams_times_and_tails() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("logs1", &["both"], json!({})).await;
        let empty = cell.get("/containers/logs1/logs?stdout=1&follow=1").await;
        assert_eq!((empty.status, empty.body.len()), (200, 0));
        cell.post("/containers/logs1/start").await;
        cell.post(&format!("/containers/{id}/wait")).await;
        let logs = |query: &'static str| cell.get(query);
        let none = logs("/containers/logs1/logs").await;
        assert_eq!(none.message(), "Bad parameters: you must choose at least one stream");
        let both = logs("/containers/logs1/logs?stdout=1&stderr=1").await;
        assert_eq!(both.header("content-type"), Some("application/vnd.docker.multiplexed-stream"));
        assert_eq!(http::frames(&both.body), ["out\n", "err\n", ""]);
        let err = logs("/containers/logs1/logs?stderr=1").await;
        assert_eq!(http::frames(&err.body), ["", "err\n", ""]);
        let times = logs("/containers/logs1/logs?stdout=1&timestamps=1").await;
        assert_eq!(http::frames(&times.body)[0], "2023-11-14T22:13:20.000000000Z out\n");
        let tail = logs("/containers/logs1/logs?stdout=1&stderr=1&tail=1").await;
        assert_eq!(http::frames(&tail.body), ["", "err\n", ""]);
        let since =
            logs("/containers/logs1/logs?stdout=1&stderr=1&since=1700000000.000000001").await;
        assert_eq!(http::frames(&since.body), ["", "err\n", ""]);
        let bad = logs("/containers/logs1/logs?stdout=1&since=x").await;
        assert_eq!(bad.status, 400);
    });
}

#[test]
fn a_terminal_has_no_frames_and_gets_its_sizes() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let more =
            json!({"Tty": true, "OpenStdin": true, "HostConfig": {"ConsoleSize": [33, 101]}});
        let id = cell.created("tty1", &["terminal"], more).await;
        let mut attached = http::attach(cell.docker, &id, "stdin=1&stdout=1&stream=1").await;
        assert!(attached.head.contains("application/vnd.docker.raw-stream"), "{}", attached.head);
        cell.post(&format!("/containers/{id}/start")).await;
        let resize = cell.post(&format!("/containers/{id}/resize?h=44&w=120")).await;
        assert_eq!(resize.status, 200);
        cell.post(&format!("/containers/{id}/kill")).await;
        assert_eq!(attached.body().await.unwrap(), b"size 33 101\nsize 44 120\n");
    });
}

#[test]
fn an_attach_whose_node_dies_ends_with_an_error() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("cut1", &["say-and-sleep"], json!({})).await;
        let mut attached = http::attach(cell.docker, &id, "stdout=1&stream=1").await;
        let path = format!("/v1.50/containers/{id}/logs?stdout=1&follow=1");
        cell.post(&format!("/containers/{id}/start")).await;
        let mut logs = http::Open::send(cell.docker, "GET", &path, &[], "").await;
        assert_eq!(http::frames(&logs.chunk().await.unwrap().unwrap())[0], "up\n");
        cell.nodes[0].kill();
        let output = attached.body().await.unwrap();
        let [out, _, system] = http::frames(&output);
        assert_eq!(out, "up\n");
        assert!(system.contains("cut short"), "{system}");
        assert!(http::frames(&logs.chunk().await.unwrap().unwrap())[2].contains("cut short"));
        assert!(logs.body().await.is_err(), "the answer itself is cut off, too");
    });
}

#[test]
fn an_attach_without_upgrade_is_raw_bytes_until_the_end() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("raw1", &["both"], json!({})).await;
        let path = format!("/v1.50/containers/{id}/attach?stdout=1&stream=1");
        let mut open = http::Open::send(cell.docker, "POST", &path, &[], "").await;
        assert_eq!(open.status, 200);
        assert!(!open.head.to_lowercase().contains("transfer-encoding"), "{}", open.head);
        cell.post(&format!("/containers/{id}/start")).await;
        assert_eq!(http::frames(&open.body().await.unwrap())[0], "out\n");
    });
}

#[test]
fn attach_with_logs_replays_what_was_written() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("replay1", &["say-and-sleep"], json!({})).await;
        cell.post(&format!("/containers/{id}/start")).await;
        cell.post(&format!("/containers/{id}/restart")).await;
        let mut replay = http::attach(cell.docker, &id, "stdout=1&stream=1&logs=1").await;
        let mut only = http::attach(cell.docker, &id, "stdout=1&logs=1").await;
        assert_eq!(http::frames(&only.body().await.unwrap())[0], "up\nup\n");
        cell.post(&format!("/containers/{id}/kill")).await;
        assert_eq!(http::frames(&replay.body().await.unwrap())[0], "up\nup\n");
    });
}

#[test]
fn events_tell_a_life_and_end_with_the_endpoint() {
    with_cell(1, |mut cell| async move {
        cell.load_busybox().await;
        let filters = "%7B%22type%22%3A%7B%22container%22%3Atrue%7D%7D";
        let path = format!("/v1.50/events?filters={filters}");
        let mut events = http::Open::send(cell.docker, "GET", &path, &[], "").await;
        assert_eq!(events.status, 200);
        let id = cell.created("told", &["say-and-sleep"], json!({})).await;
        cell.post(&format!("/containers/{id}/start")).await;
        cell.post(&format!("/containers/{id}/kill")).await;
        http::delete(cell.docker, &format!("/v1.50/containers/{id}")).await;
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "destroy") {
            let chunk = events.chunk().await.unwrap().unwrap();
            let event: serde_json::Value = serde_json::from_slice(&chunk).unwrap();
            assert_eq!(event["Actor"]["Attributes"]["name"], "told");
            told.push(event["Action"].as_str().unwrap().to_owned());
        }
        assert_eq!(told, ["create", "start", "die", "destroy"]);
        cell.stop_serving().await;
        assert!(events.body().await.is_err(), "cut off, and not ended");
    });
}

#[test]
fn a_wait_of_a_client_that_left_is_given_up() {
    with_cell(1, |cell| async move {
        cell.load_busybox().await;
        let id = cell.created("left", &["sleep"], json!({})).await;
        let path = format!("/v1.50/containers/{id}/wait?condition=next-exit");
        let wait = http::Open::send(cell.docker, "POST", &path, &[], "").await;
        drop(wait);
        // Only the connection that asks is left.
        let deadline = tokio::time::Instant::now() + cell::PATIENCE;
        loop {
            let metrics = http::get(cell.api, "/metrics").await.text();
            let line = metrics.lines().find(|l| l.starts_with("berth_api_docker_connections "));
            if line == Some("berth_api_docker_connections 0") {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{line:?}");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn info_and_version_tell_what_there_is() {
    with_cell(2, |cell| async move {
        let info = cell.get("/info").await.json();
        assert_eq!((&info["NCPU"], &info["OSType"]), (&json!(8), &json!("linux")));
        assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
        let version = cell.get("/version").await.json();
        assert_eq!(
            (&version["ApiVersion"], &version["MinAPIVersion"]),
            (&json!("1.50"), &json!("1.24"))
        );
    });
}

#[test]
fn beyond_loopback_a_client_needs_a_certificate_of_the_cell() {
    use berth_api::{Listener, ServeError, docker};
    use berth_wire::tls::Role;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    with_cell(0, |cell| async move {
        let metrics =
            berth_metrics::api::ApiMetrics::register(&berth_metrics::Registry::new()).unwrap();
        let scheduler_tls = cell.identity(Role::Scheduler, "1");
        let serve = |address: &str, tls| {
            let listener = Listener { address: address.parse().unwrap(), tls };
            let options = docker::Options { listener, endpoint: "default".to_owned() };
            docker::serve(options, cell.scheduler.clone(), scheduler_tls.clone(), metrics.clone())
        };
        let plain = serve("0.0.0.0:0", false).await;
        assert!(matches!(plain, Err(ServeError::PlainBeyondLoopback(_))), "{plain:?}");
        let serving = serve("127.0.0.1:0", true).await.unwrap();
        let ask = async |role| {
            let tls = cell.identity(role, "someone");
            let tcp = tokio::net::TcpStream::connect(serving.address()).await?;
            let connector =
                tokio_rustls::TlsConnector::from(tls.client_config_for(Role::Scheduler));
            let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, tcp).await?;
            let request = b"GET /_ping HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        assert!(ask(Role::Client).await.unwrap().starts_with("HTTP/1.1 200 OK"));
        assert!(ask(Role::Node).await.is_err(), "a node's certificate is no client's");
        let bare = http_without_tls(serving.address()).await;
        assert!(!bare.contains("200 OK"), "{bare}");
        serving.shutdown().await;
    });
}

/// What plain HTTP gets out of a TLS listener.
async fn http_without_tls(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /_ping HTTP/1.1\r\nhost: d\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The listener may close before all is read; what came is what counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_client_that_has_closed_its_sending_side_is_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    with_cell(0, |cell| async move {
        let mut stream = tokio::net::TcpStream::connect(cell.docker).await.unwrap();
        stream.write_all(b"GET /version HTTP/1.1\r\nhost: d\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    });
}
