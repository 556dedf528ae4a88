//! What `berth up` and `berth down` ask of the cell's own API.

use super::cell_file::{CellFile, Kind};
use super::launch::log_tail;
use super::progress::Progress;
use crate::clock;
use crate::verbs::pages;
use anyhow::{Context, Result};
use berth_client::view::{ContainerVmView, HostView, StateView, StopRequest};
use berth_client::{Client, ClientError, WriteOptions};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// For all container VMs to stop, each within its own grace.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// A cell that answers nothing for so long has lost its majority.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// As the API writes it.
const CONNECTED: &str = "connected";

/// Waits until every replica serves and every host is connected.
pub async fn wait_ready(cell: &CellFile, limit: Duration, progress: &mut Progress) -> Result<()> {
    let deadline = clock::now() + limit;
    progress.begin("schedulers");
    let mut leader = None;
    for address in cell.addresses("api") {
        let client = Client::new(&[format!("http://{address}")], None)?;
        progress.waiting(&format!("waiting for a leader and {address}"));
        let left = deadline.saturating_duration_since(clock::now());
        // The answer takes a read index, so the replica has a leader and has caught up.
        let view = clock::wait_until(left, || async { client.cell().await.map_err(chain) })
            .await
            .map_err(|reason| {
            not_ready(cell, Kind::Scheduler, &format!("{address}: "), &reason)
        })?;
        leader = view.replica.leader.or(leader);
    }
    progress.done(match leader {
        Some(leader) => format!("all serve; the leader is replica {leader}"),
        None => "all serve".to_owned(),
    });

    progress.begin("hosts");
    progress.waiting("waiting for their nodes, which boot a guest to see what the CPU can do");
    let client = client(cell)?;
    let left = deadline.saturating_duration_since(clock::now());
    let hosts = clock::wait_until(left, || connected_hosts(&client, cell))
        .await
        .map_err(|reason| not_ready(cell, Kind::Node, "", &reason))?;
    let mut accelerators: Vec<&str> =
        hosts.iter().map(|host| crate::verbs::units::accelerator(host.accelerator)).collect();
    accelerators.sort_unstable();
    accelerators.dedup();
    progress.done(format!("{} connected ({})", hosts.len(), accelerators.join(", ")));
    Ok(())
}

async fn connected_hosts(client: &Client, cell: &CellFile) -> Result<Vec<HostView>, String> {
    let hosts = pages::all(async |query| client.hosts(&query).await).await.map_err(chain)?;
    // The fleet may still show a host as it was before its node and the leader were started again;
    // so the sessions of now are counted, too.
    let sessions = node_sessions(cell).await?;
    if sessions < cell.hosts.len() {
        return Err(format!("{sessions} of {} nodes have a session", cell.hosts.len()));
    }
    let missing: Vec<&str> = cell
        .hosts
        .iter()
        .filter(|wanted| {
            let id = wanted.id.to_string();
            !hosts.iter().any(|host| host.id == id && host.state == CONNECTED)
        })
        .map(|host| host.name.as_str())
        .collect();
    if missing.is_empty() {
        Ok(hosts)
    } else {
        Err(format!("{} not connected", missing.join(", ")))
    }
}

/// Sessions with nodes that the schedulers count in their metrics; only the leader has any.
async fn node_sessions(cell: &CellFile) -> Result<usize, String> {
    let failed = |error: reqwest::Error| format!("metrics cannot be read: {error}");
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(failed)?;
    let mut sessions = 0;
    // The API's listener serves them.
    for address in cell.addresses("api") {
        let answer = http.get(format!("http://{address}/metrics")).send().await.map_err(failed)?;
        sessions += gauge(&answer.text().await.map_err(failed)?, "berth_scheduler_node_sessions");
    }
    Ok(sessions)
}

/// The value of a gauge without labels in the text that `/metrics` serves; 0 if it is not there.
fn gauge(text: &str, name: &str) -> usize {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or_default()
}

/// An error that shows what each process of this kind complained of last.
fn not_ready(cell: &CellFile, kind: Kind, what: &str, reason: &str) -> anyhow::Error {
    let mut text = format!("the cell is not ready: {what}{reason}");
    for process in cell.processes.iter().filter(|process| process.kind == kind) {
        if let Some(complaint) = last_complaint(&log_tail(process)) {
            text.push_str(&format!("\n{} says: {complaint}", process.label()));
        }
    }
    anyhow::anyhow!("{text}\nall logs: {}", cell.log_directory().display())
}

