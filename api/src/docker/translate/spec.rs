//! What a container VM is to be: the client's wishes over the image's config over the endpoint's
//! defaults. Docker's create and `/v1` both end here.

use super::Invalid;
use super::signal;
use berth_model::container::NetworkMode;
use berth_model::demand::Demand;
use berth_model::endpoint::EndpointDefaults;
use berth_model::image::ImageConfig;
use berth_model::{
    Bytes, ClusterId, ContainerId, ContainerSpec, DatastoreId, HostId, Image, MilliCpus,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A client's wishes; what is empty or `None` was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `Some` of nothing, or of one empty word, takes the image's away.
    pub entrypoint: Option<Vec<String>>,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    pub working_directory: String,
    pub user: String,
    pub hostname: String,
    pub domain_name: String,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub stop_signal: Option<u8>,
    /// Seconds; [`FOR_EVER`] for a process that is never killed for being slow.
    pub stop_timeout: Option<u32>,
    pub cpu: Option<MilliCpus>,
    pub memory: Option<Bytes>,
    pub disk: Option<DiskSize>,
    /// Outbound connections if not said.
    pub network: Option<NetworkMode>,
    pub auto_remove: bool,
    pub volumes: Vec<String>,
    pub exposed_ports: Vec<String>,
    pub extra_hosts: Vec<(String, String)>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub shm_size: Option<Bytes>,
    pub labels: BTreeMap<String, String>,
}

/// Size of a delta disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSize(pub Bytes);

/// Where it may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    pub cluster: Option<ClusterId>,
    pub host: Option<HostId>,
    pub datastore: Option<DatastoreId>,
}

/// A spec, and what its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    pub spec: ContainerSpec,
    pub warnings: Vec<String>,
}

/// A grace that nobody lives to see the end of: 136 years.
pub const FOR_EVER: u32 = u32::MAX;

const STOP_TIMEOUT_SECONDS: u32 = 10;
const SHM_SIZE: Bytes = Bytes::mib(64);

/// Merges as the engine does. `reference` is the image as the client named it, `body` the request
/// to the letter, for inspect.
pub fn merge(
    id: ContainerId,
    wanted: Wanted,
    image: &Image,
    reference: &str,
    defaults: &EndpointDefaults,
    within: Within,
    body: String,
) -> Result<Merged, Invalid> {
    let config = &image.config;
    let (entrypoint, command) = command_line(&wanted, config);
    if entrypoint.is_empty() && command.is_empty() {
        return Err(Invalid::bad("no command specified"));
    }
    let working_directory = first_of(&wanted.working_directory, &config.working_directory);
    if !working_directory.is_empty() && !working_directory.starts_with('/') {
        return Err(Invalid::bad(format!(
            "the working directory '{working_directory}' is invalid, it needs to be an absolute path"
        )));
    }
    check_texts(&wanted)?;
    check_sizes(&wanted)?;
    let volumes = union(&config.volumes, &wanted.volumes);
    let stop_signal = match (wanted.stop_signal, config.stop_signal.as_deref()) {
        (Some(signal), _) => signal,
        (None, Some(text)) if !text.is_empty() => signal::parse(text)?,
        (None, Some(_) | None) => signal::SIGTERM,
    };
    let mut labels = config.labels.clone();
    labels.extend(wanted.labels);
    let warnings = warnings(&volumes, image);
    let hostname = if wanted.hostname.is_empty() { id.short() } else { wanted.hostname };
    let spec = ContainerSpec {
        image: image.id,
        image_reference: reference.to_owned(),
        entrypoint,
        command,
        environment: environment(&config.environment, &wanted.environment),
        working_directory,
        user: first_of(&wanted.user, &config.user),
        hostname,
        domain_name: wanted.domain_name,
        tty: wanted.tty,
        open_stdin: wanted.open_stdin,
        stdin_once: wanted.stdin_once,
        stop_signal,
        stop_timeout_seconds: Some(wanted.stop_timeout.unwrap_or(STOP_TIMEOUT_SECONDS)),
        demand: Demand {
            cpu: wanted.cpu.unwrap_or(defaults.cpu),
            memory: wanted.memory.unwrap_or(defaults.memory),
            disk: wanted.disk.map_or(defaults.disk, |size| size.0),
            cluster: within.cluster,
            host: within.host,
            datastore: within.datastore,
            ..Demand::default()
        },
        network: wanted.network.unwrap_or(NetworkMode::Egress),
        auto_remove: wanted.auto_remove,
        volumes,
        exposed_ports: union(&config.exposed_ports, &wanted.exposed_ports),
        extra_hosts: wanted.extra_hosts,
        dns: wanted.dns,
        dns_search: wanted.dns_search,
        shm_size: wanted.shm_size.unwrap_or(SHM_SIZE),
        labels,
        docker_request: body,
    };
    Ok(Merged { spec, warnings })
}

