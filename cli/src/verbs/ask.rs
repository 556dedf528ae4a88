//! `berth capacity` and `berth what-if`: questions about what would be.

use super::connection::Connection;
use super::demand::{DemandArguments, parse_label};
use super::output::{self, Format};
use super::refused::told;
use anyhow::Result;
use berth_client::view::{CapacityRequest, CapacityView, PlacementItem, WhatIfRequest, WhatIfView};

/// How many more of this shape fit, now and after the loss of any one host.
#[derive(Clone, Debug, clap::Args)]
pub struct CapacityArguments {
    #[command(flatten)]
    demand: DemandArguments,
    /// What rules select by: name=value; may be given several times.
    #[arg(long, short, value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Whose it would be [default: system].
    #[arg(long)]
    endpoint: Option<String>,
    /// Count no further than this.
    #[arg(long)]
    most: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

/// What would become of container VMs; nothing is changed.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum WhatIf {
    /// If these hosts were lost together.
    Lose {
        #[arg(required = true)]
        hosts: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// If this host were to be emptied.
    Drain {
        host: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub async fn capacity(arguments: CapacityArguments) -> Result<()> {
    let request = CapacityRequest {
        request: PlacementItem {
            demand: arguments.demand.request(),
            labels: arguments.label.into_iter().collect(),
            ..PlacementItem::default()
        },
        endpoint: arguments.endpoint,
        most: arguments.most,
    };
    let answer = told(arguments.connection.client()?.capacity(&request).await)?;
    show_capacity(&answer, arguments.connection.output)
}

fn show_capacity(answer: &CapacityView, format: Format) -> Result<()> {
    if format != Format::Table {
        return output::structured(format, answer);
    }
    let row = |name: &str, now: u64| vec![name.to_owned(), now.to_string()];
    let mut rows: Vec<Vec<String>> =
        answer.clusters.iter().map(|one| row(&one.cluster, one.now)).collect();
    rows.push(row("(all)", answer.now));
    output::table(&["cluster", "fit now"], rows)?;
    let Some(loss) = &answer.after_loss else { return Ok(()) };
    let tried = match loss.exact {
        true => format!("all {} losses tried", loss.tried),
        false => format!("the {} largest hosts tried", loss.tried),
    };
    output::line(&format!(
        "after the loss of {}, the worst of one host: {} fit, {} of its own have no place ({tried})",
        loss.host, loss.fit, loss.homeless
    ))
}

pub async fn what_if(question: WhatIf) -> Result<()> {
    let (request, connection) = match question {
        WhatIf::Lose { hosts, connection } => {
            (WhatIfRequest { lose: Some(hosts), drain: None }, connection)
        }
        WhatIf::Drain { host, connection } => {
            (WhatIfRequest { lose: None, drain: Some(host) }, connection)
        }
    };
    let answer = told(connection.client()?.what_if(&request).await)?;
    show_moves(&answer, connection.output)
}

fn show_moves(answer: &WhatIfView, format: Format) -> Result<()> {
    if format != Format::Table {
        return output::structured(format, answer);
    }
    let rows: Vec<Vec<String>> = answer
        .moves
        .iter()
        .map(|one| {
            let refused = one.explanation.as_ref().map_or("", |why| why.summary.as_str());
            let to = one.to.as_ref().map_or(refused, |place| place.host.as_str());
            let name = one.name.clone().unwrap_or_else(|| one.id.chars().take(24).collect());
            vec![one.kind.clone(), name, one.from.clone(), to.to_owned()]
        })
        .collect();
    output::table(&["kind", "name", "from", "to"], rows)?;
    output::line(&format!("{} have a place, {} have none", answer.placed, answer.refused))
}
