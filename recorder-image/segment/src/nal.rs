//! NAL units of a frame with 4-byte lengths (ISO/IEC 14496-15).

use crate::hash::FrameHash;

/// The NAL units of `data`. A length that points past the end ends the walk.
pub fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (unit, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = tail;
        Some(unit)
    })
}

/// The type of a NAL unit: ITU-T H.264 table 7-1, H.265 table 7-1.
fn unit_type(unit: &[u8], hevc: bool) -> Option<u8> {
    let first = *unit.first()?;
    Some(if hevc { (first >> 1) & 0x3f } else { first & 0x1f })
}

/// Whether a unit of this type carries picture data: H.264 types 1 to 5, H.265 0 to 31.
fn is_slice(kind: u8, hevc: bool) -> bool {
    if hevc { kind < 32 } else { (1..=5).contains(&kind) }
}

/// Whether a unit of this type is a parameter set, which a decoder keeps.
fn is_parameter(kind: u8, hevc: bool) -> bool {
    if hevc {
        [32, 33, 34].contains(&kind)
    } else {
        [7, 8, 13, 15].contains(&kind)
    }
}

/// The parameter sets in a frame: what pictures depend on besides their slices.
pub(crate) fn parameters(data: &[u8], hevc: bool) -> impl Iterator<Item = &[u8]> {
    units(data).filter(move |unit| unit_type(unit, hevc).is_some_and(|kind| is_parameter(kind, hevc)))
}

/// Whether decoding can begin with this frame: an IDR slice of H.264, or any random access picture of H.265 (types 16 to
/// 21, so that cameras with open groups of pictures are recorded too).
pub fn is_key(data: &[u8], hevc: bool) -> bool {
    let key = |kind| {
        if hevc {
            (16..=21).contains(&kind)
        } else {
            kind == 5
        }
    };
    units(data).filter_map(|u| unit_type(u, hevc)).any(key)
}

/// Whether `data` begins with a slice: no delimiter, parameter set or message before the picture.
pub fn begins_with_slice(data: &[u8], hevc: bool) -> bool {
    let first = units(data).next().and_then(|unit| unit_type(unit, hevc));
    first.is_some_and(|kind| is_slice(kind, hevc))
}

/// The first 16 bytes of BLAKE3 over the slice NAL units, each after its 4-byte length. Slices that follow each other are hashed at
/// one go: BLAKE3 is several times as fast over whole chunks that begin where it does.
pub fn frame_hash(data: &[u8], hevc: bool) -> FrameHash {
    let mut hasher = blake3::Hasher::new();
    let (mut at, mut run) = (0, 0..0);
    for unit in units(data) {
        let end = at + 4 + unit.len();
        if unit_type(unit, hevc).is_some_and(|k| is_slice(k, hevc)) {
            if run.end != at {
                hasher.update(&data[run]);
                run = at..at;
            }
            run.end = end;
        }
        at = end;
    }
    hasher.update(&data[run]);
    let mut hash = FrameHash::default();
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// Whether `data` is a chain of whole NAL units, none empty, none with the forbidden bit, at least one a slice.
///
/// # Errors
/// What is wrong, in words.
pub fn check(data: &[u8], hevc: bool) -> Result<(), &'static str> {
    let (mut at, mut slices) = (0, 0);
    for unit in units(data) {
        let first = *unit.first().ok_or("an empty NAL unit")?;
        if first & 0x80 != 0 {
            return Err("a NAL unit with the forbidden bit set");
        }
        slices += usize::from(unit_type(unit, hevc).is_some_and(|k| is_slice(k, hevc)));
        at += 4 + unit.len();
    }
    match (at == data.len(), slices) {
        (false, _) => Err("a NAL unit that runs past the end of its frame"),
        (true, 0) => Err("a frame without picture data"),
        (true, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn au(units: &[&[u8]]) -> Vec<u8> {
        units
            .iter()
            .flat_map(|u| [&(u.len() as u32).to_be_bytes()[..], u].concat())
            .collect()
    }

    #[test]
    fn key_frames_of_both_codecs() {
        assert!(is_key(&au(&[&[9, 16], &[6, 5], &[0x65, 1]]), false));
        assert!(!is_key(&au(&[&[9, 16], &[0x41, 1]]), false));
        assert!(is_key(&au(&[&[21 << 1, 1, 9]]), true), "CRA");
        assert!(!is_key(&au(&[&[1 << 1, 1, 9]]), true));
        assert!(!is_key(&[], false));
    }

    #[test]
    fn the_hash_is_of_the_slices_only() {
        let with = |sei: &'static [u8]| frame_hash(&au(&[sei, &[0x65, 1, 2]]), false);
        assert_eq!(with(&[6, 1]), with(&[6, 2, 3]));
        assert_ne!(with(&[6, 1]), frame_hash(&au(&[&[0x65, 1, 3]]), false));
    }

    #[test]
    fn the_hash_is_that_of_each_slice_after_its_length() {
        let (slice, sei): (&[u8], &[u8]) = (&[0x65, 1, 2], &[6, 1]);
        let other: &[u8] = &[0x41; 3000];
        let mut hasher = blake3::Hasher::new();
        for unit in [slice, other, slice] {
            hasher.update(&(unit.len() as u32).to_be_bytes()).update(unit);
        }
        let wanted = hasher.finalize();
        for order in [&[sei, slice, other, slice][..], &[slice, other, sei, slice, sei]] {
            assert_eq!(frame_hash(&au(order), false)[..], wanted.as_bytes()[..16]);
        }
    }

    #[test]
    fn what_pictures_depend_on_besides_their_slices() {
        let [sps, pps, sei, slice]: [&[u8]; 4] = [&[7, 1], &[8, 2], &[6, 5], &[0x65, 1]];
        let frame = au(&[&[9, 16], sps, pps, sei, slice, &[12, 1]]);
        assert!(parameters(&frame, false).eq([sps, pps]));
        let [vps, sei, slice]: [&[u8]; 3] = [&[32 << 1, 1], &[39 << 1, 1], &[19 << 1, 1]];
        let frame = au(&[&[35 << 1, 1], vps, sei, slice, &[40 << 1, 1], &[38 << 1, 1]]);
        assert!(parameters(&frame, true).eq([vps]));
    }

    #[test]
    fn broken_frames_are_told() {
        assert_eq!(check(&au(&[&[6, 1], &[0x65, 1, 2]]), false), Ok(()));
        assert!(check(&au(&[&[6, 1]]), false).is_err(), "no slice");
        assert!(check(&au(&[&[0xe5, 1]]), false).is_err(), "forbidden bit");
        assert!(check(&au(&[&[], &[0x65]]), false).is_err(), "empty unit");
        let mut torn = au(&[&[0x65, 1, 2]]);
        torn.pop();
        assert!(check(&torn, false).is_err(), "torn");
        assert!(check(&[], false).is_err());
    }
}
