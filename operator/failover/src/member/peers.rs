//! Heartbeats: what a member hears from its peers, and whom it answers.

use std::time::Duration;

use super::arrivals::Arrivals;
use crate::effect::Effect;
use crate::lease::millis;
use crate::member::{Member, Sent, State};
use crate::message::{Answer, Health, Release, Request};
use crate::name::{Epoch, Incarnation, MemberName, MemberRef, StoreId};
use crate::report::PeerReport;
use crate::settings::Settings;
use crate::time::BootTime;

/// So many requests wait for their answers; the answer to an older one is ignored.
const SENT: usize = 64;

/// What is known of one peer.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: MemberName,
    pub(super) store: Option<StoreId>,
    pub(super) health: Option<Health>,
    incarnation: Option<Incarnation>,
    sequence: u64,
    heard: Option<BootTime>,
    arrivals: Arrivals,
    suspected: bool,
}

impl Peer {
    pub(super) fn new(name: MemberName) -> Self {
        Self {
            name,
            store: None,
            health: None,
            incarnation: None,
            sequence: 0,
            heard: None,
            arrivals: Arrivals::default(),
            suspected: false,
        }
    }

    pub(super) fn is_heard(&self, now: BootTime, silent_after: Duration) -> bool {
        self.heard.is_some_and(|heard| now < heard + silent_after)
    }

    /// Takes note of a numbered message; false where a later one of this incarnation was heard already.
    fn note(&mut self, now: BootTime, from: &MemberRef, sequence: u64, leash: Duration) -> bool {
        if self.incarnation != Some(from.incarnation) {
            self.incarnation = Some(from.incarnation);
            self.sequence = 0;
            self.arrivals.forget();
        }
        if sequence <= self.sequence {
            return false;
        }
        self.sequence = sequence;
        self.heard = Some(now);
        self.arrivals.heard(now, leash);
        if self.store.as_ref() != Some(&from.store) {
            self.store = Some(from.store.clone());
        }
        true
    }

    /// After how much silence it is suspected: as soon as the settings ask, later where it is heard irregularly, and after a
    /// leash at the latest.
    fn silent_after(&self, settings: &Settings) -> Duration {
        self.arrivals.silent_after(settings.suspect_after, settings.leash)
    }

    pub(super) fn report(&self, now: BootTime, settings: &Settings) -> PeerReport {
        PeerReport {
            member: self.name.clone(),
            store: self.store.clone(),
            incarnation: self.incarnation,
            suspected: self.suspected,
            health: self.health,
            silent_ms: self.heard.map(|heard| millis(now.since(heard))),
            suspected_after_ms: millis(self.silent_after(settings)),
        }
    }
}

