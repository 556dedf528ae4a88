//! The part of an image's config document that berth needs.
//!
//! Promises: the id is the digest of the document to the letter; an image for another platform, or
//! one without its layers' digests, is refused. Pure.

use crate::images::LoadError;
use berth_model::ImageId;
use berth_model::image::ImageConfig;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Bound of a config document in bytes: it travels through the log.
const DOCUMENT_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 512;

pub struct Described {
    pub id: ImageId,
    pub config: ImageConfig,
    pub document: String,
    /// SHA-256 of each layer's uncompressed tar, lowest first.
    pub diff_ids: Vec<[u8; 32]>,
}

#[derive(Deserialize)]
struct Document {
    architecture: Option<String>,
    os: Option<String>,
    config: Option<Section>,
    rootfs: Option<RootFs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Section {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

pub fn describe(document: Vec<u8>) -> Result<Described, LoadError> {
    let id = ImageId::from_bytes(Sha256::digest(&document).into());
    let what = format!("the config of image {}", id.short());
    let refuse = |reason: String| LoadError::Document { what: what.clone(), reason };
    if document.len() > DOCUMENT_MAX {
        return Err(refuse(format!("is larger than {} MiB", DOCUMENT_MAX >> 20)));
    }
    let document =
        String::from_utf8(document).map_err(|_| refuse("is not written in UTF-8".into()))?;
    let parsed: Document = serde_json::from_str(&document)
        .map_err(|error| refuse(format!("cannot be understood: {error}")))?;
    let architecture = parsed.architecture.unwrap_or_default();
    let os = parsed.os.unwrap_or_default();
    if architecture != "amd64" || os != "linux" {
        return Err(LoadError::Platform {
            image: id.short(),
            platform: format!("{os}/{architecture}"),
        });
    }
    let diff_ids = parsed.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    if diff_ids.len() > LAYERS_MAX {
        return Err(refuse(format!("names more than {LAYERS_MAX} layers")));
    }
    let digest = |text: &String| {
        let mut bytes = [0; 32];
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        hex::decode_to_slice(hex, &mut bytes)
            .map(|()| bytes)
            .map_err(|_| refuse(format!("names a layer `{text}`, which is no sha256 digest")))
    };
    let diff_ids = diff_ids.iter().map(digest).collect::<Result<_, _>>()?;
    let section = parsed.config.unwrap_or_default();
    let keys = |map: Option<BTreeMap<String, serde_json::Value>>| {
        map.unwrap_or_default().into_keys().collect::<Vec<_>>()
    };
    let config = ImageConfig {
        architecture,
        os,
        entrypoint: section.entrypoint.unwrap_or_default(),
        command: section.cmd.unwrap_or_default(),
        environment: section.env.unwrap_or_default(),
        user: section.user.unwrap_or_default(),
        working_directory: section.working_dir.unwrap_or_default(),
        volumes: keys(section.volumes),
        exposed_ports: keys(section.exposed_ports),
        labels: section.labels.unwrap_or_default(),
        stop_signal: section.stop_signal.filter(|signal| !signal.is_empty()),
    };
    Ok(Described { id, config, document, diff_ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value) -> Result<Described, String> {
        describe(serde_json::to_vec(&json).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_runs_a_container_is_read_and_null_means_nothing() {
        let described = check(serde_json::json!({
            "architecture": "amd64", "os": "linux", "history": [{}],
            "config": {
                "Cmd": ["redis-server"], "Entrypoint": null, "Env": ["A=b"], "User": "redis",
                "WorkingDir": "/data", "Volumes": {"/data": {}}, "ExposedPorts": {"6379/tcp": {}},
                "StopSignal": "SIGQUIT", "Labels": null, "Healthcheck": {"Test": []},
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "ab".repeat(32))] },
        }))
        .unwrap();
        assert_eq!(described.config.command, ["redis-server"]);
        assert_eq!(described.config.volumes, ["/data"]);
        assert_eq!(described.config.exposed_ports, ["6379/tcp"]);
        assert_eq!(described.diff_ids, [[0xab; 32]]);
        let digest = Sha256::digest(described.document.as_bytes());
        assert_eq!(described.id.as_bytes()[..], digest[..]);
    }

    #[test]
    fn another_platform_and_a_bad_digest_are_refused() {
        let arm = check(serde_json::json!({ "architecture": "arm64", "os": "linux" }));
        assert!(arm.err().unwrap().contains("linux/arm64"));
        let bad = check(serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "diff_ids": ["sha256:zz"] },
        }));
        assert!(bad.err().unwrap().contains("no sha256 digest"));
    }
}
