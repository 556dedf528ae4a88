//! Images: shown. They come in through the Docker endpoint.

use super::call::Call;
use super::errors::{Kind, Problem};
use super::operation::{Answer, Content, Operation, Verb, handler, schema_of};
use super::page::Page;
use super::parameter::{LIST, Parameter, READ, fields, named};
use super::wish::{reading, shown};
use super::{lookup, show};
use actix_web::HttpResponse;
use berth_model::view::{ImageView, ListView, bounds};

const NAME: Parameter = Parameter::path(
    "image",
    bounds::IMAGE,
    "Reference of an image, or its id or the start of one.",
    "busybox",
);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        verb: Verb::Get,
        path: "/v1/images",
        id: "listImages",
        tag: "images",
        summary: "Images, page by page: each endpoint's record of each.",
        parameters: &[
            LIST,
            &[
                named("endpoint", "Of this endpoint alone.", "default"),
                fields(schema_of::<ImageView>),
            ],
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "A page of images.",
            content: &[Content::Json(schema_of::<ListView<ImageView>>)],
            etag: true,
        }],
        problems: &[Kind::NotFound],
        links: &[],
        handler: handler!(list),
    },
    Operation {
        verb: Verb::Get,
        path: "/v1/images/{image}",
        id: "getImage",
        tag: "images",
        summary: "An image as its endpoint sees it.",
        parameters: &[
            &[
                NAME,
                named(
                    "endpoint",
                    "As this endpoint sees it; as `system` does if absent.",
                    "default",
                ),
                fields(schema_of::<ImageView>),
            ],
            READ,
        ],
        body: None,
        answers: &[Answer {
            status: 200,
            summary: "The image.",
            content: &[Content::Json(schema_of::<ImageView>)],
            etag: true,
        }],
        problems: &[Kind::Ambiguous, Kind::Contradiction],
        links: &[],
        handler: handler!(get),
    },
];

async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = lookup::owner(fleet, call.text("endpoint"))?;
    let list = Page::read(&call, fleet)?.of(
        fleet,
        fleet.images_of(owner),
        // Each endpoint has its record of an image: the two together are the page's order.
        |image| format!("{} {}", image.id, image.meta.endpoint),
        |image| &image.config.labels,
        |image| show::image(fleet, image),
    );
    Ok(shown(&call, &reading, &list.revision.0, &list))
}

async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let reading = reading(&call).await?;
    let fleet = &reading.fleet;
    let owner = lookup::owner(fleet, call.text("endpoint"))?;
    let image = lookup::image(fleet, owner, call.path("image"))?;
    let etag = super::page::revision(fleet, image.meta.modified);
    Ok(shown(&call, &reading, &etag.0, &show::image(fleet, image)))
}
