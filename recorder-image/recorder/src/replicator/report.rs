//! What this member says of itself to the operator.

use std::sync::{Arc, Mutex, PoisonError};

use crds::member as api;
use failover::{BootTime, Health, Role};
use segment::{Catalogue, StreamUid};

use super::driver::{Moved, Standing};
use super::hub::Hub;
use super::link::Recorder;
use crate::clock::boottime_ns;
use crate::local::{StreamHealth, StreamState, Ticket};

/// Where the report is made from.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// This member.
    pub member: String,
    /// This start of the replicator.
    pub incarnation: u64,
    /// The driver's standing.
    pub standing: Arc<Mutex<Option<Standing>>>,
    /// The recorder's newest health.
    pub recorder: Recorder,
    /// What is here.
    pub hub: Arc<Hub>,
    /// Streams on the volume when it was opened.
    pub known: Arc<Vec<api::KnownStream>>,
}

/// The streams of a catalogue, for the operator's recovery of their UIDs.
pub fn known_streams(catalogue: &Catalogue) -> Vec<api::KnownStream> {
    let known = catalogue.streams().filter(|(_, s)| !s.name.is_empty());
    known
        .map(|(uid, s)| api::KnownStream {
            name: s.name.clone(),
            uid: *uid,
        })
        .collect()
}

impl Reporter {
    /// The driver's standing now; none before the driver has run. One that stood still says nothing of authority that is over.
    pub fn standing(&self) -> Option<Standing> {
        let said = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut standing = said.clone()?;
        let age = BootTime(boottime_ns()).since(standing.at);
        standing.report = standing.report.after(age);
        Some(standing)
    }

    /// The report now; none before the driver has run.
    pub fn report(&self) -> Option<api::MemberReport> {
        let standing = self.standing()?;
        let ticket = self
            .recorder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (r, figures) = (&standing.report, self.hub.figures());
        let peer = r.peers.first();
        Some(api::MemberReport {
            member: self.member.clone(),
            store: self.hub.store.to_string(),
            incarnation: format!("{:016x}", self.incarnation),
            epoch: r.synced_epoch.0,
            role: match r.role {
                Role::Primary => api::Role::Primary,
                Role::Standby => api::Role::Standby,
                _ => api::Role::None,
            },
            serving_epoch: r.serving_epoch.map(|e| e.0),
            authority_until_ms: (r.remaining_ms > 0).then_some(r.remaining_ms),
            fit: r.health == Health::Fit,
            recorder: recorder_state(ticket.as_ref(), r.health),
            peer: api::PeerReport {
                heard: peer.is_some_and(|p| p.silent_ms.is_some() && !p.suspected),
                suspected: peer.is_none_or(|p| p.suspected),
                hears_primary: r.hears_primary,
                suspected_after_ms: peer.map_or(0, |p| p.suspected_after_ms),
            },
            lease: api::LeaseReport {
                reachable: standing.api_reachable,
                epoch: r.lease_epoch.map(|e| e.0),
            },
            replication: api::ReplicationReport {
                connected: figures.peer.connected,
                lag_ms: figures.peer.lag.as_millis() as u64,
                lag_bytes: figures.peer.lag_bytes,
                backfill_bytes: figures.peer.backfill_bytes,
                backfill_of: figures.peer.backfill_of,
                backfill_seconds: figures.peer.backfill_seconds,
                unreadable: figures.unreadable,
                refused: figures.refused,
                last_refusal: figures.last_refusal.map(|l| api::LastRefusal {
                    stream: self.name_of(&l.id.stream, ticket.as_ref()),
                    segment: l.id.stem(),
                    reason: l.reason,
                }),
            },
            disk: disk(ticket.as_ref()),
            ledger_truncations: figures.truncations + ticket.as_ref().map_or(0, |t| t.ledger_truncations),
            streams: ticket
                .as_ref()
                .and_then(|t| t.streams.clone())
                .unwrap_or_default()
                .into_iter()
                .map(stream)
                .collect(),
            known_streams: self.known.to_vec(),
            failovers: standing.phases.all(),
            moved: standing
                .moved
                .iter()
                .map(|m| self.moved(m, ticket.as_ref()))
                .collect(),
            moves: standing.moves,
        })
    }
}

impl Reporter {
    fn moved(&self, moved: &Moved, ticket: Option<&Ticket>) -> api::MovedStream {
        api::MovedStream {
            name: self.name_of(&moved.stream, ticket),
            member: moved.owner.clone(),
            reason: moved.why.to_owned(),
            since_ms: moved.since_ms,
        }
    }

    /// The name of a stream; its UID where nobody knows it by name.
    fn name_of(&self, uid: &StreamUid, ticket: Option<&Ticket>) -> String {
        let configured = ticket.into_iter().flat_map(|t| t.streams.iter().flatten());
        let configured = configured.filter(|s| s.uid == *uid).map(|s| &s.name);
        let stored = self.known.iter().filter(|s| s.uid == *uid).map(|s| &s.name);
        configured
            .chain(stored)
            .next()
            .map_or_else(|| uid.to_string(), Clone::clone)
    }
}

fn recorder_state(ticket: Option<&Ticket>, health: Health) -> api::RecorderState {
    match (ticket, health) {
        (None, _) => api::RecorderState::Dead,
        (Some(_), Health::Fit) => api::RecorderState::Running,
        (Some(_), Health::Unfit) => api::RecorderState::Stalled,
    }
}

fn disk(ticket: Option<&Ticket>) -> api::DiskReport {
    ticket.map_or_else(Default::default, |t| api::DiskReport {
        total_bytes: t.disk.total_bytes,
        free_bytes: t.disk.free_bytes,
        full: t.disk.full,
        failing: t.disk.failing,
    })
}

fn stream(h: StreamHealth) -> api::StreamReport {
    api::StreamReport {
        name: h.name,
        uid: h.uid,
        state: match h.state {
            StreamState::Receiving => api::StreamState::Receiving,
            StreamState::Connecting => api::StreamState::Connecting,
            StreamState::Failed => api::StreamState::Failed,
            StreamState::Idle => api::StreamState::Idle,
        },
        error: h.error.map(|e| api::StreamError {
            code: e.code.into(),
            message: e.message,
        }),
        last_frame_ms: h.last_frame_unix_ms.and_then(|ms| u64::try_from(ms).ok()),
        fps: f64::from(h.fps),
        bitrate: h.bitrate,
        writing: h.writing,
        gaps: h.gaps,
        open_gap_ms: h.gap_lengths.open_ms,
        lost_gap_ms: h.gap_lengths.lost_ms,
    }
}
