//! A container VM as `docker inspect` shows it, and the words for its state.
//!
//! What the client asked for is shown from its own request; what was decided (limits, image,
//! command line) from the spec.

use super::request::CreateRequest;
use super::spec::FOR_EVER;
use super::{signal, time};
use berth_model::container::{Ended, NetworkMode};
use berth_model::{ContainerVm, Exit, Host, Image, Timestamp, VmState};
use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum,
    DriverData, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    NetworkSettings, RestartPolicy, RestartPolicyNameEnum,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What stores a container VM's disks, where Docker names its storage driver.
pub const DRIVER: &str = "berth";

/// What else of the fleet is shown beside a container VM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    pub host: Option<&'a Host>,
    pub cluster: Option<&'a str>,
    pub datastore: Option<&'a str>,
    pub image: Option<&'a Image>,
}

/// Docker's word for where a container VM stands.
pub fn status(state: &VmState) -> &'static str {
    match state {
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { ended: None, .. }
        | VmState::Starting { .. } => "created",
        VmState::Running { .. } => "running",
        VmState::Exited { .. } | VmState::Waiting { ended: Some(_), .. } => "exited",
        VmState::Removing { .. } => "removing",
    }
}

/// How and when the last run ended, where the present state still tells.
pub fn last_end(state: &VmState) -> Option<(&Exit, Option<Timestamp>, Timestamp)> {
    match state {
        VmState::Exited { exit, started_at, finished_at }
        | VmState::Waiting { ended: Some(Ended { exit, started_at, finished_at }), .. } => {
            Some((exit, *started_at, *finished_at))
        }
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { ended: None, .. }
        | VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Removing { .. } => None,
    }
}

/// Labels of the spec, and those that say where the container VM is.
pub fn labels(vm: &ContainerVm, around: &Surroundings<'_>) -> BTreeMap<String, String> {
    let mut labels = vm.spec.labels.clone();
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            labels.insert(name.to_owned(), value.to_owned());
        }
    };
    add("berth.host", around.host.map(|host| host.facts.name.as_str()));
    add("berth.cluster", around.cluster);
    add("berth.datastore", around.datastore);
    labels
}

/// Program and arguments: entrypoint and command as one line.
pub fn command_line(vm: &ContainerVm) -> Vec<String> {
    vm.spec.entrypoint.iter().chain(&vm.spec.command).cloned().collect()
}

/// The answer of `GET /containers/{id}/json`.
pub fn inspect(vm: &ContainerVm, around: &Surroundings<'_>) -> Value {
    let request = read_request(vm);
    let line = command_line(vm);
    let response = ContainerInspectResponse {
        id: Some(vm.id.to_string()),
        path: Some(line.first().cloned().unwrap_or_default()),
        args: Some(line.into_iter().skip(1).collect()),
        state: Some(state(&vm.state)),
        image: Some(format!("sha256:{}", vm.spec.image)),
        resolv_conf_path: Some(String::new()),
        hostname_path: Some(String::new()),
        hosts_path: Some(String::new()),
        log_path: Some(String::new()),
        name: Some(format!("/{}", vm.name)),
        restart_count: Some(0),
        driver: Some(DRIVER.to_owned()),
        platform: Some("linux".to_owned()),
        mount_label: Some(String::new()),
        process_label: Some(String::new()),
        app_armor_profile: Some(String::new()),
        host_config: Some(host_config(vm, &request)),
        graph_driver: Some(DriverData { name: DRIVER.to_owned(), ..DriverData::default() }),
        mounts: Some(Vec::new()),
        config: Some(config(vm, &request, around)),
        network_settings: Some(network_settings(vm)),
        ..ContainerInspectResponse::default()
    };
    let mut value = json!(response);
    value["Created"] = json!(time::show(vm.meta.created_at));
    value["ExecIDs"] = Value::Null;
    value
}

/// The create request, if the container VM was made by one.
pub fn read_request(vm: &ContainerVm) -> CreateRequest {
    serde_json::from_str(&vm.spec.docker_request)
        .ok()
        .and_then(|body| super::super::fields::check_container_create(body).ok())
        .and_then(|checked| CreateRequest::read(checked).ok())
        .unwrap_or_default()
}

