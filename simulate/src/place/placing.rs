//! Placement requests on a scheduler: clients that each wait for their answer.
//!
//! Promises: requests are made before the clock starts; ids are those of the numbers, so that what
//! was placed can be released again. Does not: try again; what was refused or failed is told.

use super::load::Load;
use super::{COMMAND_DEADLINE, ENDPOINT};
use crate::clock::{self, milliseconds};
use crate::mix::Mix;
use berth_model::command::{CommandBody, Principal};
use berth_model::{EndpointId, PlacementWish, RequestId, ReservationId};
use berth_scheduler::planner::placing::{PlaceMode, PlaceWish};
use berth_scheduler::{PlaceRequest, SubmitError};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reservations of one `Release`.
const RELEASED: usize = 1000;

/// Which placements, and how they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    pub from: u32,
    pub to: u32,
    /// Placements in one request.
    pub batch: u32,
    /// Requests at once.
    pub in_flight: u32,
}

/// What a wave of placements came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Placings {
    /// From the request to its answer.
    pub each_ms: Vec<f64>,
    /// From the first request to the last answer.
    pub seconds: f64,
    pub placed: u64,
    pub refused: u64,
    /// Requests without an answer.
    pub failed: BTreeMap<String, u64>,
}

impl Load {
    pub async fn place(&self, wave: Wave) -> Placings {
        let requests = self.requests(wave);
        let found = RefCell::new(Placings::default());
        let clients = usize::try_from(wave.in_flight.max(1)).unwrap_or(1);
        let began = clock::now();
        stream::iter(requests)
            .for_each_concurrent(clients, |request| async {
                let asked = clock::now();
                let answer = self.scheduler.place(request).await;
                let mut found = found.borrow_mut();
                match answer {
                    Ok(answer) => {
                        found.each_ms.push(milliseconds(asked.elapsed()));
                        let placed = answer.items.iter().filter(|item| item.is_ok()).count() as u64;
                        found.placed += placed;
                        found.refused += answer.items.len() as u64 - placed;
                    }
                    Err(error) => *found.failed.entry(error.to_string()).or_default() += 1,
                }
            })
            .await;
        let mut found = found.into_inner();
        found.seconds = began.elapsed().as_secs_f64();
        found
    }

    fn requests(&self, wave: Wave) -> Vec<PlaceRequest> {
        let (mix, endpoint) = (Mix::made_up(), self.endpoint());
        let numbers: Vec<u32> = (wave.from..wave.to).collect();
        let batches = numbers.chunks(usize::try_from(wave.batch.max(1)).unwrap_or(1));
        batches.map(|numbers| self.request(&mix, endpoint, numbers)).collect()
    }

    fn request(&self, mix: &Mix, endpoint: EndpointId, numbers: &[u32]) -> PlaceRequest {
        let mut positions: BTreeMap<*const PlacementWish, u32> = BTreeMap::new();
        let mut wishes = Vec::new();
        let items = numbers.iter().map(|number| {
            let wish = mix.wish(u64::from(*number));
            let position = *positions.entry(Arc::as_ptr(&wish)).or_insert_with(|| {
                wishes.push(wish);
                u32::try_from(wishes.len() - 1).unwrap_or(u32::MAX)
            });
            PlaceWish { wish: position, endpoint, id: self.reservation_id(*number) }
        });
        let items = items.collect();
        PlaceRequest {
            principal: Principal::Local,
            request_id: RequestId::random(&mut rand::rng()),
            traceparent: None,
            deadline: COMMAND_DEADLINE,
            wishes,
            items,
            gang: None,
            mode: PlaceMode::Hold { hold_ms: None },
            wait: None,
            explain_hosts: 0,
        }
    }

    fn reservation_id(&self, number: u32) -> ReservationId {
        let mut source = StdRng::seed_from_u64(self.options.seed ^ (u64::from(number) << 32));
        ReservationId::random(&mut source)
    }

    /// Ends what the placements with these numbers hold.
    pub async fn release(&self, from: u32, to: u32) -> Result<(), String> {
        let ids: Vec<ReservationId> =
            (from..to).map(|number| self.reservation_id(number)).collect();
        for ids in ids.chunks(RELEASED) {
            self.submit(CommandBody::Release { ids: ids.to_vec() }).await?;
        }
        Ok(())
    }

    /// Hosts without a session of their own: known to the fleet, and to nobody else.
    pub async fn register_hosts(&self) -> Result<(), String> {
        const AT_ONCE: usize = 256;
        let hosts: Vec<_> = self.made_up.hosts().collect();
        stream::iter(hosts)
            .map(|(host, facts)| {
                let body = CommandBody::HostSeen { host, facts: Box::new(facts) };
                self.submit_as(Principal::Node(host), EndpointId::SYSTEM, body)
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    pub(super) fn endpoint(&self) -> EndpointId {
        let fleets = self.scheduler.watch();
        let endpoint = fleets.borrow().endpoint_named(ENDPOINT).map(|endpoint| endpoint.id);
        endpoint.unwrap_or(EndpointId::SYSTEM)
    }

    pub(super) async fn submit_as(
        &self,
        principal: Principal,
        endpoint: EndpointId,
        body: CommandBody,
    ) -> Result<(), String> {
        let request = berth_scheduler::Request {
            principal,
            endpoint,
            key: None,
            request_id: RequestId::random(&mut rand::rng()),
            traceparent: None,
            deadline: COMMAND_DEADLINE,
            condition: None,
            body,
        };
        let submitted: Result<_, SubmitError> = self.scheduler.submit(request).await;
        submitted.map(|_| ()).map_err(|error| error.to_string())
    }
}
