//! `docker create`: translate, commit, and wait until a datastore is chosen or refused.

use crate::docker::answer::{self, Answer};
use crate::docker::call::{Call, View};
use crate::docker::error::DockerError;
use crate::docker::fields;
use crate::docker::translate::request::CreateRequest;
use crate::docker::translate::{name, spec};
use crate::outcome::{self, Created};
use berth_model::command::{CommandBody, NewContainer};
use berth_model::{ContainerId, Image, Rejection};
use berth_scheduler::SubmitError;
use hyper::StatusCode;
use rand::Rng as _;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest body: with what is read out of it, it must fit into one command of the log.
const BODY_MAX: usize = 384 << 10;
/// How long the planner may take to choose a datastore.
const PLACE_DEADLINE: Duration = Duration::from_secs(30);
/// Made-up names that are tried before giving up.
const NAMES_MAX: u32 = 5;

pub async fn create(mut call: Call) -> Result<Answer, DockerError> {
    let wanted_name = match call.query.text("name") {
        "" => None,
        text => Some(name::checked(text)?.to_owned()),
    };
    let body = call.body(BODY_MAX).await?;
    let body = std::str::from_utf8(&body)
        .map_err(|_| DockerError::bad("the request's body is not UTF-8"))?;
    let document: Value = serde_json::from_str(body)
        .map_err(|error| DockerError::bad(format!("invalid JSON: {error}")))?;
    if !document.is_object() {
        return Err(DockerError::bad("config cannot be empty in order to create a container"));
    }
    let request = CreateRequest::read(fields::check_container_create(document)?)?;
    let wanted = request.wanted()?;
    let reference = request.image.as_deref().unwrap_or_default();
    if reference.is_empty() {
        return Err(DockerError::bad("no image specified"));
    }
    let view = call.view().await?;
    let image = view.image(reference)?;
    check_platform(call.query.text("platform"), reference, image)?;
    let defaults = view
        .fleet
        .endpoint(view.endpoint)
        .map(|endpoint| endpoint.defaults.clone())
        .unwrap_or_default();
    let id = ContainerId::random(&mut rand::rng());
    let within = spec::Within::default();
    let merged = spec::merge(id, wanted, image, reference, &defaults, within, body.to_owned())?;
    let new = NewContainer {
        id,
        name: String::new(),
        spec: merged.spec,
        labels: std::collections::BTreeMap::new(),
        reservation: None,
    };
    let index = commit(&call, &view, new, wanted_name).await?;
    settle(&call, &view, id, index).await?;
    Ok(answer::json(
        StatusCode::CREATED,
        &json!({"Id": id.to_string(), "Warnings": merged.warnings}),
    ))
}

/// Commits it under the name that was asked for, or under the first made-up one that is free.
/// Answers the index in the log.
async fn commit(
    call: &Call,
    view: &View,
    new: NewContainer,
    wanted_name: Option<String>,
) -> Result<u64, DockerError> {
    let create = |name: String| {
        let new = NewContainer { name, ..new.clone() };
        call.submit(view.endpoint, CommandBody::CreateContainer(Box::new(new)))
    };
    if let Some(name) = wanted_name {
        return Ok(create(name).await?.revision.index);
    }
    let mut attempt = 0;
    loop {
        let draw = rand::rng().random();
        match create(name::made_up(draw, attempt)).await {
            Ok(accepted) => return Ok(accepted.revision.index),
            Err(SubmitError::Rejected(Rejection::NameTaken { .. })) if attempt < NAMES_MAX => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the datastore; what has no place is removed again.
async fn settle(call: &Call, view: &View, id: ContainerId, index: u64) -> Result<(), DockerError> {
    let mut fleets = call.docker.scheduler.watch();
    let placed = outcome::settled(&mut fleets, index, |fleet| outcome::created(fleet, id));
    let error = match tokio::time::timeout(PLACE_DEADLINE, placed).await {
        Ok(Ok(Created::Placed)) => return Ok(()),
        Ok(Ok(Created::Removed)) => {
            return Err(DockerError::conflict("the container was removed while it was created"));
        }
        Ok(Ok(Created::Refused(explanation))) => {
            DockerError::no_room("take the container", &explanation)
        }
        Ok(Err(ending)) => ending.into(),
        Err(_) => DockerError::unavailable("no place was chosen in time; try again"),
    };
    let remove = CommandBody::RemoveContainer { id, force: true };
    match call.submit(view.endpoint, remove).await {
        Ok(_) | Err(SubmitError::Rejected(_)) => {}
        Err(failed) => {
            tracing::warn!(%failed, container = %id.short(), "a container VM without a place stays");
        }
    }
    Err(error)
}

/// `linux/amd64`, `linux/arm64/v8`, `linux`: what the image is, or it is not what was asked for.
fn check_platform(wanted: &str, reference: &str, image: &Image) -> Result<(), DockerError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut parts = wanted.split('/');
    let (os, architecture) = (parts.next().unwrap_or_default(), parts.next());
    let own_os = if image.config.os.is_empty() { "linux" } else { &image.config.os };
    let own = image.config.architecture.as_str();
    let fits = os.eq_ignore_ascii_case(own_os)
        && architecture.is_none_or(|wanted| {
            wanted.eq_ignore_ascii_case(own)
                || matches!((wanted, own), ("x86_64", "amd64") | ("aarch64", "arm64"))
        });
    if fits {
        Ok(())
    } else {
        Err(DockerError::not_found(format!(
            "image with reference {reference} was found but does not provide the specified \
             platform ({wanted}): it is {own_os}/{own}"
        )))
    }
}