/// The last line that is a warning or an error, in either format of logs.
fn last_complaint(log: &str) -> Option<&str> {
    log.lines().rfind(|line| line.contains("ERROR") || line.contains("WARN"))
}

/// A client of every replica.
fn client(cell: &CellFile) -> Result<Client> {
    let servers: Vec<String> =
        cell.addresses("api").map(|address| format!("http://{address}")).collect();
    Client::new(&servers, None).context("cannot speak to the API")
}

/// Stops every container VM that runs or is about to, each as it wants to be stopped; answers how
/// many. What is on a host that is not connected cannot be stopped this way and is left.
pub async fn stop_all(cell: &CellFile, progress: &Progress) -> Result<usize, String> {
    let client = client(cell).map_err(|error| format!("{error:#}"))?;
    let listed = async {
        let hosts = pages::all(async |query| client.hosts(&query).await).await?;
        let containers = pages::all(async |query| client.container_vms(&query).await).await?;
        Ok::<_, ClientError>((hosts, containers))
    };
    let (hosts, containers) = tokio::time::timeout(ANSWER_LIMIT, listed)
        .await
        .map_err(|_| "the schedulers do not answer".to_owned())?
        .map_err(chain)?;
    let connected: BTreeSet<&str> = hosts
        .iter()
        .filter(|host| host.state == CONNECTED)
        .map(|host| host.name.as_str())
        .collect();
    let (reachable, out_of_reach): (Vec<&ContainerVmView>, Vec<&ContainerVmView>) =
        containers.iter().filter(|container| wants_to_run(&container.state)).partition(
            |container| container.host.as_deref().is_none_or(|host| connected.contains(host)),
        );
    let stopped = stop_each(&client, &reachable, progress).await?;
    if out_of_reach.is_empty() {
        return Ok(stopped);
    }
    Err(format!("{} are on hosts that are not connected", out_of_reach.len()))
}

const fn wants_to_run(state: &StateView) -> bool {
    match state {
        StateView::Waiting { .. } | StateView::Starting { .. } | StateView::Running { .. } => true,
        StateView::Pending { .. }
        | StateView::Created
        | StateView::Exited { .. }
        | StateView::Removing => false,
    }
}

async fn stop_each(
    client: &Client,
    containers: &[&ContainerVmView],
    progress: &Progress,
) -> Result<usize, String> {
    let mut stops = JoinSet::new();
    for container in containers {
        let (client, id, name) = (client.clone(), container.id.clone(), container.name.clone());
        stops.spawn(async move {
            let stopped = client
                .stop_container_vm(&id, &StopRequest::default(), &WriteOptions::waiting())
                .await;
            match stopped {
                Ok(_) => Ok(()),
                // It ended meanwhile, or `--rm` took it away.
                Err(error) if is_gone(&error) => Ok(()),
                Err(error) => Err(format!("{name}: {}", chain(error))),
            }
        });
    }
    let mut failures = Vec::new();
    let all = async {
        while let Some(stopped) = stops.join_next().await {
            match stopped {
                Ok(outcome) => failures.extend(outcome.err()),
                Err(error) => failures.push(error.to_string()),
            }
            progress.waiting(&format!("{} still to stop", stops.len()));
        }
    };
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        return Err(format!("not all stopped within {} s", STOP_LIMIT.as_secs()));
    }
    if failures.is_empty() { Ok(containers.len()) } else { Err(failures.join("; ")) }
}

fn is_gone(error: &ClientError) -> bool {
    error.problem().is_some_and(|problem| problem.status == 404 || problem.status == 409)
}

/// An error with its sources in one line.
fn chain(error: ClientError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_read_by_its_whole_name() {
        let text = "# HELP a_b words\n# TYPE a_b gauge\na_bc 7\na_b 3\n";
        assert_eq!(gauge(text, "a_b"), 3);
        assert_eq!(gauge(text, "a"), 0);
    }

    #[test]
    fn the_last_complaint_of_a_log_is_found_in_either_format() {
        let text = "t INFO a\nt WARN b\nt ERROR c\nt INFO d";
        assert_eq!(last_complaint(text), Some("t ERROR c"));
        let json = "{\"level\":\"WARN\",\"message\":\"b\"}\n{\"level\":\"INFO\"}";
        assert!(last_complaint(json).unwrap().contains("\"b\""));
        assert_eq!(last_complaint("t INFO a"), None);
    }
}
