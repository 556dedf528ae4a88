//! Clusters, hosts, datastores, endpoints, images, and the cell itself.

use super::errors::Problem;
use super::page::{Page, revision};
use super::query::{self, Query};
use super::wish::{Wish, reading, shown};
use super::{Api, show};
use actix_web::{HttpRequest, HttpResponse, web};
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::CommandBody;
use berth_model::endpoint::EndpointDefaults;
use berth_model::view::{CellView, ClusterRequest, EndpointRequest, ReplicaView, SYSTEM_ENDPOINT};
use berth_model::{Bytes, ClusterId, EndpointId, MilliCpus, Permille, VmState};
use berth_scheduler::Fleet;
use std::sync::Arc;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/v1/cell", web::get().to(cell))
        .route("/v1/clusters", web::get().to(clusters))
        .route("/v1/clusters", web::post().to(create_cluster))
        .route("/v1/clusters/{cluster}", web::get().to(cluster))
        .route("/v1/hosts", web::get().to(hosts))
        .route("/v1/hosts/{host}", web::get().to(host))
        .route("/v1/datastores", web::get().to(datastores))
        .route("/v1/datastores/{datastore}", web::get().to(datastore))
        .route("/v1/endpoints", web::get().to(endpoints))
        .route("/v1/endpoints", web::post().to(create_endpoint))
        .route("/v1/endpoints/{endpoint}", web::get().to(endpoint))
        .route("/v1/images", web::get().to(images));
}

type Answer = Result<HttpResponse, Problem>;

/// The endpoint of that name; `system` is the cell's own.
pub fn endpoint_named(fleet: &Fleet, name: &str) -> Result<EndpointId, Problem> {
    if name == SYSTEM_ENDPOINT {
        return Ok(EndpointId::SYSTEM);
    }
    let by_id = || name.parse().ok().and_then(|id| fleet.endpoint(id));
    let found = fleet.endpoint_named(name).or_else(by_id);
    found
        .map(|endpoint| endpoint.id)
        .ok_or_else(|| Problem::not_found(format!("no endpoint named `{name}`")))
}

