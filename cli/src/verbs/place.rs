//! `berth place`, `release`, `extend`: places decided, and places held.

use super::connection::Connection;
use super::demand::{DemandArguments, parse_label};
use super::get;
use super::output::{self, Format};
use super::refused::told;
use super::units::parse_bytes;
use anyhow::{Context, Result, ensure};
use berth_client::WriteOptions;
use berth_client::view::{
    DecisionView, DiskRequest, ExtendRequest, PlacementItem, PlacementRequest, PlacementsView,
};
use berth_model::IdempotencyKey;

/// Decide where something would go, and with --reserve hold the place. Ends non-zero if anything
/// has no place.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    demand: DemandArguments,
    /// How many of this shape.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    count: u32,
    /// All of them, or none.
    #[arg(long)]
    gang: bool,
    /// A disk beside its own: name=size or name=size@datastore; may be given several times.
    #[arg(long = "volume", value_name = "NAME=SIZE", value_parser = parse_disk)]
    disks: Vec<DiskRequest>,
    /// A network that the host must reach; may be given several times.
    #[arg(long = "network", value_name = "NAME")]
    networks: Vec<String>,
    /// What rules select by: name=value; may be given several times.
    #[arg(long, short, value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Whose it is to be [default: system].
    #[arg(long)]
    endpoint: Option<String>,
    /// Hold the places.
    #[arg(long)]
    reserve: bool,
    /// How long they are held: 30s, 10m, 2h, 1d [default: until they are released].
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, requires = "reserve")]
    hold: Option<u64>,
    /// Wait so long for room: 30s, 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    wait: Option<u64>,
    /// Tell the reasons of so many hosts.
    #[arg(long, value_name = "HOSTS", default_value_t = 16)]
    explain: u32,
    /// Two requests with the same key hold the same places.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    #[command(flatten)]
    connection: Connection,
}

/// Give held places up.
#[derive(Clone, Debug, clap::Args)]
pub struct ReleaseArguments {
    /// Ids of reservations.
    #[arg(required = true)]
    reservations: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Hold a place longer, or until it is released.
#[derive(Clone, Debug, clap::Args)]
pub struct ExtendArguments {
    /// Id of the reservation.
    reservation: String,
    /// How long from now: 10m, 2h [default: until it is released].
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    hold: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

/// `name=size`, with `@datastore` behind it if only that will do.
fn parse_disk(text: &str) -> Result<DiskRequest, String> {
    let wrong = || format!("`{text}` is not a disk; write it as data=10g or data=10g@store");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (size, datastore) = match rest.split_once('@') {
        Some((size, datastore)) => (size, Some(datastore.to_owned())),
        None => (rest, None),
    };
    let size_bytes = parse_bytes(size)?;
    Ok(DiskRequest { name: name.to_owned(), size_bytes, datastore, ..DiskRequest::default() })
}

/// A time in whole seconds: `90`, `30s`, `10m`, `2h`, `1d`.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a time; write it as 30s, 10m, 2h or 1d");
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { count, gang, connection, .. } = arguments.clone();
    let item = PlacementItem {
        demand: arguments.demand.request(),
        disks: arguments.disks,
        networks: arguments.networks,
        labels: arguments.label.into_iter().collect(),
    };
    let items = || vec![item.clone(); usize::try_from(count).unwrap_or(1)];
    let mut request = PlacementRequest {
        endpoint: arguments.endpoint,
        reserve: arguments.reserve,
        hold_seconds: arguments.hold,
        explain_hosts: Some(arguments.explain),
        ..PlacementRequest::default()
    };
    if gang {
        request.gang = Some(items());
    } else if count > 1 {
        request.batch = Some(items());
    } else {
        request.request = Some(item.clone());
    }
    let options = WriteOptions {
        wait_seconds: arguments.wait,
        key: arguments.idempotency_key,
        ..WriteOptions::default()
    };
    let answer = told(connection.client()?.place(&request, &options).await)?;
    show(&answer, connection.output)?;
    ensure!(answer.refused == 0, "{} of {count} have no place, as said above", answer.refused);
    Ok(())
}

fn show(answer: &PlacementsView, format: Format) -> Result<()> {
    if format != Format::Table {
        return output::structured(format, answer);
    }
    let header = &["cluster", "host", "datastore", "numa", "reservation", "gives way"];
    let placed: Vec<Vec<String>> = answer.items.iter().filter_map(row).collect();
    if !placed.is_empty() {
        output::table(header, placed)?;
    }
    let refused = answer.items.iter().filter_map(|item| item.explanation.as_ref());
    // Equal requests are refused alike: one telling is enough.
    let mut told = Vec::new();
    for explanation in refused {
        if !told.contains(&explanation.summary) {
            told.push(explanation.summary.clone());
            output::text(&super::explain::refusal("a request", None, explanation))?;
        }
    }
    Ok(())
}

fn row(decision: &DecisionView) -> Option<Vec<String>> {
    let place = decision.place.as_ref()?;
    let disks = place.disks.iter().map(|disk| format!("{}:{}", disk.name, disk.datastore));
    let datastores: Vec<String> = place.datastore.iter().cloned().chain(disks).collect();
    let numa: Vec<String> = place.numa_nodes.iter().map(u16::to_string).collect();
    let victims: Vec<String> =
        decision.victims.iter().map(|victim| format!("{} {}", victim.kind, victim.id)).collect();
    Some(vec![
        place.cluster.clone(),
        place.host.clone(),
        datastores.join(","),
        numa.join(","),
        decision.id.clone().unwrap_or_default(),
        victims.join(","),
    ])
}

pub async fn release(arguments: ReleaseArguments) -> Result<()> {
    let client = arguments.connection.client()?;
    for reservation in &arguments.reservations {
        told(client.release(reservation, &WriteOptions::default()).await)
            .with_context(|| format!("{reservation} was not released"))?;
        output::line(&format!("{reservation} released"))?;
    }
    Ok(())
}

pub async fn extend(arguments: ExtendArguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let request = ExtendRequest { hold_seconds: arguments.hold };
    let answer = client.extend(&arguments.reservation, &request, &WriteOptions::default()).await;
    let view =
        told(answer).with_context(|| format!("{} is not held longer", arguments.reservation))?;
    get::print(&get::PLACEMENTS, &view, arguments.connection.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_units_that_people_use() {
        assert_eq!(parse_seconds("90"), Ok(90));
        assert_eq!(parse_seconds("30s"), Ok(30));
        assert_eq!(parse_seconds("10m"), Ok(600));
        assert_eq!(parse_seconds("2h"), Ok(7200));
        assert_eq!(parse_seconds("1d"), Ok(86_400));
        for text in ["", "m", "0s", "1w", "1hm", "-1", "99999999999999999999"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_disk_may_name_its_datastore() {
        let disk = parse_disk("data=10g@fast").unwrap();
        assert_eq!((disk.size_bytes, disk.datastore.as_deref()), (10 << 30, Some("fast")));
        assert!(parse_disk("data").is_err());
        assert!(parse_disk("data=x").is_err());
    }
}
