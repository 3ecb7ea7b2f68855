//! The operator in the simulation: the real plan over what it could see.

use std::collections::BTreeSet;

use crate::event::ReadResult;
use crate::name::{Epoch, MemberName, StoreId};
use crate::plan::{
    Container, Decision, LeaseWatch, MemberState, Observed, Pod, Policy, Running, ServeTarget, plan,
};
use crate::report::Report;
use crate::sim::node::Node;
use crate::time::BootTime;

/// What it can see in one pass.
pub(super) struct Sight<'a> {
    pub(super) read: &'a ReadResult,
    pub(super) nodes: &'a [Node; 2],
    pub(super) names: &'a [MemberName; 2],
    pub(super) lost: &'a BTreeSet<StoreId>,
    /// Which nodes it reaches.
    pub(super) seen: [bool; 2],
}

/// What the operator remembers between two passes.
#[derive(Debug, Default)]
pub(super) struct Manager {
    pub(super) down_until: u64,
    watch: LeaseWatch,
    reports: [Option<(BootTime, Report)>; 2],
    ran: [Option<Running>; 2],
    serving: Option<ServeTarget>,
    /// The highest epoch in status: written before a Lease is created with it.
    status: Epoch,
}

impl Manager {
    /// Starts again with nothing but what status says.
    pub(super) fn restart(&mut self, down_until: u64) {
        let (serving, status) = (self.serving.take(), self.status);
        *self = Self {
            down_until,
            serving,
            status,
            ..Self::default()
        };
    }

    /// One pass at true time `now`, which is its clock.
    pub(super) fn pass(&mut self, now: u64, sight: &Sight<'_>) -> Vec<Decision> {
        let at = BootTime(now);
        let policy = Policy::default();
        self.watch.read(at, sight.read, policy.longest_gap);
        for index in [0, 1] {
            self.look(index, now, &sight.nodes[index], sight.seen[index]);
        }
        let members = [0, 1].map(|index| self.member(index, &sight.nodes[index], &sight.names[index]));
        let decisions = plan(&self.observed(policy, members.to_vec(), sight.lost), at);
        self.write_status(&decisions);
        decisions
    }

    fn write_status(&mut self, decisions: &[Decision]) {
        let read = self.watch.lease().map_or(Epoch(0), |lease| lease.record.epoch);
        self.status = self.status.max(read);
        for decision in decisions {
            match decision {
                Decision::Serve(target) => self.serving = Some(target.clone()),
                Decision::RecreateLease { record } => self.status = self.status.max(record.epoch),
                _ => {}
            }
        }
    }

    fn observed(&self, policy: Policy, members: Vec<MemberState>, lost: &BTreeSet<StoreId>) -> Observed {
        Observed {
            policy,
            lease: self.watch.clone(),
            members,
            lost: lost.clone(),
            known_epoch: self.status,
            switchover: None,
            failback: None,
            calm: None,
            serving: self.serving.clone(),
        }
    }

    fn look(&mut self, index: usize, now: u64, node: &Node, seen: bool) {
        let awake = now >= node.frozen_until;
        let Some(member) = node.member.as_ref().filter(|_| seen && awake) else {
            return;
        };
        self.reports[index] = Some((BootTime(now), member.report(node.clock.local(now))));
        let containers = BTreeSet::from([node.start.to_string()]);
        self.ran[index] = Some(Running {
            pod_uid: "pod".to_owned(),
            containers,
        });
    }

    fn member(&self, index: usize, node: &Node, name: &MemberName) -> MemberState {
        let container = Container {
            id: node.start.to_string(),
            terminated: node.member.is_none(),
        };
        MemberState {
            name: name.clone(),
            pod: Some(Pod {
                uid: "pod".to_owned(),
                node: None,
                containers: vec![container],
                outdated: false,
                deleting: false,
            }),
            was_running: self.ran[index].clone(),
            report: self.reports[index].clone(),
            in_sync: true,
            reaches_api: true,
            covers: true,
        }
    }
}
