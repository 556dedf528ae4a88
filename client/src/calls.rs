//! One method a call of `/v1`.

use crate::view::{
    CellView, ClusterRequest, ClusterView, ContainerRequest, ContainerView, DatastoreView,
    EndpointRequest, EndpointView, HostView, ImageView, ListView, PlacementView, StopRequest,
};
use crate::{Client, ClientError};
use berth_model::IdempotencyKey;
use reqwest::Method;

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Answer only once what was asked for is so, or cannot be.
    pub wait: bool,
    /// Two writes with one key have one effect; drawn if absent.
    pub key: Option<IdempotencyKey>,
    /// End what runs; of meaning to deletes only.
    pub force: bool,
}

impl WriteOptions {
    /// Waits for the outcome.
    pub fn waiting() -> Self {
        Self { wait: true, ..Self::default() }
    }

    pub(crate) fn query(&self) -> Vec<(&'static str, &'static str)> {
        let mut query = Vec::new();
        if self.wait {
            query.push(("wait", "true"));
        }
        if self.force {
            query.push(("force", "true"));
        }
        query
    }
}

/// What of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `name` or `name=value`; all must be there.
    pub labels: Vec<String>,
    /// Of this endpoint only; of container VMs and images.
    pub endpoint: Option<String>,
    /// Objects on a page, 1 to 1,000.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub page: Option<String>,
    /// Whatever the asked scheduler has, even while the cell has no leader.
    pub stale: bool,
}

impl ListQuery {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<(&'static str, String)> =
            self.labels.iter().map(|label| ("label", label.clone())).collect();
        query.extend(self.endpoint.iter().map(|name| ("endpoint", name.clone())));
        query.extend(self.limit.iter().map(|limit| ("limit", limit.to_string())));
        query.extend(self.page.iter().map(|page| ("page", page.clone())));
        if self.stale {
            query.push(("consistency", "stale".to_owned()));
        }
        query
    }
}

pub(crate) fn fresh_key() -> IdempotencyKey {
    IdempotencyKey::random(&mut rand::rng())
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

impl Client {
    pub async fn cell(&self) -> Result<CellView, ClientError> {
        self.get("/v1/cell", &[]).await
    }

    pub async fn clusters(&self, query: &ListQuery) -> Result<ListView<ClusterView>, ClientError> {
        self.get("/v1/clusters", &query.query()).await
    }

    pub async fn create_cluster(
        &self,
        request: &ClusterRequest,
        options: &WriteOptions,
    ) -> Result<ClusterView, ClientError> {
        self.write(Method::POST, "/v1/clusters", options, Some(request)).await
    }

    pub async fn endpoints(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<EndpointView>, ClientError> {
        self.get("/v1/endpoints", &query.query()).await
    }

    pub async fn create_endpoint(
        &self,
        request: &EndpointRequest,
        options: &WriteOptions,
    ) -> Result<EndpointView, ClientError> {
        self.write(Method::POST, "/v1/endpoints", options, Some(request)).await
    }

    pub async fn hosts(&self, query: &ListQuery) -> Result<ListView<HostView>, ClientError> {
        self.get("/v1/hosts", &query.query()).await
    }

    pub async fn datastores(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<DatastoreView>, ClientError> {
        self.get("/v1/datastores", &query.query()).await
    }

    pub async fn images(&self, query: &ListQuery) -> Result<ListView<ImageView>, ClientError> {
        self.get("/v1/images", &query.query()).await
    }

    pub async fn containers(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<ContainerView>, ClientError> {
        self.get("/v1/containers", &query.query()).await
    }

    /// `container` is an id, the start of one, or a name (`endpoint/name` where it is not unique).
    pub async fn container(&self, container: &str) -> Result<ContainerView, ClientError> {
        self.get(&format!("/v1/containers/{}", segment(container)), &[]).await
    }

    pub async fn create_container(
        &self,
        request: &ContainerRequest,
        options: &WriteOptions,
    ) -> Result<ContainerView, ClientError> {
        self.write(Method::POST, "/v1/containers", options, Some(request)).await
    }

    /// Where it would go now, or why nowhere; nothing is made.
    pub async fn explain(&self, request: &ContainerRequest) -> Result<PlacementView, ClientError> {
        let path = "/v1/containers?dry_run=true";
        self.write(Method::POST, path, &WriteOptions::default(), Some(request)).await
    }

    pub async fn start_container(
        &self,
        container: &str,
        options: &WriteOptions,
    ) -> Result<ContainerView, ClientError> {
        let path = format!("/v1/containers/{}/start", segment(container));
        self.write(Method::POST, &path, options, None::<&()>).await
    }

    pub async fn stop_container(
        &self,
        container: &str,
        request: &StopRequest,
        options: &WriteOptions,
    ) -> Result<ContainerView, ClientError> {
        let path = format!("/v1/containers/{}/stop", segment(container));
        self.write(Method::POST, &path, options, Some(request)).await
    }

    pub async fn delete_container(
        &self,
        container: &str,
        options: &WriteOptions,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/containers/{}", segment(container));
        self.write(Method::DELETE, &path, options, None::<&()>).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
        assert_eq!(segment("web-1_x.y"), "web-1_x.y");
    }

    #[test]
    fn a_query_says_only_what_was_asked() {
        assert!(ListQuery::default().query().is_empty());
        let query = ListQuery { labels: vec!["a=b".into()], stale: true, ..ListQuery::default() };
        let want = [("label", "a=b".to_owned()), ("consistency", "stale".to_owned())];
        assert_eq!(query.query(), want);
        assert_eq!(WriteOptions::waiting().query(), [("wait", "true")]);
    }
}
