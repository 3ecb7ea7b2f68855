//! What each event does to the world, and how effects and faults are carried out.

use crate::effect::{Effect, Note};
use crate::event::{Event, OpId, ReadResult, SwapResult, TakeOrder, TakeReason};
use crate::name::MemberName;
use crate::plan::Decision;
use crate::sim::faults::Fault;
use crate::sim::world::{Call, What, Word, World};
use crate::sim::{MS, SECOND};

impl World {
    pub(super) fn handle(&mut self, what: What) {
        match what {
            What::Tick(node) => self.tick(node),
            What::Message(node, event) => self.deliver(node, event),
            What::Local(node, start, event) => self.deliver_to(node, start, event),
            What::Thaw(node, start) => self.thaw(node, start),
            What::Arrives {
                node,
                start,
                op,
                call,
            } => self.serve_call(node, start, op, call),
            What::Replies {
                node,
                start,
                op,
                event,
            } => self.reply(node, start, op, event),
            What::TimesOut {
                node,
                start,
                op,
                swap,
            } => self.time_out(node, start, op, swap),
            What::Synced { node, start, epoch } => self.synced(node, start, epoch),
            What::ToRecorder { node, start, word } => self.tell_recorder(node, start, &word),
            What::RecorderTick { node, start } => self.recorder_tick(node, start),
            What::StartReplicator(node) => self.start_replicator(node),
            What::StartRecorder(node) => self.start_recorder(node),
            What::Fault(index) => self.strike(index),
            What::Manager => self.manage(),
        }
    }

    fn tick(&mut self, node: usize) {
        if self.nodes[node].tick_at == Some(self.now) {
            self.nodes[node].tick_at = None;
            self.deliver(node, Event::Tick);
        }
    }

    fn deliver_to(&mut self, node: usize, start: u64, event: Event) {
        if self.nodes[node].start == start {
            self.deliver(node, event);
        }
    }

    /// A step of a replicator, unless it is frozen or gone.
    pub(super) fn deliver(&mut self, node: usize, event: Event) {
        let machine = &mut self.nodes[node];
        if self.now < machine.frozen_until {
            let (thaw, start) = (machine.frozen_until, machine.start);
            return self.at(thaw, What::Local(node, start, event));
        }
        let Some(member) = &mut machine.member else { return };
        let effects = member.step(machine.clock.local(self.now), event);
        self.freeze_at_decision(node, &effects);
        if self.now < self.nodes[node].frozen_until {
            self.nodes[node].held.extend(effects);
        } else {
            self.perform(node, effects);
        }
        self.schedule_tick(node);
    }

    fn freeze_at_decision(&mut self, node: usize, effects: &[Effect]) {
        let machine = &mut self.nodes[node];
        let calls = |effect: &Effect| !matches!(effect, Effect::SendRequest { .. } | Effect::Note(_));
        if machine.freeze_next > 0 && effects.iter().any(calls) {
            let span = std::mem::take(&mut machine.freeze_next);
            self.freeze(node, span);
        }
    }

    fn freeze(&mut self, node: usize, span: u64) {
        self.note(|_| format!("{node} freezes for {} ms", span / MS));
        let machine = &mut self.nodes[node];
        machine.frozen_until = machine.frozen_until.max(self.now + span);
        let (thaw, start) = (machine.frozen_until, machine.start);
        self.at(thaw, What::Thaw(node, start));
    }

    fn thaw(&mut self, node: usize, start: u64) {
        if self.nodes[node].start == start && self.now >= self.nodes[node].frozen_until {
            let held = std::mem::take(&mut self.nodes[node].held);
            self.perform(node, held);
            self.deliver(node, Event::Tick);
        }
    }

    fn schedule_tick(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(due) = machine.member.as_ref().and_then(crate::Member::next_deadline) else {
            return;
        };
        let at = machine.clock.moment(due).max(self.now);
        if machine.tick_at.is_none_or(|old| at < old || old <= self.now) {
            machine.tick_at = Some(at);
            self.at(at, What::Tick(node));
        }
    }

