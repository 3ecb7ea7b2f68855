//! What can go wrong with the bytes on disk. Every message names the file or the segment.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::id::SegmentId;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a volume failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that are not what they should be.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A volume of another format.
    #[error(
        "{path}: format {found}, this version reads format {known}: use the Gapless that wrote it, or another volume"
    )]
    UnknownFormat {
        /// The file that names the format.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// Another process holds this role on the volume.
    #[error("{path}: another {role} uses this volume")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The role.
        role: &'static str,
    },
    /// A sealed segment is there already; it is never replaced (I2).
    #[error("segment {0} is there already and is never replaced")]
    Exists(SegmentId),
    /// A record that no reader would take.
    #[error("{path}: a record of {bytes} bytes, at most {most} are allowed")]
    RecordTooLarge {
        /// The ledger.
        path: PathBuf,
        /// Its size, bytes.
        bytes: usize,
        /// The most, bytes.
        most: usize,
    },
    /// Records were written, and no sync succeeded since.
    #[error("{path}: {bytes} bytes wait for a sync that does not succeed: check the volume's disk")]
    NotSynced {
        /// The ledger.
        path: PathBuf,
        /// What waits, bytes.
        bytes: usize,
    },
    /// Media that cannot be written as MP4.
    #[error("{0}")]
    Media(String),
    /// An epoch that is not higher than the stored one (I5).
    #[error("epoch {asked} is not above {stored}")]
    EpochNotHigher {
        /// The epoch asked for.
        asked: u64,
        /// The epoch on the volume.
        stored: u64,
    },
}

impl Error {
    /// Whether the disk fails at this one file, as far as the system says: others may be readable.
    pub fn is_of_file(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return matches!(self, Self::Damaged { .. });
        };
        let errno = Errno::from_io_error(source);
        errno.is_some_and(|e| [Errno::IO, Errno::ISDIR, Errno::BADMSG, Errno::UCLEAN].contains(&e))
    }

    /// An error of the system on `path`.
    pub fn io(path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io {
            path: path.into(),
            source: source.into(),
        }
    }

    /// Damage in `path`.
    pub fn damaged(path: impl Into<PathBuf>, what: impl std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.into(),
            what: what.to_string(),
        }
    }

    /// In words that stay while the volume stays as it is: each attempt has a file of its own, so they name its folder.
    pub fn steady(&self) -> String {
        match self {
            Self::Io { path, source } if path.extension().is_some() => {
                let folder = path.parent().unwrap_or(path);
                format!("{}: {source}", folder.display())
            }
            _ => self.to_string(),
        }
    }

    /// Whether the volume had no room or refused bytes, rather than being wrong.
    pub fn is_volume_refusal(&self) -> bool {
        self.is_volume_full() || self.is_one_of(&[rustix::io::Errno::IO, rustix::io::Errno::ROFS])
    }

    /// Whether the volume as a whole takes nothing: it has no room, is read-only, or syncs nothing. Any other error may be that of one
    /// file, and keeps no other one from the disk.
    pub fn is_of_volume(&self) -> bool {
        matches!(self, Self::NotSynced { .. })
            || self.is_volume_full()
            || self.is_one_of(&[rustix::io::Errno::ROFS])
    }

    /// Whether the volume had no room.
    pub fn is_volume_full(&self) -> bool {
        self.is_one_of(&[rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT])
    }

    fn is_one_of(&self, codes: &[rustix::io::Errno]) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        let code = source.raw_os_error();
        codes.iter().any(|e| Some(e.raw_os_error()) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_file_alone_may_have_is_not_the_volume_s() {
        let table = [
            (Errno::NOSPC, true, true),
            (Errno::DQUOT, true, true),
            (Errno::ROFS, true, true),
            (Errno::IO, false, true),
            (Errno::ACCESS, false, false),
            (Errno::ISDIR, false, false),
            (Errno::UCLEAN, false, false),
        ];
        for (code, of_volume, refusal) in table {
            let error = Error::io("/media/streams/1/recorder.000000.ledger", code);
            let found = (error.is_of_volume(), error.is_volume_refusal());
            assert_eq!(found, (of_volume, refusal), "{code}");
        }
        let path = PathBuf::from("/media");
        let waits = Error::NotSynced { path, bytes: 1 };
        assert!(waits.is_of_volume(), "it is tried again");
    }
}
