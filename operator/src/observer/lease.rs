//! The Lease, read and written directly.

use std::time::Duration;

use crds::member::PairIdentity;
use crds::names;
use failover::{LeaseRecord, ReadResult, Version};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;

use super::Shared;

/// A read that takes longer counts as none.
const DEADLINE: Duration = Duration::from_millis(800);

/// A quorum read: a GET without a version is never answered from a cache. And why the Lease cannot be understood, where it cannot.
pub(super) async fn read(shared: &Shared, id: &PairIdentity) -> (ReadResult, Option<String>) {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let (result, unreadable) = match timeout(DEADLINE, api.get_opt(&names::lease(&id.name))).await {
        Ok(Ok(Some(lease))) => match understand(&lease, id) {
            Ok(lease) => (ReadResult::Found(lease), None),
            Err(why) => (ReadResult::Unreadable, Some(why)),
        },
        Ok(Ok(None)) => (ReadResult::Missing, None),
        Ok(Err(_)) | Err(_) => (ReadResult::Unavailable, None),
    };
    shared.metrics.lease_read(&result);
    (result, unreadable)
}

/// What somebody else wrote says nothing of this pair, however well it reads.
fn understand(lease: &Lease, id: &PairIdentity) -> Result<failover::Lease, String> {
    if !id.owns("Lease", &lease.metadata) {
        return Err("it is somebody else's".to_owned());
    }
    parse(lease)
}

fn parse(lease: &Lease) -> Result<failover::Lease, String> {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    let record = LeaseRecord::parse(lease.annotations(), holder).map_err(|error| error.to_string())?;
    let version = lease.resource_version().ok_or("it has no resourceVersion")?;
    let version = Version::new(&version);
    Ok(failover::Lease { version, record })
}

/// Writes another record over the version that it was decided on.
pub(super) async fn swap(
    shared: &Shared,
    id: &PairIdentity,
    expected: &Version,
    record: &LeaseRecord,
) -> Result<(), Error> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let patch = json!({ "metadata": {
        "resourceVersion": expected.as_str(),
        "annotations": record.annotations(),
    } });
    api.patch(
        &names::lease(&id.name),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .map(drop)
}