impl Member {
    fn peer_mut(&mut self, name: &MemberName) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.name == *name)
    }

    /// Whether the primary is heard: a request that claims a running deadline, within its time of suspicion.
    pub(super) fn hears_primary(&self, now: BootTime) -> bool {
        self.heard_until().is_some_and(|until| now < until)
    }

    /// Until when it counts as heard. A start counts as hearing it.
    pub(super) fn heard_until(&self) -> Option<BootTime> {
        let primary = self
            .peers
            .iter()
            .find(|peer| Some(&peer.name) == self.primary.as_ref());
        let silent_after = primary.map_or(self.settings.suspect_after, |peer| {
            peer.silent_after(&self.settings)
        });
        self.primary_heard.map(|heard| heard + silent_after)
    }

    pub(super) fn on_request(&mut self, now: BootTime, request: &Request) {
        let leash = self.settings.leash;
        let Some(peer) = self.peer_mut(&request.from.member) else {
            return;
        };
        if !peer.note(now, &request.from, request.sequence, leash) {
            return;
        }
        peer.health = Some(request.health);
        if request.epoch > self.floor() {
            self.learn_wanted = true;
            if self.rules.believes_peer() {
                self.persist(request.epoch);
            }
        }
        self.hear_claim(now, request);
        if self.may_answer(now, request) {
            self.answer(now, request);
        }
        self.hear_wish(now, request);
    }

    /// A claim of an epoch that is not over keeps a member without a running deadline from taking.
    fn hear_claim(&mut self, now: BootTime, request: &Request) {
        if !request.claims || request.epoch < self.floor() || self.authority(now).is_some() {
            return;
        }
        self.primary_heard = Some(now);
        if self.primary.as_ref() != Some(&request.from.member) {
            self.primary = Some(request.from.member.clone());
        }
        self.released = None;
        if self.wants.is_some_and(|(epoch, _)| epoch < request.epoch) {
            self.wants = None;
        }
        self.stand_down_for_primary(now);
    }

    /// I5: nobody whose epoch is below the synced one. I6: nobody else's claim beside a running deadline of
    /// one's own, and nobody at all while taking.
    fn may_answer(&self, now: BootTime, request: &Request) -> bool {
        if request.epoch < self.floor() && !self.rules.answers_older() {
            return false;
        }
        let taking = matches!(self.state, State::Taking(_)) && !self.rules.answers_while_taking();
        !(taking || request.claims && self.authority(now).is_some())
    }

    fn answer(&mut self, now: BootTime, request: &Request) {
        self.last_answer = now;
        let answer = Answer {
            from: self.me.clone(),
            to: request.from.incarnation,
            sequence: request.sequence,
            epoch: request.epoch,
            synced: self.synced,
        };
        self.out.push(Effect::SendAnswer {
            to: request.from.member.clone(),
            answer,
        });
    }

    /// The named follower asks for the handover of this member's epoch.
    fn hear_wish(&mut self, now: BootTime, request: &Request) {
        let Some(tenure) = self.tenure() else { return };
        if request.wants == Some(tenure.epoch) && tenure.counts(&request.from.store) {
            self.start_handover(now);
        }
    }

    pub(super) fn on_answer(&mut self, now: BootTime, answer: &Answer) {
        if answer.to != self.me.incarnation {
            return;
        }
        let Some(peer) = self.peer_mut(&answer.from.member) else {
            return;
        };
        if peer
            .incarnation
            .is_none_or(|known| known == answer.from.incarnation)
        {
            peer.heard = Some(now);
        }
        if answer.synced > self.floor() {
            self.learn_wanted = true;
        }
        self.count_answer(now, answer);
    }

    /// Extends the deadline where the named follower answered a claim of this very authority (I6).
    fn count_answer(&mut self, now: BootTime, answer: &Answer) {
        let sent = self.sent.iter().find(|sent| sent.sequence == answer.sequence);
        let Some((at, Some(claim))) = sent.map(|sent| (sent.at, sent.claim)) else {
            return;
        };
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        let same = answer.epoch == claim && claim == tenure.epoch && answer.synced <= claim;
        if same && tenure.counts(&answer.from.store) {
            tenure.answered(at, now);
        }
    }

    pub(super) fn on_release(&mut self, now: BootTime, release: &Release) {
        let leash = self.settings.leash;
        let Some(peer) = self.peer_mut(&release.from.member) else {
            return;
        };
        if !peer.note(now, &release.from, release.sequence, leash) {
            return;
        }
        if release.to == self.me.store && release.epoch >= self.floor() {
            self.take_released(now, release);
        }
    }

    /// Sends a request to each peer where one is due.
    pub(super) fn beat(&mut self, now: BootTime) {
        if now < self.next_beat {
            return;
        }
        self.next_beat = now + self.settings.heartbeat_interval;
        let request = self.request(now);
        for peer in &self.peers {
            self.out.push(Effect::SendRequest {
                to: peer.name.clone(),
                request: request.clone(),
            });
        }
        if self.released.is_some() {
            self.send_release();
        }
    }

    fn request(&mut self, now: BootTime) -> Request {
        let claim = self.authority(now).map(|authority| authority.epoch);
        self.sequence += 1;
        if self.sent.len() == SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            sequence: self.sequence,
            at: now,
            claim,
        });
        Request {
            from: self.me.clone(),
            epoch: claim.unwrap_or(self.synced),
            sequence: self.sequence,
            claims: claim.is_some(),
            leash_ms: millis(
                self.tenure()
                    .map_or(self.settings.leash, super::tenure::Tenure::leash),
            ),
            health: self.health(now),
            wants: self.wants.map(|(epoch, _): (Epoch, BootTime)| epoch),
        }
    }

    /// Suspects each peer that is silent, or unfit by its own word, and clears the others.
    pub(super) fn suspect(&mut self, now: BootTime) {
        let started = now < self.started + self.settings.suspect_after;
        for peer in &mut self.peers {
            let silent_after = peer.silent_after(&self.settings);
            let waiting = started && peer.heard.is_none();
            let silent = !waiting && !peer.is_heard(now, silent_after);
            let suspected = silent || peer.health == Some(Health::Unfit);
            if suspected != peer.suspected {
                peer.suspected = suspected;
                self.out.push(Effect::Suspect {
                    peer: peer.name.clone(),
                    suspected,
                });
            }
        }
    }

    /// The next moment at which a peer that is not suspected would be.
    pub(super) fn suspicion_due(&self) -> Option<BootTime> {
        let trusted = self.peers.iter().filter(|peer| !peer.suspected);
        trusted
            .map(|peer| peer.heard.unwrap_or(self.started) + peer.silent_after(&self.settings))
            .min()
    }
}
