//! Container VMs: create, get, list, start, stop, delete, and where one would go.

mod life;

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Link, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{
    CHANGE, DRY_RUN, FORCE, LIST, Parameter, READ, Shape, WAIT, WRITE, fields, named,
};
use super::resolve::{self, Resolved};
use super::wish::{Wish, condition, done, located, newest, reading, shown};
use super::{Api, lookup, show};
use crate::docker::translate::signal;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::{CommandBody, Condition};
use berth_model::container::StopOrder;
use berth_model::event::Subject;
use berth_model::view::{ContainerVmRequest, ContainerVmView, ListView, StopRequest, TrialView};
use berth_model::{ContainerId, ContainerVm, EndpointId, Explanation, Place, Victim};
use berth_scheduler::Fleet;
use berth_scheduler::placement::{Ask, Mirror};
pub use life::refused;
use life::{Reached, await_removal, await_stop, placed, run};
use std::sync::Arc;

const GRACE_SECONDS: u32 = 10;
const PATTERN: &str = "^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*$";

const fn container(example: &'static str) -> Parameter {
    Parameter::path(
        "container",
        PATTERN,
        "Id, start of an id, name, or `endpoint/name` where the name is not unique.",
        example,
    )
}

const ONE: Answer = Answer {
    status: 200,
    summary: "The container VM.",
    content: &[Content::Json(schema_of::<ContainerVmView>)],
    etag: true,
};
const NOT_YET: Answer = Answer { status: 202, summary: "It is accepted, and not so yet.", ..ONE };

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/container-vms",
        id: "listContainerVms",
        tag: "container-vms",
        summary: "Container VMs, page by page.",
        parameters: &[
            LIST,
            &[
                named("endpoint", "Of this endpoint alone.", "default"),
                named("host", "On this host, or last on it.", "host-1"),
                named("cluster", "On the hosts of this cluster, or last there.", "main"),
                Parameter::query(
                    "state",
                    Shape::Word(&[
                        "pending", "created", "waiting", "starting", "running", "exited",
                    ]),
                    "In this phase alone.",
                ),
                fields(schema_of::<ContainerVmView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of container VMs.",
            content: &[Content::Json(schema_of::<ListView<ContainerVmView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/container-vms",
        id: "createContainerVm",
        tag: "container-vms",
        summary: "Makes a container VM: chooses its datastore, and starts it if asked to.",
        parameters: &[&[DRY_RUN, WAIT], WRITE],
        body: Some(Body {
            schema: schema_of::<ContainerVmRequest>,
            required: true,
            example: r#"{"image": "busybox", "command": ["sleep"],
                         "demand": {"cpu_millis": 100, "memory_bytes": 67108864},
                         "labels": {"app": "web"}}"#,
        }),
        answers: &[
            Answer {
                status: 200,
                summary: "With `dry_run`: where it would go, or why nowhere.",
                content: &[Content::Json(schema_of::<TrialView>)],
                etag: false,
            },
            Answer { status: 201, summary: "The new container VM.", ..ONE },
            NOT_YET,
        ],
        problems: &[
            Kind::NotFound,
            Kind::NameTaken,
            Kind::Conflict,
            Kind::Contradiction,
            Kind::Ambiguous,
            Kind::NoRoom,
            Kind::QuotaExceeded,
            Kind::StartFailed,
            Kind::NotSupported,
        ],
        links: &[
            Link {
                status: 201,
                to: "getContainerVm",
                parameter: "container",
                from: "$response.body#/id",
            },
            Link {
                status: 201,
                to: "startContainerVm",
                parameter: "container",
                from: "$response.body#/id",
            },
            Link {
                status: 201,
                to: "stopContainerVm",
                parameter: "container",
                from: "$response.body#/id",
            },
            Link {
                status: 201,
                to: "deleteContainerVm",
                parameter: "container",
                from: "$response.body#/id",
            },
        ],
        handler: handler!(create),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/container-vms/{container}",
        id: "getContainerVm",
        tag: "container-vms",
        summary: "A container VM.",
        parameters: &[&[container("web-1"), fields(schema_of::<ContainerVmView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[Kind::Ambiguous],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/container-vms/{container}",
        id: "deleteContainerVm",
        tag: "container-vms",
        summary: "Removes a container VM and what it stored.",
        parameters: &[&[container("web-3"), FORCE, WAIT], CHANGE],
        body: None,
        answers: &[
            Answer { status: 204, summary: "It is gone.", content: &[], etag: false },
            Answer {
                status: 202,
                summary: "Its name is free; what it stored is not discarded yet.",
                content: &[],
                etag: false,
            },
        ],
        problems: &[Kind::Ambiguous, Kind::Conflict],
        links: &[],
        handler: handler!(delete),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/container-vms/{container}/start",
        id: "startContainerVm",
        tag: "container-vms",
        summary: "Starts a container VM: chooses its host.",
        parameters: &[&[container("web-2"), WAIT], CHANGE],
        body: None,
        answers: &[ONE, NOT_YET],
        problems: &[
            Kind::Ambiguous,
            Kind::Conflict,
            Kind::NoRoom,
            Kind::QuotaExceeded,
            Kind::StartFailed,
        ],
        links: &[],
        handler: handler!(start),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/container-vms/{container}/stop",
        id: "stopContainerVm",
        tag: "container-vms",
        summary: "Stops a container VM: a signal, then after the grace SIGKILL.",
        parameters: &[&[container("web-1"), WAIT], CHANGE],
        body: Some(Body {
            schema: schema_of::<StopRequest>,
            required: false,
            example: r#"{"signal": "TERM", "grace_seconds": 5}"#,
        }),
        answers: &[ONE, NOT_YET],
        problems: &[Kind::Ambiguous, Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(stop),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = lookup::owner(fleet, call.text("endpoint"))?;
    let host = call.text("host").map(|name| lookup::host(fleet, name)).transpose()?;
    let cluster = call.text("cluster").map(|name| lookup::cluster(fleet, name)).transpose()?;
    let (host, cluster) = (host.map(|host| host.id), cluster.map(|cluster| cluster.id));
    let state = call.text("state");
    let of_system = call.text("endpoint").is_some() && owner == EndpointId::SYSTEM;
    let wanted = |vm: &&ContainerVm| {
        let on = vm.state.charged().map(|(host, _)| host).or(vm.last_host);
        let in_cluster = || on.and_then(|on| fleet.host(on)).map(|host| host.cluster);
        (!of_system || vm.endpoint() == EndpointId::SYSTEM)
            && host.is_none_or(|host| on == Some(host))
            && cluster.is_none_or(|cluster| in_cluster() == Some(cluster))
            && state.is_none_or(|state| vm.state.name() == state)
    };
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.containers_of(owner).filter(wanted),
        |vm| vm.id.to_string(),
        |vm| vm.labels(),
        |vm| show::container_vm(fleet, vm),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let vm = lookup::container_vm(fleet, call.path("container"))?;
    let etag = revision(fleet, vm.meta.modified);
    Ok(shown(&call, &reading, &etag.0, &show::container_vm(fleet, vm)))
}

async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wait = call.wait();
    let body: ContainerVmRequest = call.body()?;
    let begin = body.start;
    let reading = reading(&call).await?;
    let resolved = resolve::container_vm(&reading.fleet, &wish, body)?;
    let api = &call.api;
    if call.truth("dry_run") {
        return Ok(HttpResponse::Ok().json(trial(api, &reading.fleet, &resolved)));
    }
    let Resolved { owner, new, .. } = resolved;
    let id = new.id;
    let create = CommandBody::CreateContainer(Box::new(new));
    let index = wish.submit(api, owner, "create", create).await?.revision.index;
    let mut reached = Reached::Yes;
    // A start needs the datastore, so it waits for it in any case.
    if wait.is_some() || begin {
        placed(api, &wish, owner, id, index).await?;
    }
    if begin {
        reached = run(api, &wish, owner, id, None, wait).await?;
    }
    let status = match (reached, wait) {
        (Reached::Yes, _) | (Reached::NotYet, None) => StatusCode::CREATED,
        (Reached::NotYet, Some(_)) => StatusCode::ACCEPTED,
    };
    Ok(located(answer(api, id, status)?, &format!("/v1/container-vms/{id}")))
}

fn answer(api: &Api, id: ContainerId, status: StatusCode) -> Result<HttpResponse, Problem> {
    let fleet = newest(api);
    let vm = fleet.container(id).ok_or_else(|| super::clusters::gone("container VM"))?;
    let etag = revision(&fleet, vm.meta.modified);
    Ok(done(status, &etag.0, &show::container_vm(&fleet, vm)))
}

/// Where it would go if it were created and started now.
fn trial(api: &Api, fleet: &Arc<Fleet>, resolved: &Resolved) -> TrialView {
    let demand = &resolved.new.spec.demand;
    let labels = match resolved.new.labels.is_empty() {
        true => &resolved.new.spec.labels,
        false => &resolved.new.labels,
    };
    let image = Some(&resolved.image.datastores);
    let instead_of = resolved.new.reservation;
    let ask = Ask { instead_of, ..Ask::run(resolved.owner, demand, labels, image) };
    let decided = api.scheduler.explain(fleet, &ask, Explanation::HOSTS_MAX);
    let (place, victims, explanation) = match decided {
        Ok(place) => (Some(place), Vec::new(), None),
        Err(explanation) => match displaced(fleet, &ask) {
            Some((place, victims)) => (Some(place), victims, None),
            None => (None, Vec::new(), Some(show::explanation(fleet, &explanation))),
        },
    };
    TrialView {
        cell: api.scheduler.cell().to_string(),
        revision: revision(fleet, fleet.index()),
        place: place.map(|place| show::place(fleet, demand, &place)),
        victims: victims.iter().map(show::victim).collect(),
        explanation,
        demand: show::demand(fleet, demand),
    }
}

/// Who would have to give way, where a policy lets one displace another.
fn displaced(fleet: &Arc<Fleet>, ask: &Ask<'_>) -> Option<(Place, Vec<Victim>)> {
    if !fleet.clusters().any(|cluster| cluster.policy.preemption) {
        return None;
    }
    Mirror::new(fleet.clone()).displace(ask)
}

/// The container VM that a change names, and the condition of the change.
async fn target(
    call: &Call,
) -> Result<(ContainerId, EndpointId, Option<Condition>, StopOrder), Problem> {
    let reading = reading(call).await?;
    let vm = lookup::container_vm(&reading.fleet, call.path("container"))?;
    let subject = Subject::ContainerVm(vm.id);
    let condition = condition(call, &reading.fleet, subject, vm.meta.modified)?;
    let grace = vm.spec.stop_timeout_seconds.unwrap_or(GRACE_SECONDS);
    let order = StopOrder { signal: vm.spec.stop_signal, grace_seconds: Some(grace) };
    Ok((vm.id, vm.endpoint(), condition, order))
}

async fn start(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let (id, owner, condition, _) = target(&call).await?;
    let reached = run(&call.api, &wish, owner, id, condition, call.wait()).await?;
    answer(&call.api, id, reached.status())
}

async fn stop(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: StopRequest = call.body_or_default()?;
    let (id, owner, condition, own) = target(&call).await?;
    let signal = wanted.signal.as_deref().map(signal::parse).transpose()?;
    let order = StopOrder {
        signal: signal.unwrap_or(own.signal),
        grace_seconds: wanted.grace_seconds.or(own.grace_seconds),
    };
    let api = &call.api;
    let stop = CommandBody::StopContainer { id, order: Some(order) };
    let accepted = wish.submit_if(api, owner, "stop", condition, stop).await?;
    let reached = await_stop(api, id, accepted.revision.index, call.wait()).await?;
    answer(api, id, reached.status())
}

async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let force = call.truth("force");
    let (id, owner, condition, _) = target(&call).await?;
    let api = &call.api;
    let remove = CommandBody::RemoveContainer { id, force };
    let accepted = wish.submit_if(api, owner, "remove", condition, remove).await?;
    let Some(wait) = call.wait() else { return Ok(HttpResponse::NoContent().finish()) };
    Ok(match await_removal(api, id, accepted.revision.index, wait).await? {
        Reached::Yes => HttpResponse::NoContent().finish(),
        Reached::NotYet => HttpResponse::Accepted().finish(),
    })
}
