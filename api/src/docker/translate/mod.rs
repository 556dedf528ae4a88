//! Docker's words into ours and back: a pure zone.
//!
//! `request` is the create body, `spec` merges it with the image's config, `container` and
//! `listing` show container VMs as Docker does, `image` shows images; `signal`, `time`, `name`,
//! `reference` and `filter` are the small notations; `frame` and `detach` are the notations of
//! attached streams.
//!
//! Promises: a value that is not understood is an error that names it, never a guess.
//! Does not: decide which fields are looked at; `fields` does, before.

pub mod container;
pub mod detach;
pub mod event;
pub mod filter;
#[cfg(test)]
pub mod fixtures;
pub mod frame;
pub mod image;
pub mod listing;
pub mod name;
pub mod reference;
pub mod request;
pub mod signal;
pub mod spec;
pub mod time;

/// Why a request's values cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The value makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It makes sense, but is not there yet.
    #[error("{0}")]
    NotYet(String),
    /// It names something that is not there.
    #[error("{0}")]
    NotFound(String),
}

impl Invalid {
    pub fn bad(text: impl Into<String>) -> Self {
        Invalid::Bad(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::fields;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    /// Names that requests have, so that the walk gets somewhere.
    const NAMES: [&str; 16] = [
        "Env",
        "Cmd",
        "Image",
        "Labels",
        "Volumes",
        "HostConfig",
        "Memory",
        "NanoCpus",
        "CpuQuota",
        "Binds",
        "Mounts",
        "ExtraHosts",
        "NetworkingConfig",
        "EndpointsConfig",
        "bridge",
        "Type",
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é\u{0}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let name = prop_oneof![
                proptest::sample::select(NAMES.to_vec()).prop_map(str::to_owned),
                "[a-z]{1,4}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_create_body_breaks_anything(body in any_json()) {
            if let Ok(checked) = fields::check_container_create(body)
                && let Ok(request) = request::CreateRequest::read(checked)
                && let Ok(wanted) = request.wanted()
            {
                let config = berth_model::image::ImageConfig::default();
                let _ = spec::tests::merged(wanted, config);
            }
        }

        #[test]
        fn no_text_breaks_a_notation(text in "[ -~é\u{0}]{0,40}") {
            let _ = signal::parse(&text);
            let _ = reference::parse(&text);
            let _ = name::checked(&text);
            let _ = time::parse_ns("since", &text);
            let _ = filter::Filters::parse(&text, &["label"]);
            let _ = detach::DetachKeys::parse(&text);
        }
    }
}
