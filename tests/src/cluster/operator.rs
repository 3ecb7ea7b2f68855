//! The operators, and which of them leads.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

use super::chart::{OPERATOR_LEASE, SYSTEM};
use super::kube::Kube;
use super::scene::{NODES, RETURN, Scene};
use crate::api::metric_in;
use crate::wait::until;

/// One operator as it is now.
#[derive(Clone, Debug)]
pub struct OperatorView {
    /// Its pod.
    pub pod: String,
    /// The node it runs on.
    pub node: String,
    /// Its name in the Lease: another start of the same pod has another one.
    pub holder: String,
    ip: String,
}

impl OperatorView {
    /// The one that leads: the holder of the Lease, which says so itself.
    pub async fn leader(kube: &Kube) -> Result<Self> {
        let lease: Lease = kube
            .get(SYSTEM, OPERATOR_LEASE)
            .await?
            .context("no Lease of the operator")?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        let holder = holder.context("no operator leads")?;
        let pod = holder.split('_').next().unwrap_or_default().to_owned();
        let found = kube
            .pod(SYSTEM, &pod)
            .await?
            .with_context(|| format!("no pod {pod}"))?;
        let view = Self {
            pod,
            node: found.spec.and_then(|spec| spec.node_name).context("no node")?,
            holder,
            ip: found
                .status
                .and_then(|status| status.pod_ip)
                .context("no address")?,
        };
        let leads = view.metric("gapless_operator_leader").await?;
        anyhow::ensure!(leads >= 1.0, "{} does not lead yet", view.pod);
        Ok(view)
    }

    /// As [`OperatorView::leader`], as soon as there is one: the lead may be on its way from one to the other.
    pub async fn leads(kube: &Kube, limit: Duration) -> Result<Self> {
        until("an operator leads", limit, async || {
            Self::leader(kube).await.map(Some)
        })
        .await
    }

    /// `namespace/name` of its pod.
    pub fn pod(&self) -> String {
        format!("{SYSTEM}/{}", self.pod)
    }

    /// One of its metrics.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let address = format!("http://{}:8080/metrics", self.ip);
        let text = reqwest::get(address).await?.text().await?;
        metric_in(&text, name).with_context(|| format!("no {name}"))
    }
}

impl Scene {
    /// Sees to it that the operator that leads is on a node of these.
    pub async fn lead_from(&self, wanted: impl Fn(&str) -> bool) -> Result<OperatorView> {
        for node in NODES.iter().filter(|node| !wanted(node)) {
            self.kube.cordon(node).await?;
        }
        let leader = until("an operator leads from a wanted node", RETURN, async || {
            let leader = OperatorView::leader(&self.kube).await?;
            if !wanted(&leader.node) {
                // It hands over, and its follower starts on a wanted node.
                self.kube.delete::<Pod>(SYSTEM, &leader.pod).await?;
                bail!("{} leads from {}", leader.pod, leader.node);
            }
            Ok(Some(leader))
        })
        .await;
        self.kube.uncordon_all().await?;
        leader
    }
}
