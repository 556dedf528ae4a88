//! Placements and rules: one method a call.

use crate::options::{ListQuery, WriteOptions, segment};
use crate::view::{
    ExtendRequest, ListView, PlacementItem, PlacementRequest, PlacementsView, ReservationView,
    RulePut, RuleRequest, RuleView,
};
use crate::{Client, ClientError};
use reqwest::Method;

impl Client {
    /// Decides one request, a batch or a gang, as the request says; holds them if it says so.
    pub async fn place(
        &self,
        request: &PlacementRequest,
        options: &WriteOptions,
    ) -> Result<PlacementsView, ClientError> {
        self.write(Method::POST, "/v1/placements", options, Some(request)).await
    }

    /// Holds a place for one, `hold_seconds` long or until it is released.
    pub async fn reserve(
        &self,
        item: PlacementItem,
        hold_seconds: Option<u64>,
        options: &WriteOptions,
    ) -> Result<PlacementsView, ClientError> {
        let request = PlacementRequest {
            request: Some(item),
            reserve: true,
            hold_seconds,
            ..PlacementRequest::default()
        };
        self.place(&request, options).await
    }

    /// Holds places for many, each for itself.
    pub async fn reserve_batch(
        &self,
        items: Vec<PlacementItem>,
        hold_seconds: Option<u64>,
        options: &WriteOptions,
    ) -> Result<PlacementsView, ClientError> {
        let request = PlacementRequest {
            batch: Some(items),
            reserve: true,
            hold_seconds,
            ..PlacementRequest::default()
        };
        self.place(&request, options).await
    }

    /// Holds places for all or for none.
    pub async fn reserve_gang(
        &self,
        items: Vec<PlacementItem>,
        hold_seconds: Option<u64>,
        options: &WriteOptions,
    ) -> Result<PlacementsView, ClientError> {
        let request = PlacementRequest {
            gang: Some(items),
            reserve: true,
            hold_seconds,
            ..PlacementRequest::default()
        };
        self.place(&request, options).await
    }

    pub async fn placements(
        &self,
        query: &ListQuery,
    ) -> Result<ListView<ReservationView>, ClientError> {
        self.get("/v1/placements", &query.query()).await
    }

    pub async fn placement(&self, id: &str) -> Result<ReservationView, ClientError> {
        self.get(&format!("/v1/placements/{}", segment(id)), &[]).await
    }

    /// Holds a place for so long from now, or until it is released.
    pub async fn extend(
        &self,
        id: &str,
        request: &ExtendRequest,
        options: &WriteOptions,
    ) -> Result<ReservationView, ClientError> {
        let path = format!("/v1/placements/{}", segment(id));
        self.write(Method::PATCH, &path, options, Some(request)).await
    }

    pub async fn release(&self, id: &str, options: &WriteOptions) -> Result<(), ClientError> {
        self.delete(&format!("/v1/placements/{}", segment(id)), options).await
    }

    /// With `status` in the query, each with what breaks it.
    pub async fn rules(&self, query: &ListQuery) -> Result<ListView<RuleView>, ClientError> {
        self.get("/v1/rules", &query.query()).await
    }

    /// `rule` is an id or a name (`endpoint/name` where it is not unique).
    pub async fn rule(&self, rule: &str) -> Result<RuleView, ClientError> {
        self.get(&format!("/v1/rules/{}", segment(rule)), &[]).await
    }

    pub async fn create_rule(
        &self,
        request: &RuleRequest,
        options: &WriteOptions,
    ) -> Result<RuleView, ClientError> {
        self.write(Method::POST, "/v1/rules", options, Some(request)).await
    }

    pub async fn replace_rule(
        &self,
        rule: &str,
        request: &RulePut,
        options: &WriteOptions,
    ) -> Result<RuleView, ClientError> {
        let path = format!("/v1/rules/{}", segment(rule));
        self.write(Method::PUT, &path, options, Some(request)).await
    }

    pub async fn delete_rule(&self, rule: &str, options: &WriteOptions) -> Result<(), ClientError> {
        self.delete(&format!("/v1/rules/{}", segment(rule)), options).await
    }
}
