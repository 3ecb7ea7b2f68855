//! The loop of an observer.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::member::MemberClient;
use super::state::{Seen, State};
use super::{PairRef, Setup, Shared, act, lease, shown};
use crate::world::View;

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(1);

/// Observes until the pair is gone, which is when the sender of `setup` is dropped.
pub(super) async fn run(
    mut shared: Shared,
    mut setup: watch::Receiver<Setup>,
    view: watch::Sender<Arc<View>>,
) {
    let id = setup.borrow().id.clone();
    let members = crds::names::members(&id.name);
    let mut clients = members.clone().map(MemberClient::new);
    let mut state = State::new(members, Instant::now());
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pair = PairRef::new(&id.name).within(&id.namespace);
    let mut last_shown = None;
    loop {
        ticks.tick().await;
        if setup.has_changed().is_err() {
            return;
        }
        let now = setup.borrow_and_update().clone();
        let seen = look(&shared, &now, &mut clients).await;
        let decisions = state.take(seen, &now);
        act::carry_out(&shared, &now, &mut state, &mut clients, decisions).await;
        let current = state.view(&now.policy);
        let showable = shown::shown(&current);
        view.send_replace(Arc::new(current));
        if last_shown.as_ref() != Some(&showable) {
            last_shown = Some(showable);
            if shared.triggers.send(pair.clone()).await.is_err() {
                return;
            }
        }
    }
}

/// Reads the Lease and asks both members, all at once.
async fn look(shared: &Shared, setup: &Setup, clients: &mut [MemberClient; 2]) -> Seen {
    let [first, second] = clients;
    let pods =
        [first.name(), second.name()].map(|member| super::translate::find(&shared.pods, &setup.id, member));
    let read = lease::read(shared, &setup.id);
    let reports = futures::future::join(
        first.report(setup, pods[0].as_deref()),
        second.report(setup, pods[1].as_deref()),
    );
    let (lease, (one, two)) = futures::future::join(read, reports).await;
    Seen {
        at: Instant::now(),
        lease,
        reports: [one, two],
        pods,
    }
}
