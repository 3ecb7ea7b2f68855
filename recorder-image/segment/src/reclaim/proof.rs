//! The files of a pin as they are on this volume, read again.

use std::path::Path;

use crate::canonical::{Gop, WINDOW_US};
use crate::copy::{Copy, Origin, State};
use crate::error::{Error, Result};
use crate::fmp4;
use crate::hash::Root;
use crate::header::Header;
use crate::id::SegmentId;
use crate::reclaim::{Pin, Stays};
use crate::scan::scan_bytes;
use crate::volume::Volume;

/// How many packets of sound may be in the neighbour of the group that they are in elsewhere: they are put there as they arrive.
const SOUND_JITTER: usize = 2;

/// One file.
#[derive(Clone, Debug)]
struct File {
    header: Header,
    root: Root,
    /// The `stsd` of its video: what the decoder has to know before the first frame.
    parameters: Vec<u8>,
    groups: Vec<Group>,
}

/// One group of pictures.
#[derive(Clone, Debug)]
struct Group {
    gop: Gop,
    /// Packets of sound beside it.
    sound: usize,
}

/// See the module. It says what was read, not that it suffices: that is asked by [`crate::reclaim::may_remove`].
#[derive(Clone, Debug)]
pub struct Proof {
    pin: Pin,
    duplicate: File,
    kept: Vec<File>,
}

impl Proof {
    /// Reads the files of a pin, each of them whole.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn read(volume: &Volume, pin: Pin) -> Result<Self> {
        let read = |id| File::read(&volume.sealed_path(id), id);
        Ok(Self {
            duplicate: read(&pin.duplicate)?,
            kept: pin.kept.iter().map(read).collect::<Result<_>>()?,
            pin,
        })
    }

    /// What it is about.
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// The content of each file that was read.
    pub(super) fn roots(&self) -> impl Iterator<Item = (&SegmentId, Root)> {
        let files = std::iter::once(&self.duplicate).chain(&self.kept);
        files.map(|file| (&file.header.id, file.root))
    }

    /// Whether what was read of what stays holds every group of the duplicate.
    pub(super) fn holds(&self) -> Result<(), Stays> {
        let alike = |kept: &File| {
            let (a, b) = (&kept.header, &self.duplicate.header);
            let sound = b.audio.is_none() || a.audio == b.audio;
            kept.parameters == self.duplicate.parameters && a.hevc == b.hevc && sound
        };
        if !self.kept.iter().all(alike) {
            return Err(Stays::OtherTracks);
        }
        let groups: Vec<&Group> = self.kept.iter().flat_map(|kept| &kept.groups).collect();
        let mut used = vec![false; groups.len()];
        for group in &self.duplicate.groups {
            let at = holder(&group.gop, &groups).ok_or(Stays::NotHeld)?;
            if std::mem::replace(&mut used[at], true) {
                return Err(Stays::NotHeld);
            }
            if groups[at].sound + SOUND_JITTER < group.sound {
                return Err(Stays::OtherTracks);
            }
        }
        Ok(())
    }
}

/// The one group that begins with these frames, within 2 s.
fn holder(gop: &Gop, groups: &[&Group]) -> Option<usize> {
    let near = |other: &Gop| other.start_us.abs_diff(gop.start_us) <= WINDOW_US.cast_unsigned();
    let same = |other: &Gop| near(other) && other.hashes.first() == gop.hashes.first();
    let mut found = (0..groups.len()).filter(|i| same(&groups[*i].gop));
    let only = found.next().filter(|_| found.next().is_none());
    only.filter(|i| !gop.hashes.is_empty() && groups[*i].gop.hashes.starts_with(&gop.hashes))
}

impl File {
    fn read(path: &Path, id: &SegmentId) -> Result<Self> {
        let data = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let damaged = |what: &str| Error::damaged(path, what);
        let found = scan_bytes(&data).map_err(damaged)?;
        if let Some(what) = found.torn {
            return Err(damaged(what));
        }
        if found.header.id != *id {
            return Err(damaged("its header names another segment"));
        }
        let parameters = parameters(&data).ok_or_else(|| damaged("no description of its video"))?;
        let copy = Copy::from_scan(found, State::Sealed, Origin::Peer, 0);
        Self::of(&copy, parameters, |gop| sound(&data, &copy, gop)).map_err(damaged)
    }

    fn of(
        copy: &Copy,
        parameters: Vec<u8>,
        sound: impl Fn(&Gop) -> Result<usize, &'static str>,
    ) -> Result<Self, &'static str> {
        let group = |gop: Gop| sound(&gop).map(|sound| Group { gop, sound });
        let index = copy.index.as_ref().ok_or("no index")?;
        let gops = index.gops(&copy.header, false).into_iter();
        let groups: Result<_, &str> = gops.map(group).collect();
        Ok(Self {
            groups: groups?,
            header: copy.header.clone(),
            root: copy.root.ok_or("not sealed")?,
            parameters,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Proof {
    /// What is read where the files hold these copies, with these parameters and so many packets of sound in each group.
    pub(super) fn of<'a>(pin: Pin, file: impl Fn(&SegmentId) -> (&'a Copy, &'a str, usize)) -> Self {
        let read = |id| {
            let (copy, parameters, sound) = file(id);
            File::of(copy, parameters.into(), |_| Ok(sound)).unwrap()
        };
        Self {
            duplicate: read(&pin.duplicate),
            kept: pin.kept.iter().map(read).collect(),
            pin,
        }
    }
}

/// Packets of sound in the fragments of a group.
fn sound(data: &[u8], copy: &Copy, gop: &Gop) -> Result<usize, &'static str> {
    if copy.header.audio.is_none() {
        return Ok(0);
    }
    let within = |offset: u64| (gop.offset..gop.offset + gop.len).contains(&offset);
    let fragments = copy.index.iter().flat_map(|index| &index.fragments);
    let fragments = fragments.filter(|f| within(f.offset));
    let packets = fragments.map(|f| fmp4::packets(&data[f.offset as usize..f.end() as usize]));
    packets.sum()
}

/// The first `stsd` of a file: that of its video.
fn parameters(data: &[u8]) -> Option<Vec<u8>> {
    let inner = |bytes, kind: &[u8; 4]| fmp4::boxes(bytes).find(|b| &b.kind == kind).map(|b| b.body());
    let mut at = inner(data, b"moov")?;
    for kind in [b"trak", b"mdia", b"minf", b"stbl", b"stsd"] {
        at = inner(at, kind)?;
    }
    Some(at.to_vec())
}
