//! How the cost of a decision grows with the cell: the same churn on cells of 100 to 100,000 hosts,
//! each in a process of its own, so that none finds the memory of the one before.

use super::{BENCH, CHURN, Options, PlanError};
use crate::sheet::Sheet;
use std::path::Path;
use std::process::Command;

const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];
const COLUMNS: [&str; 7] = [
    "vms",
    "cpu_us_per_decision",
    "decide_us",
    "apply_us",
    "sync_us",
    "bytes_per_host",
    "bytes_per_vm",
];

/// `program` with `arguments` must end up in [`super::run`] without growth and write JSON.
pub fn run(options: &Options, program: &Path, arguments: &[String]) -> Result<Sheet, PlanError> {
    let per_host = options.vms.div_ceil(options.hosts.max(1)).max(1);
    let about = format!(
        "{per_host} container VMs a host, 85 % full, cells of {} to {} hosts, one process each",
        SIZES[0],
        SIZES[SIZES.len() - 1]
    );
    let mut sheet = Sheet::new(BENCH, about);
    let mut cases = Vec::new();
    for hosts in SIZES {
        let case = format!("hosts-{hosts}");
        let vms = u64::from(hosts) * u64::from(per_host);
        let output = Command::new(program)
            .args(arguments)
            .args(["--hosts", &hosts.to_string(), "--vms", &vms.to_string(), "--json"])
            .args(["--only", CHURN])
            .output()
            .map_err(|source| PlanError::Process { case: case.clone(), source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        sheet.append(&text, &case).map_err(|_| PlanError::Output {
            case: case.clone(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })?;
        let ended = if output.status.success() { Ok("0".to_owned()) } else { Err(text.into()) };
        sheet.check(&case, "ended_well", ended);
        cases.push(case);
    }
    let table = sheet.table(&cases, &COLUMNS);
    sheet.note(&table);
    Ok(sheet)
}
