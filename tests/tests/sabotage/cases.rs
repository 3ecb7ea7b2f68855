//! What each switch breaks, and who notices. CONTRIBUTING.md has the same table.

/// One invariant: what its switch breaks, and which tests notice.
pub(crate) struct Case {
    pub(crate) invariant: &'static str,
    pub(crate) breaks: &'static str,
    pub(crate) noticed_by: &'static [Red],
}

/// A test that turns red: the target that it is in, its name, and what it says then.
pub(crate) type Red = (&'static str, &'static str, &'static str);

pub(crate) static CASES: [Case; 12] = [
    Case {
        invariant: "I1",
        breaks: "a suspected peer is trusted to write; a copy with fewer frames is played; gaps are not noted",
        noticed_by: &[
            (
                "recorder",
                "recorder::decide::tests::i1_a_silent_peer_never_stops_the_writing",
                "is_some()",
            ),
            (
                "segment",
                "canonical::tests::i1_the_copy_with_most_frames_is_played_once",
                "left",
            ),
            (
                "recorder",
                "recorder::writer::tests::i1_gaps_are_written_down_while_the_disk_is_full",
                "left: (0, 0)",
            ),
        ],
    },
    Case {
        invariant: "I2",
        breaks: "a seal replaces what is sealed; a sealed segment is begun again",
        noticed_by: &[
            ("segments", "i2_a_seal_replaces_nothing", "Ok(Sealed {"),
            (
                "segments",
                "i2_a_sealed_segment_is_never_replaced",
                "Ok(SegmentFile",
            ),
        ],
    },
    Case {
        invariant: "I3",
        breaks: "a peer that begins again at an earlier place has what is behind it removed",
        noticed_by: &[
            (
                "segments",
                "i3_no_message_takes_away_a_byte_of_a_copy",
                "bytes that were here are gone",
            ),
            (
                "recorder",
                "replicator::keeper::tests::i3_nothing_that_a_peer_says_takes_a_byte_away",
                "took bytes of",
            ),
        ],
    },
    Case {
        invariant: "I4",
        breaks: "neither the chain, nor the hash of a fragment, nor the length and root of the file are compared",
        noticed_by: &[
            (
                "segments",
                "i4_received_bytes_count_only_after_they_were_proven",
                "BrokenChain",
            ),
            (
                "recorder",
                "replicator::keeper::tests::i4_what_fails_is_kept_as_evidence_counted_and_not_acknowledged",
                "I4: taken",
            ),
        ],
    },
    Case {
        invariant: "I5",
        breaks: "a lower epoch is stored; a peer's word about one is synced without a read",
        noticed_by: &[
            (
                "segments",
                "i5_epochs_only_rise_and_survive_a_torn_slot",
                "is_err()",
            ),
            (
                "taking",
                "i5_a_peers_word_about_an_epoch_is_synced_only_after_a_read",
                "!synced(&rig)",
            ),
        ],
    },
    Case {
        invariant: "I6",
        breaks: "whoever takes waits half a leash; a recorder acts beyond its deadline",
        noticed_by: &[
            (
                "taking",
                "i6_who_may_take_and_after_what_wait",
                "the wait is not over",
            ),
            (
                "recorder",
                "recorder::pair::tests::i6_ownership_ends_at_the_deadline_and_by_withdrawal",
                "!owner(10)",
            ),
        ],
    },
    Case {
        invariant: "I7",
        breaks: "authority ends with the API, although the peer answers; a stream that nobody owns is not written",
        noticed_by: &[
            (
                "primary",
                "i7_a_primary_keeps_its_authority_without_the_api_while_the_peer_answers",
                "remaining()",
            ),
            (
                "recorder",
                "recorder::decide::tests::i7_a_stream_that_nobody_owns_is_written",
                "is_some()",
            ),
        ],
    },
    Case {
        invariant: "I8",
        breaks: "a damaged ledger goes on behind the damage; files that no ledger knows are not indexed",
        noticed_by: &[
            ("segments", "i8_a_damaged_ledger_is_cut_and_says_so", "left: 0"),
            (
                "segments",
                "i8_the_index_is_rebuilt_from_the_media_alone",
                "left: (0, 1)",
            ),
        ],
    },
    Case {
        invariant: "I9",
        breaks: "frames wait until a replicator listens and has taken all messages; its silence is not noticed",
        noticed_by: &[
            (
                "recorder",
                "recorder::writer::tests::i9_frames_reach_the_disk_without_a_replicator_and_beside_one_that_hangs",
                "I9: 0 frames",
            ),
            (
                "recorder",
                "recorder::pair::tests::i9_a_silent_replicator_means_a_silent_peer",
                "from_secs(7)",
            ),
        ],
    },
    Case {
        invariant: "I10",
        breaks: "nothing is synced before it is acknowledged",
        noticed_by: &[
            (
                "crash",
                "i10_a_hundred_power_cuts_lose_nothing_acknowledged",
                "acknowledged bytes are not there",
            ),
            (
                "recorder",
                "replicator::keeper::tests::i10_what_is_acknowledged_survives_a_power_cut",
                "I10: acknowledged, and gone",
            ),
        ],
    },
    Case {
        invariant: "I11",
        breaks: "ages count by the sender's time; the clock of retention follows the wall clock",
        noticed_by: &[
            (
                "segment",
                "retention::tests::i11_min_age_is_undercut_by_nothing_and_max_age_counts_from_the_receipt",
                "2 came 100 s ago",
            ),
            (
                "segment",
                "retention::tests::i11_the_clock_is_never_faster_than_time_since_boot",
                "a wall clock that jumps",
            ),
        ],
    },
    Case {
        invariant: "I12",
        breaks: "whole groups leave the ring for their age, durable or not",
        noticed_by: &[
            (
                "recorder",
                "recorder::ring::tests::i12_frames_stay_until_they_are_durable",
                "right: 250",
            ),
            (
                "recorder",
                "recorder::ring::proptests::i12_no_frame_leaves_unseen",
                "nowhere",
            ),
        ],
    },
];
