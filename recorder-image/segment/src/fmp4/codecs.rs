//! What a player is told of a stream before it gets a byte of it (RFC 6381; ISO/IEC 14496-15, annex E).

use std::fmt::Write as _;

/// Where the boxes of a visual sample entry begin: after its header and 78 bytes of fields (ISO/IEC 14496-12, 12.1.3).
const FIELDS: usize = 86;

/// The value of `codecs` in a media type, for example `avc1.64001f`; `None` if the sample entry says too little.
pub fn codecs(sample_entry: &[u8]) -> Option<String> {
    let kind = sample_entry.get(4..8)?;
    let wanted: &[u8; 4] = match kind {
        b"avc1" | b"avc3" => b"avcC",
        b"hvc1" | b"hev1" => b"hvcC",
        _ => return None,
    };
    let found = super::boxes(sample_entry.get(FIELDS..)?).find(|b| &b.kind == wanted)?;
    let name = std::str::from_utf8(kind).ok()?;
    if wanted == b"avcC" {
        let [profile, compatible, level] = *found.body().get(1..)?.first_chunk()?;
        return Some(format!("{name}.{profile:02x}{compatible:02x}{level:02x}"));
    }
    hevc(name, found.body().first_chunk()?)
}

/// Profile space, profile, reversed compatibility flags, tier and level, constraints without the zeros at their end.
fn hevc(name: &str, record: &[u8; 13]) -> Option<String> {
    let space = ["", "A", "B", "C"][usize::from(record[1] >> 6)];
    let tier = if record[1] & 0x20 == 0 { 'L' } else { 'H' };
    let profile = record[1] & 0x1f;
    let compatible = u32::from_be_bytes(*record[2..].first_chunk()?).reverse_bits();
    let mut text = format!("{name}.{space}{profile}.{compatible:x}.{tier}{}", record[12]);
    let constraints = &record[6..12];
    let used = constraints
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        write!(text, ".{byte:x}").ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &[u8], config: &[u8], record: &[u8]) -> Vec<u8> {
        let mut out = vec![0; FIELDS];
        out[4..8].copy_from_slice(kind);
        out.extend_from_slice(&(8 + record.len() as u32).to_be_bytes());
        out.extend_from_slice(config);
        out.extend_from_slice(record);
        out
    }

    #[test]
    fn both_codecs_are_named_as_players_know_them() {
        let avc = entry(b"avc1", b"avcC", &[1, 0x64, 0, 0x1f, 0xff]);
        assert_eq!(codecs(&avc).as_deref(), Some("avc1.64001f"));
        let main = [1, 0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, 0];
        let hevc = entry(b"hvc1", b"hvcC", &main);
        assert_eq!(codecs(&hevc).as_deref(), Some("hvc1.1.6.L93.b0"));
    }

    #[test]
    fn what_says_too_little_has_no_name() {
        for bad in [
            vec![],
            vec![0; 200],
            entry(b"avc1", b"avcC", &[1]),
            entry(b"hvc1", b"avcC", &[1; 20]),
        ] {
            assert_eq!(codecs(&bad), None);
        }
    }
}
