//! What is in an image archive: members by name, and the images that its manifests describe.
//!
//! Reads what `docker save` and skopeo write (`manifest.json`) and OCI layouts (`index.json`).
//! Promises: an archive without images, with a member missing, or with a member that is not what
//! its digest says is refused with that member's name. Does not: read layers; that is `flatten`.

use crate::images::LoadError;
use crate::images::spool::{Section, Spool};
use crate::images::tar_stream::{TarKind, TarStream};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};

/// Bound of a manifest, an index or a config in bytes.
const DOCUMENT_MAX: u64 = 4 << 20;
/// How far aliases and nested indexes are followed.
const DEPTH_MAX: usize = 8;
/// The platform that guests are.
const ARCHITECTURE: &str = "amd64";
const OS: &str = "linux";

/// One image as the archive describes it.
pub struct Candidate {
    pub references: Vec<String>,
    /// The config document to the letter.
    pub document: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

#[derive(Clone)]
pub struct Layer {
    /// As the archive calls it.
    pub name: String,
    pub section: Section,
}

enum Member {
    File { offset: u64, size: u64 },
    Alias(String),
}

pub struct Archive {
    spool: Spool,
    members: BTreeMap<String, Member>,
}

impl Archive {
    pub fn read(spool: Spool) -> Result<Archive, LoadError> {
        let mut stream = TarStream::new(BufReader::with_capacity(1 << 16, spool.whole()));
        let mut members = BTreeMap::new();
        while let Some(entry) = stream.next_entry().map_err(LoadError::Archive)? {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let name = normal("", &path);
            let member = match entry.kind {
                TarKind::File => Member::File { offset: entry.offset, size: entry.size },
                TarKind::Link(target) => {
                    Member::Alias(normal("", &String::from_utf8_lossy(&target)))
                }
                TarKind::Symlink(target) => {
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    Member::Alias(normal(directory, &String::from_utf8_lossy(&target)))
                }
                TarKind::Directory
                | TarKind::Character { .. }
                | TarKind::Block { .. }
                | TarKind::Fifo => continue,
            };
            members.insert(name, member);
        }
        Ok(Archive { spool, members })
    }

    /// Every image of the archive. One that has both kinds of manifests is read by Docker's, which
    /// has the names.
    pub fn candidates(&self) -> Result<Vec<Candidate>, LoadError> {
        if self.members.contains_key("manifest.json") {
            self.docker()
        } else if self.members.contains_key("index.json") {
            self.oci()
        } else {
            Err(LoadError::NoManifest)
        }
    }

    fn docker(&self) -> Result<Vec<Candidate>, LoadError> {
        #[derive(Deserialize)]
        struct Image {
            #[serde(rename = "Config")]
            config: String,
            #[serde(rename = "RepoTags")]
            tags: Option<Vec<String>>,
            #[serde(rename = "Layers")]
            layers: Option<Vec<String>>,
        }
        let images: Vec<Image> = self.json("manifest.json")?;
        if images.is_empty() {
            return Err(LoadError::NoImage);
        }
        let candidate = |image: Image| {
            let document = self.document(&image.config)?;
            // Writers name the config after its digest, some with `.json` behind.
            if let Some(digest) = digest_in(&image.config) {
                check_digest(&image.config, &document, digest)?;
            }
            let layers = image.layers.unwrap_or_default();
            let layers =
                layers.into_iter().map(|name| self.layer(name)).collect::<Result<_, _>>()?;
            let tags = image.tags.unwrap_or_default();
            let references =
                tags.iter().map(|tag| reference(tag)).collect::<Result<Vec<_>, _>>()?;
            Ok(Candidate { references, document, layers })
        };
        images.into_iter().map(candidate).collect()
    }

    fn oci(&self) -> Result<Vec<Candidate>, LoadError> {
        let index: Index = self.json("index.json")?;
        let mut candidates: Vec<Candidate> = Vec::new();
        for descriptor in &index.manifests {
            let Some(mut found) = self.manifest(descriptor, 0)? else {
                continue;
            };
            found.references.extend(descriptor.reference());
            // A layout lists an image once for each of its names.
            match candidates.iter_mut().find(|known| known.document == found.document) {
                Some(known) => known.references.extend(found.references),
                None => candidates.push(found),
            }
        }
        if candidates.is_empty() {
            return Err(LoadError::NoImage);
        }
        Ok(candidates)
    }

    /// The image behind a descriptor, nameless; `None` if it is for another platform or no image.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Option<Candidate>, LoadError> {
        #[derive(Deserialize)]
        struct Manifest {
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        if !descriptor.is_ours() || depth > DEPTH_MAX {
            return Ok(None);
        }
        let document = self.blob(descriptor)?;
        let manifest: Manifest = parse(&descriptor.digest, &document)?;
        for nested in manifest.manifests.unwrap_or_default() {
            if let Some(found) = self.manifest(&nested, depth + 1)? {
                return Ok(Some(found));
            }
        }
        let Some(config) = manifest.config else {
            return Ok(None);
        };
        let document = self.blob(&config)?;
        let layer = |layer: Descriptor| self.layer(blob_name(&layer.digest)?);
        let layers = manifest.layers.unwrap_or_default();
        let layers = layers.into_iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Some(Candidate { references: Vec::new(), document, layers }))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LoadError> {
        let name = blob_name(&descriptor.digest)?;
        let document = self.document(&name)?;
        if descriptor.size.is_some_and(|size| size != document.len() as u64) {
            return Err(LoadError::Digest { what: name, expected: descriptor.digest.clone() });
        }
        let digest = descriptor.digest.strip_prefix("sha256:").unwrap_or_default();
        check_digest(&name, &document, digest)?;
        Ok(document)
    }

