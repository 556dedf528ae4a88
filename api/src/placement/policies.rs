//! Policies of clusters: strategy, overcommit, reserves, admission, preemption.

use super::call::Call;
use super::clusters::gone;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, LIST, Parameter, READ, fields};
use super::wish::{Wish, condition, done, newest, reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::CommandBody;
use berth_model::event::Subject;
use berth_model::view::{AdmissionView, ClusterPolicyView, ListView, PolicyRequest, bounds};
use berth_model::{Admission, Bytes, EndpointId, MilliCpus, Permille};
use berth_scheduler::Fleet;

const NAME: Parameter =
    Parameter::path("cluster", bounds::NAME, "Name or id of a cluster.", "main");

const ONE: Answer = Answer {
    status: 200,
    summary: "The policy.",
    content: &[Content::Json(schema_of::<ClusterPolicyView>)],
    etag: true,
};

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/policies",
        id: "listPolicies",
        tag: "policies",
        summary: "Policies of all clusters, page by page.",
        parameters: &[LIST, &[fields(schema_of::<ClusterPolicyView>)]],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of policies.",
            content: &[Content::Json(schema_of::<ListView<ClusterPolicyView>>)],
            etag: true,
        }],
        problems: &[],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/policies/{cluster}",
        id: "getPolicy",
        tag: "policies",
        summary: "The policy of one cluster.",
        parameters: &[&[NAME, fields(schema_of::<ClusterPolicyView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Put,
        path: "/v1/policies/{cluster}",
        id: "putPolicy",
        tag: "policies",
        summary: "Sets the policy of a cluster; what is not said takes its default.",
        parameters: &[&[NAME], CHANGE],
        body: Some(Body {
            schema: schema_of::<PolicyRequest>,
            required: true,
            example: r#"{"strategy": "spread", "cpu_overcommit_permille": 4000,
                         "admission": {"mode": "off"}}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Contradiction, Kind::Conflict],
        links: &[],
        handler: handler!(put),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.clusters(),
        |cluster| cluster.id.to_string(),
        |cluster| &cluster.meta.labels,
        |cluster| show::cluster_policy(fleet, cluster),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let cluster = lookup::cluster(fleet, call.path("cluster"))?;
    let etag = revision(fleet, cluster.meta.modified);
    Ok(shown(&call, &reading, &etag.0, &show::cluster_policy(fleet, cluster)))
}

async fn put(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: PolicyRequest = call.body()?;
    let reading = reading(&call).await?;
    let cluster = lookup::cluster(&reading.fleet, call.path("cluster"))?;
    let id = cluster.id;
    let subject = Subject::Cluster(id);
    let condition = condition(&call, &reading.fleet, subject, cluster.meta.modified)?;
    let policy = policy(&reading.fleet, wanted)?;
    let set = CommandBody::SetPolicy { cluster: id, policy };
    let api = &call.api;
    wish.submit_if(api, EndpointId::SYSTEM, "set policy", condition, set).await?;
    let fleet = newest(api);
    let cluster = fleet.cluster(id).ok_or_else(|| gone("cluster"))?;
    let etag = revision(&fleet, cluster.meta.modified);
    Ok(done(StatusCode::OK, &etag.0, &show::cluster_policy(&fleet, cluster)))
}

/// A policy as a client wrote it.
pub fn policy(fleet: &Fleet, wanted: PolicyRequest) -> Result<ClusterPolicy, Problem> {
    let default = ClusterPolicy::default();
    let permille = |wanted: Option<u32>, default| wanted.map_or(default, Permille);
    Ok(ClusterPolicy {
        strategy: wanted.strategy.unwrap_or(default.strategy),
        cpu_overcommit: permille(wanted.cpu_overcommit_permille, default.cpu_overcommit),
        memory_overcommit: permille(wanted.memory_overcommit_permille, default.memory_overcommit),
        disk_overcommit: permille(wanted.disk_overcommit_permille, default.disk_overcommit),
        cpu_reserve: permille(wanted.cpu_reserve_permille, default.cpu_reserve),
        memory_reserve: permille(wanted.memory_reserve_permille, default.memory_reserve),
        disk_reserve: permille(wanted.disk_reserve_permille, default.disk_reserve),
        admission: match wanted.admission {
            None | Some(AdmissionView::Off) => Admission::Off,
            Some(AdmissionView::HostFailures { count }) => Admission::HostFailures { count },
            Some(AdmissionView::Percentage { cpu_permille, memory_permille }) => {
                let (cpu, memory) = (Permille(cpu_permille), Permille(memory_permille));
                Admission::Percentage { cpu, memory }
            }
            Some(AdmissionView::FailoverHosts { hosts }) => Admission::FailoverHosts {
                hosts: hosts
                    .iter()
                    .map(|name| lookup::host(fleet, name).map(|host| host.id))
                    .collect::<Result<_, Problem>>()?,
            },
            Some(AdmissionView::Slots { cpu_millis, memory_bytes, failures }) => {
                let (cpu, memory) = (MilliCpus(cpu_millis), Bytes(memory_bytes));
                Admission::Slots { cpu, memory, failures }
            }
        },
        preemption: wanted.preemption.unwrap_or(default.preemption),
        cpu_model: wanted.cpu_model.unwrap_or(default.cpu_model),
    })
}
