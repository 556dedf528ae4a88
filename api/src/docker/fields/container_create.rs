//! The rows of `POST /containers/create`: `Config`, `HostConfig` and `NetworkingConfig`.

use super::Default::{Number, Text, Texts};
use super::Rule::{Honoured, Never, NotYet, Weighed, Within};
use super::{Field, Verdict};
use serde_json::Value;

const BLOCK_IO: &str = "limits of disk throughput are not there yet; leave the blkio options out";
const CPU_SET: &str =
    "container VMs are not pinned to CPUs yet; use --cpus to say how much CPU time it may have";
const REALTIME: &str = "real-time scheduling is not there; leave the --cpu-rt options out";
const WINDOWS: &str = "berth runs Linux containers; leave this option of Windows out";
const HEALTH: &str =
    "health checks are not there yet; leave the --health options out, or use --no-healthcheck";
const SHARED_KERNEL: &str = "a container VM has a kernel of its own and shares no namespace with \
     its host or with other container VMs; leave this option out";
const NETWORKS: &str = "networks other than `bridge` and `none` are not there yet; leave the \
     options of networks out";
const MOUNTS: &str = "mounts are not there yet; put the data into the image, or stream it in with \
     docker run -i";
const CLASSIC_LINKS: &str =
    "classic links are not supported; container VMs will find each other by name on a network";

/// What a host path in `Binds` or `Mounts` is told.
const HOST_PATH: &str = "host paths cannot be mounted: a container VM does not share a file system \
     with its host; put the data into the image, or use a named volume once volumes are there";
const NAMED_VOLUME: &str = "named volumes are not there yet; -v /path without a name keeps data in \
     the container's delta disk, until the container is removed";

