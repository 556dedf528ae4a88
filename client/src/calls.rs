//! One method a call of `/v1`.

use crate::options::{ListQuery, WriteOptions, segment};
use crate::view::{
    CapacityRequest, CapacityView, CellView, ClusterPolicyView, ClusterRequest, ClusterView,
    ContainerVmRequest, ContainerVmView, DatastoreView, EndpointPatch, EndpointRequest,
    EndpointSettings, EndpointView, HostPatch, HostView, ImageView, ListView, NetworkView,
    PolicyRequest, StopRequest, TrialView, WhatIfRequest, WhatIfView,
};
use crate::{Client, ClientError};
use reqwest::Method;

impl Client {
    pub async fn cell(&self) -> Result<CellView, ClientError> {
        self.get("/v1/cell", &[]).await
    }

    /// The same of whichever replica is asked, even while the cell has no leader.
    pub async fn cell_stale(&self) -> Result<CellView, ClientError> {
        self.get("/v1/cell", &[("consistency", "stale".to_owned())]).await
    }

    pub async fn clusters(&self, query: &ListQuery) -> Result<ListView<ClusterView>, ClientError> {
        self.get("/v1/clusters", &query.query()).await
    }

    pub async fn cluster(&self, cluster: &str) -> Result<ClusterView, ClientError> {
        self.get(&format!("/v1/clusters/{}", segment(cluster)), &[]).await
    }

    pub async fn create_cluster(
        &self,
        request: &ClusterRequest,
        options: &WriteOptions,
    ) -> Result<ClusterView, ClientError> {
        self.write(Method::POST, "/v1/clusters", options, Some(request)).await
    }

    /// Only one without hosts.
    pub async fn delete_cluster(
        &self,
        cluster: &str,
        options: &WriteOptions,
    ) -> Result<(), ClientError> {
        self.delete(&format!("/v1/clusters/{}", segment(cluster)), options).await
    }