    fn layer(&self, name: String) -> Result<Layer, LoadError> {
        let section = self.section(&name)?;
        Ok(Layer { name, section })
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, LoadError> {
        parse(name, &self.document(name)?)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let mut section = self.section(name)?;
        if section.len() > DOCUMENT_MAX {
            let reason = format!("is larger than {} MiB", DOCUMENT_MAX >> 20);
            return Err(LoadError::Document { what: name.to_owned(), reason });
        }
        let mut document = Vec::new();
        section.read_to_end(&mut document).map_err(|source| LoadError::Io {
            what: format!("read `{name}` of the archive"),
            source,
        })?;
        Ok(document)
    }

    fn section(&self, name: &str) -> Result<Section, LoadError> {
        let mut found = normal("", name);
        for _ in 0..DEPTH_MAX {
            match self.members.get(&found) {
                Some(Member::File { offset, size }) => {
                    return Ok(self.spool.section(*offset, *size));
                }
                Some(Member::Alias(target)) => found = target.clone(),
                None => break,
            }
        }
        Err(LoadError::Missing(name.to_owned()))
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: Option<u64>,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Descriptor {
    /// What says nothing of its platform is looked into.
    fn is_ours(&self) -> bool {
        self.platform.as_ref().is_none_or(|p| p.architecture == ARCHITECTURE && p.os == OS)
    }

    /// A name that is only a tag (`latest`) says nothing without its repository.
    fn reference(&self) -> Option<String> {
        let annotations = self.annotations.as_ref()?;
        let full = annotations.get("io.containerd.image.name");
        let short = annotations.get("org.opencontainers.image.ref.name");
        let named = full.or_else(|| short.filter(|name| name.contains([':', '/'])))?;
        reference(named).ok()
    }
}

/// `name:tag` as Docker shows it: the default registry and repository left out.
fn reference(text: &str) -> Result<String, LoadError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    if text.is_empty() || text.len() > 383 || !text.chars().all(allowed) {
        return Err(LoadError::Reference(text.chars().take(80).collect()));
    }
    let short = text
        .strip_prefix("docker.io/library/")
        .or_else(|| text.strip_prefix("docker.io/"))
        .unwrap_or(text);
    let last = short.rsplit('/').next().unwrap_or(short);
    Ok(if last.contains(':') { short.to_owned() } else { format!("{short}:latest") })
}

fn parse<T: for<'de> Deserialize<'de>>(what: &str, document: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(document).map_err(|error| LoadError::Document {
        what: what.to_owned(),
        reason: format!("cannot be understood: {error}"),
    })
}

fn check_digest(what: &str, content: &[u8], expected: &str) -> Result<(), LoadError> {
    if hex::encode(Sha256::digest(content)) == expected {
        return Ok(());
    }
    Err(LoadError::Digest { what: what.to_owned(), expected: format!("sha256:{expected}") })
}

/// The digest that a name like `<digest>.json` or `blobs/sha256/<digest>` states.
fn digest_in(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next()?;
    let stem = last.strip_suffix(".json").unwrap_or(last);
    is_digest(stem).then_some(stem)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn blob_name(digest: &str) -> Result<String, LoadError> {
    match digest.strip_prefix("sha256:").filter(|hex| is_digest(hex)) {
        Some(hex) => Ok(format!("blobs/sha256/{hex}")),
        None => Err(LoadError::Document {
            what: digest.chars().take(80).collect(),
            reason: "is no sha256 digest".into(),
        }),
    }
}

/// A member's name with `.`, `..` and double slashes taken out; members never leave the archive.
fn normal(directory: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_shown_as_docker_shows_them() {
        let check = |text| reference(text).unwrap();
        assert_eq!(check("docker.io/library/busybox:1.36"), "busybox:1.36");
        assert_eq!(check("docker.io/me/app"), "me/app:latest");
        assert_eq!(check("registry:5000/app"), "registry:5000/app:latest");
        assert!(reference("a b").is_err());
    }

    #[test]
    fn members_are_found_under_every_spelling_of_their_name() {
        assert_eq!(normal("", "./a//b"), "a/b");
        assert_eq!(normal("x", "../y/layer.tar"), "y/layer.tar");
        assert_eq!(normal("", "../../etc/passwd"), "etc/passwd");
    }

    #[test]
    fn a_name_states_a_digest_only_if_it_is_one() {
        let digest = "a".repeat(64);
        assert_eq!(digest_in(&format!("{digest}.json")), Some(digest.as_str()));
        assert_eq!(digest_in("config.json"), None);
    }
}
