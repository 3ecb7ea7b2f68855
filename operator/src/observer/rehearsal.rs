//! The trial of a pod that is to replace another: whether the API server would take it, before the old one goes. Admission may hold it for
//! longer than an observer can wait, so it is a task of its own, which the observer's rounds ask.

use std::time::Duration;

use failover::Decision;
use kube::api::{Api, DynamicObject, PostParams};
use kube::{Client, Error};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::restart::is_refusal;
use super::{Setup, Shared};
use crate::apply::POD_DEADLINE;
use crate::build::Object;
use crate::world::Held;

/// What a trial says that nothing was decided for so long is old.
const KEPT: Duration = Duration::from_secs(10);

/// The trial of a pair, where one goes on: one at a time. It ends with its observer.
#[derive(Default)]
pub(super) struct Rehearsal {
    /// The pod that is tried, and when that was asked for last.
    wanted: Option<(Object, Instant)>,
    task: JoinSet<anyhow::Result<()>>,
}

impl Rehearsal {
    /// How the trial for this decision ended, which begins where there is none; `None` while it goes on. All but a restart needs none. It
    /// goes on through rounds without the decision: what it says depends on the pod alone, and what the pair is like is decided on anew.
    pub(super) fn of(
        &mut self,
        shared: &Shared,
        setup: &Setup,
        decision: &Decision,
    ) -> Option<anyhow::Result<()>> {
        let Decision::RestartMember { member, .. } = decision else {
            return Some(Ok(()));
        };
        let Some(wanted) = setup.outdated.get(member.as_str()) else {
            return Some(Ok(()));
        };
        match &mut self.wanted {
            Some((tried, asked)) if *tried == *wanted && asked.elapsed() < KEPT => *asked = Instant::now(),
            _ => self.begin(shared, setup, wanted),
        }
        let ended = self.task.try_join_next()?;
        self.wanted = None;
        Some(ended.unwrap_or_else(|panicked| Err(panicked.into())))
    }

    fn begin(&mut self, shared: &Shared, setup: &Setup, wanted: &Object) {
        // Dropping the old one ends it.
        *self = Self::default();
        self.wanted = Some((wanted.clone(), Instant::now()));
        let (client, namespace) = (shared.trials.clone(), setup.id.namespace.clone());
        self.task.spawn(rehearse(client, namespace, wanted.clone()));
    }
}

/// Tries to create the pod without making it. It needs a name of its own as long as the old pod has the right one, and always the same, so that
/// a refusal reads the same each time.
async fn rehearse(client: Client, namespace: String, wanted: Object) -> anyhow::Result<()> {
    let pods: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &wanted.resource);
    let name = format!("{}-rehearsal", wanted.name());
    let params = PostParams {
        dry_run: true,
        field_manager: Some(crds::names::MANAGER.to_owned()),
    };
    let trial = serde_json::from_value(wanted.named(&name).value)?;
    let Ok(done) = timeout(POD_DEADLINE, pods.create(&params, &trial)).await else {
        anyhow::bail!("no answer in {} s", POD_DEADLINE.as_secs());
    };
    match done {
        Err(Error::Api(status)) if is_refusal(&status) => Err(Held::Refused(format!(
            "the API server refuses the new one, which was tried without making it: {}",
            status.message
        )))?,
        done => Ok(done.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::cluster::{Cluster, paths};
    use crate::observer::restart::tests::{EVICTION, PODS, Scene, cluster};

    const SECOND: Duration = Duration::from_secs(1);

    fn slow(seconds: u64) -> (Cluster, Scene) {
        let cluster = cluster("uid-front-1");
        // Not at the very moment of a round.
        cluster.delay("POST", "/pods", Duration::from_secs(seconds) + SECOND / 2);
        let scene = Scene::new(&cluster);
        (cluster, scene)
    }

    /// Rounds in which the restart is decided, one a second, until so many seconds passed since the first.
    async fn rounds(scene: &mut Scene, seconds: std::ops::RangeInclusive<u64>) {
        for _ in seconds {
            let before = Instant::now();
            scene.round(true).await;
            assert_eq!(before.elapsed(), Duration::ZERO, "a round waits for no trial");
            tokio::time::sleep(SECOND).await;
        }
    }

    /// Rounds in which it is not, one a second.
    async fn rests(scene: &mut Scene, seconds: u64) {
        for _ in 0..seconds {
            scene.round(false).await;
            tokio::time::sleep(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn admission_that_takes_its_time_delays_the_restart_and_no_round() {
        for seconds in [10, 30] {
            let (cluster, mut scene) = slow(seconds);
            rounds(&mut scene, 0..=seconds).await;
            assert_eq!(paths(&cluster.asked("POST")), [PODS], "one trial at a time");
            assert!(scene.told().is_empty(), "{}", scene.told());
            rounds(&mut scene, 0..=0).await;
            assert_eq!(paths(&cluster.asked("POST")), [EVICTION], "{seconds} s");
            assert_eq!(scene.told(), "ok 1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_ends_even_if_nobody_answers() {
        let (cluster, mut scene) = slow(3600);
        scene.round(true).await;
        tokio::time::sleep(SECOND / 2).await;
        rounds(&mut scene, 0..=34).await;
        assert!(scene.told().is_empty(), "{}", scene.told());
        scene.round(true).await;
        assert_eq!(paths(&cluster.asked("POST")), [PODS]);
        let Held::NotYet(told) = &scene.held()["front-1"] else {
            panic!("it is tried again")
        };
        assert!(told.contains("no answer in 35 s"), "{told}");
        assert_eq!(scene.told(), "error 1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_goes_on_through_rounds_in_which_nothing_is_decided_for_it() {
        let (cluster, mut scene) = slow(30);
        for _ in 0..4 {
            rounds(&mut scene, 0..=0).await;
            rests(&mut scene, 8).await;
        }
        assert_eq!(paths(&cluster.asked("POST")), [PODS], "one trial");
        rounds(&mut scene, 0..=0).await;
        assert_eq!(paths(&cluster.asked("POST")), [EVICTION], "what it said is taken");
        assert_eq!(scene.told(), "ok 1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nothing_is_decided_for_any_more_is_given_up() {
        let (cluster, mut scene) = slow(5);
        rounds(&mut scene, 0..=2).await;
        rests(&mut scene, 10).await;
        assert_eq!(paths(&cluster.asked("POST")), [PODS]);
        rounds(&mut scene, 0..=0).await;
        assert_eq!(
            paths(&cluster.asked("POST")),
            [PODS],
            "it is tried anew, and not taken"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_of_another_pod_says_nothing_of_the_one_that_is_wanted_now() {
        let (cluster, mut scene) = slow(5);
        rounds(&mut scene, 0..=2).await;
        let wanted = scene.setup.outdated.get_mut("front-1").unwrap();
        wanted.value["spec"]["priorityClassName"] = json!("another");
        rounds(&mut scene, 0..=0).await;
        let asked = cluster.asked("POST");
        assert_eq!(paths(&asked), [PODS, PODS]);
        assert_eq!(asked[1].body["spec"]["priorityClassName"], "another");
    }
}
