//! What a client means by a name: a container by id, name or the start of its id; an image by
//! reference or id.

use super::call::View;
use super::error::DockerError;
use super::translate::container::Surroundings;
use super::translate::reference::{self, Reference};
use berth_model::{ContainerVm, Host, Image, VmState};
use berth_scheduler::fleet::Prefixed;

impl View {
    /// As the engine resolves: the whole id, then a name with or without its slash, then the start
    /// of an id.
    pub fn container(&self, name: &str) -> Result<&ContainerVm, DockerError> {
        if let Ok(id) = name.parse()
            && let Some(vm) = self.fleet.container(id)
            && vm.endpoint() == self.endpoint
            && !matches!(vm.state, VmState::Removing { .. })
        {
            return Ok(vm);
        }
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(vm) = self.fleet.container_named(self.endpoint, bare) {
            return Ok(vm);
        }
        match self.fleet.container_by_prefix(self.endpoint, bare) {
            Prefixed::One(vm) => Ok(vm),
            Prefixed::None => Err(DockerError::no_such_container(name)),
            Prefixed::Many => {
                Err(DockerError::bad(format!("multiple IDs found with provided prefix: {name}")))
            }
        }
    }

    pub fn image(&self, name: &str) -> Result<&Image, DockerError> {
        let reference = reference::parse(name)?;
        let missing = |shown: &str| DockerError::not_found(format!("No such image: {shown}"));
        let digits = match &reference {
            Reference::Tag(tag) => {
                if let Some(image) = self.fleet.image_by_reference(self.endpoint, tag) {
                    return Ok(image);
                }
                if !reference::is_id_prefix(name) {
                    return Err(missing(tag));
                }
                name
            }
            Reference::Id(digits) => digits,
            Reference::Digest(whole) => return Err(missing(whole)),
        };
        match self.fleet.image_by_prefix(self.endpoint, digits) {
            Prefixed::One(image) => Ok(image),
            Prefixed::None => Err(match reference {
                Reference::Tag(tag) => missing(&tag),
                Reference::Id(_) | Reference::Digest(_) => missing(name),
            }),
            Prefixed::Many => {
                Err(DockerError::bad(format!("multiple IDs found with provided prefix: {name}")))
            }
        }
    }

    /// What is shown beside a container VM.
    pub fn around<'a>(&'a self, vm: &ContainerVm) -> Surroundings<'a> {
        let host: Option<&Host> = vm
            .state
            .charged()
            .map(|(host, _)| host)
            .or(vm.last_host)
            .and_then(|id| self.fleet.host(id));
        let datastore = vm.datastore.and_then(|id| self.fleet.datastore(id));
        Surroundings {
            host,
            cluster: host.and_then(|h| self.fleet.cluster(h.cluster)).map(|c| c.name.as_str()),
            datastore: datastore.map(|datastore| datastore.name.as_str()),
            image: self.fleet.image(self.endpoint, vm.spec.image),
        }
    }
}
