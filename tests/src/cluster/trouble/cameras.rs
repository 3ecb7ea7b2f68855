//! Cameras that fail. What a dead camera did not send is expected of nobody, nor what it sends before anybody can have connected to
//! it again; that nobody has it must be told. What one member alone gets badly costs no frame.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;

use super::Trouble;
use crate::cameras::Kind;
use crate::cluster::faults::Fault;
use crate::cluster::pair::MemberView;
use crate::cluster::scene::{Before, Scene};
use crate::judge::{Absence, Verdict, Watched, ensure_told};
use crate::oracle::Span;
use crate::wait::{now_ms, until};

/// Until a member notices that it cannot read what it gets: the watchdog of two seconds, and a busy machine.
const NOTICED: Duration = Duration::from_secs(10);
/// Until a member receives a camera that is back: an attempt may hang for 5 s, the next one comes 5 s later, and a group of pictures
/// is 10 s at most.
const BACK: Duration = Duration::from_secs(40);
/// A camera that sent nothing was silent for so many frames at least. At the slowest it sends one in 30.
const SILENT: u64 = 100;
/// What a camera sent in its last fifth of a second may have gone with its connections.
const ON_THE_WAY: u64 = 5;
/// A stream of which the pictures do not change moves within 2 s, and until then both members write what they get: they differ, so
/// they are there twice; and so may be a group of pictures at each end.
const DOUBLED: u64 = 2 * 25 + 2 * GROUP;
/// A member writes what it has of them into no file, or within so many frames, 10 s: then they count for the fault, and not for the next one,
/// which might make it write what its ring has.
const WRITTEN: u64 = 250;
/// Frames of a group of pictures.
const GROUP: u64 = 26;

impl Trouble {
    /// Whether nobody receives the camera while it lasts.
    fn takes_camera(self) -> bool {
        matches!(
            self,
            Self::SilenceCamera | Self::RestartCamera | Self::ResizeCamera
        )
    }

    /// The stream of the camera that it strikes.
    fn camera(self, scene: &Scene) -> Result<&Watched> {
        let suits = |kind: Kind| match self {
            Self::ResizeCamera => kind == Kind::Sizes,
            Self::StillCamera(_) | Self::SpoilCamera(_) | Self::GarbleCamera(_) => kind == Kind::Apart,
            // Each session of those has a medium of its own, for which the simulator waits in vain, and other cameras with it.
            Self::SilenceCamera => !matches!(kind, Kind::Apart | Kind::OwnEncodes),
            _ => true,
        };
        let of_kind = |watched: &&Watched| suits(scene.cameras.kind(watched.camera));
        let found = scene.watched.iter().rfind(of_kind);
        found.with_context(|| format!("{self:?}: no camera is of the kind that it needs"))
    }

    pub(super) async fn strike_camera(self, scene: &Scene, member: &MemberView) -> Result<Fault> {
        let (cameras, watched) = (&scene.cameras, self.camera(scene)?);
        let (camera, client, fault) = (watched.camera, client(member)?, Fault::now());
        match self {
            Self::SilenceCamera => cameras.freeze(camera).await?,
            Self::StillCamera(_) => {
                cameras.stay_still(camera, client).await?;
                self.repeats(scene, camera).await?;
            }
            Self::SpoilCamera(_) => cameras.spoil(camera, client).await?,
            Self::GarbleCamera(_) => cameras.garble(camera, client).await?,
            _ => cameras.off(camera).await?,
        }
        if matches!(self, Self::SpoilCamera(_) | Self::GarbleCamera(_)) {
            self.is_unreadable(member, &watched.stream).await?;
        }
        Ok(fault)
    }

    /// Waits until a picture comes again that was there before.
    async fn repeats(self, scene: &Scene, camera: usize) -> Result<()> {
        until(&format!("{self:?}: pictures come again"), NOTICED, async || {
            let repeats = scene.cameras.state().await?.repeats_since_ms(camera);
            Ok(repeats.map(drop))
        })
        .await
    }

    async fn is_unreadable(self, member: &MemberView, stream: &str) -> Result<()> {
        let what = format!("{self:?}: {} cannot read what it gets", member.name);
        until(&what, NOTICED, async || {
            let state = member.api.stream(stream).await?.state;
            Ok((state != "receiving").then_some(()))
        })
        .await
    }