/// Docker's least memory of a container.
const MEMORY_MIN: Bytes = Bytes::mib(6);
/// Less holds no file system with a journal.
const DISK_MIN: Bytes = Bytes::mib(16);

/// Refuses what could be placed but never run.
fn check_sizes(wanted: &Wanted) -> Result<(), Invalid> {
    if wanted.memory.is_some_and(|memory| memory < MEMORY_MIN) {
        return Err(Invalid::bad("Minimum memory limit allowed is 6MB"));
    }
    if wanted.disk.is_some_and(|size| size.0 < DISK_MIN) {
        return Err(Invalid::bad("the smallest disk of a container VM is 16 MiB; ask for more"));
    }
    Ok(())
}

/// Entrypoint and command. An entrypoint of the client's own takes the image's command away with
/// the image's entrypoint; one empty word is an entrypoint that is taken away.
fn command_line(wanted: &Wanted, image: &ImageConfig) -> (Vec<String>, Vec<String>) {
    let given = wanted.entrypoint.as_deref();
    let command = if given.is_none_or(<[String]>::is_empty) && wanted.command.is_empty() {
        image.command.clone()
    } else {
        wanted.command.clone()
    };
    let entrypoint = match given {
        None => image.entrypoint.clone(),
        Some([word]) if word.is_empty() => Vec::new(),
        Some(words) => words.to_vec(),
    };
    (entrypoint, command)
}

/// The image's variables, those of the client in their place, then the client's other ones. A
/// name of the client's without `=` takes the variable away.
fn environment(image: &[String], client: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = image.to_vec();
    for entry in client {
        let place = merged.iter().position(|held| name(held) == name(entry));
        match (place, entry.contains('=')) {
            (Some(place), true) => merged[place].clone_from(entry),
            (Some(place), false) => {
                merged.remove(place);
            }
            (None, true) => merged.push(entry.clone()),
            (None, false) => {}
        }
    }
    merged
}

/// A zero byte ends a text in the guest's kernel: it would cut what follows off unseen.
fn check_texts(wanted: &Wanted) -> Result<(), Invalid> {
    let words =
        wanted.entrypoint.iter().flatten().chain(&wanted.command).chain(&wanted.environment);
    let texts = words.chain([&wanted.user, &wanted.working_directory]).chain(&wanted.volumes);
    for text in texts {
        if text.contains('\0') {
            return Err(Invalid::bad(format!("{text:?} contains a zero byte")));
        }
    }
    for entry in &wanted.environment {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Invalid::bad(format!("invalid environment variable: {entry}")));
        }
    }
    for volume in &wanted.volumes {
        if !volume.starts_with('/') || volume == "/" {
            return Err(Invalid::bad(format!(
                "invalid volume specification: '{volume}' must be an absolute path other than /"
            )));
        }
    }
    check_host_name(&wanted.hostname)?;
    for text in wanted.dns.iter() {
        if text.parse::<std::net::IpAddr>().is_err() {
            return Err(Invalid::bad(format!("{text} is not an ip address")));
        }
    }
    Ok(())
}

fn check_host_name(name: &str) -> Result<(), Invalid> {
    let fits = name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with(['-', '.']);
    if fits { Ok(()) } else { Err(Invalid::bad(format!("invalid hostname format: {name}"))) }
}

