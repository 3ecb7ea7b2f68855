//! Fragmented MP4 (ISO/IEC 14496-12): heads and fragments, written and read. The standard boxes are mp4-atom's; the
//! two `uuid` boxes are ours (`FORMAT.md`).

mod audio;
mod codecs;
mod read;
mod write;

pub(crate) use audio::packets;
pub use audio::{Audio, AudioCodec, AudioTrack, MAX_AUDIO, Packet, sound_in_fragment, sound_in_head};
pub use codecs::codecs;
pub(crate) use read::carried_hash;
pub(crate) use read::own_fragment;
pub use read::{BoxRef, Head, Parsed, ParsedSample, Tracks, boxes, fragment, head};
pub use write::{Sample, Track, write_fragment, write_head, write_init};

/// Ticks of media time in a second.
pub const TIMESCALE: u32 = 90_000;
/// The user type of the box that holds the header of a file without sound.
pub const HEADER_BOX: [u8; 16] = *b"gapless-header-1";
/// The user type of the box that holds the header of a file with sound: programs that know nothing of it leave such a file alone.
pub const HEADER_BOX_WITH_SOUND: [u8; 16] = *b"gapless-header-2";
/// The user type of the box that opens a fragment.
pub const FRAGMENT_BOX: [u8; 16] = *b"gapless-fragmt-1";
/// The most bytes of a head.
pub const MAX_HEAD: usize = 64 << 10;
/// The most bytes of a fragment.
pub const MAX_FRAGMENT: usize = 64 << 20;
/// The most frames in a fragment.
pub const MAX_FRAMES: usize = 4096;

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// Microseconds since the Unix epoch as a 64-bit NTP timestamp (RFC 5905).
fn ntp(us: i64) -> u64 {
    let seconds = us.div_euclid(1_000_000) + NTP_TO_UNIX;
    let fraction = ((us.rem_euclid(1_000_000) as u64) << 32).div_ceil(1_000_000);
    ((seconds as u64) << 32) | fraction
}

/// The inverse of [`ntp`], for 1968 to 2104: NTP's seconds wrap in 2036 (RFC 4330, section 3).
fn unix_us(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64;
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let seconds = seconds + era - NTP_TO_UNIX;
    seconds * 1_000_000 + (((ntp & 0xffff_ffff) * 1_000_000) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_survives_the_ntp_form() {
        for us in [
            0,
            1,
            999_999,
            1_732_406_400_123_457,
            2_085_978_497_000_001,
            4_000_000_000_000_000,
        ] {
            assert_eq!(unix_us(ntp(us)), us);
        }
    }
}