    pub(super) async fn mend_camera(self, scene: &Scene, member: &MemberView) -> Result<()> {
        let (cameras, camera) = (&scene.cameras, self.camera(scene)?.camera);
        if self.takes_camera() {
            self.ensure_silent(scene, camera).await?;
        }
        let client = client(member)?;
        match self {
            Self::SilenceCamera => cameras.thaw(camera).await,
            Self::StillCamera(_) => {
                cameras.move_on(camera, client).await?;
                let mended = cameras.state().await?.counter;
                until(&format!("{self:?}: no ring has its pictures"), BACK, async || {
                    let now = cameras.state().await?.counter;
                    Ok((now > mended + WRITTEN).then_some(()))
                })
                .await
            }
            Self::SpoilCamera(_) | Self::GarbleCamera(_) => cameras.heal(camera, client).await,
            _ => cameras.on(camera).await,
        }
    }

    async fn ensure_silent(self, scene: &Scene, camera: usize) -> Result<()> {
        let state = scene.cameras.state().await?;
        let newest = state.pushed(camera).last().map_or(0, |pushed| pushed.span.last);
        let silent = state.counter - newest;
        ensure!(silent > SILENT, "{self:?}: the camera sent a frame {silent} ago");
        Ok(())
    }

    /// Waits until a member receives the camera again, where it was dead: from then on each frame counts. No API server is asked: it may
    /// be away.
    ///
    /// # Errors
    /// When no member does.
    pub(super) async fn absence(self, scene: &Scene, before: &Before, since: u64) -> Result<Option<Absence>> {
        if !self.takes_camera() {
            return Ok(None);
        }
        let (watched, mended_ms) = (self.camera(scene)?, now_ms());
        let what = format!("{self:?}: a member receives {} again", watched.stream);
        until(&what, BACK, async || {
            let mut states = Vec::new();
            for member in [&before.primary, &before.standby] {
                let told = member.api.stream(&watched.stream).await?;
                let newest_ms = told.last_frame.as_deref().map_or(Ok(0), unix_ms)?;
                if told.state == "receiving" && newest_ms > mended_ms {
                    return Ok(Some(()));
                }
                states.push(told.state);
            }
            bail!("their states are {states:?}")
        })
        .await?;
        let (camera, gone) = (watched.camera, self != Self::SilenceCamera);
        let span = Span {
            first: since - if gone { ON_THE_WAY } else { 0 },
            last: scene.cameras.state().await?.counter - 1,
        };
        Ok(Some(Absence { camera, span }))
    }

    /// Takes out of a verdict what it costs rightly beside an absence.
    pub(super) fn forgive(self, scene: &Scene, verdict: &mut Verdict) -> Result<()> {
        if !matches!(self, Self::StillCamera(_)) {
            return Ok(());
        }
        let stream = &self.camera(scene)?.stream;
        for found in verdict.streams.iter_mut().filter(|found| found.stream == *stream) {
            let groups = usize::try_from(DOUBLED.div_ceil(GROUP))?;
            if found.doubled <= DOUBLED && found.out_of_order <= groups {
                (found.doubled, found.out_of_order) = (0, 0);
            }
        }
        Ok(())
    }
}

/// A member, as a camera knows it.
fn client(member: &MemberView) -> Result<&str> {
    member.api.base().host_str().context("no address")
}

fn unix_ms(text: &str) -> Result<u64> {
    let at: Timestamp = text.parse()?;
    Ok(u64::try_from(at.as_millisecond())?)
}

impl Scene {
    /// Fails unless both members tell of what nobody received (I1).
    pub(super) async fn ensure_absences_told(
        &self,
        before: &Before,
        absences: &[Absence],
        verdict: &Verdict,
        members: &[MemberView],
    ) -> Result<()> {
        let is_absent = |watched: &&Watched| absences.iter().any(|one| one.camera == watched.camera);
        for watched in self.watched.iter().filter(is_absent) {
            let mut found = verdict.streams.iter();
            let found = found.find(|found| found.stream == watched.stream);
            let found = found.context("it was not judged")?;
            for member in members {
                ensure_told(&self.cameras, watched, found, before.start, &member.api).await?;
            }
        }
        Ok(())
    }
}
