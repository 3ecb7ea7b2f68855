//! The RecorderPair under test, and what is known of its members.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::RecorderPair;
use crds::member::{MemberReport, Role, StreamState};
use crds::names;
use crds::pair::{RecorderPairStatus, Transport};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::faults::Testbed;
use super::kube::Kube;
use crate::api::MemberApi;
use crate::report::Operator;
use crate::wait::until;

/// Where the pair under test is.
pub const NAMESPACE: &str = "cams";
/// What it is called.
pub const PAIR: &str = "front";

/// A stream in the manifest.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// Name.
    pub name: String,
    /// URL.
    pub url: String,
    /// Secret with the credentials.
    pub secret: Option<String>,
    /// Whether pictures that do not change are a fault.
    pub detect_frozen: bool,
    /// How its packets come.
    pub transport: Transport,
}

/// The manifest, as far as tests change it.
#[derive(Clone, Debug)]
pub struct PairSpec {
    /// Streams.
    pub streams: Vec<StreamSpec>,
    /// All else.
    pub other: Value,
}

impl Default for PairSpec {
    fn default() -> Self {
        // Short segments, so that a test has many of them.
        let other = json!({"storage": {"size": "2Gi"}, "segment": {"target": "3s"}});
        let streams = Vec::new();
        Self { streams, other }
    }
}

impl PairSpec {
    /// The manifest.
    pub fn manifest(&self) -> Value {
        let stream = |stream: &StreamSpec| {
            let mut value = json!({
                "name": stream.name,
                "url": stream.url,
                "detectFrozen": stream.detect_frozen,
                "transport": stream.transport,
            });
            if let Some(secret) = &stream.secret {
                value["credentials"] = json!({"secretName": secret});
            }
            value
        };
        let mut spec = self.other.clone();
        spec["streams"] = self.streams.iter().map(stream).collect();
        json!({
            "apiVersion": "gapless.video/v1alpha1",
            "kind": "RecorderPair",
            "metadata": {"name": PAIR, "namespace": NAMESPACE},
            "spec": spec,
        })
    }
}

/// A member as it is now.
#[derive(Clone)]
pub struct MemberView {
    /// Name of the member and its pod.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// How often its containers were started again.
    pub restarts: i32,
    /// Its API.
    pub api: MemberApi,
    /// What it says of itself, if it answers.
    pub report: Option<MemberReport>,
}

impl MemberView {
    /// `namespace/name` of its pod.
    pub fn pod(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }

    /// What it says it does.
    pub fn role(&self) -> Option<Role> {
        self.report.as_ref().map(|report| report.role)
    }

    /// Fails with what is lacking, unless it receives every stream, or need not, and has all that its peer has.
    pub fn ensure_well(&self, streams: usize) -> Result<()> {
        let report = self
            .report
            .as_ref()
            .with_context(|| format!("{} does not answer", self.name))?;
        let receiving = report
            .streams
            .iter()
            .filter(|stream| matches!(stream.state, StreamState::Receiving | StreamState::Idle))
            .count();
        let replication = &report.replication;
        ensure!(
            receiving >= streams,
            "{} receives {receiving} of {streams} streams",
            self.name
        );
        ensure!(
            report.fit && report.role != Role::None,
            "{} is {:?}, fit: {}",
            self.name,
            report.role,
            report.fit
        );
        let caught_up = replication.connected && replication.backfill_bytes == 0;
        ensure!(caught_up, "{}: {replication:?}", self.name);
        Ok(())
    }
}

/// The pair.
#[derive(Clone)]
pub struct PairUnderTest {
    kube: Kube,
}

impl PairUnderTest {
    /// The pair on a cluster, whether it is there already or not.
    pub fn new(kube: &Kube) -> Self {
        Self { kube: kube.clone() }
    }

    /// Creates or changes it.
    pub async fn apply(&self, spec: &PairSpec) -> Result<()> {
        self.make_namespace().await?;
        self.kube.apply(&spec.manifest()).await
    }

