//! A machine: its clock, its disk, a replicator and a recorder.

use crate::effect::{Authority, Effect};
use crate::event::OpId;
use crate::member::Member;
use crate::name::Epoch;
use crate::sim::MS;
use crate::time::BootTime;

/// A clock that runs at its own rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Local nanoseconds per 1000 true ones: 1000 to 1200.
    pub(super) rate: u64,
    /// What it showed at true time `booted`.
    pub(super) offset: u64,
    pub(super) booted: u64,
}

impl Clock {
    pub(super) fn local(&self, now: u64) -> BootTime {
        BootTime(self.offset + now.saturating_sub(self.booted) * self.rate / 1000)
    }

    /// The first true moment at which the clock shows at least `local`.
    pub(super) fn moment(&self, local: BootTime) -> u64 {
        let nanos = local.0.saturating_sub(self.offset);
        self.booted + (nanos * 1000).div_ceil(self.rate)
    }
}

/// What lives beside the replicator and acts on grants alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    pub(super) alive: bool,
    /// Which start of it.
    pub(super) start: u64,
    /// It neither reads nor makes progress before then.
    pub(super) hung_until: u64,
    pub(super) ticket: u64,
    pub(super) grant: Option<Authority>,
    pub(super) withdrawn: Epoch,
}

/// One machine of the pair.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) clock: Clock,
    /// The epoch that survives a power cut.
    pub(super) disk: Epoch,
    pub(super) member: Option<Member>,
    /// Which start of the replicator.
    pub(super) start: u64,
    pub(super) recorder: Recorder,
    /// Neither the replicator's steps nor its effects happen before then.
    pub(super) frozen_until: u64,
    /// It freezes for so long between its next decision and its acts.
    pub(super) freeze_next: u64,
    pub(super) held: Vec<Effect>,
    pub(super) tick_at: Option<u64>,
    /// Messages to the recorder arrive in order.
    pub(super) channel: u64,
    /// No power before then.
    pub(super) off_until: u64,
    /// Syncs take so much longer before then.
    pub(super) slow_disk_until: u64,
    /// Calls to the API without a result.
    pub(super) open: Vec<OpId>,
}

impl Node {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            disk: Epoch(0),
            member: None,
            start: 0,
            recorder: Recorder::default(),
            frozen_until: 0,
            freeze_next: 0,
            held: Vec::new(),
            tick_at: None,
            channel: 0,
            off_until: 0,
            slow_disk_until: 0,
            open: Vec::new(),
        }
    }

    /// The authority that its replicator would act on now.
    pub(super) fn authority(&self, now: u64) -> Option<Authority> {
        self.member.as_ref()?.authority(self.clock.local(now))
    }

    /// The authority that its recorder would act on now.
    pub(super) fn granted(&self, now: u64) -> Option<Authority> {
        let local = self.clock.local(now);
        self.recorder
            .grant
            .filter(|grant| self.recorder.alive && local < grant.until)
    }

    /// When the next message to its recorder arrives.
    pub(super) fn channel_delay(&mut self, now: u64, nanos: u64) -> u64 {
        self.channel = self.channel.max(now + nanos).max(self.recorder.hung_until);
        self.channel
    }

    /// The process ends; what it had decided and not done is lost.
    pub(super) fn kill_replicator(&mut self) {
        self.member = None;
        self.held.clear();
        self.open.clear();
        self.frozen_until = 0;
        self.freeze_next = 0;
        self.tick_at = None;
    }

    pub(super) fn kill_recorder(&mut self) {
        let Recorder { start, .. } = self.recorder;
        self.recorder = Recorder {
            start,
            ..Recorder::default()
        };
    }

    /// Power comes back: the clock starts near zero, at the same rate.
    pub(super) fn boot(&mut self, now: u64) {
        self.clock = Clock {
            offset: 50 * MS,
            booted: now,
            ..self.clock
        };
    }
}
