//! What is wrong, in words that say what to do about it.

use std::fmt;

/// What is wrong, and how to cure it, fits into so many bytes; what others say about it may not.
const MAX_MESSAGE: usize = 1000;

/// Why something does not work: the reason of a condition. The first ones are the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// What was asked for cannot be done.
    InvalidSpec,
    /// An object of the pair's would have a name that somebody else's has.
    NameTaken,
    /// The API server refused an object.
    ApplyFailed,
    /// The Lease says nothing that can be understood.
    LeaseUnreadable,
    /// There is no Lease, and it does not come back.
    LeaseMissing,
    /// A volume is gone.
    VolumeLost,
    /// A member's volume fails.
    DiskFailing,
    /// A member's volume takes no more.
    DiskFull,
    /// Media that one member alone has cannot be read.
    MediaUnreadable,
    /// A segment was refused: the two copies differ.
    ReplicaRefused,
    /// Members answer, and none of them is primary.
    NoPrimary,
    /// A stream is received by no member, or only by one.
    StreamFailed,
    /// A track of a stream is not recorded: its codec is not supported.
    TrackNotRecorded,
    /// A camera's user name and password are not where they should be.
    CredentialsMissing,
    /// A member does not run, makes no progress, or has not reached the API server for long.
    MemberNotReady,
    /// Nobody is ready to take over.
    NoStandby,
    /// The end of a ledger was damaged and cut off.
    LedgerTruncated,
}

impl Reason {
    /// Whether it goes on only when somebody acts.
    pub const fn is_blocking(self) -> bool {
        matches!(
            self,
            Self::InvalidSpec | Self::NameTaken | Self::ApplyFailed | Self::LeaseUnreadable
        )
    }

    /// As it is written in conditions and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::NameTaken => "NameTaken",
            Self::ApplyFailed => "ApplyFailed",
            Self::LeaseUnreadable => "LeaseUnreadable",
            Self::LeaseMissing => "LeaseMissing",
            Self::VolumeLost => "VolumeLost",
            Self::DiskFailing => "DiskFailing",
            Self::DiskFull => "DiskFull",
            Self::MediaUnreadable => "MediaUnreadable",
            Self::ReplicaRefused => "ReplicaRefused",
            Self::NoPrimary => "NoPrimary",
            Self::StreamFailed => "StreamFailed",
            Self::TrackNotRecorded => "TrackNotRecorded",
            Self::CredentialsMissing => "CredentialsMissing",
            Self::MemberNotReady => "MemberNotReady",
            Self::NoStandby => "NoStandby",
            Self::LedgerTruncated => "LedgerTruncated",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Which kind.
    pub reason: Reason,
    /// What it is about: a stream's or member's name, or an object.
    pub subject: String,
    /// What is wrong and what to do. Never a credential.
    pub message: String,
}

impl Problem {
    /// A problem. What is too long of the message is left out.
    pub fn new(reason: Reason, subject: &str, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let subject = subject.to_owned();
        Self {
            reason,
            subject,
            message,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
