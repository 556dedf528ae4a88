//! Container VMs: create, get, list, start, stop, delete, and where one would go.

use super::errors::{Kind, Problem};
use super::objects::{endpoint_named, newest};
use super::page::{Page, revision};
use super::query::{self, Query};
use super::resolve::{Resolved, find, resolve};
use super::wish::{Wish, reading, shown};
use super::{Api, show};
use crate::docker::translate::signal;
use crate::outcome::{self, Created, Started};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use berth_model::command::CommandBody;
use berth_model::container::StopOrder;
use berth_model::view::{ContainerRequest, PlaceView, PlacementView, StopRequest};
use berth_model::{ContainerId, EndpointId};
use berth_scheduler::Fleet;
use std::time::Duration;

/// How long the planner may take to choose a datastore.
const PLACE_DEADLINE: Duration = Duration::from_secs(30);
/// How long `?wait` waits for a start or stop.
const WAIT_DEADLINE: Duration = Duration::from_secs(300);
const GRACE_SECONDS: u32 = 10;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/v1/containers", web::get().to(list))
        .route("/v1/containers", web::post().to(create))
        .route("/v1/containers/{container}", web::get().to(get))
        .route("/v1/containers/{container}", web::delete().to(delete))
        .route("/v1/containers/{container}/start", web::post().to(start))
        .route("/v1/containers/{container}/stop", web::post().to(stop));
}

type Answer = Result<HttpResponse, Problem>;

async fn list(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::OWNED_LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let owner = query.text("endpoint").map(|name| endpoint_named(fleet, name)).transpose()?;
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet
            .containers_of(EndpointId::SYSTEM)
            .filter(|vm| owner.is_none_or(|owner| vm.endpoint() == owner)),
        |vm| vm.id.to_string(),
        |vm| if vm.meta.labels.is_empty() { &vm.spec.labels } else { &vm.meta.labels },
        |vm| show::container(fleet, vm),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}

async fn get(api: web::Data<Api>, request: HttpRequest, path: web::Path<String>) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let vm = find(fleet, &path)?;
    let etag = revision(fleet, vm.meta.modified);
    Ok(shown(&request, &reading, &etag.0, &show::container(fleet, vm)))
}

async fn create(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Json<ContainerRequest>,
) -> Answer {
    let query = Query::read(&request, &["dry_run", "wait"])?;
    let wish = Wish::read(&request)?;
    let (dry_run, wait) = (query.truth("dry_run")?, query.truth("wait")?);
    let reading = reading(&api, &Query::default()).await?;
    let begin = body.start;
    let resolved = resolve(&reading.fleet, &wish, body.into_inner())?;
    if dry_run {
        return Ok(HttpResponse::Ok().json(explain(&api, &reading.fleet, &resolved)));
    }
    let Resolved { owner, new, .. } = resolved;
    let id = new.id;
    let create = CommandBody::CreateContainer(Box::new(new));
    let index = wish.submit(&api, owner, "create", create).await?.revision.index;
    // A start needs the datastore, so it waits for it in any case.
    if wait || begin {
        placed(&api, &wish, owner, id, index).await?;
    }
    if begin {
        run(&api, &wish, owner, id, wait).await?;
    }
    let mut answer = answer(&api, id, StatusCode::CREATED)?;
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/containers/{id}")) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
}

fn answer(api: &Api, id: ContainerId, status: StatusCode) -> Answer {
    let fleet = newest(api);
    let vm = fleet
        .container(id)
        .ok_or_else(|| Problem::not_found("the container VM was removed meanwhile"))?;
    Ok(HttpResponse::build(status).json(show::container(&fleet, vm)))
}

fn explain(api: &Api, fleet: &Fleet, resolved: &Resolved) -> PlacementView {
    let demand = &resolved.new.spec.demand;
    let (place, explanation) = match api.scheduler.explain(fleet, demand, Some(&resolved.image)) {
        Ok(placement) => {
            let cluster = fleet.host(placement.host).map(|host| host.cluster);
            let place = PlaceView {
                cluster: cluster.map(|id| show::cluster_name(fleet, id)).unwrap_or_default(),
                host: show::host_name(fleet, placement.host),
                datastore: show::datastore_name(fleet, placement.datastore),
            };
            (Some(place), None)
        }
        Err(explanation) => (None, Some(show::explanation(fleet, &explanation))),
    };
    PlacementView {
        cell: api.scheduler.cell().to_string(),
        revision: revision(fleet, fleet.index()),
        place,
        explanation,
        demand: show::demand(fleet, demand),
    }
}

/// Waits until a datastore is chosen. What has no place is removed again, and told why.
async fn placed(
    api: &Api,
    wish: &Wish,
    owner: EndpointId,
    id: ContainerId,
    index: u64,
) -> Result<(), Problem> {
    let mut fleets = api.scheduler.watch();
    let question = |fleet: &Fleet| outcome::created(fleet, id);
    let settled = outcome::settled(&mut fleets, index, question);
    let problem = match tokio::time::timeout(PLACE_DEADLINE, settled).await {
        Ok(Ok(Created::Placed)) => return Ok(()),
        Ok(Ok(Created::Removed)) => {
            return Err(Problem::new(Kind::Conflict, "it was removed while it was created"));
        }
        Ok(Ok(Created::Refused(explanation))) => Problem::no_room(&newest(api), &explanation),
        Ok(Err(ending)) => ending.into(),
        Err(_) => Problem::new(Kind::TimedOut, "no datastore was chosen in time; try again"),
    };
    let remove = CommandBody::RemoveContainer { id, force: true };
    if let Err(failed) = wish.submit(api, owner, "remove", remove).await {
        tracing::warn!(%failed, container = %id.short(), "a container VM without a place stays");
    }
    Err(problem)
}

