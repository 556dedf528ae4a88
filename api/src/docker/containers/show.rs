//! `docker ps` and `docker inspect`.

use crate::clock;
use crate::docker::answer::{self, Answer};
use crate::docker::call::Call;
use crate::docker::error::DockerError;
use crate::docker::translate::filter::Filters;
use crate::docker::translate::listing::{self, Listing};
use crate::docker::translate::{Invalid, container};
use hyper::StatusCode;
use serde_json::Value;

pub async fn inspect(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    Ok(answer::json(StatusCode::OK, &container::inspect(vm, &view.around(vm))))
}

pub async fn list(call: &Call) -> Result<Answer, DockerError> {
    let limit = match call.query.number::<i64>("limit")? {
        // The engine reads -1 and 0 as no limit.
        None | Some(..=0) => None,
        Some(limit) => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    let listing = Listing {
        all: call.query.truth("all"),
        limit,
        filters: Filters::parse(call.query.text("filters"), listing::FILTERS)?,
    }
    .checked()?;
    let view = call.view().await?;
    let shown = listing.select(
        view.fleet.containers_of(view.endpoint),
        |name| view.container(name).ok(),
        |wanted, vm| view.image(wanted).is_ok_and(|image| image.id == vm.spec.image),
    );
    let now = clock::now();
    match shown {
        Ok(shown) => {
            let lines = shown.iter().map(|vm| listing::summary(vm, &view.around(vm), now));
            Ok(answer::json(StatusCode::OK, &Value::Array(lines.collect())))
        }
        Err(invalid @ (Invalid::Bad(_) | Invalid::NotYet(_) | Invalid::NotFound(_))) => {
            Err(invalid.into())
        }
    }
}
