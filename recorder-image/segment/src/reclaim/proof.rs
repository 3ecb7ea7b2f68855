//! The files of a pin as they are on this volume, read again.

use std::collections::BTreeSet;
use std::path::Path;

use crate::canonical::{Gop, WINDOW_US};
use crate::copy::{Copy, Origin, State};
use crate::error::{Error, Result};
use crate::fmp4;
use crate::hash::{FrameHash, Root};
use crate::header::Header;
use crate::id::SegmentId;
use crate::nal;
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
    /// Wall clock of each frame, microseconds since the Unix epoch.
    times: Vec<i64>,
    /// What its pictures depend on besides their slices and the description of the video: in which frame, and its hash.
    besides: Vec<(usize, Root)>,
}

impl Group {
    /// Whether a player shows the same of `other`, which begins with these slices: it decodes them with the same parameter sets, and shows each
    /// within 2 s of its time here.
    fn shown_by(&self, other: &Self) -> bool {
        let near = |(a, b): (&i64, &i64)| a.abs_diff(*b) <= WINDOW_US.cast_unsigned();
        self.besides == other.besides && self.times.iter().zip(&other.times).all(near)
    }
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
        // A decoder goes on with what it got with the group before.
        let known: BTreeSet<&Root> = self.duplicate.besides().collect();
        if self
            .kept
            .iter()
            .flat_map(File::besides)
            .any(|unit| !known.contains(unit))
        {
            return Err(Stays::OtherTracks);
        }
        let mut used = vec![false; groups.len()];
        for group in &self.duplicate.groups {
            let at = holder(&group.gop, &groups).ok_or(Stays::NotHeld)?;
            if std::mem::replace(&mut used[at], true) {
                return Err(Stays::NotHeld);
            }
            if groups[at].sound + SOUND_JITTER < group.sound || !group.shown_by(groups[at]) {
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
        let group = |gop| Group::read(&data, &copy, &parameters, gop);
        Self::of(&copy, parameters.clone(), group).map_err(damaged)
    }

    /// What pictures of it depend on besides their slices and the description of the video.
    fn besides(&self) -> impl Iterator<Item = &Root> {
        let all = self.groups.iter().flat_map(|group| &group.besides);
        all.map(|(_, unit)| unit)
    }

    fn of(
        copy: &Copy,
        parameters: Vec<u8>,
        group: impl Fn(Gop) -> Result<Group, &'static str>,
    ) -> Result<Self, &'static str> {
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
            let group = |gop| Group {
                gop,
                sound,
                times: Vec::new(),
                besides: Vec::new(),
            };
            File::of(copy, parameters.into(), |gop| Ok(group(gop))).unwrap()
        };
        Self {
            duplicate: read(&pin.duplicate),
            kept: pin.kept.iter().map(read).collect(),
            pin,
        }
    }
}

impl Group {
    /// Reads the fragments of a group, which were proven to be whole.
    fn read(data: &[u8], copy: &Copy, parameters: &[u8], gop: Gop) -> Result<Self, &'static str> {
        let within = |offset: u64| (gop.offset..gop.offset + gop.len).contains(&offset);
        let fragments = copy.index.iter().flat_map(|index| &index.fragments);
        let (mut sound, mut times, mut besides) = (0, Vec::new(), Vec::new());
        for fragment in fragments.filter(|f| within(f.offset)) {
            let bytes = &data[fragment.offset as usize..fragment.end() as usize];
            let hashes = gop.hashes.iter().skip(times.len()).copied();
            let hashes: Vec<FrameHash> = hashes.take(fragment.frames as usize).collect();
            let parsed = fmp4::own_fragment(bytes, copy.header.tracks(), &hashes)?;
            for sample in parsed.samples {
                let units = nal::parameters(&bytes[sample.range], copy.header.hevc);
                let unknown = units.filter(|unit| !holds(parameters, unit));
                let hash = |unit: &[u8]| (times.len(), *blake3::hash(unit).as_bytes());
                besides.extend(unknown.map(hash));
                times.push(sample.wallclock_us);
            }
            if copy.header.audio.is_some() {
                sound += fmp4::packets(bytes)?;
            }
        }
        Ok(Self {
            gop,
            sound,
            times,
            besides,
        })
    }
}

