//! Links that are cut, or lose packets.

use anyhow::{Result, ensure};

use super::{Trouble, Whom};
use crate::cluster::faults::{Direction, Fault};
use crate::cluster::pair::MemberView;
use crate::cluster::scene::{Before, RETURN, Scene};
use crate::wait::until;

/// The share of packets that are lost on a bad link.
const LOST: f64 = 0.01;

impl Trouble {
    /// The link that it cuts, if it cuts one, seen from the node of the member that is struck, and in which direction.
    pub(super) fn link(self, scene: &Scene, before: &Before) -> Option<(String, Direction)> {
        use Direction::{Both, In, Out};
        let peer = |member: &MemberView| format!("peer:{}", member.node);
        let camera = || format!("camera:{}", scene.watched[0].camera);
        Some(match self {
            Self::CutPeer => (peer(&before.standby), Both),
            Self::CutPeerOneWay(Whom::Primary) => (peer(&before.standby), Out),
            Self::CutPeerOneWay(Whom::Standby) => (peer(&before.primary), Out),
            Self::CutApi(_) => ("api".to_owned(), Both),
            Self::CutApiOneWay(_) => ("api".to_owned(), Out),
            Self::CutCameras(_) => ("cameras".to_owned(), Both),
            Self::CutCamerasOneWay(_) => ("cameras".to_owned(), In),
            Self::CutCamera(_) | Self::LosePackets(_) => (camera(), Both),
            Self::CutCameraOneWay(_) => (camera(), In),
            Self::CutOperator(_) => ("operator".to_owned(), Both),
            Self::CutOperatorOneWay(_) => ("operator".to_owned(), Out),
            Self::CutAll(_) => ("all".to_owned(), Both),
            _ => return None,
        })
    }

    pub(super) async fn strike_link(
        self,
        scene: &Scene,
        member: &MemberView,
        link: &str,
        direction: Direction,
    ) -> Result<Fault> {
        let (bed, node) = (&scene.bed, &member.node);
        match self {
            Self::LosePackets(_) => bed.lose(node, link, LOST).await,
            Self::CutOperator(_) | Self::CutOperatorOneWay(_) => {
                scene.lead_from(|other| other != node).await?;
                let fault = bed.cut_towards(node, link, direction).await?;
                scene.operator_misses(&member.name).await?;
                Ok(fault)
            }
            _ => bed.cut_towards(node, link, direction).await,
        }
    }
}

impl Scene {
    /// Waits until the pair says that its operator hears nothing of a member.
    async fn operator_misses(&self, member: &str) -> Result<()> {
        until("the operator misses the member", RETURN, async || {
            let (status, _, message) = self.pair.condition("Degraded").await?;
            let missed = status == "True" && message.contains(member) && message.contains("does not answer");
            ensure!(missed, "Degraded {status}: {message}");
            Ok(Some(()))
        })
        .await
    }
}