/// Creates it; it must not exist.
pub(super) async fn create(
    shared: &Shared,
    id: &PairIdentity,
    seconds: u64,
    record: &LeaseRecord,
) -> Result<(), Error> {
    let object = crate::build::lease(id, seconds, record);
    let lease: Lease = serde_json::from_value(object.value).map_err(Error::SerdeError)?;
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.create(&params, &lease).await.map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use failover::plan::{Policy, ServeTarget};
    use failover::{Decision, Epoch, MemberName};
    use futures::channel::mpsc;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::Value;
    use tokio::time::Instant;

    use super::*;
    use crate::fixtures::cluster::{Asked, Cluster, LEASE, PAIR};
    use crate::fixtures::{asked, at_rest, id, record};
    use crate::observer::member::MemberClient;
    use crate::observer::rehearsal::Rehearsal;
    use crate::observer::state::State;
    use crate::observer::{Access, Setup, act};
    use crate::pki::Identity;

    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/cctv/endpointslices/front-primary";

    pub(in crate::observer) fn shared(cluster: &Cluster) -> Shared {
        let (pods, mut writer) = store::<Pod>();
        for pod in at_rest(&json!({})).pods.into_values() {
            writer.apply_watcher_event(&Event::Apply(pod));
        }
        let (triggers, _) = mpsc::channel(1);
        Shared {
            client: cluster.client(),
            trials: cluster.client(),
            pods,
            triggers,
            metrics: std::sync::Arc::default(),
        }
    }

    fn written(record: &LeaseRecord) -> Value {
        let holder = record.holder_identity();
        json!({
            "metadata": { "name": "front", "annotations": record.annotations(), "ownerReferences": [owner("uid-front")] },
            "spec": { "holderIdentity": holder },
        })
    }

    fn owner(uid: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "RecorderPair", "name": "front", "uid": uid })
    }

    fn with_lease() -> Cluster {
        let cluster = Cluster::default();
        cluster.put(LEASE, written(&record()));
        cluster
    }

    #[test]
    fn a_lease_that_makes_no_sense_is_unreadable() {
        type Spoil = fn(&mut Value);
        let good = || {
            let mut lease = written(&record());
            lease["metadata"]["resourceVersion"] = json!("5");
            lease
        };
        let spoilt: [(Spoil, &str); 5] = [
            (
                |lease| lease["metadata"]["annotations"][names::ANNOTATION_EPOCH] = json!("-1"),
                "annotation gapless.video/epoch is \"-1\"",
            ),
            (
                |lease| lease["metadata"]["annotations"][names::ANNOTATION_LEASH_MS] = json!(null),
                "annotation gapless.video/leash-ms is missing",
            ),
            (
                |lease| lease["metadata"]["annotations"] = json!(null),
                "annotation gapless.video/epoch is missing",
            ),
            (
                |lease| lease["metadata"]["resourceVersion"] = json!(null),
                "no resourceVersion",
            ),
            (
                |lease| lease["spec"]["holderIdentity"] = json!("front-0"),
                "front-0",
            ),
        ];
        let read = |lease: &Value| parse(&serde_json::from_value(without_nulls(lease)).unwrap());
        assert_eq!(
            read(&good()),
            Ok(failover::Lease {
                version: Version::new("5"),
                record: record()
            })
        );
        for (spoil, why) in spoilt {
            let mut lease = good();
            spoil(&mut lease);
            let told = read(&lease).unwrap_err();
            assert!(told.contains(why), "{told}: {lease}");
        }
    }

    fn without_nulls(value: &Value) -> Value {
        let mut target = json!({});
        crate::fixtures::merge(&mut target, value);
        target
    }

    #[tokio::test]
    async fn what_a_read_says() {
        let cluster = with_lease();
        let (ReadResult::Found(lease), None) = read(&shared(&cluster), &id()).await else {
            panic!("it is there")
        };
        assert_eq!(lease.record, record());
        assert_eq!(
            cluster.asked("GET")[0].query,
            "",
            "a version or a limit would allow a cached answer"
        );
        assert_eq!(
            read(&shared(&Cluster::default()), &id()).await,
            (ReadResult::Missing, None)
        );
        let (mut spoilt, mut theirs) = (written(&record()), written(&record()));
        spoilt["metadata"]["annotations"] = json!({});
        theirs["metadata"]["ownerReferences"] = json!([owner("uid-shop")]);
        for (lease, words) in [
            (spoilt, "annotation gapless.video/epoch is missing"),
            (theirs, "it is somebody else's"),
        ] {
            cluster.put(LEASE, lease);
            let (result, why) = read(&shared(&cluster), &id()).await;
            assert_eq!((result, why.as_deref()), (ReadResult::Unreadable, Some(words)));
        }
        for code in [403, 500, 503] {
            cluster.refuse("GET", "leases", code, "no quorum");
            assert_eq!(
                read(&shared(&cluster), &id()).await,
                (ReadResult::Unavailable, None),
                "{code}"
            );
        }
    }

    #[tokio::test]
    async fn i5_a_swap_is_written_over_the_version_that_it_was_decided_on() {
        let cluster = with_lease();
        let next = LeaseRecord {
            counter: 4,
            ..record()
        };
        let swapped = swap(&shared(&cluster), &id(), &Version::new("1"), &next).await;
        assert!(swapped.is_ok());
        let annotations = &cluster.get(LEASE).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations[names::ANNOTATION_COUNTER], "4");
        let late = LeaseRecord {
            counter: 5,
            ..record()
        };
        assert!(
            swap(&shared(&cluster), &id(), &Version::new("1"), &late)
                .await
                .is_err()
        );
        let annotations = &cluster.get(LEASE).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations[names::ANNOTATION_COUNTER], "4");
    }

    #[tokio::test]
    async fn i5_a_lease_that_exists_is_not_created() {
        let cluster = with_lease();
        let before = cluster.get(LEASE);
        assert!(create(&shared(&cluster), &id(), 4, &record()).await.is_err());
        assert_eq!(cluster.get(LEASE), before);
    }

    /// What an observer of a pair at rest knows.
    pub(in crate::observer) fn setup() -> Setup {
        Setup {
            id: id(),
            access: Some(Access {
                authority: String::new(),
                identity: Identity {
                    cert: String::new(),
                    key: crds::Secret::new(""),
                },
            }),
            policy: Policy::default(),
            outdated: BTreeMap::new(),
            known_epoch: Epoch(7),
            switchover: None,
            preferred: None,
            failback_after: None,
            lost: BTreeSet::new(),
        }
    }

    async fn decided(cluster: &Cluster, decision: Decision) -> State {
        let setup = setup();
        let members = names::members("front");
        let mut state = State::new(members.clone(), Instant::now());
        let mut clients = members.map(MemberClient::new);
        let (shared, mut none) = (shared(cluster), Rehearsal::default());
        act::carry_out(
            &shared,
            &setup,
            &mut state,
            &mut clients,
            &mut none,
            vec![decision],
        )
        .await;
        state
    }

    fn recreate() -> Decision {
        let record = failover::recreate_lease([Epoch(7)]);
        Decision::RecreateLease { record }
    }

    #[tokio::test]
    async fn i5_the_epoch_of_a_new_lease_is_in_status_before_it_is_in_the_lease() {
        let cluster = Cluster::default();
        cluster.put(PAIR, asked(&json!({})));
        cluster.refuse("POST", "leases", 500, "no quorum");
        decided(&cluster, recreate()).await;
        assert_eq!(cluster.get(PAIR).unwrap()["status"]["highestEpoch"], 1007);
        assert_eq!(cluster.get(LEASE), None);
    }

    #[tokio::test]
    async fn why_a_lost_lease_was_not_made_again_is_shown() {
        let refusals = [None, Some(("POST", "leases")), Some(("PATCH", "recorderpairs"))];
        for refusal in refusals {
            let cluster = Cluster::default();
            cluster.put(PAIR, asked(&json!({})));
            if let Some((method, part)) = refusal {
                cluster.refuse(method, part, 403, "a policy");
            }
            let shown = decided(&cluster, recreate()).await.view(&setup().policy);
            let expected = refusal.map(|_| "a policy");
            assert_eq!(shown.lease_refused.as_deref(), expected, "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn i5_without_its_epoch_in_status_no_lease_is_made() {
        let cluster = Cluster::default();
        cluster.put(PAIR, asked(&json!({})));
        cluster.refuse("PATCH", "recorderpairs", 409, "conflict");
        decided(&cluster, recreate()).await;
        assert_eq!(cluster.asked("POST").len(), 0);
    }

    #[tokio::test]
    async fn i5_a_pair_that_was_made_anew_gets_no_epoch_of_the_old_one() {
        let cluster = Cluster::default();
        let mut pair = asked(&json!({}));
        pair["metadata"]["uid"] = json!("uid-of-the-next");
        cluster.put(PAIR, pair);
        decided(&cluster, recreate()).await;
        assert_eq!(cluster.get(PAIR).unwrap()["status"], Value::Null);
        assert_eq!(cluster.get(LEASE), None);
    }

    #[tokio::test]
    async fn a_lost_lease_comes_back_without_a_holder_and_with_the_longest_leash() {
        let cluster = Cluster::default();
        cluster.put(PAIR, asked(&json!({})));
        decided(&cluster, recreate()).await;
        let lease = cluster.get(LEASE).unwrap();
        assert_eq!(lease["spec"], json!({ "leaseDurationSeconds": 4 }));
        let annotations: BTreeMap<String, String> =
            serde_json::from_value(lease["metadata"]["annotations"].clone()).unwrap();
        let record = LeaseRecord::parse(&annotations, None).unwrap();
        assert_eq!(
            (record.epoch, record.leash()),
            (Epoch(1007), failover::LONGEST_LEASH)
        );
    }

    /// The slice of the primary in epoch 5 that led to front-1, after it was decided to lead to this member.
    async fn led(epoch: u64, member: &str) -> (Value, Vec<Asked>) {
        let target = json!({ "kind": "Pod", "name": "front-1" });
        led_from(
            &json!([{ "addresses": ["198.18.2.1"], "targetRef": target }]),
            epoch,
            member,
            "uid-front",
        )
        .await
    }

    async fn led_from(endpoints: &Value, epoch: u64, member: &str, owner: &str) -> (Value, Vec<Asked>) {
        let slice = slice_of("5", endpoints, owner);
        led_over(slice, epoch, member).await
    }

    fn slice_of(epoch: &str, endpoints: &Value, owner: &str) -> Value {
        json!({
            "metadata": {
                "name": "front-primary",
                "annotations": { names::ANNOTATION_EPOCH: epoch },
                "ownerReferences": [super::tests::owner(owner)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
        })
    }

    async fn led_over(slice: Value, epoch: u64, member: &str) -> (Value, Vec<Asked>) {
        let cluster = Cluster::default();
        cluster.put(SLICE, slice);
        let member = MemberName::new(member).unwrap();
        let epoch = Epoch(epoch);
        decided(&cluster, Decision::Serve(ServeTarget { epoch, member })).await;
        (cluster.get(SLICE).unwrap(), cluster.asked("PATCH"))
    }

    #[tokio::test]
    async fn i5_viewers_are_never_led_to_a_lower_epoch() {
        for epoch in [4, 5] {
            let (slice, patches) = led(epoch, "front-0").await;
            assert_eq!(slice["metadata"]["annotations"][names::ANNOTATION_EPOCH], "5");
            assert_eq!(slice["endpoints"][0]["addresses"], json!(["198.18.2.1"]));
            assert_eq!(patches.len(), 0, "epoch {epoch}");
        }
    }

    #[tokio::test]
    async fn viewers_are_led_to_a_higher_epoch_over_the_version_that_was_read() {
        let (slice, patches) = led(6, "front-0").await;
        assert_eq!(slice["metadata"]["annotations"][names::ANNOTATION_EPOCH], "6");
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["198.18.1.1"]));
        assert_eq!(slice["endpoints"][0]["targetRef"]["name"], "front-0");
        assert_eq!(patches[0].body["metadata"]["resourceVersion"], "1");
    }

    #[tokio::test]
    async fn a_slice_that_leads_to_nobody_is_filled_in_the_same_epoch() {
        let (slice, _) = led_from(&json!([]), 5, "front-0", "uid-front").await;
        assert_eq!(slice["endpoints"][0]["targetRef"]["name"], "front-0");
    }

    #[tokio::test]
    async fn a_slice_of_an_epoch_that_no_pair_reaches_is_led_as_one_of_none() {
        let endpoints = json!([{ "addresses": ["198.18.2.1"] }]);
        let slice = slice_of(&u64::MAX.to_string(), &endpoints, "uid-front");
        let (slice, _) = led_over(slice, 6, "front-0").await;
        assert_eq!(slice["metadata"]["annotations"][names::ANNOTATION_EPOCH], "6");
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["198.18.1.1"]));
    }

    #[tokio::test]
    async fn the_slice_of_somebody_else_is_left_alone() {
        let (slice, patches) = led_from(&json!([]), 6, "front-0", "uid-shop").await;
        assert_eq!((&slice["endpoints"], patches.len()), (&json!([]), 0));
    }
}
