//! The rules that are broken on purpose in a build with the `sabotage` feature, and nowhere else.

use std::time::Duration;

use crate::time::BootTime;

/// A rule that is broken on purpose. The simulation or the model has to find every one of them, but for the last two, which the
/// tests of one member find.
#[cfg(feature = "sabotage")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Whoever takes waits 0.5 leashes instead of 1.25.
    HalfWait,
    /// The deadline counts from the receipt of the answer instead of the sending of the request.
    CountFromReceipt,
    /// A longer deadline is kept after a shorter leash was written.
    KeepLongerDeadline,
    /// A restarted holder resumes without taking again.
    HolderResumes,
    /// Authority is acted on before its epoch is synced.
    ActBeforeSync,
    /// A member that takes and hears the primary answers it and goes on taking.
    AnswerWhileTaking,
    /// Whoever takes waits one leash by its own clock, as if no two clocks differed.
    NoMargin,
    /// The one that released goes on as before when its follower answers once more.
    ReleasedResumes,
    /// The recorder is handed a whole short leash whatever is left of the deadline.
    GrantTooLong,
    /// A swap does not name the version that it expects. Done by the driver.
    SwapUnconditionally,
    /// A request of an epoch below the synced one is answered.
    AnswerOlder,
    /// An epoch that a peer names is synced without a read of the API.
    BelievePeer,
    /// Authority ends with a read that finds no API, although the follower answers.
    NeedApi,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// The rule by which an invariant that is enforced here is broken. Every test of one member has to notice it alone.
    pub fn of(invariant: &str) -> Option<Self> {
        match invariant {
            "I5" => Some(Self::BelievePeer),
            "I6" => Some(Self::HalfWait),
            "I7" => Some(Self::NeedApi),
            _ => None,
        }
    }
}

/// Which rules hold: all of them, unless one is broken on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    #[cfg(feature = "sabotage")]
    broken: Option<Sabotage>,
}

#[cfg(feature = "sabotage")]
impl Rules {
    pub(crate) fn without(broken: Sabotage) -> Self {
        Self { broken: Some(broken) }
    }

    fn lacks(self, rule: Sabotage) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn keeps_longer_deadline(self) -> bool {
        self.lacks(Sabotage::KeepLongerDeadline)
    }

    pub(crate) fn holder_resumes(self) -> bool {
        self.lacks(Sabotage::HolderResumes)
    }

    pub(crate) fn acts_before_sync(self) -> bool {
        self.lacks(Sabotage::ActBeforeSync)
    }

    pub(crate) fn answers_while_taking(self) -> bool {
        self.lacks(Sabotage::AnswerWhileTaking)
    }

    pub(crate) fn released_resumes(self) -> bool {
        self.lacks(Sabotage::ReleasedResumes)
    }

    pub(crate) fn answers_older(self) -> bool {
        self.lacks(Sabotage::AnswerOlder)
    }

    pub(crate) fn grants_too_long(self) -> bool {
        self.lacks(Sabotage::GrantTooLong)
    }

    pub(crate) fn believes_peer(self) -> bool {
        self.lacks(Sabotage::BelievePeer)
    }

    pub(crate) fn needs_api(self) -> bool {
        self.lacks(Sabotage::NeedApi)
    }

    pub(crate) fn wait(self, leash: Duration) -> Duration {
        match self.broken {
            Some(Sabotage::HalfWait) => leash / 2,
            Some(Sabotage::NoMargin) => leash,
            _ => leash * 5 / 4,
        }
    }

    pub(crate) fn counts_from(self, sent: BootTime, received: BootTime) -> BootTime {
        if self.lacks(Sabotage::CountFromReceipt) {
            received
        } else {
            sent
        }
    }
}

#[cfg(not(feature = "sabotage"))]
#[allow(
    clippy::unused_self,
    reason = "the same calls as in a build that can break them"
)]
impl Rules {
    pub(crate) const fn keeps_longer_deadline(self) -> bool {
        false
    }

    pub(crate) const fn holder_resumes(self) -> bool {
        false
    }

    pub(crate) const fn acts_before_sync(self) -> bool {
        false
    }

    pub(crate) const fn answers_while_taking(self) -> bool {
        false
    }

    pub(crate) const fn released_resumes(self) -> bool {
        false
    }

    pub(crate) const fn answers_older(self) -> bool {
        false
    }

    pub(crate) const fn grants_too_long(self) -> bool {
        false
    }

    pub(crate) const fn believes_peer(self) -> bool {
        false
    }

    pub(crate) const fn needs_api(self) -> bool {
        false
    }

    /// Two clocks' rates differ by a ratio of at most 1.2; 1.25 leaves a margin.
    pub(crate) fn wait(self, leash: Duration) -> Duration {
        leash * 5 / 4
    }

    /// From the sending, never from the receipt: the follower's wait counts from its answer.
    pub(crate) const fn counts_from(self, sent: BootTime, _received: BootTime) -> BootTime {
        sent
    }
}
