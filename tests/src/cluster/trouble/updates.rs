//! What users and their programs do to a pair that runs: new images, and a primary that is moved. And an operator that dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{RecorderPair, names};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::Trouble;
use crate::cluster::chart::{NEXT, OPERATOR, OPERATOR_IMAGE, RECORDER_IMAGE, SYSTEM, TAG, install_tagged};
use crate::cluster::operator::OperatorView;
use crate::cluster::pair::{NAMESPACE, PAIR};
use crate::cluster::scene::{Before, RETURN, Scene};
use crate::wait::until;

/// Until both members are replaced, one after the other, after whatever else was wrong is mended.
const UPDATED: Duration = Duration::from_mins(3);

impl Trouble {
    pub(super) async fn strike_by_hand(self, scene: &Scene, before: &Before) -> Result<()> {
        match self {
            Self::UpdateImage => {
                scene.tag_next().await?;
                let image = format!("{RECORDER_IMAGE}:{}", other_than(&scene.wanted_image().await?));
                scene.change_pair(&json!({"spec": {"image": image}})).await
            }
            Self::Upgrade => {
                scene.tag_next().await?;
                install_tagged(&scene.kubeconfig, other_than(&scene.operator_image().await?)).await
            }
            Self::Switchover => {
                let wish = json!({names::ANNOTATION_SWITCHOVER: before.standby.name});
                scene
                    .change_pair(&json!({"metadata": {"annotations": wish}}))
                    .await
            }
            _ => {
                let leader = OperatorView::leads(&scene.kube, RETURN).await?;
                scene.bed.kill_pod(&leader.pod()).await.map(drop)
            }
        }
    }

    /// Waits until what was asked for is done. It may have to wait for what else was wrong.
    ///
    /// # Errors
    /// When it is not done in time.
    pub(super) async fn done(self, scene: &Scene) -> Result<()> {
        match self {
            Self::UpdateImage | Self::Upgrade => scene.updated_to(&scene.wanted_image().await?).await,
            Self::Switchover => scene.switched_over().await,
            _ => Ok(()),
        }
    }
}

/// The tag that an image does not have.
fn other_than(image: &str) -> &'static str {
    if image.ends_with(&format!(":{NEXT}")) {
        TAG
    } else {
        NEXT
    }
}

impl Scene {
    /// Makes the images of this build known as those of the next release.
    ///
    /// # Errors
    /// When the test bed cannot.
    pub async fn tag_next(&self) -> Result<()> {
        for image in [OPERATOR_IMAGE, RECORDER_IMAGE] {
            let (this, next) = (format!("{image}:{TAG}"), format!("{image}:{NEXT}"));
            self.bed.tag_image(&this, &next).await?;
        }
        Ok(())
    }

    /// The images of a pod's containers.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn images(&self, namespace: &str, pod: &str) -> Result<Vec<String>> {
        let pod = self.kube.pod(namespace, pod).await?.context("no pod")?;
        let containers = pod.spec.context("no spec")?.containers;
        containers
            .into_iter()
            .map(|container| container.image.context("no image"))
            .collect()
    }

    async fn change_pair(&self, change: &serde_json::Value) -> Result<()> {
        self.kube.merge::<RecorderPair>(NAMESPACE, PAIR, change).await
    }

    async fn operator_image(&self) -> Result<String> {
        let found: Deployment = self.kube.get(SYSTEM, OPERATOR).await?.context("no Deployment")?;
        let pod = found.spec.and_then(|spec| spec.template.spec);
        let container = pod.and_then(|pod| pod.containers.into_iter().next());
        container
            .and_then(|container| container.image)
            .context("no image")
    }

    /// The image that the members are to run: the pair's own, or that of the chart, which has one tag for both.
    async fn wanted_image(&self) -> Result<String> {
        if let Some(image) = self.kube.pair(NAMESPACE, PAIR).await?.spec.image {
            return Ok(image);
        }
        let operator = self.operator_image().await?;
        let (_, tag) = operator.rsplit_once(':').context("an image without a tag")?;
        Ok(format!("{RECORDER_IMAGE}:{tag}"))
    }

    /// Waits until both members run this image, and are well.
    ///
    /// # Errors
    /// When they do not.
    pub async fn updated_to(&self, image: &str) -> Result<()> {
        until("both members are updated", UPDATED, async || {
            for view in self.pair.well(self.watched.len()).await? {
                let images = self.images(NAMESPACE, &view.name).await?;
                let are = images.iter().all(|one| one == image);
                ensure!(are, "{} runs {images:?}", view.name);
            }
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the operator takes the wish for a switchover away: the member that was named serves.
    async fn switched_over(&self) -> Result<()> {
        until("the switchover is done", RETURN, async || {
            let annotations = self.kube.pair(NAMESPACE, PAIR).await?.metadata.annotations;
            let wish = annotations
                .unwrap_or_default()
                .remove(names::ANNOTATION_SWITCHOVER);
            ensure!(wish.is_none(), "{wish:?} is to serve");
            Ok(Some(()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_to_the_other_tag() {
        let image = |tag| format!("{RECORDER_IMAGE}:{tag}");
        assert_eq!([TAG, NEXT].map(|tag| other_than(&image(tag))), [NEXT, TAG]);
    }
}