pub const CONTAINER_CREATE: &[Field] = &[
    Field("Hostname", Honoured),
    Field("Domainname", Honoured),
    Field("User", Honoured),
    Field("AttachStdin", Honoured),
    Field("AttachStdout", Honoured),
    Field("AttachStderr", Honoured),
    Field("ExposedPorts", Honoured),
    Field("Tty", Honoured),
    Field("OpenStdin", Honoured),
    Field("StdinOnce", Honoured),
    Field("Env", Honoured),
    Field("Cmd", Honoured),
    Field("Healthcheck", Honoured),
    Field("Healthcheck.Test", NotYet(HEALTH, &[Texts(&["NONE"])])),
    Field("Healthcheck.Interval", NotYet(HEALTH, &[])),
    Field("Healthcheck.Timeout", NotYet(HEALTH, &[])),
    Field("Healthcheck.Retries", NotYet(HEALTH, &[])),
    Field("Healthcheck.StartPeriod", NotYet(HEALTH, &[])),
    Field("Healthcheck.StartInterval", NotYet(HEALTH, &[])),
    Field("ArgsEscaped", Never(WINDOWS, &[])),
    Field("Image", Honoured),
    Field("Volumes", Honoured),
    Field("WorkingDir", Honoured),
    Field("Entrypoint", Honoured),
    Field("NetworkDisabled", Honoured),
    Field("MacAddress", NotYet("MAC addresses cannot be chosen yet; leave --mac-address out", &[])),
    Field("OnBuild", NotYet("docker commit and build are not there yet; leave OnBuild out", &[])),
    Field("Labels", Honoured),
    Field("StopSignal", Honoured),
    Field("StopTimeout", Honoured),
    Field("Shell", NotYet("it matters to health checks and builds, which are not there yet", &[])),
    Field("HostConfig", Honoured),
    Field("HostConfig.CpuShares", NotYet("shares of CPU are not there yet; use --cpus", &[])),
    Field("HostConfig.Memory", Honoured),
    Field(
        "HostConfig.CgroupParent",
        Never("a container VM has its own kernel and no place among its host's cgroups", &[]),
    ),
    Field("HostConfig.BlkioWeight", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioWeightDevice", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioWeightDevice[].Path", Within),
    Field("HostConfig.BlkioWeightDevice[].Weight", Within),
    Field("HostConfig.BlkioDeviceReadBps", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioDeviceReadBps[].Path", Within),
    Field("HostConfig.BlkioDeviceReadBps[].Rate", Within),
    Field("HostConfig.BlkioDeviceWriteBps", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioDeviceWriteBps[].Path", Within),
    Field("HostConfig.BlkioDeviceWriteBps[].Rate", Within),
    Field("HostConfig.BlkioDeviceReadIOps", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioDeviceReadIOps[].Path", Within),
    Field("HostConfig.BlkioDeviceReadIOps[].Rate", Within),
    Field("HostConfig.BlkioDeviceWriteIOps", NotYet(BLOCK_IO, &[])),
    Field("HostConfig.BlkioDeviceWriteIOps[].Path", Within),
    Field("HostConfig.BlkioDeviceWriteIOps[].Rate", Within),
    Field("HostConfig.CpuPeriod", Honoured),
    Field("HostConfig.CpuQuota", Honoured),
    Field("HostConfig.CpuRealtimePeriod", Never(REALTIME, &[])),
    Field("HostConfig.CpuRealtimeRuntime", Never(REALTIME, &[])),
    Field("HostConfig.CpusetCpus", NotYet(CPU_SET, &[])),
    Field("HostConfig.CpusetMems", NotYet(CPU_SET, &[])),
    Field(
        "HostConfig.Devices",
        Never("devices of the host cannot be handed to a container VM; leave --device out", &[]),
    ),
    Field("HostConfig.Devices[].PathOnHost", Within),
    Field("HostConfig.Devices[].PathInContainer", Within),
    Field("HostConfig.Devices[].CgroupPermissions", Within),
    Field(
        "HostConfig.DeviceCgroupRules",
        NotYet("access to devices of the guest's kernel cannot be changed yet", &[]),
    ),
    Field(
        "HostConfig.DeviceRequests",
        NotYet("GPUs and other requested devices are not there; leave --gpus out", &[]),
    ),
    Field("HostConfig.DeviceRequests[].Driver", Within),
    Field("HostConfig.DeviceRequests[].Count", Within),
    Field("HostConfig.DeviceRequests[].DeviceIDs", Within),
    Field("HostConfig.DeviceRequests[].Capabilities", Within),
    Field("HostConfig.DeviceRequests[].Options", Within),
    Field(
        "HostConfig.KernelMemoryTCP",
        Never("the kernel ended this limit; use --memory, which counts kernel memory too", &[]),
    ),
    Field(
        "HostConfig.MemoryReservation",
        NotYet("soft limits of memory are not there yet; use --memory", &[]),
    ),
    Field("HostConfig.MemorySwap", Honoured),
    Field(
        "HostConfig.MemorySwappiness",
        Never("a container VM has no swap; leave --memory-swappiness out", &[Number(-1)]),
    ),
    Field("HostConfig.NanoCpus", Honoured),
    Field(
        "HostConfig.OomKillDisable",
        Never("the guest's kernel must end something when memory is gone", &[]),
    ),
    Field(
        "HostConfig.Init",
        NotYet("no init process is put before the container's yet; leave --init out", &[]),
    ),
    Field(
        "HostConfig.PidsLimit",
        NotYet("limits of processes are not there yet; leave --pids-limit out", &[Number(-1)]),
    ),
    Field("HostConfig.Ulimits", NotYet("ulimits are not there yet; leave --ulimit out", &[])),
    Field("HostConfig.Ulimits[].Name", Within),
    Field("HostConfig.Ulimits[].Soft", Within),
    Field("HostConfig.Ulimits[].Hard", Within),
    Field("HostConfig.CpuCount", Never(WINDOWS, &[])),
    Field("HostConfig.CpuPercent", Never(WINDOWS, &[])),
    Field("HostConfig.IOMaximumIOps", Never(WINDOWS, &[])),
    Field("HostConfig.IOMaximumBandwidth", Never(WINDOWS, &[])),
    Field("HostConfig.Binds", Weighed(weigh_binds)),
    Field("HostConfig.ContainerIDFile", Honoured),
    Field("HostConfig.LogConfig", Honoured),
    Field(
        "HostConfig.LogConfig.Type",
        NotYet(
            "output is kept for docker logs; other log drivers are not there",
            &[Text("json-file")],
        ),
    ),
    Field(
        "HostConfig.LogConfig.Config",
        NotYet("options of the log driver are not there yet; leave --log-opt out", &[]),
    ),
    Field("HostConfig.NetworkMode", Weighed(weigh_network_mode)),
    Field(
        "HostConfig.PortBindings",
        NotYet("ports cannot be published yet: -p comes with networks; leave it out", &[]),
    ),
    Field("HostConfig.RestartPolicy", Honoured),
    Field(
        "HostConfig.RestartPolicy.Name",
        NotYet("restart policies come with high availability; leave --restart out", &[Text("no")]),
    ),
    Field(
        "HostConfig.RestartPolicy.MaximumRetryCount",
        NotYet("restart policies come with high availability; leave --restart out", &[]),
    ),
    Field("HostConfig.AutoRemove", Honoured),
    Field(
        "HostConfig.VolumeDriver",
        NotYet("volumes are not there yet; leave --volume-driver out", &[Text("local")]),
    ),
    Field("HostConfig.VolumesFrom", NotYet("volumes are not there yet; leave it out", &[])),
    Field("HostConfig.Mounts", Weighed(weigh_mounts)),
    Field("HostConfig.Mounts[].Target", Within),
    Field("HostConfig.Mounts[].Source", Within),
    Field("HostConfig.Mounts[].Type", Within),
    Field("HostConfig.Mounts[].ReadOnly", Within),
    Field("HostConfig.Mounts[].Consistency", Within),
    Field("HostConfig.Mounts[].BindOptions", Within),
    Field("HostConfig.Mounts[].BindOptions.Propagation", Within),
    Field("HostConfig.Mounts[].BindOptions.NonRecursive", Within),
    Field("HostConfig.Mounts[].BindOptions.CreateMountpoint", Within),
    Field("HostConfig.Mounts[].BindOptions.ReadOnlyNonRecursive", Within),
    Field("HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive", Within),
    Field("HostConfig.Mounts[].VolumeOptions", Within),
    Field("HostConfig.Mounts[].VolumeOptions.NoCopy", Within),
    Field("HostConfig.Mounts[].VolumeOptions.Labels", Within),
    Field("HostConfig.Mounts[].VolumeOptions.DriverConfig", Within),
    Field("HostConfig.Mounts[].VolumeOptions.DriverConfig.Name", Within),
    Field("HostConfig.Mounts[].VolumeOptions.DriverConfig.Options", Within),
    Field("HostConfig.Mounts[].VolumeOptions.Subpath", Within),
    Field("HostConfig.Mounts[].ImageOptions", Within),
    Field("HostConfig.Mounts[].ImageOptions.Subpath", Within),
    Field("HostConfig.Mounts[].TmpfsOptions", Within),
    Field("HostConfig.Mounts[].TmpfsOptions.SizeBytes", Within),
    Field("HostConfig.Mounts[].TmpfsOptions.Mode", Within),
    Field("HostConfig.Mounts[].TmpfsOptions.Options", Within),
    Field("HostConfig.ConsoleSize", Honoured),
    Field("HostConfig.Annotations", NotYet("annotations are not there yet; use --label", &[])),
    Field(
        "HostConfig.CapAdd",
        NotYet("capabilities cannot be changed yet; leave --cap-add out", &[]),
    ),
    Field(
        "HostConfig.CapDrop",
        NotYet("capabilities cannot be changed yet; leave --cap-drop out", &[]),
    ),
    Field("HostConfig.CgroupnsMode", Never(SHARED_KERNEL, &[Text("private")])),
    Field("HostConfig.Dns", Honoured),
    Field("HostConfig.DnsOptions", NotYet("resolver options are not there yet", &[])),
    Field("HostConfig.DnsSearch", Honoured),
    Field("HostConfig.ExtraHosts", Honoured),
    Field(
        "HostConfig.GroupAdd",
        NotYet("supplementary groups are not there yet; leave --group-add out", &[]),
    ),
    Field("HostConfig.IpcMode", Never(SHARED_KERNEL, &[Text("private")])),
    Field("HostConfig.Cgroup", Never(SHARED_KERNEL, &[])),
    Field("HostConfig.Links", Never(CLASSIC_LINKS, &[])),
    Field(
        "HostConfig.OomScoreAdj",
        NotYet("the score of the OOM killer cannot be changed yet", &[]),
    ),
    Field("HostConfig.PidMode", Never(SHARED_KERNEL, &[])),
    Field(
        "HostConfig.Privileged",
        Never(
            "--privileged would give rights over a host, and a container VM has no host kernel to \
             have rights over; name the capability that is needed once --cap-add is there",
            &[],
        ),
    ),
    Field(
        "HostConfig.PublishAllPorts",
        NotYet("ports cannot be published yet: -P comes with networks; leave it out", &[]),
    ),
    Field(
        "HostConfig.ReadonlyRootfs",
        NotYet("a read-only root is not there yet; leave --read-only out", &[]),
    ),
    Field(
        "HostConfig.SecurityOpt",
        NotYet("security options are not there yet; leave --security-opt out", &[]),
    ),
    Field("HostConfig.StorageOpt", Honoured),
    Field("HostConfig.Tmpfs", NotYet("tmpfs mounts are not there yet; leave --tmpfs out", &[])),
    Field("HostConfig.UTSMode", Never(SHARED_KERNEL, &[])),
    Field("HostConfig.UsernsMode", Never(SHARED_KERNEL, &[])),
    Field("HostConfig.ShmSize", Honoured),
    Field("HostConfig.Sysctls", NotYet("sysctls are not there yet; leave --sysctl out", &[])),
    Field(
        "HostConfig.Runtime",
        Never("every container is a virtual machine; leave --runtime out", &[]),
    ),
    Field("HostConfig.Isolation", Never(WINDOWS, &[Text("default")])),
    Field("HostConfig.MaskedPaths", Weighed(weigh_system_paths)),
    Field("HostConfig.ReadonlyPaths", Weighed(weigh_system_paths)),
    Field("NetworkingConfig", Honoured),
    Field("NetworkingConfig.EndpointsConfig", Weighed(weigh_networks)),
    Field("NetworkingConfig.EndpointsConfig{}.IPAMConfig", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv4Address", Within),
    Field("NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv6Address", Within),
    Field("NetworkingConfig.EndpointsConfig{}.IPAMConfig.LinkLocalIPs", Within),
    Field("NetworkingConfig.EndpointsConfig{}.Links", Never(CLASSIC_LINKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.MacAddress", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.Aliases", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.DriverOpts", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.GwPriority", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.NetworkID", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.EndpointID", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.Gateway", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.IPAddress", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.IPPrefixLen", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.IPv6Gateway", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.GlobalIPv6Address", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.GlobalIPv6PrefixLen", NotYet(NETWORKS, &[])),
    Field("NetworkingConfig.EndpointsConfig{}.DNSNames", NotYet(NETWORKS, &[])),
];

fn weigh_binds(value: &Value) -> Result<(), Verdict> {
    let binds = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut named = false;
    for bind in binds {
        if bind.starts_with(['/', '.', '~']) && bind.contains(':') {
            return Err(Verdict::Never(HOST_PATH));
        }
        named = true;
    }
    if named { Err(Verdict::NotYet(NAMED_VOLUME)) } else { Ok(()) }
}

fn weigh_mounts(value: &Value) -> Result<(), Verdict> {
    let Some(mount) = value.as_array().and_then(|mounts| mounts.first()) else { return Ok(()) };
    match mount.get("Type").and_then(Value::as_str) {
        Some("bind" | "npipe") => Err(Verdict::Never(HOST_PATH)),
        Some("volume") => Err(Verdict::NotYet(NAMED_VOLUME)),
        Some(_) | None => Err(Verdict::NotYet(MOUNTS)),
    }
}

fn weigh_network_mode(value: &Value) -> Result<(), Verdict> {
    match value.as_str().unwrap_or_default() {
        "" | "default" | "bridge" | "none" => Ok(()),
        "host" => Err(Verdict::Never(
            "a container VM cannot share its host's network: it has a kernel of its own; use the \
             default network",
        )),
        mode if mode.starts_with("container:") => Err(Verdict::Never(SHARED_KERNEL)),
        _ => Err(Verdict::NotYet(NETWORKS)),
    }
}

/// An empty list is no default here: `--security-opt systempaths=unconfined` sends it to have
/// nothing masked.
fn weigh_system_paths(value: &Value) -> Result<(), Verdict> {
    match value {
        Value::Null => Ok(()),
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Err(Verdict::NotYet(
            "masked and read-only paths cannot be chosen yet; leave --security-opt systempaths out",
        )),
    }
}

fn weigh_networks(value: &Value) -> Result<(), Verdict> {
    let names = value.as_object().into_iter().flat_map(|networks| networks.keys());
    for name in names {
        weigh_network_mode(&Value::String(name.clone()))?;
    }
    Ok(())
}
