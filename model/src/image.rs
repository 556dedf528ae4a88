//! Images as an endpoint sees them: records in the fleet, bytes on datastores.

use crate::ids::{DatastoreId, ImageId};
use crate::meta::Meta;
use crate::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub id: ImageId,
    /// `name:tag`, as Docker shows them; empty for a dangling image.
    pub references: BTreeSet<String>,
    pub config: ImageConfig,
    /// The config document to the letter: its SHA-256 is the id.
    pub document: String,
    /// Uncompressed bytes of all layers.
    pub size: Bytes,
    /// Datastores that hold its base disk.
    pub datastores: BTreeSet<DatastoreId>,
    /// The endpoint in `meta` is the one that loaded it; no other sees it.
    pub meta: Meta,
}

/// The part of an image's config that decides how its containers run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    pub user: String,
    pub working_directory: String,
    /// Absolute paths declared by VOLUME.
    pub volumes: Vec<String>,
    /// `6379/tcp`.
    pub exposed_ports: Vec<String>,
    pub labels: std::collections::BTreeMap<String, String>,
    pub stop_signal: Option<String>,
}