fn warnings(volumes: &[String], image: &Image) -> Vec<String> {
    let mut warnings: Vec<String> = volumes
        .iter()
        .map(|path| {
            format!(
                "volume {path} lies in the container's delta disk until volumes are there: its \
                 data is removed with the container"
            )
        })
        .collect();
    if has_health_check(&image.document) {
        warnings.push("the image's HEALTHCHECK is not run yet".to_owned());
    }
    warnings
}

fn has_health_check(document: &str) -> bool {
    let Ok(document) = serde_json::from_str::<Value>(document) else { return false };
    let test = document["config"]["Healthcheck"]["Test"].as_array();
    test.and_then(|words| words.first()).is_some_and(|first| first != "NONE")
}

fn first_of(wanted: &str, image: &str) -> String {
    if wanted.is_empty() { image.to_owned() } else { wanted.to_owned() }
}

fn union(one: &[String], other: &[String]) -> Vec<String> {
    one.iter().chain(other).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::docker::translate::fixtures::CLI_28_BODIES;
    use crate::docker::translate::request::CreateRequest;
    use berth_model::{EndpointId, ImageId, Meta, Timestamp};
    use proptest::prelude::*;

    pub fn image(config: ImageConfig) -> Image {
        Image {
            id: ImageId::from_bytes([1; 32]),
            references: ["busybox:latest".to_owned()].into(),
            config,
            document: r#"{"created":"2024-01-02T03:04:05Z","config":{}}"#.to_owned(),
            size: Bytes::mib(4),
            datastores: BTreeSet::new(),
            meta: Meta {
                endpoint: EndpointId::from_bytes([9; 16]),
                created: 1,
                modified: 1,
                created_at: Timestamp(1_000),
                labels: BTreeMap::new(),
            },
        }
    }

    pub fn merged(wanted: Wanted, config: ImageConfig) -> Result<Merged, Invalid> {
        merge(
            ContainerId::from_bytes([7; 32]),
            wanted,
            &image(config),
            "busybox",
            &EndpointDefaults::default(),
            Within::default(),
            String::new(),
        )
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Entrypoint and command of a client over an image with `e` and `c`.
    fn check(entrypoint: Option<&[&str]>, command: &str) -> String {
        let wanted = Wanted {
            entrypoint: entrypoint.map(|all| all.iter().map(|w| (*w).to_owned()).collect()),
            command: words(command),
            ..Wanted::default()
        };
        let config =
            ImageConfig { entrypoint: words("e"), command: words("c"), ..ImageConfig::default() };
        match merged(wanted, config) {
            Ok(done) => format!("{:?} {:?}", done.spec.entrypoint, done.spec.command),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_client_s_entrypoint_takes_the_image_s_command_away() {
        assert_eq!(check(None, ""), r#"["e"] ["c"]"#);
        assert_eq!(check(None, "x"), r#"["e"] ["x"]"#);
        assert_eq!(check(Some(&["s"]), ""), r#"["s"] []"#);
        assert_eq!(check(Some(&["s"]), "x"), r#"["s"] ["x"]"#);
        assert_eq!(check(Some(&[]), "x"), r#"[] ["x"]"#);
        assert_eq!(check(Some(&[""]), "x"), r#"[] ["x"]"#);
        assert_eq!(check(Some(&[""]), ""), "no command specified");
    }

    #[test]
    fn the_client_s_variables_replace_the_image_s() {
        let image = words("A=1 B=2 C=3");
        assert_eq!(environment(&image, &words("B=x D=4 C")), words("A=1 B=x D=4"));
    }

    #[test]
    fn everything_else_comes_from_the_image_unless_the_client_says_it() {
        let config = ImageConfig {
            command: words("c"),
            user: "u".into(),
            working_directory: "/w".into(),
            stop_signal: Some("SIGQUIT".into()),
            volumes: words("/data"),
            ..ImageConfig::default()
        };
        let spec = merged(Wanted::default(), config.clone()).unwrap();
        assert_eq!((spec.spec.user.as_str(), spec.spec.working_directory.as_str()), ("u", "/w"));
        assert_eq!((spec.spec.stop_signal, spec.spec.stop_timeout_seconds), (3, Some(10)));
        assert_eq!(spec.spec.hostname, "070707070707");
        assert_eq!(spec.warnings.len(), 1, "{:?}", spec.warnings);
        let own = Wanted {
            user: "v".into(),
            working_directory: "/x".into(),
            stop_signal: Some(9),
            stop_timeout: Some(FOR_EVER),
            hostname: "ship".into(),
            ..Wanted::default()
        };
        let spec = merged(own, config).unwrap().spec;
        assert_eq!((spec.user.as_str(), spec.working_directory.as_str()), ("v", "/x"));
        assert_eq!((spec.stop_signal, spec.stop_timeout_seconds), (9, Some(FOR_EVER)));
        assert_eq!(spec.hostname, "ship");
    }

    #[test]
    fn what_would_break_in_the_guest_is_refused_here() {
        let command = || ImageConfig { command: words("c"), ..ImageConfig::default() };
        let refused = |wanted: Wanted| merged(wanted, command()).unwrap_err().to_string();
        let text = refused(Wanted { working_directory: "x".into(), ..Wanted::default() });
        assert!(text.contains("needs to be an absolute path"), "{text}");
        let text = refused(Wanted { command: vec!["a\0b".into()], ..Wanted::default() });
        assert!(text.contains("zero byte"), "{text}");
        let text = refused(Wanted { environment: vec!["=x".into()], ..Wanted::default() });
        assert!(text.starts_with("invalid environment variable"), "{text}");
        let text = refused(Wanted { hostname: "a b".into(), ..Wanted::default() });
        assert!(text.starts_with("invalid hostname"), "{text}");
    }

    #[test]
    fn sizes_that_could_not_run_are_refused_here() {
        let command = || ImageConfig { command: words("c"), ..ImageConfig::default() };
        let memory = |bytes| Wanted { memory: Some(bytes), ..Wanted::default() };
        let disk = |bytes| Wanted { disk: Some(DiskSize(bytes)), ..Wanted::default() };
        for small in [memory(Bytes(1)), memory(Bytes::mib(5)), disk(Bytes::kib(1))] {
            assert!(merged(small, command()).is_err());
        }
        for enough in [memory(Bytes::mib(6)), disk(Bytes::mib(16))] {
            assert!(merged(enough, command()).is_ok());
        }
    }

    #[test]
    fn bodies_of_stock_clients_become_specs() {
        for body in CLI_28_BODIES {
            let body: Value = serde_json::from_str(body).unwrap();
            let checked = crate::docker::fields::check_container_create(body).unwrap();
            let wanted = CreateRequest::read(checked).unwrap().wanted().unwrap();
            let config = ImageConfig { command: words("sh"), ..ImageConfig::default() };
            merged(wanted, config).unwrap();
        }
    }

    proptest! {
        /// A model of the rule: later wins, a name alone removes, names stay unique.
        #[test]
        fn environment_is_a_map_in_order(
            image in proptest::collection::vec("[A-C]=[a-z]", 0..3),
            client in proptest::collection::vec("[A-E](=[a-z])?", 0..8),
        ) {
            let mut seen = BTreeSet::new();
            let image: Vec<String> =
                image.into_iter().filter(|e| seen.insert(e[..1].to_owned())).collect();
            let merged = environment(&image, &client);
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            for entry in image.iter().chain(&client) {
                match entry.split_once('=') {
                    Some((name, value)) => { model.insert(name.into(), value.into()); }
                    None => { model.remove(entry); }
                }
            }
            let found: BTreeMap<String, String> = merged
                .iter()
                .map(|e| e.split_once('=').expect("every entry has a value"))
                .map(|(n, v)| (n.into(), v.into()))
                .collect();
            prop_assert_eq!(found.len(), merged.len());
            prop_assert_eq!(found, model);
        }
    }
}
