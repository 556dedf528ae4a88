//! Endpoints: tenants' Docker APIs, their defaults, quotas and usage.

use super::call::Call;
use super::clusters::gone;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Link, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, LIST, Parameter, READ, WRITE, fields};
use super::wish::{Wish, condition, done, located, newest, reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::{CommandBody, Condition};
use berth_model::endpoint::EndpointDefaults;
use berth_model::event::Subject;
use berth_model::view::{
    EndpointPatch, EndpointRequest, EndpointSettings, EndpointView, ListView, QuotaPatch,
    QuotaView, SYSTEM_ENDPOINT, bounds,
};
use berth_model::{Bytes, Endpoint, EndpointId, MilliCpus, Quota};

const NAME: Parameter =
    Parameter::path("endpoint", bounds::NAME, "Name or id of an endpoint.", "default");
/// An empty one, so that the example can be tried.
const EMPTY: Parameter =
    Parameter::path("endpoint", bounds::NAME, "Name or id of an endpoint.", "spare");

const ONE: Answer = Answer {
    status: 200,
    summary: "The endpoint.",
    content: &[Content::Json(schema_of::<EndpointView>)],
    etag: true,
};

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/endpoints",
        id: "listEndpoints",
        tag: "endpoints",
        summary: "Endpoints, page by page.",
        parameters: &[LIST, &[fields(schema_of::<EndpointView>)]],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of endpoints.",
            content: &[Content::Json(schema_of::<ListView<EndpointView>>)],
            etag: true,
        }],
        problems: &[],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/endpoints",
        id: "createEndpoint",
        tag: "endpoints",
        summary: "Makes an endpoint.",
        parameters: &[WRITE],
        body: Some(Body {
            schema: schema_of::<EndpointRequest>,
            required: true,
            example: r#"{"name": "team", "quota": {"container_vms": 100}}"#,
        }),
        answers: &[Answer { status: 201, summary: "The new endpoint.", ..ONE }],
        problems: &[Kind::NameTaken, Kind::Conflict, Kind::Contradiction],
        links: &[
            Link {
                status: 201,
                to: "getEndpoint",
                parameter: "endpoint",
                from: "$response.body#/id",
            },
            Link {
                status: 201,
                to: "deleteEndpoint",
                parameter: "endpoint",
                from: "$response.body#/id",
            },
        ],
        handler: handler!(create),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/endpoints/{endpoint}",
        id: "getEndpoint",
        tag: "endpoints",
        summary: "An endpoint, and what it holds.",
        parameters: &[&[NAME, fields(schema_of::<EndpointView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Put,
        path: "/v1/endpoints/{endpoint}",
        id: "putEndpoint",
        tag: "endpoints",
        summary: "Sets defaults and quota; what is not said takes its default, or has no limit.",
        parameters: &[&[NAME], CHANGE],
        body: Some(Body {
            schema: schema_of::<EndpointSettings>,
            required: true,
            example: r#"{"default_memory_bytes": 536870912}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(put),
    },
    Operation {
        verb: Verb::Patch,
        path: "/v1/endpoints/{endpoint}",
        id: "patchEndpoint",
        tag: "endpoints",
        summary: "Changes defaults and quota; what is not said stays, null takes a limit away.",
        parameters: &[&[NAME], CHANGE],
        body: Some(Body {
            schema: schema_of::<EndpointPatch>,
            required: true,
            example: r#"{"quota": {"memory_bytes": null}}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(patch),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/endpoints/{endpoint}",
        id: "deleteEndpoint",
        tag: "endpoints",
        summary: "Removes an endpoint that owns nothing.",
        parameters: &[&[EMPTY], CHANGE],
        body: None,
        answers: &[Answer { status: 204, summary: "It is gone.", content: &[], etag: false }],
        problems: &[Kind::InUse],
        links: &[],
        handler: handler!(delete),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.endpoints(),
        |endpoint| endpoint.id.to_string(),
        |endpoint| &endpoint.meta.labels,
        |endpoint| show::endpoint(fleet, endpoint),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let view = show::endpoint(fleet, lookup::endpoint(fleet, call.path("endpoint"))?);
    Ok(shown(&call, &reading, &revision(fleet, fleet.index()).0, &view))
}

async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: EndpointRequest = call.body()?;
    if wanted.name == SYSTEM_ENDPOINT {
        let detail = format!("`{SYSTEM_ENDPOINT}` names the cell itself; choose another");
        return Err(Problem::new(Kind::NameTaken, detail));
    }
    let settings = EndpointSettings {
        default_cpu_millis: wanted.default_cpu_millis,
        default_memory_bytes: wanted.default_memory_bytes,
        default_disk_bytes: wanted.default_disk_bytes,
        quota: wanted.quota,
    };
    let (defaults, quota) = (defaults(&settings), quota(&settings.quota));
    let id = EndpointId::from_bytes(wish.derive_short("endpoint id"));
    let api = &call.api;
    let create = CommandBody::CreateEndpoint { id, name: wanted.name, defaults: defaults.clone() };
    wish.submit(api, EndpointId::SYSTEM, "create endpoint", create).await?;
    if quota != Quota::default() {
        let configure = CommandBody::ConfigureEndpoint { id, defaults, quota };
        wish.submit(api, EndpointId::SYSTEM, "first quota", configure).await?;
    }
    let fleet = newest(api);
    let endpoint = fleet.endpoint(id).ok_or_else(|| gone("endpoint"))?;
    let etag = revision(&fleet, endpoint.meta.modified);
    let answer = done(StatusCode::CREATED, &etag.0, &show::endpoint(&fleet, endpoint));
    Ok(located(answer, &format!("/v1/endpoints/{id}")))
}

async fn put(call: Call) -> Result<HttpResponse, Problem> {
    let wanted: EndpointSettings = call.body()?;
    configure(&call, false, |_| (defaults(&wanted), quota(&wanted.quota))).await
}

/// How often a patch is made anew when somebody else was faster.
const PATCH_TRIES: u32 = 5;

async fn patch(call: Call) -> Result<HttpResponse, Problem> {
    let patch: EndpointPatch = call.body()?;
    let mut tries = 0;
    loop {
        let answer = configure(&call, true, |endpoint| patched(endpoint, &patch)).await;
        tries += 1;
        match answer {
            Err(problem)
                if problem.kind == Kind::ConditionFailed && call.text("If-Match").is_none() =>
            {
                if tries == PATCH_TRIES {
                    let detail = "others change the endpoint all the time; try again";
                    return Err(Problem::new(Kind::Conflict, detail));
                }
            }
            answer => return answer,
        }
    }
}

/// `on_this` makes the change only if it is made to what it was computed from.
async fn configure(
    call: &Call,
    on_this: bool,
    settings: impl FnOnce(&Endpoint) -> (EndpointDefaults, Quota),
) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(call);
    let reading = reading(call).await?;
    let endpoint = lookup::endpoint(&reading.fleet, call.path("endpoint"))?;
    let id = endpoint.id;
    let (subject, modified) = (Subject::Endpoint(id), endpoint.meta.modified);
    let mut condition = condition(call, &reading.fleet, subject, modified)?;
    if on_this {
        condition = condition.or(Some(Condition { subject, modified }));
    }
    let (defaults, quota) = settings(endpoint);
    let configure = CommandBody::ConfigureEndpoint { id, defaults, quota };
    let api = &call.api;
    wish.submit_if(api, EndpointId::SYSTEM, "configure endpoint", condition, configure).await?;
    let fleet = newest(api);
    let endpoint = fleet.endpoint(id).ok_or_else(|| gone("endpoint"))?;
    let etag = revision(&fleet, endpoint.meta.modified);
    Ok(done(StatusCode::OK, &etag.0, &show::endpoint(&fleet, endpoint)))
}

fn defaults(wanted: &EndpointSettings) -> EndpointDefaults {
    let default = EndpointDefaults::default();
    EndpointDefaults {
        cpu: wanted.default_cpu_millis.map_or(default.cpu, MilliCpus),
        memory: wanted.default_memory_bytes.map_or(default.memory, Bytes),
        disk: wanted.default_disk_bytes.map_or(default.disk, Bytes),
    }
}

fn quota(wanted: &QuotaView) -> Quota {
    Quota {
        cpu: wanted.cpu_millis.map(MilliCpus),
        memory: wanted.memory_bytes.map(Bytes),
        disk: wanted.disk_bytes.map(Bytes),
        containers: wanted.container_vms,
    }
}

fn patched(endpoint: &Endpoint, patch: &EndpointPatch) -> (EndpointDefaults, Quota) {
    let (held, limits) = (&endpoint.defaults, &endpoint.quota);
    let QuotaPatch { cpu_millis, memory_bytes, disk_bytes, container_vms } = patch.quota;
    let defaults = EndpointDefaults {
        cpu: patch.default_cpu_millis.map_or(held.cpu, MilliCpus),
        memory: patch.default_memory_bytes.map_or(held.memory, Bytes),
        disk: patch.default_disk_bytes.map_or(held.disk, Bytes),
    };
    let quota = Quota {
        cpu: cpu_millis.map_or(limits.cpu, |said| said.map(MilliCpus)),
        memory: memory_bytes.map_or(limits.memory, |said| said.map(Bytes)),
        disk: disk_bytes.map_or(limits.disk, |said| said.map(Bytes)),
        containers: container_vms.unwrap_or(limits.containers),
    };
    (defaults, quota)
}

async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let reading = reading(&call).await?;
    let endpoint = lookup::endpoint(&reading.fleet, call.path("endpoint"))?;
    let id = endpoint.id;
    let subject = Subject::Endpoint(id);
    let condition = condition(&call, &reading.fleet, subject, endpoint.meta.modified)?;
    let remove = CommandBody::RemoveEndpoint { id };
    let api = &call.api;
    wish.submit_if(api, EndpointId::SYSTEM, "remove endpoint", condition, remove).await?;
    Ok(HttpResponse::NoContent().finish())
}
