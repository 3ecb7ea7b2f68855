//! Whether bytes that come for a segment mean anything here. Pure.

use super::hub::{Known, Writer};

/// What is done with bytes that came for a segment, and what the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They are proven, and appended.
    Taken,
    /// So much is here, and nothing more is wanted: the peer is told how much.
    Held(u64),
    /// Nothing of it will be wanted: the peer is told, or it would wait for ever.
    Unwanted,
    /// Not now: it is not known yet whether its writer lives here.
    TooEarly,
}

/// Decides by who may write a segment, what is known of it here, and how long it was if it was reclaimed. A segment that is sealed, or that
/// this member's own recorder writes, grows by nothing that comes from elsewhere (I2).
pub fn admission(writer: Writer, here: Option<&Known>, reclaimed: Option<u64>) -> Admission {
    let whole = here.filter(|known| known.sealed.is_some() || writer != Writer::Elsewhere);
    match (reclaimed.or(whole.map(|known| known.end)), writer) {
        (Some(end), _) => Admission::Held(end),
        (None, Writer::Elsewhere) => Admission::Taken,
        // It gave the segment up before a frame of it was durable.
        (None, Writer::Here) => Admission::Unwanted,
        (None, Writer::Unknown) => Admission::TooEarly,
    }
}

#[cfg(test)]
mod tests {
    use super::super::hub::Sealed;
    use super::*;

    #[test]
    fn i2_what_is_sealed_or_written_here_takes_nothing() {
        use Admission::{Held, Taken, TooEarly, Unwanted};
        use Writer::{Elsewhere, Here, Unknown};
        let known = |sealed| Known {
            end: 7,
            sealed,
            partial: false,
        };
        let sealed = Sealed {
            root: [1; 32],
            span_us: (0, 1),
        };
        let (open, sealed) = (&known(None), &known(Some(sealed)));
        let table = [
            ((Elsewhere, None, None), Taken),
            ((Elsewhere, Some(open), None), Taken),
            ((Elsewhere, Some(sealed), None), Held(7)),
            ((Here, None, None), Unwanted),
            ((Here, Some(open), None), Held(7)),
            ((Here, Some(sealed), None), Held(7)),
            ((Unknown, None, None), TooEarly),
            ((Unknown, Some(open), None), Held(7)),
            ((Unknown, Some(sealed), None), Held(7)),
            ((Elsewhere, None, Some(9)), Held(9)),
            ((Here, None, Some(9)), Held(9)),
            ((Unknown, None, Some(9)), Held(9)),
        ];
        for ((writer, here, reclaimed), want) in table {
            assert_eq!(
                admission(writer, here, reclaimed),
                want,
                "{writer:?} {here:?} {reclaimed:?}"
            );
        }
    }
}
