//! The number in a frame: an SEI message as `tests/cameras/camsim/clip.py` writes it.

/// Marks the message (user_data_unregistered, ITU-T H.264 D.1.7).
const UUID: &[u8; 16] = b"gapless-frame-id";
/// `cam=003 n=000000004711 t=01795492676113949733`
const TEXT_LEN: usize = 45;

/// What a camera wrote into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the camera.
    pub camera: u32,
    /// Number of the frame; never wraps, the same for every client.
    pub counter: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub sent_ns: u64,
}

impl Stamp {
    /// All stamps in a piece of video, in order, however its NAL units are delimited.
    pub fn find_all(data: &[u8]) -> Vec<Self> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(hit) = find(&data[at..], UUID) {
            let text = at + hit + UUID.len();
            found.extend(data.get(text..text + TEXT_LEN).and_then(Self::parse));
            at = text;
        }
        found
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(text).ok()?.split(' ');
        Some(Self {
            camera: fields.next()?.strip_prefix("cam=")?.parse().ok()?,
            counter: fields.next()?.strip_prefix("n=")?.parse().ok()?,
            sent_ns: fields.next()?.strip_prefix("t=")?.parse().ok()?,
        })
    }
}

/// First place of `needle`; looks only where its first byte is.
fn find(data: &[u8], needle: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(hit) = data[at..].iter().position(|byte| *byte == needle[0]) {
        if data[at + hit..].starts_with(needle) {
            return Some(at + hit);
        }
        at += hit + 1;
    }
    None
}
