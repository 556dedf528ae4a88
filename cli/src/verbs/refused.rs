//! Refusals of a write, with all that the API tells of them.

use anyhow::{Result, anyhow};
use berth_client::ClientError;

/// A refusal with each host's own reason under it, if placement refused.
pub fn told<T>(answer: Result<T, ClientError>) -> Result<T> {
    answer.map_err(|error| {
        let explanation = error.problem().and_then(|problem| problem.explanation.clone());
        match explanation {
            None => anyhow::Error::from(error),
            Some(explanation) => {
                let hosts: String = explanation
                    .hosts
                    .iter()
                    .map(|host| format!("\n  {}: {} ({})", host.host, host.reason, host.filter))
                    .collect();
                anyhow!("{error}{hosts}")
            }
        }
    })
}
