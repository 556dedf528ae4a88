//! Every endpoint of the Docker API document: who serves it, or why nobody does.
//!
//! Promises: each endpoint of the document stands here (a test walks the document); what is not
//! served is refused with a message that names it. A path that is not in here is not found.
//! Does not: look at queries or bodies; `fields` and the endpoints do.

/// Who answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    By(Endpoint),
    /// Not there yet: what it is, and what to do meanwhile.
    NotYet(&'static str),
    /// Will not be there.
    Never(&'static str),
}

/// An endpoint that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Ping,
    Version,
    Info,
    Events,
    ImageList,
    ImageInspect,
    ImageLoad,
    ContainerList,
    ContainerCreate,
    ContainerInspect,
    ContainerLogs,
    ContainerResize,
    ContainerStart,
    ContainerStop,
    ContainerRestart,
    ContainerKill,
    ContainerAttach,
    ContainerWait,
    ContainerDelete,
}

use Served::{By, Never, NotYet};

const EXEC: &str = "exec is not supported yet; start a container with docker run instead";
const COPY: &str = "copying into and out of containers is not supported yet; stream the data through \
     docker run -i";
const REGISTRY: &str = "registries are not supported yet; bring images in with docker load, from docker save elsewhere";
const IMAGES: &str = "this change to images is not supported yet";
const BUILD: &str = "docker build is not supported yet; build elsewhere, then docker save and docker load the image";
const VOLUMES: &str = "volumes are not supported yet; data outside of volumes lives in the \
     container's delta disk";
const NETWORKS: &str = "networks of one's own are not supported yet; there are bridge and none";
const SWARM: &str = "swarm mode is not supported: berth places containers itself, see /v1";
const PLUGINS: &str = "plugins are not supported";

