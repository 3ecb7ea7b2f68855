//! What the operator does about what it sees: a pure function.
//!
//! It reasons about an owner and an ordered list of followers, however many there are. Nothing it decides is needed
//! for safety: a member that is told to take follows its own rule.

mod calm;
mod decision;
#[cfg(test)]
mod failback_tests;
mod observed;
#[cfg(test)]
mod tests;

use crate::event::{TakeOrder, TakeReason};
use crate::lease::{LONGEST_LEASH, Lease, LeaseRecord, recreate_lease};
use crate::message::Health;
use crate::name::{Epoch, MemberName};
use crate::report::Role;
use crate::time::BootTime;

pub use calm::Calm;
pub use decision::{Decision, RestartReason};
pub use observed::{
    Container, Failback, LeaseWatch, MemberState, Observed, Pod, Policy, Running, ServeTarget, Switchover,
};

/// What to do about what was observed, at `now` on the operator's own monotonic clock.
pub fn plan(observed: &Observed, now: BootTime) -> Vec<Decision> {
    let view = View { observed, now };
    let mut decisions = Vec::new();
    decisions.extend(view.serve());
    decisions.extend(view.recreate());
    decisions.extend(view.name_follower());
    let take = view.take();
    if take.is_none() {
        decisions.extend(view.restart());
    }
    decisions.extend(take);
    decisions
}

struct View<'a> {
    observed: &'a Observed,
    now: BootTime,
}

impl<'a> View<'a> {
    fn is_fit(&self, member: &MemberState) -> bool {
        member.is_fit(self.now, &self.observed.policy)
    }

    fn is_up(&self, member: &MemberState) -> bool {
        member.is_up(self.now, &self.observed.policy)
    }

    fn role(&self, member: &MemberState) -> Option<Role> {
        member
            .fresh_report(self.now, &self.observed.policy)
            .map(|report| report.role)
    }

    fn hears_primary(&self, member: &MemberState) -> bool {
        let report = member.fresh_report(self.now, &self.observed.policy);
        report.is_some_and(|report| report.hears_primary)
    }

    /// The member with the highest epoch that it holds authority in, by its own word. Never lowers the epoch (I5).
    fn serve(&self) -> Option<Decision> {
        let claims = self.observed.members.iter().filter_map(|member| {
            let report = member.fresh_report(self.now, &self.observed.policy)?;
            let epoch = report.serving_epoch?;
            Some(ServeTarget {
                epoch,
                member: member.name.clone(),
            })
        });
        let newest = claims.max_by_key(|target| target.epoch)?;
        let higher = self
            .observed
            .serving
            .as_ref()
            .is_none_or(|old| newest.epoch > old.epoch);
        higher.then_some(Decision::Serve(newest))
    }

    /// I5: a lost Lease comes back without a holder, above everything that is known.
    fn recreate(&self) -> Option<Decision> {
        if !self.observed.lease.is_missing() {
            return None;
        }
        let reported = self.observed.members.iter().filter_map(|member| {
            let (_, report) = member.report.as_ref()?;
            Some(report.synced_epoch.max(report.lease_epoch.unwrap_or_default()))
        });
        let served = self.observed.serving.iter().map(|target| target.epoch);
        let known = reported.chain(served).chain([self.observed.known_epoch]);
        Some(Decision::RecreateLease {
            record: recreate_lease(known),
        })
    }

