//! Placements over HTTP/1.1: replicas that run as `berth scheduler`, simulated nodes with sessions,
//! and clients in this process that send what `/v1/placements` takes and read what it answers.
//!
//! Promises: bodies are made before the clock starts; what is held in the end is read back from
//! every replica and counted again. Does not: use TLS towards the API, which listens on loopback.

mod client;
mod servers;

use super::placing::{Placings, Wave};
use super::story::{BENCH, placings};
use super::{ONE_BY_ONE, Options, PlaceError};
use crate::checks::none_of;
use crate::made_up;
use crate::sheet::Sheet;
use berth_model::view::{DemandRequest, PlacementItem, PlacementRequest, ReservationView};
use client::Client;
use servers::Servers;
use std::collections::BTreeMap;
use std::path::Path;

pub async fn tell(options: Options, program: &Path, directory: &Path) -> Result<Sheet, PlaceError> {
    if !options.has_sessions() {
        return Err(PlaceError::HttpHosts(options.hosts));
    }
    let servers = Servers::start(options, program, directory).await?;
    let outcome = steps(options, &servers).await;
    servers.stop().await;
    outcome
}

async fn steps(options: Options, servers: &Servers) -> Result<Sheet, PlaceError> {
    let Options { hosts, vms, replicas, batch, .. } = options;
    let about = format!(
        "{hosts} simulated hosts with a session each, {vms} placements, {replicas} replicas that \
         run as berth scheduler on this machine, fsync on; HTTP/1.1 to the leader from clients in \
         this process, whose CPU is not the servers'; no hypervisor"
    );
    let mut sheet = Sheet::new(BENCH, about);
    let leader = servers.leader().await?;
    let cases = [
        // Half of all in batches, the rest one by one: nothing is released between them.
        ("http-batch".to_owned(), batch, options.batches(), vms / 2),
        ("http-single-1".to_owned(), 1, 1, (vms / 4).min(ONE_BY_ONE)),
        (format!("http-single-{}", options.in_flight), 1, options.in_flight, vms / 4),
    ];
    let (mut from, mut placed) = (0, 0);
    let (mut failed, mut short): (Vec<String>, Vec<String>) = Default::default();
    for (case, batch, in_flight, count) in cases {
        let wave = Wave { from, to: from + count, batch, in_flight };
        from += count;
        let cpu = servers.cpu();
        let found = Client::new(leader)?.run(bodies(wave)?, in_flight).await;
        let cpu = servers.cpu().saturating_sub(cpu);
        placings(&mut sheet, &case, &found, cpu);
        placed += found.placed;
        let Placings { failed: trouble, .. } = found;
        failed.extend(trouble.into_iter().map(|(why, count)| format!("{case}: {count} {why}")));
        if found.placed < u64::from(count) {
            short.push(format!("{case}: {} of {count}", found.placed));
        }
    }
    sheet.check("http", "every_request_succeeded", none_of(&failed, "none failed"));
    sheet.check("http", "all_placed", none_of(&short, "every request of every case"));
    checks(&mut sheet, options, servers, placed).await?;
    Ok(sheet)
}

async fn checks(
    sheet: &mut Sheet,
    options: Options,
    servers: &Servers,
    placed: u64,
) -> Result<(), PlaceError> {
    let mut apart = Vec::new();
    for address in servers.addresses() {
        let held = Client::new(address)?.cell().await?.placements;
        if held != placed {
            apart.push(format!("{address} holds {held}, {placed} were answered as held"));
        }
    }
    let detail = format!("{placed} on each of {} replicas", options.replicas);
    sheet.check("http", "replicas_hold_what_was_answered", none_of(&apart, detail));
    let held = Client::new(servers.leader().await?)?.placements().await?;
    let over = over_capacity(options, &held);
    let detail = format!("{} placements read back and recounted", held.len());
    sheet.check("http", "nothing_over_capacity", none_of(&over, detail));
    let lost = servers.tally.lost.get();
    let detail = format!("{lost} sessions lost");
    sheet.check("http", "no_host_silent", if lost == 0 { Ok(detail) } else { Err(detail) });
    sheet.check("http", "log_on_disk", servers.log_is_on_disk());
    Ok(())
}

fn over_capacity(options: Options, held: &[ReservationView]) -> Vec<String> {
    let capacity = options.made_up().capacity();
    let mut hosts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for held in held {
        let (cpu, memory) = hosts.entry(&held.place.host).or_default();
        *cpu += held.charged.cpu_millis;
        *memory += held.charged.memory_bytes;
    }
    let over = hosts
        .into_iter()
        .filter(|(_, (cpu, memory))| *cpu > capacity.cpu.0 || *memory > capacity.memory.0);
    over.map(|(host, _)| host.to_owned()).collect()
}

/// The bodies of all requests of a wave, and how many each asks for.
fn bodies(wave: Wave) -> Result<Vec<(Vec<u8>, u64)>, PlaceError> {
    let numbers: Vec<u32> = (wave.from..wave.to).collect();
    let batches = numbers.chunks(usize::try_from(wave.batch.max(1)).unwrap_or(1));
    let body = |numbers: &[u32]| {
        let mut items: Vec<PlacementItem> = numbers.iter().map(|number| item(*number)).collect();
        let count = items.len() as u64;
        let mut request = PlacementRequest { reserve: true, ..PlacementRequest::default() };
        if count == 1 {
            request.request = items.pop();
        } else {
            request.batch = Some(items);
        }
        let body = serde_json::to_vec(&request).map_err(PlaceError::Order)?;
        Ok((body, count))
    };
    batches.map(body).collect()
}

fn item(number: u32) -> PlacementItem {
    let demand = made_up::demand(number);
    let demand = DemandRequest {
        cpu_millis: Some(demand.cpu.0),
        memory_bytes: Some(demand.memory.0),
        disk_bytes: Some(demand.disk.0),
        ..DemandRequest::default()
    };
    PlacementItem { demand, ..PlacementItem::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_one_body_and_a_single_is_no_batch() {
        let wave = Wave { from: 3, to: 8, batch: 2, in_flight: 1 };
        let bodies = bodies(wave).unwrap();
        let counts: Vec<u64> = bodies.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 2, 1]);
        let read = |at: usize| serde_json::from_slice::<PlacementRequest>(&bodies[at].0).unwrap();
        assert_eq!(read(0).batch.map(|items| items.len()), Some(2));
        assert!(read(2).request.is_some() && read(2).reserve && read(2).batch.is_none());
    }
}