async fn cell(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let status = api.scheduler.replica();
    let counts = VmState::NAMES.iter().zip(fleet.counts());
    let view = CellView {
        cell: api.scheduler.cell().to_string(),
        revision: revision(fleet, fleet.index()),
        incarnation: fleet.incarnation().0,
        replica: ReplicaView {
            id: status.id,
            role: format!("{:?}", status.role).to_lowercase(),
            term: status.term,
            leader: status.leader,
            commit: status.commit,
            applied: status.applied,
        },
        containers: counts.map(|(name, count)| ((*name).to_owned(), count)).collect(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(HttpResponse::Ok().json(view))
}

async fn clusters(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet.clusters(),
        |cluster| cluster.id.to_string(),
        |cluster| &cluster.meta.labels,
        |cluster| show::cluster(fleet, cluster),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}

async fn cluster(api: web::Data<Api>, request: HttpRequest, name: web::Path<String>) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let by_id = || name.parse().ok().and_then(|id| fleet.cluster(id));
    let found = fleet.cluster_named(&name).or_else(by_id);
    let found = found.ok_or_else(|| Problem::not_found(format!("no cluster named `{name}`")))?;
    let view = show::cluster(fleet, found);
    // Sums over hosts change with the hosts, so the fleet's revision is the resource's.
    Ok(shown(&request, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn create_cluster(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Json<ClusterRequest>,
) -> Answer {
    Query::read(&request, &["wait"])?;
    let wish = Wish::read(&request)?;
    let wanted = body.into_inner();
    let default = ClusterPolicy::default();
    let permille = |wanted: Option<u32>, default| wanted.map_or(default, Permille);
    let policy = ClusterPolicy {
        strategy: wanted.strategy.unwrap_or(default.strategy),
        cpu_overcommit: permille(wanted.cpu_overcommit_permille, default.cpu_overcommit),
        memory_overcommit: permille(wanted.memory_overcommit_permille, default.memory_overcommit),
        disk_overcommit: permille(wanted.disk_overcommit_permille, default.disk_overcommit),
        cpu_model: wanted.cpu_model.unwrap_or(default.cpu_model),
    };
    let id = ClusterId::from_bytes(wish.derive_short("cluster id"));
    let create = CommandBody::CreateCluster { id, name: wanted.name, policy };
    wish.submit(&api, EndpointId::SYSTEM, "create cluster", create).await?;
    let fleet = newest(&api);
    let view = fleet.cluster(id).map(|cluster| show::cluster(&fleet, cluster));
    Ok(HttpResponse::Created().insert_header(("location", format!("/v1/clusters/{id}"))).json(view))
}

/// What this replica has applied: after a command it holds what the command did.
pub fn newest(api: &Api) -> Arc<Fleet> {
    api.scheduler.watch().borrow().clone()
}

async fn hosts(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet.hosts(),
        |host| host.id.to_string(),
        |host| &host.facts.labels,
        |host| show::host(fleet, host),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}

async fn host(api: web::Data<Api>, request: HttpRequest, name: web::Path<String>) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let by_id = || name.parse().ok().and_then(|id| fleet.host(id));
    let found = fleet.host_named(&name).or_else(by_id);
    let found = found.ok_or_else(|| Problem::not_found(format!("no host named `{name}`")))?;
    let view = show::host(fleet, found);
    Ok(shown(&request, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn datastores(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet.datastores(),
        |datastore| datastore.id.to_string(),
        |datastore| &datastore.meta.labels,
        |datastore| show::datastore(fleet, datastore),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}

async fn datastore(api: web::Data<Api>, request: HttpRequest, name: web::Path<String>) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let by_id = || name.parse().ok().and_then(|id| fleet.datastore(id));
    let found = fleet.datastore_named(&name).or_else(by_id);
    let found = found.ok_or_else(|| Problem::not_found(format!("no datastore named `{name}`")))?;
    let view = show::datastore(fleet, found);
    Ok(shown(&request, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn endpoints(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet.endpoints(),
        |endpoint| endpoint.id.to_string(),
        |endpoint| &endpoint.meta.labels,
        |endpoint| show::endpoint(fleet, endpoint),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}

async fn endpoint(api: web::Data<Api>, request: HttpRequest, name: web::Path<String>) -> Answer {
    let query = Query::read(&request, query::READ)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let id = endpoint_named(fleet, &name)?;
    let found = fleet.endpoint(id).ok_or_else(|| {
        Problem::not_found(format!("`{name}` is the cell itself and no endpoint; see /v1/cell"))
    })?;
    let view = show::endpoint(fleet, found);
    Ok(shown(&request, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn create_endpoint(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Json<EndpointRequest>,
) -> Answer {
    Query::read(&request, &["wait"])?;
    let wish = Wish::read(&request)?;
    let wanted = body.into_inner();
    if wanted.name == SYSTEM_ENDPOINT {
        return Err(Problem::bad(format!("`{SYSTEM_ENDPOINT}` names the cell itself")));
    }
    let default = EndpointDefaults::default();
    let defaults = EndpointDefaults {
        cpu: wanted.default_cpu_millis.map_or(default.cpu, MilliCpus),
        memory: wanted.default_memory_bytes.map_or(default.memory, Bytes),
        disk: wanted.default_disk_bytes.map_or(default.disk, Bytes),
    };
    let id = EndpointId::from_bytes(wish.derive_short("endpoint id"));
    let create = CommandBody::CreateEndpoint { id, name: wanted.name, defaults };
    let accepted = wish.submit(&api, EndpointId::SYSTEM, "create endpoint", create).await?;
    let id = match accepted.change {
        Change::EndpointCreated { endpoint } => endpoint,
        Change::Nothing
        | Change::Bootstrapped
        | Change::ClusterCreated { .. }
        | Change::HostChanged { .. }
        | Change::ImageRecorded { .. }
        | Change::ContainerCreated { .. }
        | Change::ContainerChanged { .. }
        | Change::Placed { .. }
        | Change::Observed { .. } => id,
    };
    let fleet = newest(&api);
    let view = fleet.endpoint(id).map(|endpoint| show::endpoint(&fleet, endpoint));
    let location = ("location", format!("/v1/endpoints/{id}"));
    Ok(HttpResponse::Created().insert_header(location).json(view))
}

async fn images(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let query = Query::read(&request, query::OWNED_LIST)?;
    let reading = reading(&api, &query).await?;
    let fleet = &reading.fleet;
    let owner = match query.text("endpoint") {
        None => EndpointId::SYSTEM,
        Some(name) => endpoint_named(fleet, name)?,
    };
    let list = Page::read(&query, fleet)?.of(
        fleet,
        fleet.images_of(owner),
        // Each endpoint has its record of an image: the two together are the page's order.
        |image| format!("{} {}", image.id, image.meta.endpoint),
        |image| &image.config.labels,
        |image| show::image(fleet, image),
    );
    Ok(shown(&request, &reading, &list.revision.0, &list))
}
