//! An API server with one Lease: compare-and-swap, quorum reads, and everything that can happen to a call on its way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover::{
    Epoch, Lease, LeaseRecord, ReadResult, Settings, StoreId, SwapResult, Version, recreate_lease,
};
use recorder::replicator::driver::{Call, LeaseApi};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{MS, Rng};

/// A call on its way there, or an answer on its way back.
type Due = (u64, Box<dyn FnOnce(&mut Api) + Send>);

/// What is wrong between one member and the API server, until when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub requests_lost: u64,
    pub answers_lost: u64,
    pub slow: u64,
}

/// See the module.
pub struct Api {
    lease: Option<Lease>,
    versions: u64,
    /// The highest epoch that a Lease had.
    pub highest: Epoch,
    due: Vec<Due>,
    now: u64,
    rng: Rng,
    pub trouble: [Trouble; 2],
    /// When the operator makes a new Lease, if there is none.
    recreated: u64,
}

impl Api {
    pub fn new(rng: Rng) -> Self {
        let mut api = Self {
            lease: None,
            versions: 0,
            highest: Epoch(0),
            due: Vec::new(),
            now: 0,
            rng,
            trouble: [Trouble::default(); 2],
            recreated: 0,
        };
        api.store(LeaseRecord::first(Settings::default().leash));
        api
    }

    fn store(&mut self, record: LeaseRecord) -> Lease {
        self.versions += 1;
        self.highest = self.highest.max(record.epoch);
        let version = Version::new(&self.versions.to_string());
        let lease = Lease { version, record };
        self.lease = Some(lease.clone());
        lease
    }

    fn read(&self) -> ReadResult {
        self.lease.clone().map_or(ReadResult::Missing, ReadResult::Found)
    }

    fn swap(&mut self, expected: &Version, record: LeaseRecord) -> SwapResult {
        match &self.lease {
            Some(lease) if lease.version == *expected => SwapResult::Swapped(self.store(record)),
            _ => SwapResult::Conflict,
        }
    }

    /// Somebody deletes the Lease; the operator sees it a while later.
    pub fn delete(&mut self) {
        self.lease = None;
        self.recreated = self.now + self.rng.below(1500) * MS;
    }

    /// Whether neither the holder nor the follower that the Lease names has its volume any more: then it takes an operator, who is not
    /// here.
    pub fn is_stuck(&self, lost: &[String]) -> bool {
        let Some(Lease { record, .. }) = &self.lease else {
            return false;
        };
        let is_lost = |store: &StoreId| lost.contains(&store.to_string());
        let holder = record.holder.as_ref().map(|holder| &holder.store);
        holder.is_some_and(is_lost) && record.follower.as_ref().is_none_or(is_lost)
    }

    /// All that is due by now.
    pub fn turn(&mut self, now: u64) {
        self.now = now;
        if self.lease.is_none() && now >= self.recreated {
            self.store(recreate_lease([self.highest]));
        }
        let (due, later) = std::mem::take(&mut self.due)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.due = later;
        let mut due: Vec<Due> = due;
        due.sort_by_key(|(at, _)| *at);
        for (_, what) in due {
            what(self);
        }
    }

    fn delay(&mut self, who: usize) -> u64 {
        let slow = self.now < self.trouble[who].slow;
        MS + self.rng.below(if slow { 600 } else { 20 }) * MS
    }

    /// Asks on behalf of a member; the answer finds its way back, or does not. A call that is slow is done all the same.
    fn ask<T: Send + 'static>(
        &mut self,
        who: usize,
        what: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        if self.now < self.trouble[who].requests_lost {
            return answered;
        }
        let at = self.now + self.delay(who);
        let doing = move |api: &mut Self| {
            let result = what(api);
            if api.now >= api.trouble[who].answers_lost {
                let back = api.now + api.delay(who) / 2;
                api.due
                    .push((back, Box::new(move |_: &mut Self| _ = answer.send(result))));
            }
        };
        self.due.push((at, Box::new(doing)));
        answered
    }
}

/// One member's way to the API server.
pub struct Client {
    pub api: Arc<Mutex<Api>>,
    pub who: usize,
}

impl Client {
    /// The answer, if it comes in time.
    fn call<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Api) -> T + Send + 'static,
        patience: Duration,
    ) -> Call<Option<T>> {
        let answered = self.api.lock().unwrap().ask(self.who, what);
        Box::pin(async move {
            let heard = async {
                match answered.await {
                    Ok(answer) => answer,
                    // It is lost, which nobody is told.
                    Err(_) => std::future::pending().await,
                }
            };
            timeout(patience, heard).await.ok()
        })
    }
}

impl LeaseApi for Client {
    fn read(&self, patience: Duration) -> Call<ReadResult> {
        let call = self.call(|api| api.read(), patience);
        Box::pin(async move { call.await.unwrap_or(ReadResult::Unavailable) })
    }

    fn swap(&self, expected: Version, record: LeaseRecord, patience: Duration) -> Call<SwapResult> {
        let call = self.call(move |api| api.swap(&expected, record), patience);
        Box::pin(async move { call.await.unwrap_or(SwapResult::InDoubt) })
    }
}
