//! Handover: a planned end of authority, without a wait on the other side.

use crate::effect::{Effect, LossReason};
use crate::member::{Member, State};
use crate::message::{Health, Release};
use crate::name::{Epoch, MemberName, StoreId, Version};
use crate::time::BootTime;

/// A release is repeated with so many heartbeats.
const REPEATS: u32 = 10;

/// A handover that is under way.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    pub(super) since: BootTime,
    /// Swaps are settled and the recorder was asked to withdraw: there is no way back.
    pub(super) revoked: bool,
}

/// What was released, to be named again until it is taken.
#[derive(Debug, Clone)]
pub(super) struct Released {
    to: MemberName,
    store: StoreId,
    epoch: Epoch,
    version: Version,
    repeats: u32,
}

impl Member {
    /// Begins to hand over where the named follower answers and is known fit; else authority stays.
    pub(super) fn start_handover(&mut self, now: BootTime) -> bool {
        if self.fit_follower(now).is_none() {
            return false;
        }
        let State::Primary(tenure) = &mut self.state else {
            return false;
        };
        if tenure.entered.is_some() {
            return false;
        }
        tenure.handover.get_or_insert(Handover {
            since: now,
            revoked: false,
        });
        true
    }

    /// The named follower, where its answers come and its recorder makes progress.
    fn fit_follower(&self, now: BootTime) -> Option<(MemberName, StoreId)> {
        let tenure = self.tenure()?;
        if !self.is_connected(now) {
            return None;
        }
        let silent_after = self.settings.suspect_after;
        let fit = self.peers.iter().find(|peer| {
            peer.store.as_ref().is_some_and(|store| tenure.counts(store))
                && peer.health == Some(Health::Fit)
                && peer.is_heard(now, silent_after)
        })?;
        Some((fit.name.clone(), fit.store.clone()?))
    }

    /// Settles, then revokes, then releases.
    pub(super) fn advance_handover(&mut self, now: BootTime) {
        let busy = self.pending.is_some();
        let timeout = self.settings.handover_timeout;
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        let Some(handover) = &mut tenure.handover else {
            return;
        };
        if handover.revoked {
            return self.release_when_withdrawn(now);
        }
        let late = now >= handover.since + timeout;
        let settled = tenure.is_settled() && !busy;
        let epoch = tenure.epoch;
        if settled {
            tenure.handover = Some(Handover {
                since: now,
                revoked: true,
            });
            self.out.push(Effect::RevokeRecorder { epoch });
            self.release_when_withdrawn(now);
        } else if late {
            tenure.handover = None;
        }
    }

    /// The recorder's withdrawal, its death, or the end of what it was granted.
    fn release_when_withdrawn(&mut self, now: BootTime) {
        if self.recorder.granted_until() > now {
            return;
        }
        let Some(tenure) = self.tenure() else { return };
        let (epoch, version) = (tenure.epoch, tenure.lease.version.clone());
        let follower = tenure.lease.record.follower.clone();
        let mut named = self.peers.iter().filter(|peer| peer.store.is_some());
        let to = named.find(|peer| peer.store == follower);
        let to = to.map(|peer| peer.name.clone());
        // I6: the own deadline is dropped before anyone is told.
        if !self.rules.released_resumes() {
            self.end_tenure(now, LossReason::Released);
        } else if let State::Primary(tenure) = &mut self.state {
            tenure.handover = None;
        }
        self.primary_heard = Some(now);
        if let (Some(to), Some(store)) = (to, follower) {
            self.released = Some(Released {
                to,
                store,
                epoch,
                version,
                repeats: REPEATS,
            });
            self.send_release();
        }
    }

    /// Names what was released, some heartbeats long.
    pub(super) fn send_release(&mut self) {
        let higher = self.floor();
        let Some(released) = &mut self.released else {
            return;
        };
        if released.repeats == 0 || released.epoch < higher {
            self.released = None;
            return;
        }
        released.repeats -= 1;
        self.sequence += 1;
        let release = Release {
            from: self.me.clone(),
            to: released.store.clone(),
            sequence: self.sequence,
            epoch: released.epoch,
            version: released.version.clone(),
        };
        self.out.push(Effect::SendRelease {
            to: released.to.clone(),
            release,
        });
    }
}