/// Method, path as in the document, and who serves it.
pub const ROUTES: &[(&str, &str, Served)] = &[
    ("GET", "/containers/json", By(Endpoint::ContainerList)),
    ("POST", "/containers/create", By(Endpoint::ContainerCreate)),
    ("GET", "/containers/{id}/json", By(Endpoint::ContainerInspect)),
    ("GET", "/containers/{id}/top", NotYet("docker top is not supported yet")),
    ("GET", "/containers/{id}/logs", By(Endpoint::ContainerLogs)),
    ("GET", "/containers/{id}/changes", NotYet("docker diff is not supported yet")),
    ("GET", "/containers/{id}/export", NotYet("docker export is not supported yet")),
    (
        "GET",
        "/containers/{id}/stats",
        NotYet(
            "docker stats is not supported yet; the nodes' /metrics tell what container VMs use",
        ),
    ),
    ("POST", "/containers/{id}/resize", By(Endpoint::ContainerResize)),
    ("POST", "/containers/{id}/start", By(Endpoint::ContainerStart)),
    ("POST", "/containers/{id}/stop", By(Endpoint::ContainerStop)),
    ("POST", "/containers/{id}/restart", By(Endpoint::ContainerRestart)),
    ("POST", "/containers/{id}/kill", By(Endpoint::ContainerKill)),
    (
        "POST",
        "/containers/{id}/update",
        NotYet("docker update is not supported yet; create the container anew with other limits"),
    ),
    (
        "POST",
        "/containers/{id}/rename",
        NotYet(
            "docker rename is not supported yet; create the container anew under the other name",
        ),
    ),
    (
        "POST",
        "/containers/{id}/pause",
        NotYet("docker pause is not supported yet; use docker stop"),
    ),
    ("POST", "/containers/{id}/unpause", NotYet("docker pause is not supported yet")),
    ("POST", "/containers/{id}/attach", By(Endpoint::ContainerAttach)),
    (
        "GET",
        "/containers/{id}/attach/ws",
        NotYet("attaching over a websocket is not supported yet; attach with Upgrade: tcp"),
    ),
    ("POST", "/containers/{id}/wait", By(Endpoint::ContainerWait)),
    ("DELETE", "/containers/{id}", By(Endpoint::ContainerDelete)),
    ("HEAD", "/containers/{id}/archive", NotYet(COPY)),
    ("GET", "/containers/{id}/archive", NotYet(COPY)),
    ("PUT", "/containers/{id}/archive", NotYet(COPY)),
    ("POST", "/containers/prune", NotYet("docker prune is not supported yet; use docker rm")),
    ("GET", "/images/json", By(Endpoint::ImageList)),
    ("POST", "/build", NotYet(BUILD)),
    ("POST", "/build/prune", NotYet(BUILD)),
    (
        "POST",
        "/images/create",
        NotYet(
            "docker pull and import are not supported yet; bring the image in with docker load -i \
             FILE, where FILE comes from docker save elsewhere",
        ),
    ),
    ("GET", "/images/{name}/json", By(Endpoint::ImageInspect)),
    ("GET", "/images/{name}/history", NotYet("docker history is not supported yet")),
    ("POST", "/images/{name}/push", NotYet(REGISTRY)),
    ("POST", "/images/{name}/tag", NotYet(IMAGES)),
    ("DELETE", "/images/{name}", NotYet(IMAGES)),
    ("GET", "/images/search", NotYet(REGISTRY)),
    ("POST", "/images/prune", NotYet(IMAGES)),
    ("POST", "/auth", NotYet(REGISTRY)),
    ("GET", "/info", By(Endpoint::Info)),
    ("GET", "/version", By(Endpoint::Version)),
    ("GET", "/_ping", By(Endpoint::Ping)),
    ("HEAD", "/_ping", By(Endpoint::Ping)),
    ("POST", "/commit", NotYet("docker commit is not supported yet")),
    ("GET", "/events", By(Endpoint::Events)),
    ("GET", "/system/df", NotYet("docker system df is not supported yet; see docker images")),
    ("GET", "/images/{name}/get", NotYet("docker save is not supported yet")),
    ("GET", "/images/get", NotYet("docker save is not supported yet")),
    ("POST", "/images/load", By(Endpoint::ImageLoad)),
    ("POST", "/containers/{id}/exec", NotYet(EXEC)),
    ("POST", "/exec/{id}/start", NotYet(EXEC)),
    ("POST", "/exec/{id}/resize", NotYet(EXEC)),
    ("GET", "/exec/{id}/json", NotYet(EXEC)),
    ("GET", "/volumes", NotYet(VOLUMES)),
    ("POST", "/volumes/create", NotYet(VOLUMES)),
    ("GET", "/volumes/{name}", NotYet(VOLUMES)),
    ("PUT", "/volumes/{name}", NotYet(VOLUMES)),
    ("DELETE", "/volumes/{name}", NotYet(VOLUMES)),
    ("POST", "/volumes/prune", NotYet(VOLUMES)),
    ("GET", "/networks", NotYet(NETWORKS)),
    ("GET", "/networks/{id}", NotYet(NETWORKS)),
    ("DELETE", "/networks/{id}", NotYet(NETWORKS)),
    ("POST", "/networks/create", NotYet(NETWORKS)),
    ("POST", "/networks/{id}/connect", NotYet(NETWORKS)),
    ("POST", "/networks/{id}/disconnect", NotYet(NETWORKS)),
    ("POST", "/networks/prune", NotYet(NETWORKS)),
    ("GET", "/plugins", Never(PLUGINS)),
    ("GET", "/plugins/privileges", Never(PLUGINS)),
    ("POST", "/plugins/pull", Never(PLUGINS)),
    ("GET", "/plugins/{name}/json", Never(PLUGINS)),
    ("DELETE", "/plugins/{name}", Never(PLUGINS)),
    ("POST", "/plugins/{name}/enable", Never(PLUGINS)),
    ("POST", "/plugins/{name}/disable", Never(PLUGINS)),
    ("POST", "/plugins/{name}/upgrade", Never(PLUGINS)),
    ("POST", "/plugins/create", Never(PLUGINS)),
    ("POST", "/plugins/{name}/push", Never(PLUGINS)),
    ("POST", "/plugins/{name}/set", Never(PLUGINS)),
    ("GET", "/nodes", Never(SWARM)),
    ("GET", "/nodes/{id}", Never(SWARM)),
    ("DELETE", "/nodes/{id}", Never(SWARM)),
    ("POST", "/nodes/{id}/update", Never(SWARM)),
    ("GET", "/swarm", Never(SWARM)),
    ("POST", "/swarm/init", Never(SWARM)),
    ("POST", "/swarm/join", Never(SWARM)),
    ("POST", "/swarm/leave", Never(SWARM)),
    ("POST", "/swarm/update", Never(SWARM)),
    ("GET", "/swarm/unlockkey", Never(SWARM)),
    ("POST", "/swarm/unlock", Never(SWARM)),
    ("GET", "/services", Never(SWARM)),
    ("POST", "/services/create", Never(SWARM)),
    ("GET", "/services/{id}", Never(SWARM)),
    ("DELETE", "/services/{id}", Never(SWARM)),
    ("POST", "/services/{id}/update", Never(SWARM)),
    ("GET", "/services/{id}/logs", Never(SWARM)),
    ("GET", "/tasks", Never(SWARM)),
    ("GET", "/tasks/{id}", Never(SWARM)),
    ("GET", "/tasks/{id}/logs", Never(SWARM)),
    ("GET", "/secrets", Never(SWARM)),
    ("POST", "/secrets/create", Never(SWARM)),
    ("GET", "/secrets/{id}", Never(SWARM)),
    ("DELETE", "/secrets/{id}", Never(SWARM)),
    ("POST", "/secrets/{id}/update", Never(SWARM)),
    ("GET", "/configs", Never(SWARM)),
    ("POST", "/configs/create", Never(SWARM)),
    ("GET", "/configs/{id}", Never(SWARM)),
    ("DELETE", "/configs/{id}", Never(SWARM)),
    ("POST", "/configs/{id}/update", Never(SWARM)),
    ("GET", "/distribution/{name}/json", NotYet(REGISTRY)),
    ("POST", "/session", NotYet(BUILD)),
    ("POST", "/grpc", NotYet(BUILD)),
];