fn state(state: &VmState) -> ContainerState {
    let end = last_end(state);
    let started = match state {
        VmState::Running { started_at, .. } => Some(*started_at),
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Starting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => end.and_then(|(_, started, _)| started),
    };
    let finished = end.map(|(_, _, finished)| finished);
    let exit = end.map(|(exit, ..)| exit);
    let running = matches!(state, VmState::Running { .. });
    let refused = match state {
        VmState::Pending { refused } | VmState::Waiting { refused, .. } => refused.as_ref(),
        VmState::Created
        | VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => None,
    };
    let error = refused.map(ToString::to_string).or(exit.map(|exit| exit.error.clone()));
    let show = |at: Option<Timestamp>| at.map_or_else(|| time::NEVER.to_owned(), time::show);
    ContainerState {
        status: Some(match status(state) {
            "running" => ContainerStateStatusEnum::RUNNING,
            "exited" => ContainerStateStatusEnum::EXITED,
            "removing" => ContainerStateStatusEnum::REMOVING,
            _ => ContainerStateStatusEnum::CREATED,
        }),
        running: Some(running),
        paused: Some(false),
        restarting: Some(false),
        oom_killed: Some(exit.is_some_and(|exit| exit.oom_killed)),
        dead: Some(false),
        // The process has its number inside the guest only; Docker's is the host's.
        pid: Some(0),
        exit_code: Some(exit.map_or(0, |exit| i64::from(exit.code))),
        error: Some(error.unwrap_or_default()),
        started_at: Some(show(started)),
        finished_at: Some(show(finished)),
        health: None,
    }
}

fn config(vm: &ContainerVm, request: &CreateRequest, around: &Surroundings<'_>) -> ContainerConfig {
    let spec = &vm.spec;
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    ContainerConfig {
        hostname: Some(spec.hostname.clone()),
        domainname: Some(spec.domain_name.clone()),
        user: Some(spec.user.clone()),
        attach_stdin: Some(request.attach_stdin.unwrap_or(false)),
        attach_stdout: Some(request.attach_stdout.unwrap_or(false)),
        attach_stderr: Some(request.attach_stderr.unwrap_or(false)),
        exposed_ports: some(&spec.exposed_ports),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        stdin_once: Some(spec.stdin_once),
        env: Some(spec.environment.clone()),
        cmd: some(&spec.command),
        image: Some(spec.image_reference.clone()),
        volumes: some(&spec.volumes),
        working_dir: Some(spec.working_directory.clone()),
        entrypoint: some(&spec.entrypoint),
        labels: Some(labels(vm, around).into_iter().collect()),
        stop_signal: Some(signal::show(spec.stop_signal)),
        stop_timeout: spec
            .stop_timeout_seconds
            .map(|seconds| if seconds == FOR_EVER { -1 } else { i64::from(seconds) }),
        ..ContainerConfig::default()
    }
}

/// Docker's word for the network.
pub fn network_mode(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::None => "none",
        NetworkMode::Egress => "bridge",
    }
}

fn host_config(vm: &ContainerVm, request: &CreateRequest) -> HostConfig {
    let spec = &vm.spec;
    let asked = request.host_config.clone().unwrap_or_default();
    let number = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
    HostConfig {
        memory: number(spec.demand.memory.0),
        // No swap: the sum of memory and swap is the memory.
        memory_swap: number(spec.demand.memory.0),
        nano_cpus: number(spec.demand.cpu.0.saturating_mul(1_000_000)),
        cpu_shares: Some(0),
        cpu_period: Some(0),
        cpu_quota: Some(0),
        binds: None,
        container_id_file: Some(asked.container_id_file.unwrap_or_default()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            ..HostConfigLogConfig::default()
        }),
        network_mode: Some(network_mode(spec.network).to_owned()),
        port_bindings: Some([].into()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: Some(0),
        }),
        auto_remove: Some(spec.auto_remove),
        console_size: asked.console_size.map(|size| size.into_iter().map(usize::from).collect()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        dns: Some(spec.dns.clone()),
        dns_search: Some(spec.dns_search.clone()),
        extra_hosts: Some(asked.extra_hosts.unwrap_or_default()),
        ipc_mode: Some("private".to_owned()),
        privileged: Some(false),
        publish_all_ports: Some(false),
        readonly_rootfs: Some(false),
        storage_opt: asked.storage_opt.map(|options| options.into_iter().collect()),
        shm_size: number(spec.shm_size.0),
        ..HostConfig::default()
    }
}

