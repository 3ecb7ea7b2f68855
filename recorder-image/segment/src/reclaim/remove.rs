//! Whether a duplicate may be removed now. Asked before it is noted, and again right before the file goes.

use crate::catalogue::Catalogue;
use crate::copy::State;
use crate::id::SegmentId;
use crate::reclaim::{PeerPins, Proof};

/// Why a duplicate stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// With the peer silent nothing is reclaimed (I7).
    #[error("the peer is not heard")]
    PeerSilent,
    /// This ledger does not hold the pin durably.
    #[error("it is not pinned here")]
    NotPinned,
    /// The peer did not say that its ledger does.
    #[error("the peer has not pinned it")]
    NotPinnedThere,
    /// A pin of either side keeps it, or gives up what is to stay.
    #[error("pins contradict each other")]
    Crossed,
    /// One of the files is not sealed here with the content that was read.
    #[error("what was read is not what is held")]
    Changed,
    /// Retention removes one of them.
    #[error("retention removes a part of it")]
    Leaving,
    /// A group of pictures is not held by exactly one of another.
    #[error("a group of pictures is not in what stays")]
    NotHeld,
    /// What stays has other parameter sets, or less sound.
    #[error("what stays has other tracks")]
    OtherTracks,
}

/// Whether the duplicate of a proof may be removed, by this member's catalogue and ledger, and by what the peer told. `leaves` says
/// what retention is about to remove.
///
/// # Errors
/// Why it stays.
pub fn may_remove(
    proof: &Proof,
    catalogue: &Catalogue,
    peer: &PeerPins,
    heard: bool,
    leaves: impl Fn(&SegmentId) -> bool,
) -> Result<(), Stays> {
    let pin = proof.pin();
    let all = || std::iter::once(&pin.duplicate).chain(&pin.kept);
    let pins = catalogue.stream(pin.duplicate.stream).map(|stream| &stream.pins);
    let pins = pins.ok_or(Stays::NotPinned)?;
    let sealed = |(id, root)| {
        let copy = catalogue.get(id);
        copy.is_some_and(|copy| copy.state == State::Sealed && copy.root == Some(root))
    };
    let table = [
        (heard, Stays::PeerSilent),
        (pins.is_durable(pin), Stays::NotPinned),
        (peer.has(pin), Stays::NotPinnedThere),
        (
            !pins.keeps(&pin.duplicate) && !peer.gives_up(&pin.kept),
            Stays::Crossed,
        ),
        (proof.roots().all(sealed), Stays::Changed),
        (!all().any(leaves), Stays::Leaving),
    ];
    match table.into_iter().find(|(holds, _)| !holds) {
        Some((_, why)) => Err(why),
        None => proof.holds(),
    }
}
