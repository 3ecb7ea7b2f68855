//! Hashes: of a file, of its growth, of a frame. All are BLAKE3.

use crate::fmp4;

/// BLAKE3 of a whole segment file, 32 bytes.
pub type Root = [u8; 32];
/// The first 16 bytes of BLAKE3 over a frame's slice NAL units; see [`crate::nal::frame_hash`].
pub type FrameHash = [u8; 16];

/// The running hash of a file that grows: c(0) = BLAKE3(head), c(n) = BLAKE3(c(n-1) ‖ h(n)), where h(n) is the hash of all else of
/// fragment n that the fragment carries. So nobody hashes its bytes once more, and who takes a chain for proof proves that hash first.
pub type Chain = [u8; 32];

/// The chain after the head.
pub fn chain_start(head: &[u8]) -> Chain {
    *blake3::hash(head).as_bytes()
}

/// The chain after one more fragment. Of bytes that are no fragment it is one that no fragment has.
pub fn chain_next(before: &Chain, fragment: &[u8]) -> Chain {
    let carried = fmp4::carried_hash(fragment).unwrap_or_else(|| *blake3::hash(fragment).as_bytes());
    *blake3::Hasher::new()
        .update(before)
        .update(&carried)
        .finalize()
        .as_bytes()
}