    pub async fn policies(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<ClusterPolicyView>, ClientError> {
        self.get("/v1/policies", &query.query()).await
    }

    pub async fn policy(&self, cluster: &str) -> Result<ClusterPolicyView, ClientError> {
        self.get(&format!("/v1/policies/{}", segment(cluster)), &[]).await
    }

    /// The whole policy: what is not said takes its default.
    pub async fn set_policy(
        &self,
        cluster: &str,
        request: &PolicyRequest,
        options: &WriteOptions,
    ) -> Result<ClusterPolicyView, ClientError> {
        let path = format!("/v1/policies/{}", segment(cluster));
        self.write(Method::PUT, &path, options, Some(request)).await
    }

    pub async fn hosts(&self, query: &ListQuery) -> Result<ListView<HostView>, ClientError> {
        self.get("/v1/hosts", &query.query()).await
    }

    pub async fn host(&self, host: &str) -> Result<HostView, ClientError> {
        self.get(&format!("/v1/hosts/{}", segment(host)), &[]).await
    }

    /// Begins or ends its maintenance.
    pub async fn patch_host(
        &self,
        host: &str,
        request: &HostPatch,
        options: &WriteOptions,
    ) -> Result<HostView, ClientError> {
        let path = format!("/v1/hosts/{}", segment(host));
        self.write(Method::PATCH, &path, options, Some(request)).await
    }

    /// Only one that is silent and holds nothing.
    pub async fn delete_host(&self, host: &str, options: &WriteOptions) -> Result<(), ClientError> {
        self.delete(&format!("/v1/hosts/{}", segment(host)), options).await
    }

    pub async fn datastores(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<DatastoreView>, ClientError> {
        self.get("/v1/datastores", &query.query()).await
    }

    pub async fn datastore(&self, datastore: &str) -> Result<DatastoreView, ClientError> {
        self.get(&format!("/v1/datastores/{}", segment(datastore)), &[]).await
    }

    pub async fn networks(&self, query: &ListQuery) -> Result<ListView<NetworkView>, ClientError> {
        self.get("/v1/networks", &query.query()).await
    }

    pub async fn network(&self, network: &str) -> Result<NetworkView, ClientError> {
        self.get(&format!("/v1/networks/{}", segment(network)), &[]).await
    }

    pub async fn endpoints(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<EndpointView>, ClientError> {
        self.get("/v1/endpoints", &query.query()).await
    }

    pub async fn endpoint(&self, endpoint: &str) -> Result<EndpointView, ClientError> {
        self.get(&format!("/v1/endpoints/{}", segment(endpoint)), &[]).await
    }

    pub async fn create_endpoint(
        &self,
        request: &EndpointRequest,
        options: &WriteOptions,
    ) -> Result<EndpointView, ClientError> {
        self.write(Method::POST, "/v1/endpoints", options, Some(request)).await
    }

    /// All its settings: what is not said takes its default, or has no limit.
    pub async fn put_endpoint(
        &self,
        endpoint: &str,
        request: &EndpointSettings,
        options: &WriteOptions,
    ) -> Result<EndpointView, ClientError> {
        let path = format!("/v1/endpoints/{}", segment(endpoint));
        self.write(Method::PUT, &path, options, Some(request)).await
    }

    /// Some of its settings.
    pub async fn patch_endpoint(
        &self,
        endpoint: &str,
        request: &EndpointPatch,
        options: &WriteOptions,
    ) -> Result<EndpointView, ClientError> {
        let path = format!("/v1/endpoints/{}", segment(endpoint));
        self.write(Method::PATCH, &path, options, Some(request)).await
    }

    /// Only one that owns nothing.
    pub async fn delete_endpoint(
        &self,
        endpoint: &str,
        options: &WriteOptions,
    ) -> Result<(), ClientError> {
        self.delete(&format!("/v1/endpoints/{}", segment(endpoint)), options).await
    }

    pub async fn images(&self, query: &ListQuery) -> Result<ListView<ImageView>, ClientError> {
        self.get("/v1/images", &query.query()).await
    }

    /// By reference, id, or the start of one, as `system` sees it.
    pub async fn image(&self, image: &str) -> Result<ImageView, ClientError> {
        self.get(&format!("/v1/images/{}", segment(image)), &[]).await
    }

    pub async fn container_vms(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<ContainerVmView>, ClientError> {
        self.get("/v1/container-vms", &query.query()).await
    }

    /// `container` is an id, the start of one, or a name (`endpoint/name` where it is not unique).
    pub async fn container_vm(&self, container: &str) -> Result<ContainerVmView, ClientError> {
        self.get(&format!("/v1/container-vms/{}", segment(container)), &[]).await
    }

    pub async fn create_container_vm(
        &self,
        request: &ContainerVmRequest,
        options: &WriteOptions,
    ) -> Result<ContainerVmView, ClientError> {
        self.write(Method::POST, "/v1/container-vms", options, Some(request)).await
    }

    /// Where it would go now, or why nowhere; nothing is made.
    pub async fn try_container_vm(
        &self,
        request: &ContainerVmRequest,
    ) -> Result<TrialView, ClientError> {
        let path = "/v1/container-vms?dry_run=true";
        self.write(Method::POST, path, &WriteOptions::default(), Some(request)).await
    }

    pub async fn start_container_vm(
        &self,
        container: &str,
        options: &WriteOptions,
    ) -> Result<ContainerVmView, ClientError> {
        let path = format!("/v1/container-vms/{}/start", segment(container));
        self.write(Method::POST, &path, options, None::<&()>).await
    }

    pub async fn stop_container_vm(
        &self,
        container: &str,
        request: &StopRequest,
        options: &WriteOptions,
    ) -> Result<ContainerVmView, ClientError> {
        let path = format!("/v1/container-vms/{}/stop", segment(container));
        self.write(Method::POST, &path, options, Some(request)).await
    }

    pub async fn delete_container_vm(
        &self,
        container: &str,
        options: &WriteOptions,
    ) -> Result<(), ClientError> {
        self.delete(&format!("/v1/container-vms/{}", segment(container)), options).await
    }

    /// How many more of one shape fit, now and after the loss of any one host.
    pub async fn capacity(&self, request: &CapacityRequest) -> Result<CapacityView, ClientError> {
        self.ask("/v1/capacity", request).await
    }

    /// Where everything on some hosts would go if they were lost, or one was drained.
    pub async fn what_if(&self, request: &WhatIfRequest) -> Result<WhatIfView, ClientError> {
        self.ask("/v1/what-if", request).await
    }

    /// The OpenAPI document of the API.
    pub async fn document(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/openapi.json", &[]).await
    }
}
