//! Whether frames are missing before one that came. Pure.
//!
//! Time alone proves nothing: cameras pause in still scenes, change their rate and send B-frames in another order. RTP
//! sequence numbers do (RFC 3550, 5.1: one for each packet sent): where none lacks, no frame was lost on the way, whatever
//! the time between. So a late frame is a doubt, and becomes a gap only with a lost packet or a unit that was refused.

/// What is known of the time between two frames of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Packets whose sequence numbers never came.
    pub lost: u16,
    /// Access units with picture data that could not be recorded.
    pub broken: u64,
    /// Frames that would have fitted in, by the stream's rhythm; 0 where it has none.
    pub late: u64,
}

/// What follows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing.
    Whole,
    /// The camera paused: worth a remark, no gap.
    Doubt,
    /// Frames are missing.
    Gap {
        /// The cause for the ledger.
        cause: &'static str,
        /// How many frames, where it can be told.
        frames: Option<u64>,
    },
}

/// Judges.
pub fn judge(evidence: Evidence) -> Verdict {
    let Evidence { lost, broken, late } = evidence;
    let cause = match (lost, broken, late) {
        (0, 0, 0) => return Verdict::Whole,
        (0, 0, 1..) => return Verdict::Doubt,
        (0, 1.., _) => "Malformed",
        (1.., ..) => "PacketLoss",
    };
    let frames = if lost > 0 { late.max(broken) } else { broken };
    Verdict::Gap {
        cause,
        frames: (frames > 0).then_some(frames),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lost_packets_and_refused_units_are_gaps() {
        let gap = |cause, frames| Verdict::Gap { cause, frames };
        let table = [
            ((0, 0, 0), Verdict::Whole),
            ((0, 0, 1), Verdict::Doubt),
            ((0, 0, 9000), Verdict::Doubt),
            ((1, 0, 0), gap("PacketLoss", None)),
            ((7, 0, 3), gap("PacketLoss", Some(3))),
            ((7, 4, 3), gap("PacketLoss", Some(4))),
            ((0, 2, 0), gap("Malformed", Some(2))),
            ((0, 2, 9), gap("Malformed", Some(2))),
        ];
        for ((lost, broken, late), verdict) in table {
            assert_eq!(
                judge(Evidence { lost, broken, late }),
                verdict,
                "{lost} {broken} {late}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn time_alone_is_never_a_gap(late: u64) {
            let verdict = judge(Evidence { late, ..Evidence::default() });
            let is_gap = matches!(verdict, Verdict::Gap { .. });
            proptest::prop_assert!(!is_gap);
        }

        #[test]
        fn a_lost_packet_is_always_a_gap(lost in 1u16.., broken: u64, late: u64) {
            let verdict = judge(Evidence { lost, broken, late });
            let is_loss = matches!(verdict, Verdict::Gap { cause: "PacketLoss", .. });
            proptest::prop_assert!(is_loss);
        }
    }
}
