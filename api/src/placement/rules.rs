//! Placement rules: made, shown with what breaks them, replaced, removed.

use super::call::Call;
use super::clusters::gone;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Body, Content, Link, Operation, Verb, handler, schema_of};
use super::page::{Page, revision};
use super::parameter::{CHANGE, LIST, Parameter, READ, Shape, WRITE, fields, named};
use super::wish::{Wish, condition, done, located, newest, reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use berth_model::command::{CommandBody, NewRule};
use berth_model::event::Subject;
use berth_model::view::{ListView, RulePut, RuleRequest, RuleView};
use berth_model::{DatastoreId, Rule, RuleId};
use berth_scheduler::Fleet;
use std::sync::Arc;

const PATTERN: &str = "^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*$";
const SUMMARY: &str = "Id, name, or `endpoint/name` where the name is not unique.";

const NAME: Parameter = Parameter::path("rule", PATTERN, SUMMARY, "apart");
const SPARE: Parameter = Parameter::path("rule", PATTERN, SUMMARY, "spare");

const ONE: Answer = Answer {
    status: 200,
    summary: "The rule.",
    content: &[Content::Json(schema_of::<RuleView>)],
    etag: true,
};

const KINDS: &[&str] =
    &["together", "apart", "at-most", "spread", "near", "away", "hosts", "datastores"];

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/rules",
        id: "listRules",
        tag: "rules",
        summary: "Rules, page by page.",
        parameters: &[
            LIST,
            &[
                named("endpoint", "Of this endpoint alone.", "default"),
                Parameter::query("kind", Shape::Word(KINDS), "Of this kind alone."),
                Parameter::query(
                    "status",
                    Shape::Truth,
                    "Show of each how many it speaks of and what breaks it, too.",
                ),
                fields(schema_of::<RuleView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of rules.",
            content: &[Content::Json(schema_of::<ListView<RuleView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Post,
        path: "/v1/rules",
        id: "createRule",
        tag: "rules",
        summary: "Makes a rule; what is placed against it already is reported.",
        parameters: &[WRITE],
        body: Some(Body {
            schema: schema_of::<RuleRequest>,
            required: true,
            example: r#"{"name": "web-apart", "rule": {"kind": "apart", "scope": "host"},
                         "select": [{"op": "in", "label": "app", "values": ["web"]}]}"#,
        }),
        answers: &[Answer { status: 201, summary: "The new rule.", ..ONE }],
        problems: &[Kind::NotFound, Kind::NameTaken, Kind::Conflict, Kind::Contradiction],
        links: &[
            Link { status: 201, to: "getRule", parameter: "rule", from: "$response.body#/id" },
            Link { status: 201, to: "putRule", parameter: "rule", from: "$response.body#/id" },
            Link { status: 201, to: "deleteRule", parameter: "rule", from: "$response.body#/id" },
        ],
        handler: handler!(create),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/rules/{rule}",
        id: "getRule",
        tag: "rules",
        summary: "A rule: how many it speaks of, and what breaks it.",
        parameters: &[&[NAME, fields(schema_of::<RuleView>)], READ],
        body: None,
        answers: &[ONE],
        problems: &[Kind::Ambiguous],
        links: &[],
        handler: handler!(get),
    },
    Operation {
        verb: Verb::Put,
        path: "/v1/rules/{rule}",
        id: "putRule",
        tag: "rules",
        summary: "Replaces what a rule demands, and of whom.",
        parameters: &[&[NAME], CHANGE],
        body: Some(Body {
            schema: schema_of::<RulePut>,
            required: true,
            example: r#"{"rule": {"kind": "at-most", "scope": "host", "count": 2},
                         "select": [{"op": "exists", "label": "app"}], "weight": 10}"#,
        }),
        answers: &[ONE],
        problems: &[Kind::Ambiguous, Kind::Conflict, Kind::Contradiction],
        links: &[],
        handler: handler!(put),
    },
    Operation {
        verb: Verb::Delete,
        path: "/v1/rules/{rule}",
        id: "deleteRule",
        tag: "rules",
        summary: "Removes a rule.",
        parameters: &[&[SPARE], CHANGE],
        body: None,
        answers: &[Answer { status: 204, summary: "It is gone.", content: &[], etag: false }],
        problems: &[Kind::Ambiguous],
        links: &[],
        handler: handler!(delete),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = call.text("endpoint").map(|name| lookup::owner(fleet, Some(name))).transpose()?;
    let kind = call.text("kind");
    let wanted = |rule: &&Arc<Rule>| {
        owner.is_none_or(|owner| owner == rule.meta.endpoint)
            && kind.is_none_or(|kind| kind == rule.spec.kind.name())
    };
    let with_status = call.truth("status");
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.rules().filter(wanted),
        |rule| rule.id.to_string(),
        |rule| &rule.meta.labels,
        |rule| show::rule(fleet, rule, with_status),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let rule = lookup::rule(fleet, call.path("rule"))?;
    // What breaks it changes with what is placed, so the fleet's revision is the resource's.
    let etag = revision(fleet, fleet.index());
    Ok(shown(&call, &reading, &etag.0, &show::rule(fleet, rule, true)))
}

fn datastore(fleet: &Fleet, name: &str) -> Result<DatastoreId, Problem> {
    lookup::datastore(fleet, name).map(|datastore| datastore.id)
}

async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let wanted: RuleRequest = call.body()?;
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = lookup::owner(fleet, wanted.endpoint.as_deref())?;
    let RuleRequest { name, labels, select, each, weight, rule, endpoint: _ } = wanted;
    let spec = show::rule_spec(select, each, weight, rule, |name| datastore(fleet, name))?;
    let id = RuleId::from_bytes(wish.derive_short("rule id"));
    let create = CommandBody::CreateRule(Box::new(NewRule { id, name, spec, labels }));
    wish.submit(&call.api, owner, "create rule", create).await?;
    let answer = answer(&call, id, StatusCode::CREATED)?;
    Ok(located(answer, &format!("/v1/rules/{id}")))
}

fn answer(call: &Call, id: RuleId, status: StatusCode) -> Result<HttpResponse, Problem> {
    let fleet = newest(&call.api);
    let rule = fleet.rule(id).ok_or_else(|| gone("rule"))?;
    let etag = revision(&fleet, rule.meta.modified);
    Ok(done(status, &etag.0, &show::rule(&fleet, rule, true)))
}

async fn put(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let RulePut { select, each, weight, rule: kind } = call.body()?;
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let rule = lookup::rule(fleet, call.path("rule"))?;
    let (id, owner) = (rule.id, rule.meta.endpoint);
    let condition = condition(&call, fleet, Subject::Rule(id), rule.meta.modified)?;
    let spec = show::rule_spec(select, each, weight, kind, |name| datastore(fleet, name))?;
    let replace = CommandBody::ReplaceRule { id, spec };
    wish.submit_if(&call.api, owner, "replace rule", condition, replace).await?;
    answer(&call, id, StatusCode::OK)
}

async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let wish = Wish::read(&call);
    let reading = reading(&call).await?;
    let rule = lookup::rule(&reading.fleet, call.path("rule"))?;
    let (id, owner) = (rule.id, rule.meta.endpoint);
    let condition = condition(&call, &reading.fleet, Subject::Rule(id), rule.meta.modified)?;
    let remove = CommandBody::RemoveRule { id };
    wish.submit_if(&call.api, owner, "remove rule", condition, remove).await?;
    Ok(HttpResponse::NoContent().finish())
}
