//! Disks that fail.

use anyhow::Result;
use crds::names;

use super::Trouble;
use crate::api::MemberApi;
use crate::cluster::pair::{MemberView, NAMESPACE};
use crate::cluster::scene::Scene;

impl Trouble {
    /// What happens to its disk: flags of `testbed faulty set`.
    pub(super) fn disk_faults(self) -> &'static [&'static str] {
        match self {
            Self::FailDisk(_) => &["--fail", "writes,syncs"],
            Self::FailSyncs(_) => &["--fail", "syncs", "--share", "0.33"],
            Self::FailReads(_) => &["--fail", "reads"],
            Self::StallDisk(_) => &["--stall", "300ms"],
            _ => &[],
        }
    }
}

/// A standby of which nobody wants anything reads nothing. What it answers is its own matter: nothing can be read.
pub(super) async fn ask_for_media(scene: &Scene, api: &MemberApi) {
    let stream = &scene.watched[0].stream;
    let segments = api.segments(stream, 0).await.unwrap_or_default();
    for segment in segments.iter().take(3) {
        let answer = match api.download(stream, segment).await {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(error) => format!("{error:#}"),
        };
        println!("      asked for {}: {answer}", segment.id);
    }
}

impl Scene {
    /// The PersistentVolume of a member.
    pub(in crate::cluster) async fn volume_of(&self, member: &MemberView) -> Result<String> {
        self.kube.volume_of(NAMESPACE, &names::claim(&member.name)).await
    }
}
