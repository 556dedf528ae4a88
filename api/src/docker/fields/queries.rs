//! The rows of the query parameters of every endpoint that is served, in the order of the
//! document. Endpoints that are not served need none: they refuse whatever comes.

use super::Default::Text;
use super::Field;
use super::Rule::{Honoured, Never, NotYet};

const DISK_USE: &str =
    "the size of a container's writable layer is not known to the fleet yet; leave size out";

/// By method and path as in the document.
pub const QUERIES: &[(&str, &[Field])] = &[
    (
        "GET /containers/json",
        &[
            Field("all", Honoured),
            Field("limit", Honoured),
            Field("size", NotYet(DISK_USE, &[Text("0"), Text("false")])),
            Field("filters", Honoured),
        ],
    ),
    ("POST /containers/create", &[Field("name", Honoured), Field("platform", Honoured)]),
    ("GET /containers/{id}/json", &[Field("size", NotYet(DISK_USE, &[Text("0"), Text("false")]))]),
    (
        "GET /containers/{id}/logs",
        &[
            Field("follow", Honoured),
            Field("stdout", Honoured),
            Field("stderr", Honoured),
            Field("since", Honoured),
            Field("until", Honoured),
            Field("timestamps", Honoured),
            Field("tail", Honoured),
        ],
    ),
    ("POST /containers/{id}/resize", &[Field("h", Honoured), Field("w", Honoured)]),
    ("POST /containers/{id}/start", &[Field("detachKeys", Honoured)]),
    ("POST /containers/{id}/stop", &[Field("signal", Honoured), Field("t", Honoured)]),
    ("POST /containers/{id}/restart", &[Field("signal", Honoured), Field("t", Honoured)]),
    ("POST /containers/{id}/kill", &[Field("signal", Honoured)]),
    (
        "POST /containers/{id}/attach",
        &[
            Field("detachKeys", Honoured),
            Field("logs", Honoured),
            Field("stream", Honoured),
            Field("stdin", Honoured),
            Field("stdout", Honoured),
            Field("stderr", Honoured),
        ],
    ),
    ("POST /containers/{id}/wait", &[Field("condition", Honoured)]),
    (
        "DELETE /containers/{id}",
        &[
            Field("v", Honoured),
            Field("force", Honoured),
            Field(
                "link",
                Never(
                    "classic links are not supported, so there is none to remove",
                    &[Text("0"), Text("false")],
                ),
            ),
        ],
    ),
    (
        "GET /images/json",
        &[
            Field("all", Honoured),
            Field("filters", Honoured),
            Field(
                "shared-size",
                NotYet(
                    "images are stored flattened; which layers they share is not kept",
                    &[Text("0"), Text("false")],
                ),
            ),
            Field("digests", Honoured),
            Field(
                "manifests",
                NotYet(
                    "only one platform of an image is kept, and no manifests",
                    &[Text("0"), Text("false")],
                ),
            ),
        ],
    ),
    (
        "GET /images/{name}/json",
        &[Field(
            "manifests",
            NotYet(
                "only one platform of an image is kept, and no manifests",
                &[Text("0"), Text("false")],
            ),
        )],
    ),
    ("GET /info", &[]),
    ("GET /version", &[]),
    ("GET /_ping", &[]),
    ("HEAD /_ping", &[]),
    (
        "GET /events",
        &[
            Field(
                "since",
                NotYet("events of the past are not kept yet; leave since out", &[Text("0")]),
            ),
            Field("until", Honoured),
            Field("filters", Honoured),
        ],
    ),
    (
        "POST /images/load",
        &[
            Field("quiet", Honoured),
            Field(
                "platform",
                NotYet("an archive's only platform is loaded; leave --platform out", &[]),
            ),
        ],
    ),
];