/// Starts it; with `wait`, until it runs or cannot.
async fn run(
    api: &Api,
    wish: &Wish,
    owner: EndpointId,
    id: ContainerId,
    wait: bool,
) -> Result<(), Problem> {
    let before = newest(api).container(id).map(|vm| vm.epoch).unwrap_or_default();
    let start = CommandBody::StartContainer { id };
    let index = wish.submit(api, owner, "start", start).await?.revision.index;
    if !wait {
        return Ok(());
    }
    let mut fleets = api.scheduler.watch();
    let question = |fleet: &Fleet| outcome::started(fleet, id, before);
    let settled = outcome::settled(&mut fleets, index, question);
    match tokio::time::timeout(WAIT_DEADLINE, settled).await {
        Ok(Ok(Started::Ran)) => Ok(()),
        Ok(Ok(Started::Refused(explanation))) => {
            let problem = Problem::no_room(&newest(api), &explanation);
            // Its client has heard no; it must not start by itself later.
            let stop = CommandBody::StopContainer { id, order: None };
            if let Err(failed) = wish.submit(api, owner, "take back", stop).await {
                let container = id.short();
                tracing::warn!(%failed, %container, "a refused start could not be taken back");
            }
            Err(problem)
        }
        Ok(Ok(Started::Failed(exit))) => Err(Problem::new(
            Kind::StartFailed,
            format!("it ended with {} before it ran: {}", exit.code, exit.error),
        )),
        Ok(Ok(Started::TakenBack)) => {
            Err(Problem::new(Kind::Conflict, "it was stopped before it started"))
        }
        Ok(Ok(Started::Removed)) => {
            Err(Problem::new(Kind::Conflict, "it was removed before it started"))
        }
        Ok(Err(ending)) => Err(ending.into()),
        Err(_) => {
            Err(Problem::new(Kind::TimedOut, "it is still being started; look at it again later"))
        }
    }
}

async fn start(api: web::Data<Api>, request: HttpRequest, path: web::Path<String>) -> Answer {
    let query = Query::read(&request, &["wait"])?;
    let wait = query.truth("wait")?;
    let wish = Wish::read(&request)?;
    let reading = reading(&api, &Query::default()).await?;
    let vm = find(&reading.fleet, &path)?;
    let (id, owner) = (vm.id, vm.endpoint());
    run(&api, &wish, owner, id, wait).await?;
    answer(&api, id, if wait { StatusCode::OK } else { StatusCode::ACCEPTED })
}

async fn stop(
    api: web::Data<Api>,
    request: HttpRequest,
    path: web::Path<String>,
    body: web::Bytes,
) -> Answer {
    let query = Query::read(&request, &["wait"])?;
    let wait = query.truth("wait")?;
    let wish = Wish::read(&request)?;
    let wanted: StopRequest = if body.is_empty() {
        StopRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::bad(format!("the body is not what this path takes: {error}"))
        })?
    };
    let reading = reading(&api, &Query::default()).await?;
    let vm = find(&reading.fleet, &path)?;
    let (id, owner) = (vm.id, vm.endpoint());
    let grace =
        wanted.grace_seconds.unwrap_or(vm.spec.stop_timeout_seconds.unwrap_or(GRACE_SECONDS));
    let signal = wanted.signal.as_deref().map(signal::parse).transpose()?;
    let order =
        StopOrder { signal: signal.unwrap_or(vm.spec.stop_signal), grace_seconds: Some(grace) };
    let stop = CommandBody::StopContainer { id, order: Some(order) };
    let index = wish.submit(&api, owner, "stop", stop).await?.revision.index;
    if !wait {
        return answer(&api, id, StatusCode::ACCEPTED);
    }
    let mut fleets = api.scheduler.watch();
    let question = |fleet: &Fleet| outcome::stopped(fleet, id);
    match tokio::time::timeout(WAIT_DEADLINE, outcome::settled(&mut fleets, index, question)).await
    {
        Ok(stopped) => stopped?,
        Err(_) => {
            return Err(Problem::new(Kind::TimedOut, "it has not ended yet; look at it later"));
        }
    }
    answer(&api, id, StatusCode::OK)
}

async fn delete(api: web::Data<Api>, request: HttpRequest, path: web::Path<String>) -> Answer {
    let query = Query::read(&request, &["force", "wait"])?;
    let (force, wait) = (query.truth("force")?, query.truth("wait")?);
    let wish = Wish::read(&request)?;
    let reading = reading(&api, &Query::default()).await?;
    let vm = find(&reading.fleet, &path)?;
    let (id, owner) = (vm.id, vm.endpoint());
    let remove = CommandBody::RemoveContainer { id, force };
    let index = wish.submit(&api, owner, "remove", remove).await?.revision.index;
    if wait {
        let mut fleets = api.scheduler.watch();
        let gone = |fleet: &Fleet| fleet.container(id).is_none().then_some(());
        match tokio::time::timeout(WAIT_DEADLINE, outcome::settled(&mut fleets, index, gone)).await
        {
            Ok(gone) => gone?,
            Err(_) => {
                return Err(Problem::new(
                    Kind::TimedOut,
                    "its name is free, but no host has discarded what it stored yet",
                ));
            }
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