/// Of the placeholders, those that take several segments: names of images hold slashes.
const LONG_NAMES: [&str; 3] = ["images", "distribution", "plugins"];

/// The route of a request, and what its placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub method: &'static str,
    pub template: &'static str,
    pub served: Served,
    /// Decoded; empty where the path has no placeholder.
    pub name: String,
}

/// Finds the route of `method` and `path`, the version prefix taken off. Routes without a
/// placeholder come first, so that no container can be named `create` to hide an endpoint.
pub fn find(method: &str, path: &str) -> Option<Matched> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let mut found = None;
    for (verb, template, served) in ROUTES {
        if *verb != method {
            continue;
        }
        let Some(name) = fit(template, &segments) else { continue };
        let literal = name.is_none();
        let name = name.unwrap_or_default();
        let name = percent_encoding::percent_decode_str(&name).decode_utf8().ok()?.into_owned();
        let matched = Matched { method: verb, template, served: *served, name };
        if literal {
            return Some(matched);
        }
        found = found.or(Some(matched));
    }
    found
}

/// `Some(None)`: fits to the letter; `Some(Some(name))`: fits with this for its placeholder.
fn fit(template: &str, segments: &[&str]) -> Option<Option<String>> {
    let parts: Vec<&str> = template.strip_prefix('/')?.split('/').collect();
    let Some(place) = parts.iter().position(|part| part.starts_with('{')) else {
        return (parts == segments).then_some(None);
    };
    let (head, tail) = (&parts[..place], &parts[place + 1..]);
    let long = head.first().is_some_and(|first| LONG_NAMES.contains(first));
    let count = segments.len().checked_sub(head.len() + tail.len())?;
    if count == 0 || (count > 1 && !long) {
        return None;
    }
    let name = segments[place..place + count].join("/");
    let fits = segments.starts_with(head) && segments.ends_with(tail) && !name.is_empty();
    fits.then_some(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str) -> String {
        match find(method, path) {
            Some(matched) => format!("{} {}", matched.template, matched.name),
            None => "not found".to_owned(),
        }
    }

    #[test]
    fn paths_find_their_routes() {
        assert_eq!(check("GET", "/containers/json"), "/containers/json ");
        assert_eq!(check("GET", "/containers/web/json"), "/containers/{id}/json web");
        assert_eq!(check("POST", "/containers/create"), "/containers/create ");
        assert_eq!(check("GET", "/images/team/app:2/json"), "/images/{name}/json team/app:2");
        assert_eq!(check("GET", "/images/json"), "/images/json ");
        assert_eq!(check("GET", "/images/a%2Fb/json"), "/images/{name}/json a/b");
        assert_eq!(check("DELETE", "/containers/web"), "/containers/{id} web");
    }

    #[test]
    fn what_is_no_route_is_not_found() {
        for path in ["", "/", "/containers", "/containers//json", "/containers/a/b/json", "/frob"] {
            assert_eq!(check("GET", path), "not found", "{path}");
        }
        assert_eq!(check("PATCH", "/containers/json"), "not found");
    }
}
