//! The loop of an observer.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::member::MemberClient;
use super::rehearsal::Rehearsal;
use super::shown::Shown;
use super::state::{Seen, State};
use super::{PairRef, Setup, Shared, act, lease};
use crate::world::View;

/// Between two rounds, unless there is something new to know.
const PERIOD: Duration = Duration::from_secs(1);

/// Observes until the pair is gone, which is when the sender of `setup` is dropped.
pub(super) async fn run(
    mut shared: Shared,
    mut setup: watch::Receiver<Setup>,
    view: watch::Sender<Option<Arc<View>>>,
) {
    let id = setup.borrow().id.clone();
    let members = crds::names::members(&id.name);
    let mut clients = members.clone().map(MemberClient::new);
    let mut state = State::new(members, Instant::now());
    let mut rehearsal = Rehearsal::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pair = PairRef::new(&id.name).within(&id.namespace);
    let mut shown = Shown::default();
    loop {
        if due(&mut ticks, &mut setup).await.is_err() {
            return;
        }
        let now = setup.borrow_and_update().clone();
        let seen = look(&shared, &now, &mut clients).await;
        let decisions = state.take(seen, &now);
        act::carry_out(&shared, &now, &mut state, &mut clients, &mut rehearsal, decisions).await;
        if !state.knows_enough(&now.policy) {
            continue;
        }
        let current = state.view(&now.policy);
        let is_news = shown.is_news(&current, Instant::now());
        view.send_replace(Some(Arc::new(current)));
        if is_news && shared.triggers.send(pair.clone()).await.is_err() {
            return;
        }
    }
}

/// Waits for the next round: a period passed, or the setup changed. Fails when the pair is gone.
async fn due(
    ticks: &mut Interval,
    setup: &mut watch::Receiver<Setup>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = setup.changed() => {
            changed?;
            ticks.reset();
        }
        _ = ticks.tick() => drop(setup.has_changed()?),
    }
    Ok(())
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
    let ((lease, unreadable), (one, two)) = futures::future::join(read, reports).await;
    Seen {
        at: Instant::now(),
        lease,
        unreadable,
        reports: [one, two],
        pods,
    }
}

#[cfg(test)]
mod tests {
    use crds::names::{LABEL_MANAGED_BY, LABEL_PAIR, MANAGER};
    use failover::MemberName;
    use failover::plan::Switchover;
    use futures::channel::mpsc;
    use futures::{FutureExt as _, StreamExt as _};
    use kube::runtime::reflector::store;

    use super::*;
    use crate::fixtures::cluster::{Cluster, LEASE};
    use crate::fixtures::{id, record};
    use crate::observer::Observers;
    use crate::observer::lease::tests::setup;

    /// An observer of a pair with a Lease and without pods, after its first round.
    async fn scene() -> (Cluster, Observers, mpsc::Receiver<PairRef>) {
        let cluster = Cluster::default();
        let spec = serde_json::json!({ "holderIdentity": record().holder_identity() });
        let labels = serde_json::json!({ LABEL_MANAGED_BY: MANAGER, LABEL_PAIR: "front" });
        let lease = serde_json::json!({ "metadata": { "annotations": record().annotations(), "labels": labels }, "spec": spec });
        cluster.put(LEASE, lease);
        let (triggers, mut wishes) = mpsc::channel(8);
        let observers = Observers::new(Shared {
            client: cluster.client(),
            trials: cluster.client(),
            pods: store().0,
            triggers,
            metrics: Arc::default(),
        });
        observers.set_up(setup());
        wishes.next().await;
        (cluster, observers, wishes)
    }

    /// Lets the observer do what it can without a tick.
    async fn looks(cluster: &Cluster) -> usize {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        cluster.asked("GET").len()
    }

    fn to(member: &str) -> Switchover {
        let to = MemberName::new(member).ok();
        Switchover { to, unclean: false }
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_that_is_told_of_no_keys_keeps_what_it_has() {
        let (cluster, observers, _wishes) = scene().await;
        looks(&cluster).await;
        let with = |access| Setup { access, ..setup() };
        observers.set_up(with(None));
        assert_eq!(looks(&cluster).await, 0, "nothing is new");
        let mut other = setup().access;
        "another one".clone_into(&mut other.as_mut().unwrap().authority);
        observers.set_up(with(other));
        assert_eq!(looks(&cluster).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_switchover_is_looked_at_at_once_and_what_does_not_change_is_not() {
        let (cluster, observers, mut wishes) = scene().await;
        assert_eq!(looks(&cluster).await, 1, "the first round");
        let asked = to("front-1");
        observers.ask(&id().uid, Some(&asked));
        assert_eq!(looks(&cluster).await, 1, "it is asked for");
        observers.ask(&id().uid, Some(&asked));
        let switchover = Some(asked);
        observers.set_up(Setup {
            switchover,
            ..setup()
        });
        assert_eq!(looks(&cluster).await, 0, "it is what it was");
        observers.set_up(setup());
        assert_eq!(looks(&cluster).await, 1, "it is done");
        observers.ask("another", Some(&to("front-0")));
        assert_eq!(looks(&cluster).await, 0, "another pair's");
        assert!(wishes.next().now_or_never().is_none(), "nothing to reconcile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_each_second_and_the_last_when_the_pair_is_gone() {
        let (cluster, observers, _wishes) = scene().await;
        looks(&cluster).await;
        tokio::time::sleep(10 * PERIOD + PERIOD / 2).await;
        assert_eq!(looks(&cluster).await, 10);
        observers.retain(|_| false);
        tokio::time::sleep(3 * PERIOD).await;
        assert_eq!(looks(&cluster).await, 0);
    }
}