fn network_settings(vm: &ContainerVm) -> NetworkSettings {
    let settings = EndpointSettings {
        network_id: Some(String::new()),
        endpoint_id: Some(String::new()),
        gateway: Some(String::new()),
        ip_address: Some(String::new()),
        ip_prefix_len: Some(0),
        mac_address: Some(String::new()),
        ..EndpointSettings::default()
    };
    NetworkSettings {
        sandbox_id: Some(String::new()),
        sandbox_key: Some(String::new()),
        ports: Some([].into()),
        networks: Some([(network_mode(vm.spec.network).to_owned(), settings)].into()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::spec::Wanted;
    use super::super::spec::tests::merged;
    use super::*;
    use berth_model::image::ImageConfig;
    use berth_model::{
        Bytes, ContainerId, EndpointId, Epoch, Explanation, HostId, Meta, MilliCpus, Resources,
    };
    use proptest::prelude::*;

    pub fn vm(state: VmState, wanted: Wanted) -> ContainerVm {
        let config = ImageConfig { command: vec!["sh".into()], ..ImageConfig::default() };
        ContainerVm {
            numa: berth_model::NumaNodes::NONE,
            reservation: None,
            displaced: false,
            id: ContainerId::from_bytes([7; 32]),
            name: "web".to_owned(),
            spec: std::sync::Arc::new(merged(wanted, config).unwrap().spec),
            state,
            epoch: Epoch(1),
            datastore: None,
            last_host: None,
            meta: Meta {
                endpoint: EndpointId::from_bytes([9; 16]),
                created: 4,
                modified: 5,
                created_at: Timestamp(1_700_000_000_000),
                labels: BTreeMap::new(),
            },
        }
    }

    pub fn running() -> VmState {
        VmState::Running {
            host: HostId::from_bytes([1; 16]),
            charge: Resources::default(),
            started_at: Timestamp(1_700_000_001_000),
            stop: None,
        }
    }

    pub fn exited(code: i32) -> VmState {
        VmState::Exited {
            exit: Exit { code, oom_killed: false, error: String::new() },
            started_at: Some(Timestamp(1_700_000_001_000)),
            finished_at: Timestamp(1_700_000_002_000),
        }
    }

    #[test]
    fn each_state_has_docker_s_word_and_what_belongs_to_it() {
        let show = |state| inspect(&vm(state, Wanted::default()), &Surroundings::default());
        let waiting = show(VmState::Waiting { refused: Some(Explanation::default()), ended: None });
        assert_eq!(waiting["State"]["Status"], "created");
        assert_eq!(waiting["State"]["Error"], "0 of 0 hosts fit");
        let up = show(running());
        assert_eq!(
            (&up["State"]["Status"], &up["State"]["Running"]),
            (&json!("running"), &json!(true))
        );
        assert_eq!(up["State"]["FinishedAt"], time::NEVER);
        let down = show(exited(3));
        assert_eq!(
            (&down["State"]["Status"], &down["State"]["ExitCode"]),
            (&json!("exited"), &json!(3))
        );
        assert_eq!(down["Name"], "/web");
        assert_eq!(down["Created"], "2023-11-14T22:13:20.000000000Z");
    }

    proptest! {
        /// What a client asks for is what inspect tells it.
        #[test]
        fn wishes_come_back_in_inspect(
            environment in proptest::collection::btree_map("[A-Z]{1,4}", "[ -~]{0,8}", 0..4),
            command in proptest::collection::vec("[ -~]{1,8}", 1..4),
            memory_mib in 6u64..100_000,
            cpu in 10u64..64_000,
            tty in any::<bool>(),
            labels in proptest::collection::btree_map("[a-z]{1,6}", "[ -~]{0,8}", 0..4),
            stop_signal in prop_oneof![1u8..=31, 34u8..=64],
        ) {
            let environment: Vec<String> =
                environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            let body = json!({
                "Image": "busybox", "Env": environment, "Cmd": command, "Tty": tty,
                "Labels": labels, "StopSignal": stop_signal.to_string(),
                "HostConfig": {"Memory": memory_mib << 20, "NanoCpus": cpu * 1_000_000},
            });
            let checked = super::super::super::fields::check_container_create(body).unwrap();
            let wanted = CreateRequest::read(checked).unwrap().wanted().unwrap();
            prop_assert_eq!(wanted.memory, Some(Bytes::mib(memory_mib)));
            prop_assert_eq!(wanted.cpu, Some(MilliCpus(cpu)));
            let shown = inspect(&vm(running(), wanted), &Surroundings::default());
            prop_assert_eq!(&shown["Config"]["Env"], &json!(environment));
            prop_assert_eq!(&shown["Config"]["Cmd"], &json!(command));
            prop_assert_eq!(&shown["Config"]["Tty"], &json!(tty));
            prop_assert_eq!(&shown["Config"]["Labels"], &json!(labels));
            prop_assert_eq!(
                signal::parse(shown["Config"]["StopSignal"].as_str().unwrap()), Ok(stop_signal));
            prop_assert_eq!(&shown["HostConfig"]["Memory"], &json!(memory_mib << 20));
            prop_assert_eq!(&shown["HostConfig"]["NanoCpus"], &json!(cpu * 1_000_000));
        }
    }
}
