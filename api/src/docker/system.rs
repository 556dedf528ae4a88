//! `_ping`, `version` and `info`.

use super::answer::{self, Answer};
use super::call::Call;
use super::error::DockerError;
use super::translate::container::DRIVER;
use super::translate::time;
use super::version::{API_VERSION, API_VERSION_MIN};
use crate::clock;
use berth_model::{HostState, VmState};
use bollard_stubs::models::{
    SystemInfo, SystemVersion, SystemVersionComponents, SystemVersionPlatform,
};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use serde_json::json;

const BUILD: &str = env!("CARGO_PKG_VERSION");
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

pub(super) fn ping(call: &Call) -> Answer {
    let mut answer = answer::text(StatusCode::OK, if call.is_head() { "" } else { "OK" });
    let headers = answer.headers_mut();
    // 1 is the classic builder: clients then do not try BuildKit, which is not there.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

pub(super) async fn version(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let mut hypervisors: Vec<&str> =
        view.fleet.hosts().map(|host| host.facts.hypervisor.as_str()).collect();
    hypervisors.sort_unstable();
    hypervisors.dedup();
    let component = |name: &str, version: String, details: &[(&str, &str)]| {
        let details = details.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        SystemVersionComponents { name: name.to_owned(), version, details: Some(details) }
    };
    let engine = component(
        "Engine",
        BUILD.to_owned(),
        &[
            ("ApiVersion", API_VERSION),
            ("MinAPIVersion", API_VERSION_MIN),
            ("Os", "linux"),
            ("Arch", ARCHITECTURE),
            ("Experimental", "false"),
        ],
    );
    let mut components = vec![engine];
    components.extend(
        hypervisors
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| component("Hypervisor", (*name).to_owned(), &[])),
    );
    let version = SystemVersion {
        platform: Some(SystemVersionPlatform { name: format!("berth {BUILD}") }),
        components: Some(components),
        version: Some(BUILD.to_owned()),
        api_version: Some(API_VERSION.to_owned()),
        min_api_version: Some(API_VERSION_MIN.to_owned()),
        git_commit: Some(String::new()),
        go_version: Some(String::new()),
        os: Some("linux".to_owned()),
        arch: Some(ARCHITECTURE.to_owned()),
        kernel_version: Some(String::new()),
        experimental: Some(false),
        build_time: Some(String::new()),
    };
    Ok(answer::json(StatusCode::OK, &json!(version)))
}

pub(super) async fn info(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let fleet = &view.fleet;
    let (mut running, mut all) = (0, 0);
    for vm in fleet.containers_of(view.endpoint) {
        all += 1;
        running += i64::from(matches!(vm.state, VmState::Running { .. }));
    }
    let connected: Vec<_> =
        fleet.hosts().filter(|host| matches!(host.state, HostState::Connected { .. })).collect();
    let cpus: u64 = connected.iter().map(|host| host.facts.capacity.cpu.0).sum();
    let memory: u64 = connected.iter().map(|host| host.facts.capacity.memory.0).sum();
    let signed = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    let status = vec![
        pair("Cell", fleet.cell().map(|cell| cell.to_string()).unwrap_or_default()),
        pair("Clusters", fleet.clusters().len().to_string()),
        pair("Hosts", format!("{} ({} connected)", fleet.hosts().len(), connected.len())),
        pair("Datastores", fleet.datastores().len().to_string()),
    ];
    let mut warnings = Vec::new();
    let silent = fleet.hosts().len() - connected.len();
    if silent > 0 {
        warnings.push(format!("WARNING: {silent} hosts are silent"));
    }
    let images = fleet.images_of(view.endpoint).count();
    let info = SystemInfo {
        id: fleet.endpoint(view.endpoint).map(|endpoint| endpoint.id.to_string()),
        containers: Some(all),
        containers_running: Some(running),
        containers_paused: Some(0),
        containers_stopped: Some(all - running),
        images: Some(i64::try_from(images).unwrap_or(i64::MAX)),
        driver: Some(DRIVER.to_owned()),
        driver_status: Some(status),
        docker_root_dir: Some(String::new()),
        memory_limit: Some(true),
        swap_limit: Some(false),
        cpu_cfs_period: Some(true),
        cpu_cfs_quota: Some(true),
        cpu_shares: Some(false),
        cpu_set: Some(false),
        pids_limit: Some(false),
        oom_kill_disable: Some(false),
        ipv4_forwarding: Some(true),
        debug: Some(false),
        system_time: Some(time::show(clock::now())),
        logging_driver: Some("json-file".to_owned()),
        kernel_version: Some(String::new()),
        operating_system: Some(format!("berth {BUILD}")),
        os_version: Some(String::new()),
        os_type: Some("linux".to_owned()),
        architecture: Some(std::env::consts::ARCH.to_owned()),
        ncpu: signed(cpus / 1000),
        mem_total: signed(memory),
        name: Some(call.docker.endpoint.clone()),
        labels: Some(Vec::new()),
        experimental_build: Some(false),
        server_version: Some(BUILD.to_owned()),
        default_runtime: Some("vm".to_owned()),
        live_restore_enabled: Some(true),
        init_binary: Some(String::new()),
        security_options: Some(Vec::new()),
        warnings: Some(warnings),
        ..SystemInfo::default()
    };
    let mut value = json!(info);
    value["Swarm"] = json!({"LocalNodeState": "inactive", "ControlAvailable": false});
    value["Plugins"] = json!({"Volume": [], "Network": ["bridge", "none"], "Log": ["json-file"]});
    value["Runtimes"] = json!({"vm": {"path": "qemu"}});
    value["RegistryConfig"] =
        json!({"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []});
    Ok(answer::json(StatusCode::OK, &value))
}