    /// The Lease with its holder's and follower's members, where there is one.
    fn lease(&self) -> Option<&'a Lease> {
        self.observed.lease.lease()
    }

    fn holder(&self) -> Option<&'a MemberState> {
        let holder = self.lease()?.record.holder.as_ref()?;
        self.observed
            .members
            .iter()
            .find(|member| member.name == holder.member)
    }

    fn follower(&self) -> Option<&'a MemberState> {
        let store = self.lease()?.record.follower.as_ref()?;
        self.observed.members.iter().find(|member| {
            let report = member.fresh_report(self.now, &self.observed.policy);
            report.is_some_and(|report| report.me.store == *store)
        })
    }

    /// Names another follower where neither the holder nor the named one can act, because their volumes are lost,
    /// after the longest leash without a change.
    fn name_follower(&self) -> Option<Decision> {
        let Lease { version, record } = self.lease()?;
        let lost = |store: &_| self.observed.lost.contains(store);
        let holder_lost = record.holder.as_ref().is_some_and(|holder| lost(&holder.store));
        let follower_lost = record.follower.as_ref().is_none_or(lost);
        if !(holder_lost && follower_lost) || self.observed.lease.unchanged() < longest_wait() {
            return None;
        }
        let member = self.first_that_can(|store| !lost(store))?;
        let (_, report) = member.report.as_ref()?;
        let record = LeaseRecord {
            follower: Some(report.me.store.clone()),
            counter: record.counter.saturating_add(1),
            ..record.clone()
        };
        Some(Decision::NameFollower {
            member: member.name.clone(),
            expected: version.clone(),
            record,
        })
    }

    /// The first fit member on such a store; one in sync before one that is not.
    fn first_that_can(&self, store: impl Fn(&crate::name::StoreId) -> bool) -> Option<&'a MemberState> {
        let able = |member: &&MemberState| {
            let report = member.fresh_report(self.now, &self.observed.policy);
            report.is_some_and(|report| report.health == Health::Fit && store(&report.me.store))
        };
        let members = &self.observed.members;
        let clean = members.iter().filter(|member| member.in_sync).find(able);
        clean.or_else(|| members.iter().find(able))
    }

    /// Whom to tell to take, if anyone.
    fn take(&self) -> Option<Decision> {
        let epoch = self.lease()?.record.epoch;
        let (member, reason) = self
            .without_holder()
            .or_else(|| self.terminated())
            .or_else(|| self.expired())
            .or_else(|| self.planned())?;
        let idle = self.role(member) == Some(Role::Standby);
        idle.then(|| take_it(&member.name, epoch, reason))
    }

    fn without_holder(&self) -> Option<(&'a MemberState, TakeReason)> {
        if self.lease()?.record.holder.is_some() || self.someone_serves() {
            return None;
        }
        let first = self.first_that_can(|_| true)?;
        Some((first, TakeReason::NoHolder))
    }

    fn someone_serves(&self) -> bool {
        let mut reports = self
            .observed
            .members
            .iter()
            .filter_map(|m| m.fresh_report(self.now, &self.observed.policy));
        reports.any(|report| report.serving_epoch.is_some())
    }

    fn terminated(&self) -> Option<(&'a MemberState, TakeReason)> {
        let follower = self.successor()?;
        self.holder()?
            .is_terminated()
            .then_some((follower, TakeReason::ContainerTerminated))
    }

    /// The named follower, where it is fit and does not hear a primary.
    fn successor(&self) -> Option<&'a MemberState> {
        self.follower()
            .filter(|member| self.is_fit(member) && !self.hears_primary(member))
    }

    fn expired(&self) -> Option<(&'a MemberState, TakeReason)> {
        let leash = self.lease()?.record.leash() * 5 / 4;
        let duration = self.observed.policy.lease_duration.max(leash);
        let follower = self.successor()?;
        (self.observed.lease.unchanged() >= duration).then_some((follower, TakeReason::Expired))
    }

    /// A planned move has time: while the Lease cannot be read, what it said last may be old, and nobody could take; nor could a follower
    /// that does not reach the API server, and the primary would have given authority up for nobody.
    fn planned(&self) -> Option<(&'a MemberState, TakeReason)> {
        if !self.observed.lease.is_read() {
            return None;
        }
        self.switchover()
            .or_else(|| self.rolling_switchover())
            .or_else(|| self.failback())
            .filter(|(follower, _)| follower.reaches_api)
    }

    /// A planned move goes to the named follower only, and by default only where it is in sync.
    fn switchover(&self) -> Option<(&'a MemberState, TakeReason)> {
        let wanted = self.observed.switchover.as_ref()?;
        let holder = &self.holder()?.name;
        let follower = self.follower()?;
        let asked = wanted.to.as_ref().is_none_or(|to| *to == follower.name);
        let ready = self.is_fit(follower) && (follower.in_sync || wanted.unclean);
        (asked && ready && follower.name != *holder).then_some((follower, TakeReason::Switchover))
    }

    /// The last step of a rolling update: the primary is the only one that is outdated.
    fn rolling_switchover(&self) -> Option<(&'a MemberState, TakeReason)> {
        let holder = self.holder()?;
        let follower = self.follower()?;
        let others = self
            .observed
            .members
            .iter()
            .filter(|member| member.name != holder.name);
        let rest_done = others
            .into_iter()
            .all(|member| self.is_up(member) && !is_outdated(member));
        let move_it = is_outdated(holder) && rest_done && follower.name != holder.name;
        move_it.then_some((follower, TakeReason::Switchover))
    }

    /// Back to the member that is preferred, once there was calm for long enough. Whatever a user asked for goes first.
    fn failback(&self) -> Option<(&'a MemberState, TakeReason)> {
        let wanted = self.observed.failback.as_ref()?;
        let follower = self.follower()?;
        let away = follower.name == wanted.to && self.holder()?.name != wanted.to;
        let calm = self.observed.calm.is_some_and(|calm| calm >= wanted.after);
        let idle = self.observed.switchover.is_none();
        (away && calm && idle).then_some((follower, TakeReason::Failback))
    }

    /// A rolling update restarts one follower at a time, the least preferred first, and only while every other
    /// member is up by its word of this round, so that it receives what this one receives (I1): a primary that died
    /// just now is not up any more. The primary moves first. One that serves has to be able to do so alone meanwhile.
    fn restart(&self) -> Option<Decision> {
        if self.someone_serves() && !self.renews() {
            return None;
        }
        let primary = self.holder().map(|holder| &holder.name);
        let members = &self.observed.members;
        let outdated = members.iter().rev().filter(|member| is_outdated(member));
        let member = outdated
            .into_iter()
            .find(|member| Some(&member.name) != primary)?;
        let others_up = members
            .iter()
            .filter(|other| other.name != member.name)
            .all(|other| other.answered(self.now).is_some() && self.is_up(other));
        let idle = match self.role(member) {
            Some(Role::Standby) | None => true,
            // In vain: a member of another version hears no primary, however well that serves.
            Some(Role::Taking) => self.holder_serves(),
            Some(_) => false,
        };
        let pod = member
            .pod
            .as_ref()
            .filter(|pod| others_up && idle && !pod.deleting)?;
        let why = RestartReason::Outdated;
        Some(Decision::RestartMember {
            member: member.name.clone(),
            pod_uid: pod.uid.clone(),
            why,
        })
    }

    /// Whether the holder can renew the Lease, without which authority ends as soon as no follower answers.
    fn renews(&self) -> bool {
        self.observed.lease.is_read() && self.holder().is_some_and(|holder| holder.reaches_api)
    }

    /// Whether the Lease was read, and its holder answered in this round and serves in its epoch.
    fn holder_serves(&self) -> bool {
        let answer = self.holder().and_then(|holder| holder.answered(self.now));
        let epoch = self.lease().map(|lease| lease.record.epoch);
        self.observed.lease.is_read() && answer.is_some_and(|report| report.serving_epoch == epoch)
    }
}

fn is_outdated(member: &MemberState) -> bool {
    member.pod.as_ref().is_some_and(|pod| pod.outdated)
}

/// Whoever may hold a deadline under any leash has none any more.
fn longest_wait() -> std::time::Duration {
    LONGEST_LEASH * 5 / 4
}

fn take_it(member: &MemberName, epoch: Epoch, reason: TakeReason) -> Decision {
    Decision::TakeIt {
        member: member.clone(),
        order: TakeOrder { epoch, reason },
    }
}