/// Whether the description of a video has this unit.
fn holds(parameters: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || parameters.windows(unit.len()).any(|part| part == unit)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::file::SegmentFile;
    use crate::fmp4::{Sample, Track};
    use crate::header::ClockSource;
    use crate::volume::Role;

    const SPS: &[u8] = &[7, 1, 2, 3];
    const PPS: &[u8] = &[8, 4, 5, 6];
    const OTHER: &[u8] = &[8, 9, 9, 9];
    const SEI: &[u8] = &[6, 1, 1];
    const AUD: &[u8] = &[9, 16];

    /// The units before the slice of a picture.
    type Before = fn(u64) -> Vec<&'static [u8]>;

    /// A sealed segment of a store: two groups of three pictures. `before` are the units before a picture, `late_us` is how late the last one
    /// of the first group is.
    fn seal(
        volume: &Volume,
        store: u128,
        before: impl Fn(u64) -> Vec<&'static [u8]>,
        late_us: i64,
    ) -> SegmentId {
        let id = SegmentId {
            stream: Uuid::from_u128(9),
            store: Uuid::from_u128(store),
            member: "front-0".into(),
            incarnation: 1,
            sequence: 0,
        };
        let header = Header {
            id: id.clone(),
            stream_name: "door".into(),
            pair_epoch: 1,
            stream_epoch: 0,
            owner: true,
            run: Uuid::from_u128(store),
            opened_us: 0,
            clock: ClockSource::Own,
            hevc: false,
            audio: None,
        };
        let entry = [&16u32.to_be_bytes()[..], b"test", SPS, PPS].concat();
        let track = Track {
            sample_entry: entry.into(),
            width: 16,
            height: 16,
            audio: None,
        };
        let mut file = SegmentFile::create(volume, header, &track).unwrap();
        for n in 0..6 {
            let key = n % 3 == 0;
            let slice = [if key { 0x65 } else { 0x41 }, n as u8];
            let mut data = Vec::new();
            for unit in before(n).into_iter().chain([&slice[..]]) {
                data.extend((unit.len() as u32).to_be_bytes());
                data.extend(unit);
            }
            let sample = Sample {
                hash: nal::frame_hash(&data, false),
                data: data.into(),
                key,
                dts: n * 3600,
                cts: 0,
                duration: 3600,
                wallclock_us: n as i64 * 40_000 + if n == 2 { late_us } else { 0 },
            };
            file.append(&[sample], &[]).unwrap();
        }
        file.finish().rename().unwrap();
        id
    }

    #[test]
    fn i3_what_stays_shows_what_the_duplicate_shows() {
        let none = |_| Vec::new();
        let first = |n| if n == 0 { vec![AUD, SPS, PPS, SEI] } else { vec![] };
        let keys = |n: u64| {
            if n.is_multiple_of(3) {
                vec![SPS, PPS]
            } else {
                vec![]
            }
        };
        let odd = |n: u64| {
            if n.is_multiple_of(3) {
                vec![SPS, OTHER]
            } else {
                vec![]
            }
        };
        let once = |n| if n == 1 { vec![OTHER] } else { vec![] };
        let table: [(&str, Before, Before, i64, bool); 8] = [
            ("nothing but pictures", none, none, 0, true),
            ("parameter sets once a session", first, none, 0, true),
            ("parameter sets by one of them", none, keys, 0, true),
            ("others than those of the head, by both", odd, odd, 0, true),
            ("others in what stays", none, odd, 0, false),
            ("others in what stays, in one frame", keys, once, 0, false),
            ("a little late", none, none, 1_900_000, true),
            ("shown at another time", none, none, 2_100_000, false),
        ];
        for (what, duplicate, kept, late_us, holds) in table {
            let dir = tempfile::tempdir().unwrap();
            let volume = Volume::open(dir.path(), Role::Recorder).unwrap();
            let pin = Pin {
                duplicate: seal(&volume, 1, duplicate, 0),
                kept: vec![seal(&volume, 2, kept, late_us)],
            };
            let found = Proof::read(&volume, pin).unwrap().holds();
            assert_eq!(found.is_ok(), holds, "{what}: {found:?}");
        }
    }
}