    /// Creates its namespace, if it is not there.
    pub async fn make_namespace(&self) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        self.kube.apply(&namespace).await
    }

    /// Creates or changes a Secret with credentials.
    pub async fn set_login(&self, secret: &str, user: &str, password: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": secret, "namespace": NAMESPACE},
            "stringData": {"username": user, "password": password},
        });
        self.kube.apply(&secret).await
    }

    /// The viewers' token.
    pub async fn token(&self) -> Result<String> {
        let token = self
            .kube
            .secret(NAMESPACE, &names::viewer_secret(PAIR), names::KEY_TOKEN)
            .await?;
        Ok(String::from_utf8(token)?.trim().to_owned())
    }

    /// A member as it is now; fails while it has no pod with an address.
    pub async fn view(&self, name: &str) -> Result<MemberView> {
        let pod = self
            .kube
            .pod(NAMESPACE, name)
            .await?
            .with_context(|| format!("no pod {name}"))?;
        let status = pod.status.unwrap_or_default();
        let ip = status
            .pod_ip
            .with_context(|| format!("pod {name} has no address"))?;
        let restarts = status
            .container_statuses
            .unwrap_or_default()
            .iter()
            .map(|one| one.restart_count)
            .sum();
        let report = self
            .operator()
            .await?
            .report(&format!("{ip}:{}", names::PORT_CONTROL))
            .await
            .ok();
        Ok(MemberView {
            name: name.to_owned(),
            node: pod.spec.and_then(|spec| spec.node_name).context("no node")?,
            pod_uid: pod.metadata.uid.unwrap_or_default(),
            restarts,
            api: MemberApi::new(&format!("{ip}:{}", names::PORT_HTTP), &self.token().await?)?,
            report,
        })
    }

    /// Both members, as far as they have pods.
    pub async fn views(&self) -> Vec<MemberView> {
        let members = names::members(PAIR);
        join_all(members.iter().map(|name| self.view(name)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// What both members say, as soon as both answer: on a busy machine a question may find no answer in time.
    pub async fn reports(&self, limit: Duration) -> Result<[MemberReport; 2]> {
        let [one, other] = names::members(PAIR);
        let answered = async |name: &str| {
            let view = self.view(name).await?;
            view.report.with_context(|| format!("{name} does not answer"))
        };
        until("both members answer", limit, async || {
            Ok(Some([answered(&one).await?, answered(&other).await?]))
        })
        .await
    }

    /// Primary and standby; fails with what is lacking, unless both are well.
    pub async fn well(&self, streams: usize) -> Result<[MemberView; 2]> {
        let [one, other] = names::members(PAIR);
        let mut pair = [self.view(&one).await?, self.view(&other).await?];
        pair.sort_by_key(|view| view.role() != Some(Role::Primary));
        pair.iter().try_for_each(|view| view.ensure_well(streams))?;
        let roles = [pair[0].role(), pair[1].role()];
        ensure!(
            roles == [Some(Role::Primary), Some(Role::Standby)],
            "the roles are {roles:?}"
        );
        Ok(pair)
    }

    /// Waits until both are well, and returns primary and standby.
    pub async fn settled(&self, streams: usize, limit: Duration) -> Result<[MemberView; 2]> {
        until("primary and standby are well", limit, async || {
            Ok(Some(self.well(streams).await?))
        })
        .await
    }

    /// The epoch in the Lease.
    pub async fn epoch(&self) -> Result<u64> {
        self.kube.epoch(NAMESPACE, &names::lease(PAIR)).await
    }

    /// What the operator says of it.
    pub async fn status(&self) -> Result<RecorderPairStatus> {
        let pair = self.kube.pair(NAMESPACE, PAIR).await?;
        pair.status.context("no status")
    }

    /// Status and reason of a condition.
    pub async fn condition(&self, kind: &str) -> Result<(String, String, String)> {
        let conditions = self.status().await?.conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        let found = found.with_context(|| format!("no condition {kind}"))?;
        Ok((found.status, found.reason, found.message))
    }

    /// Deletes the pair, its volumes and their media.
    pub async fn delete(&self, bed: &Testbed) -> Result<()> {
        let limit = Duration::from_mins(2);
        self.kube.delete::<RecorderPair>(NAMESPACE, PAIR).await?;
        self.kube.gone::<RecorderPair>(NAMESPACE, PAIR, limit).await?;
        for member in names::members(PAIR) {
            self.kube.gone::<Pod>(NAMESPACE, &member, limit).await?;
            let claim = names::claim(&member);
            self.kube
                .delete::<PersistentVolumeClaim>(NAMESPACE, &claim)
                .await?;
            self.kube
                .gone::<PersistentVolumeClaim>(NAMESPACE, &claim, limit)
                .await?;
            self.kube.released(NAMESPACE, &claim, limit).await?;
        }
        bed.reset_volumes().await
    }

    /// Gives up a member whose volume is lost: its claim and its pod go, and are made anew.
    pub async fn forget(&self, member: &str) -> Result<()> {
        self.kube
            .delete::<PersistentVolumeClaim>(NAMESPACE, &names::claim(member))
            .await?;
        self.kube.delete::<Pod>(NAMESPACE, member).await
    }

    /// Where a member answers the operator.
    pub async fn control_address(&self, name: &str) -> Result<String> {
        self.control_place(name).await.map(|(address, _)| address)
    }

    /// Where a member answers the operator, and its node.
    pub(super) async fn control_place(&self, name: &str) -> Result<(String, String)> {
        let pod = self.kube.pod(NAMESPACE, name).await?.context("no pod")?;
        let ip = pod.status.and_then(|status| status.pod_ip);
        let node = pod.spec.and_then(|spec| spec.node_name).context("no node")?;
        let ip = ip.context("no address")?;
        Ok((format!("{ip}:{}", names::PORT_CONTROL), node))
    }

    /// The operator's identity in this pair.
    pub async fn operator(&self) -> Result<Operator> {
        let (certificate, key) = self.operator_pem().await?;
        Operator::new(&certificate, &key)
    }

    /// Certificate and key of the operator in this pair.
    pub(super) async fn operator_pem(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let secret = names::ca_secret(PAIR);
        let certificate = self.kube.secret(NAMESPACE, &secret, "operator.crt").await?;
        let key = self.kube.secret(NAMESPACE, &secret, "operator.key").await?;
        Ok((certificate, key))
    }
}

/// The member that is not this one.
pub fn peer_of(name: &str) -> Result<String> {
    let members = names::members(PAIR);
    match members.iter().position(|member| member == name) {
        Some(index) => Ok(members[1 - index].clone()),
        None => bail!("{name} is no member"),
    }
}
