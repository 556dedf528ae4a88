//! Every way into a configuration, and every way to be refused.

use super::*;
use std::io::Write;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn read<C: Configuration>(
    text: &str,
    environment: &[(&str, &str)],
    overrides: &[&str],
) -> Result<C, String> {
    let environment =
        environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    load_from::<C>(file(text).path(), environment, &overrides)
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn scheduler(environment: &[(&str, &str)], overrides: &[&str]) -> Result<SchedulerConfig, String> {
    read(Role::Scheduler.example(), environment, overrides)
}

#[test]
fn every_example_is_valid() {
    for role in [Role::Scheduler, Role::Node, Role::Keeper, Role::Switch] {
        let example = file(role.example());
        role.check(example.path(), &[]).unwrap_or_else(|error| {
            panic!("{role}: {:#}", anyhow::Error::from(error));
        });
    }
}

/// The example is the documentation of the keys: none may be missing from it.
#[test]
fn every_key_stands_in_its_example() {
    fn keys(prefix: &str, value: &toml::Value, found: &mut std::collections::BTreeSet<String>) {
        if let toml::Value::Table(table) = value {
            for (key, value) in table {
                found.insert(format!("{prefix}{key}"));
                keys(&format!("{prefix}{key}."), value, found);
            }
        } else if let toml::Value::Array(items) = value {
            items.iter().for_each(|item| keys(prefix, item, found));
        }
    }
    fn check<C: Configuration + serde::Serialize>() {
        let text = C::ROLE.example();
        let (mut documented, mut known) = Default::default();
        keys("", &text.parse::<toml::Table>().unwrap().into(), &mut documented);
        let parsed: C = read(text, &[], &[]).unwrap();
        keys("", &toml::Value::try_from(&parsed).unwrap(), &mut known);
        assert_eq!(documented, known, "{}", C::ROLE);
    }
    check::<SchedulerConfig>();
    check::<NodeConfig>();
    check::<KeeperConfig>();
    check::<SwitchConfig>();
}

#[test]
fn what_is_written_is_read_back() {
    let read_first = scheduler(&[], &[]).unwrap();
    let written = toml::to_string(&read_first).unwrap();
    assert_eq!(read::<SchedulerConfig>(&written, &[], &[]).unwrap(), read_first);
    let node: NodeConfig = read(Role::Node.example(), &[], &[]).unwrap();
    let written = toml::to_string(&node).unwrap();
    assert_eq!(read::<NodeConfig>(&written, &[], &[]).unwrap(), node);
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let environment = [("BERTH__API__LISTEN", "127.0.0.1:9001"), ("BERTH__REPLICA", "2")];
    let config = scheduler(&environment, &[]).unwrap();
    assert_eq!(config.api.listen.port(), 9001);
    assert_eq!(config.replica, 2);
    let config = scheduler(&environment, &["api.listen=127.0.0.1:9002"]).unwrap();
    assert_eq!(config.api.listen.port(), 9002);
    assert_eq!(config.replica, 2);
}

#[test]
fn other_variables_of_berth_are_none_of_its_keys() {
    scheduler(&[("BERTH_LOG", "debug"), ("BERTH_API", "x"), ("API__LISTEN", "x")], &[]).unwrap();
}

#[test]
fn an_unknown_key_is_refused_wherever_it_comes_from() {
    let in_file = format!("surprise = 1\n{}", Role::Scheduler.example());
    let nested = Role::Scheduler.example().replace("[nodes]", "[nodes]\nsurprise = 1");
    for error in [
        read::<SchedulerConfig>(&in_file, &[], &[]).unwrap_err(),
        read::<SchedulerConfig>(&nested, &[], &[]).unwrap_err(),
        scheduler(&[("BERTH__NODES__SURPRISE", "1")], &[]).unwrap_err(),
        scheduler(&[], &["docker.surprise=1"]).unwrap_err(),
    ] {
        assert!(error.contains("surprise"), "{error}");
    }
    assert!(scheduler(&[], &["nonsense"]).is_err());
}

#[test]
fn plain_text_stays_on_loopback() {
    for key in ["api", "docker"] {
        let listen = format!("{key}.listen=192.0.2.1:80");
        let error = scheduler(&[], &[&listen]).unwrap_err();
        assert!(error.contains("loopback only"), "{error}");
        scheduler(&[], &[&listen, &format!("{key}.tls=true")]).unwrap();
    }
    let implied = Role::Scheduler.example().replace("tls = false\n", "");
    let config: SchedulerConfig = read(&implied, &[], &["api.listen=[::]:80"]).unwrap();
    assert!(config.api.listener("api").unwrap().tls);
    assert!(!config.docker.listener().listener("docker").unwrap().tls);
}

#[test]
fn a_replica_that_is_not_among_its_peers_is_refused() {
    assert!(scheduler(&[], &["replica=4"]).unwrap_err().contains("raft.peers"));
}

#[test]
fn what_a_role_itself_refuses_is_refused_here() {
    let text = Role::Node.example().replace("run_directory = \"/run", "run_directory = \"run");
    assert!(read::<NodeConfig>(&text, &[], &[]).unwrap_err().contains("run_directory"));
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<SwitchConfig>(Path::new("/no/such/file.toml"), &[]).unwrap_err();
    assert!(error.to_string().contains("/no/such/file.toml"), "{error}");
}