    fn perform(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.perform_one(node, effect);
        }
    }

    fn perform_one(&mut self, node: usize, effect: Effect) {
        let start = self.nodes[node].start;
        match effect {
            Effect::SendRequest { request, .. } => self.send(node, &Event::RequestReceived(request)),
            Effect::SendAnswer { answer, .. } => self.send(node, &Event::AnswerReceived(answer)),
            Effect::SendRelease { release, .. } => {
                self.note(|_| format!("{node} releases epoch {} {}", release.epoch, release.version));
                self.send(node, &Event::ReleaseReceived(release));
            }
            Effect::ReadLease { op } => self.call(node, op, Call::Read),
            Effect::SwapLease { op, expected, record } => {
                self.call(node, op, Call::Swap { expected, record });
            }
            Effect::PersistEpoch { epoch } => {
                let slow = if self.now < self.nodes[node].slow_disk_until {
                    SECOND
                } else {
                    20 * MS
                };
                let nanos = self.rng.range(MS, slow);
                self.after(nanos, What::Synced { node, start, epoch });
            }
            Effect::GrantRecorder(grant) => self.send_word(node, Word::Grant(grant)),
            Effect::RevokeRecorder { epoch } => self.send_word(node, Word::Revoke(epoch)),
            Effect::RoleChanged { role, epoch } => {
                self.note(|_| format!("{node} is {role:?} in epoch {epoch}"));
            }
            Effect::Note(note) => self.take_note(node, &note),
            Effect::OrderAnswered(outcome) => self.note(|_| format!("{node} answers the order: {outcome:?}")),
            Effect::Suspect { .. } => {}
        }
    }

    fn take_note(&mut self, node: usize, note: &Note) {
        if matches!(note, Note::Serving { .. }) {
            self.outcome.takeovers += 1;
        }
        self.note(|_| format!("{node}: {note:?}"));
    }

    fn send(&mut self, from: usize, event: &Event) {
        for at in self.peer[from]
            .arrivals(self.now, &mut self.rng)
            .into_iter()
            .flatten()
        {
            self.at(at, What::Message(1 - from, event.clone()));
        }
    }

    fn call(&mut self, node: usize, op: OpId, call: Call) {
        let start = self.nodes[node].start;
        let swap = matches!(call, Call::Swap { .. });
        let timeout = self.settings[node].api_timeout;
        let machine = &mut self.nodes[node];
        machine.open.push(op);
        let ends = machine.clock.moment(machine.clock.local(self.now) + timeout);
        self.at(
            ends,
            What::TimesOut {
                node,
                start,
                op,
                swap,
            },
        );
        match self.requests[node].arrivals(self.now, &mut self.rng)[0] {
            Some(at) => self.at(
                at,
                What::Arrives {
                    node,
                    start,
                    op,
                    call,
                },
            ),
            None if self.rng.chance(300) => self.refuse(node, op, swap),
            None => {}
        }
    }

    /// The driver knows at once that nothing was sent.
    fn refuse(&mut self, node: usize, op: OpId, swap: bool) {
        let start = self.nodes[node].start;
        let event = if swap {
            Event::LeaseSwapped {
                op,
                result: SwapResult::NotSent,
            }
        } else {
            Event::LeaseRead {
                op,
                result: ReadResult::Unavailable,
            }
        };
        self.after(
            MS,
            What::Replies {
                node,
                start,
                op,
                event,
            },
        );
    }

    /// Exactly one result of each call reaches the replicator.
    fn reply(&mut self, node: usize, start: u64, op: OpId, event: Event) {
        let machine = &mut self.nodes[node];
        let open = machine.open.iter().position(|known| *known == op);
        if let Some(index) = open.filter(|_| machine.start == start) {
            machine.open.swap_remove(index);
            self.deliver(node, event);
        }
    }

    fn time_out(&mut self, node: usize, start: u64, op: OpId, swap: bool) {
        let event = if swap {
            Event::LeaseSwapped {
                op,
                result: SwapResult::InDoubt,
            }
        } else {
            Event::LeaseRead {
                op,
                result: ReadResult::Unavailable,
            }
        };
        self.reply(node, start, op, event);
    }

    fn synced(&mut self, node: usize, start: u64, epoch: crate::Epoch) {
        if self.nodes[node].start != start || self.nodes[node].member.is_none() {
            return;
        }
        self.nodes[node].disk = self.nodes[node].disk.max(epoch);
        self.deliver(node, Event::EpochPersisted(epoch));
    }

    fn send_word(&mut self, node: usize, word: Word) {
        let delay = self.rng.range(MS / 10, 3 * MS);
        let at = self.nodes[node].channel_delay(self.now, delay);
        let start = self.nodes[node].recorder.start;
        self.at(at, What::ToRecorder { node, start, word });
    }

    fn tell_recorder(&mut self, node: usize, start: u64, word: &Word) {
        let recorder = &mut self.nodes[node].recorder;
        if recorder.start != start || !recorder.alive {
            return;
        }
        if self.now < recorder.hung_until {
            let (at, word) = (recorder.hung_until, word.clone());
            return self.at(at, What::ToRecorder { node, start, word });
        }
        match *word {
            Word::Grant(grant) if grant.epoch > recorder.withdrawn => recorder.grant = Some(grant),
            Word::Grant(_) => {}
            Word::Revoke(epoch) => {
                recorder.withdrawn = recorder.withdrawn.max(epoch);
                recorder.grant = recorder.grant.filter(|grant| grant.epoch > epoch);
                let replicator = self.nodes[node].start;
                self.after(
                    MS / 2,
                    What::Local(node, replicator, Event::RecorderWithdrawn { epoch }),
                );
            }
        }
    }

    fn recorder_tick(&mut self, node: usize, start: u64) {
        let recorder = &mut self.nodes[node].recorder;
        if recorder.start != start || !recorder.alive {
            return;
        }
        let next = (self.now + 100 * MS).max(recorder.hung_until);
        if self.now >= recorder.hung_until {
            recorder.ticket += 1;
            let ticket = recorder.ticket;
            self.deliver(node, Event::RecorderProgress { ticket });
        }
        self.at(next, What::RecorderTick { node, start });
    }

    fn strike(&mut self, index: usize) {
        let fault = self.schedule.faults[index].1.clone();
        self.note(|_| format!("fault: {fault:?}"));
        let now = self.now;
        match fault {
            Fault::CutPeer { from, span } => self.peer[from].cut_until = now + span,
            Fault::Partition { span } => self.cut_peers(now + span),
            Fault::Isolate {
                node,
                span,
                requests,
                replies,
            } => {
                self.cut_peers(now + span);
                self.cut_api(node, now + span, requests, replies);
            }
            Fault::CutApi {
                node,
                span,
                requests,
                replies,
            } => self.cut_api(node, now + span, requests, replies),
            Fault::SlowPeer { from, span, by } => self.peer[from].slow = (now + span, by),
            Fault::SlowApi { node, span, by } => {
                self.requests[node].slow = (now + span, by);
                self.replies[node].slow = (now + span, by / 2);
            }
            Fault::ApiDown { span } => self.api_down_until = now + span,
            Fault::Freeze {
                node,
                span,
                at_decision: true,
            } => self.nodes[node].freeze_next = span,
            Fault::Freeze { node, span, .. } => self.freeze(node, span),
            Fault::CrashReplicator { node, down } => self.crash_replicator(node, down),
            Fault::CrashRecorder { node, down } => self.crash_recorder(node, down),
            Fault::HangRecorder { node, span } => self.nodes[node].recorder.hung_until = now + span,
            Fault::PowerOff { node, down } => self.power_off(node, down),
            Fault::LoseVolume { node, down } => self.lose_volume(node, down),
            Fault::SlowDisk { node, span } => self.nodes[node].slow_disk_until = now + span,
            Fault::DeleteLease => self.api.lease = None,
            Fault::OperatorDown { span } => self.manager.restart(now + span),
            Fault::Switchover { through_standby } => self.switch_over(through_standby),
            Fault::Change { node, settings } => {
                self.settings[node] = (*settings).clone();
                self.deliver(node, Event::SettingsChanged(*settings));
            }
        }
    }

    fn lose_volume(&mut self, node: usize, down: u64) {
        self.power_off(node, down);
        let fresh = format!("store-{node}-{}", self.lost.len());
        let fresh = crate::StoreId::new(&fresh).expect("a plain name");
        self.lost.insert(std::mem::replace(&mut self.stores[node], fresh));
        self.nodes[node].disk = crate::Epoch(0);
    }

    fn cut_peers(&mut self, until: u64) {
        for link in &mut self.peer {
            link.cut_until = until;
        }
    }

    fn cut_api(&mut self, node: usize, until: u64, requests: bool, replies: bool) {
        if requests {
            self.requests[node].cut_until = until;
        }
        if replies {
            self.replies[node].cut_until = until;
        }
    }

    pub(super) fn crash_replicator(&mut self, node: usize, down: u64) {
        self.nodes[node].kill_replicator();
        self.after(down, What::StartReplicator(node));
    }

    pub(super) fn crash_recorder(&mut self, node: usize, down: u64) {
        self.nodes[node].kill_recorder();
        let start = self.nodes[node].start;
        self.after(5 * MS, What::Local(node, start, Event::RecorderDied));
        self.after(down.max(20 * MS), What::StartRecorder(node));
    }

    fn switch_over(&mut self, through_standby: bool) {
        let primary = (0..2).find(|node| self.nodes[*node].authority(self.now).is_some());
        let Some(primary) = primary else { return };
        let epoch = self.api.highest;
        if through_standby {
            let order = TakeOrder {
                epoch,
                reason: TakeReason::Switchover,
            };
            self.deliver(1 - primary, Event::TakeOrder(order));
        } else {
            self.deliver(primary, Event::SwitchoverOrder { epoch });
        }
    }

    pub(super) fn carry_out(&mut self, decision: Decision, reached: bool) {
        match decision {
            Decision::TakeIt { member, order } => {
                let node = self.index_of(&member);
                self.note(|_| format!("operator: {node}, {order:?}"));
                let at = self.rng.range(MS, 20 * MS);
                self.after(at, What::Message(node, Event::TakeOrder(order)));
            }
            Decision::RecreateLease { record } if reached => {
                self.note(|_| format!("operator recreates the Lease: {record:?}"));
                self.api.create(record);
            }
            Decision::NameFollower { expected, record, .. } if reached => {
                let result = self.api.swap(&expected, record);
                self.note(|_| format!("operator names another follower: {result:?}"));
            }
            _ => {}
        }
    }

    fn index_of(&self, member: &MemberName) -> usize {
        usize::from(self.names[1] == *member)
    }
}
