//! Holds a recording of several cameras, on several members, against what the cameras pushed.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::api::{Gap, MemberApi};
use crate::cameras::{Cameras, State};
use crate::oracle::{Account, Span, frames, play};
use crate::wait::{now_ms, until};

/// Frames a second of every camera.
const FPS: u64 = 25;
/// How many frames a gap may be longer or shorter by the clocks of its two writers: one that has heard no sender report yet takes its
/// first frame to be as new as it can be. To that comes how late this machine was, which is what the cameras' ticker says: what it
/// made wait may have come as late to a writer.
const CLOCKS: u64 = 3;
/// How far a gap may be from the time of a frame that lacks, milliseconds: no more than what a camera's clock is believed to be off.
const NEAR_MS: u64 = 1_000;
/// How long the last frames may take to be durable and served: the rest of a group of pictures, and some load.
const SETTLE: Duration = Duration::from_secs(30);

/// A stream and the camera behind it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Name of the stream.
    pub stream: String,
    /// Number of the camera.
    pub camera: usize,
}

/// Streams `cam-0`... of the first cameras.
pub fn watched(count: usize) -> Vec<Watched> {
    (0..count)
        .map(|camera| Watched {
            stream: format!("cam-{camera}"),
            camera,
        })
        .collect()
}

/// Frames that a camera sent, if it did, and that nobody could receive: it was dead, or had just come back.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// Number of the camera.
    pub camera: usize,
    /// The frames.
    pub span: Span,
}

/// What a camera sent.
struct Sent {
    /// What has to be there.
    expected: Vec<Span>,
    /// What it sent while it was absent.
    unheard: Vec<Span>,
    /// When it was absent.
    absences: Vec<Span>,
}

impl Sent {
    fn of(state: &State, camera: usize, window: Span, absences: &[Absence]) -> Self {
        let pushed = state.pushed_within(camera, window);
        let absences = absences.iter().filter(|absence| absence.camera == camera);
        let absences: Vec<Span> = absences.map(|absence| absence.span).collect();
        let common = |span: &Span| {
            absences
                .iter()
                .filter_map(|absence| absence.intersect(span))
                .collect()
        };
        let unheard = pushed.iter().flat_map::<Vec<Span>, _>(common).collect();
        let without = |spans: Vec<Span>, absence: &Span| {
            let spans = spans.iter().flat_map(|span| span.without(absence));
            spans.collect()
        };
        Self {
            expected: absences.iter().fold(pushed, without),
            unheard,
            absences,
        }
    }
}

/// From when on frames count.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// First frame number.
    pub counter: u64,
    /// The same moment, Unix milliseconds.
    pub at_ms: u64,
    /// How often the cameras had been too slow before.
    slips: u64,
}

impl Start {
    /// From now on.
    pub async fn now(cameras: &Cameras) -> Result<Self> {
        let state = cameras.state().await?;
        Ok(Self {
            counter: state.counter,
            at_ms: now_ms(),
            slips: state.slips(),
        })
    }

    /// Fails if the cameras were too slow to be believed since: what a recording lacks then proves nothing.
    pub fn ensure_on_time(&self, state: &State) -> Result<()> {
        state.ensure_on_time(self.slips)
    }
}

/// What was found of one stream.
#[derive(Clone, Debug)]
pub struct StreamVerdict {
    /// Its name.
    pub stream: String,
    /// Frames that the camera pushed.
    pub expected: u64,
    /// The newest of them.
    pub last: Option<u64>,
    /// Frames that no member has.
    pub missing: Vec<Span>,
    /// Frames that the playlist does not have.
    pub canonical_missing: Vec<Span>,
    /// Frames that the playlist has more than once, counted each time after the first.
    pub doubled: u64,
    /// Neighbours in the playlist of which the second is older.
    pub out_of_order: usize,
    /// Frames of which the number cannot be read.
    pub unreadable: u64,
    /// Frames that nobody could receive, and no member has.
    pub unheard: Vec<Span>,
}

/// What was found of all streams.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Each stream.
    pub streams: Vec<StreamVerdict>,
}

fn total(spans: &[Span]) -> u64 {
    spans.iter().map(Span::frames).sum()
}

impl StreamVerdict {
    /// Whether every frame is there, once, in order, for a viewer too.
    fn is_perfect(&self) -> bool {
        self.missing.is_empty()
            && self.canonical_missing.is_empty()
            && (self.doubled, self.out_of_order, self.unreadable) == (0, 0, 0)
    }
}

impl Verdict {
    /// Frames that the cameras pushed.
    pub fn expected(&self) -> u64 {
        self.streams.iter().map(|found| found.expected).sum()
    }

    /// The newest frame that every stream was held against.
    pub fn last_expected(&self) -> Option<u64> {
        self.streams.iter().filter_map(|found| found.last).min()
    }

    /// Frames that no member has.
    pub fn missing(&self) -> u64 {
        self.streams.iter().map(|found| total(&found.missing)).sum()
    }

    /// Frames that the playlists have too often.
    pub fn doubled(&self) -> u64 {
        self.streams.iter().map(|found| found.doubled).sum()
    }

    /// Whether every frame is there, once, in order, for a viewer too.
    fn is_perfect(&self) -> bool {
        self.streams.iter().all(StreamVerdict::is_perfect)
    }

    /// Fails unless every frame is there, once, in order, for a viewer too.
    pub fn ensure_perfect(&self) -> Result<()> {
        ensure!(self.is_perfect(), "the recording is not perfect:\n{self}");
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<10} {:>9} {:>9} {:>9} {:>9}",
            "stream", "expected", "found", "doubled", "disorder"
        )?;
        for found in &self.streams {
            let there = found.expected - total(&found.missing);
            let (doubled, disorder) = (found.doubled, found.out_of_order);
            writeln!(
                f,
                "  {:<10} {:>9} {there:>9} {doubled:>9} {disorder:>9}",
                found.stream, found.expected
            )?;
            let lists = [
                ("on no member", &found.missing),
                ("not in the playlist", &found.canonical_missing),
            ];
            for (what, spans) in lists.into_iter().filter(|(_, spans)| !spans.is_empty()) {
                let spans: Vec<_> = spans.iter().map(Span::to_string).collect();
                writeln!(f, "             {what}: {}", spans.join(" "))?;
            }
            if found.unreadable > 0 {
                writeln!(f, "             without a number: {}", found.unreadable)?;
            }
        }
        Ok(())
    }
}

/// Downloads segments, and keeps the numbers of those that do not change.
#[derive(Default)]
pub struct Library {
    accounts: HashMap<(String, String, u64), Account>,
}

impl Library {
    /// Every frame of a stream that any of the members serves as a segment.
    pub async fn union(&mut self, members: &[MemberApi], stream: &str, from_ms: u64) -> Result<Account> {
        let mut union = Account::default();
        for member in members {
            for segment in member.segments(stream, from_ms).await? {
                let key = (member.base().to_string(), segment.id.clone(), segment.length);
                if !self.accounts.contains_key(&key) {
                    let mut account = Account::default();
                    frames(&member.download(stream, &segment).await?)?.account(&mut account);
                    self.accounts.insert(key.clone(), account);
                }
                union.union(&self.accounts[&key]);
            }
        }
        Ok(union)
    }
}

/// Waits until all that the cameras have pushed by now is served, and judges it: the union of the members' segments, and
/// the playlist of `viewer`. Fails where it is not perfect and the cameras were too slow: that proves nothing.
pub async fn judge(
    cameras: &Cameras,
    streams: &[Watched],
    start: Start,
    members: &[MemberApi],
    viewer: &MemberApi,
) -> Result<Verdict> {
    judge_beside(cameras, streams, start, &[], members, viewer).await
}

/// As [`judge`], where some cameras were absent for a while.
pub async fn judge_beside(
    cameras: &Cameras,
    streams: &[Watched],
    start: Start,
    absences: &[Absence],
    members: &[MemberApi],
    viewer: &MemberApi,
) -> Result<Verdict> {
    let state = cameras.state().await?;
    let found = held_against(&state, streams, start, absences, members, viewer).await;
    let lacks = match &found {
        Ok(verdict) if verdict.is_perfect() => return found,
        Ok(verdict) => format!("the recording is not perfect:\n{verdict}"),
        Err(error) => format!("{error:#}"),
    };
    start.ensure_on_time(&state).context(lacks)?;
    found
}

async fn held_against(
    state: &State,
    streams: &[Watched],
    start: Start,
    absences: &[Absence],
    members: &[MemberApi],
    viewer: &MemberApi,
) -> Result<Verdict> {
    let (last, to_ms) = (state.counter - 1, now_ms());
    let mut library = Library::default();
    let mut verdict = Verdict::default();
    for watched in streams {
        let window = Span {
            first: start.counter,
            last,
        };
        let sent = Sent::of(state, watched.camera, window, absences);
        let from_ms = start.at_ms.saturating_sub(5_000);
        let newest = sent.expected.last().map(|span| span.last);
        let union = until("the last frames are durable", SETTLE, async || {
            let union = library.union(members, &watched.stream, from_ms).await?;
            Ok((union.last() >= newest).then_some(union))
        });
        let union = union.await?;
        let canonical = until("the last frames are in the playlist", SETTLE, async || {
            let (_, account) = viewer.canonical(&watched.stream, from_ms, to_ms + 2_000).await?;
            Ok((account.last() >= newest).then_some(account))
        });
        verdict
            .streams
            .push(compare(&watched.stream, &sent, &union, &canonical.await?));
    }
    Ok(verdict)
}

fn compare(stream: &str, sent: &Sent, union: &Account, canonical: &Account) -> StreamVerdict {
    let pushed = &sent.expected[..];
    let first = pushed.first().map_or(0, |span| span.first);
    let unreadable = |account: &Account| account.unreadable_beside(first, &sent.absences);
    StreamVerdict {
        stream: stream.to_owned(),
        expected: total(pushed),
        last: pushed.last().map(|span| span.last),
        missing: union.missing_of(pushed),
        canonical_missing: canonical.missing_of(pushed),
        doubled: canonical.surplus(),
        out_of_order: canonical.out_of_order.len(),
        unreadable: unreadable(union) + unreadable(canonical),
        unheard: union.missing_of(&sent.unheard),
    }
}

/// Fails unless `viewer` plays each frame once that the camera pushed from `start` until a second before `end`, which is what
/// a primary said was acknowledged (its clock and the camera's are the same machine's). Returns how many that are.
pub async fn ensure_acknowledged(
    cameras: &Cameras,
    watched: &Watched,
    start: Start,
    end: &str,
    viewer: &MemberApi,
) -> Result<u64> {
    let end: jiff::Timestamp = end.parse()?;
    let end_ms = u64::try_from(end.as_millisecond())?;
    let span = end_ms.saturating_sub(1_000).checked_sub(start.at_ms);
    let frames = span.context("nothing was acknowledged")? * FPS / 1_000;
    let window = Span {
        first: start.counter,
        last: start.counter + frames,
    };
    let pushed = cameras.state().await?.pushed_within(watched.camera, window);
    let from_ms = start.at_ms.saturating_sub(5_000);
    let (_, account) = viewer.canonical(&watched.stream, from_ms, end_ms + 2_000).await?;
    let missing = account.missing_of(&pushed);
    ensure!(
        missing.is_empty() && account.surplus() == 0 && account.out_of_order.is_empty(),
        "{} plays {} with {} frames missing of those acknowledged: {missing:?}; {account}",
        viewer.base(),
        watched.stream,
        total(&missing)
    );
    Ok(total(&pushed))
}

/// Fails unless a stream lacks frames in one place, `most` of them at most, for a viewer too, and the member that took over tells of
/// it, or soon, as one gap with its cause: what it missed itself and its peer has is open until it is refilled. Returns how many
/// frames that are.
pub async fn ensure_one_hole(
    cameras: &Cameras,
    found: &StreamVerdict,
    start: Start,
    teller: &MemberApi,
    most: u64,
) -> Result<u64> {
    let late_ms = cameras.state().await?.late_max_ms;
    until("the hole is told of as one gap", SETTLE, async || {
        let gaps = teller.timeline(&found.stream, start.at_ms).await?.gaps;
        is_one_hole(found, &gaps, most, CLOCKS + (late_ms * FPS).div_ceil(1_000)).map(Some)
    })
    .await
}

fn is_one_hole(found: &StreamVerdict, gaps: &[Gap], most: u64, clocks: u64) -> Result<u64> {
    let frames = total(&found.missing);
    ensure!(
        found.missing.len() == 1 && frames <= most,
        "{frames} frames are missing: {:?}",
        found.missing
    );
    let odd = (found.doubled, found.out_of_order, found.unreadable);
    ensure!(
        found.canonical_missing == found.missing && odd == (0, 0, 0),
        "{found:?}"
    );
    let lacks: Vec<&Gap> = gaps.iter().filter(|gap| gap.state != "refilled").collect();
    ensure!(lacks.len() == 1 && lacks[0].cause == "Takeover", "{gaps:?}");
    let told = lacks[0].frames.context("nobody counted")?;
    ensure!(
        told.abs_diff(frames) <= clocks,
        "{told} frames are told of, {frames} are missing"
    );
    Ok(frames)
}

/// Fails unless a member tells of each frame that nobody could receive and nobody has, or soon: it is in a gap that has a cause.
pub async fn ensure_told(
    cameras: &Cameras,
    watched: &Watched,
    found: &StreamVerdict,
    start: Start,
    teller: &MemberApi,
) -> Result<()> {
    let state = cameras.state().await?;
    let unheard = found.unheard.iter().flat_map(|span| span.first..=span.last);
    let sent = unheard.filter_map(|frame| state.sent_ms(watched.camera, frame));
    let sent: Vec<u64> = sent.collect();
    let what = format!(
        "{} tells of what nobody received of {}",
        teller.base(),
        found.stream
    );
    until(&what, SETTLE, async || {
        let gaps = teller.timeline(&watched.stream, start.at_ms).await?.gaps;
        let untold = untold(&sent, &gaps)?;
        ensure!(untold.is_empty(), "nothing is told of {untold:?} ms: {gaps:?}");
        Ok(Some(()))
    })
    .await
}

/// The times that are in no gap with a cause.
fn untold(sent_ms: &[u64], gaps: &[Gap]) -> Result<Vec<u64>> {
    let lacks = gaps.iter().filter(|gap| gap.state != "refilled");
    let lacks = lacks.filter(|gap| !gap.cause.is_empty() && gap.cause != "Unknown");
    let spans: Vec<(u64, u64)> = lacks.map(when).collect::<Result<_>>()?;
    let told = |ms: u64| {
        let near = |(start, end): &(u64, u64)| *start <= ms + NEAR_MS && ms <= end.saturating_add(NEAR_MS);
        spans.iter().any(near)
    };
    Ok(sent_ms.iter().copied().filter(|ms| !told(*ms)).collect())
}

/// From when to when a gap is, Unix milliseconds; one that lasts has no end.
fn when(gap: &Gap) -> Result<(u64, u64)> {
    let ms = |text: &str| -> Result<u64> {
        let at: jiff::Timestamp = text.parse()?;
        Ok(u64::try_from(at.as_millisecond())?)
    };
    let end = gap.end.as_deref().map_or(Ok(u64::MAX), ms)?;
    Ok((ms(&gap.start)?, end))
}

/// Asks ffmpeg what it plays of a stream, and fails unless it plays each frame of a window once and in order.
pub async fn ffmpeg_agrees(
    viewer: &MemberApi,
    watched: &Watched,
    state: &State,
    window: Span,
    times: (u64, u64),
) -> Result<()> {
    let url = viewer.playlist_url(&watched.stream, times.0, Some(times.1))?;
    let account = play(url.as_str()).await?;
    let missing = account.missing_of(&state.pushed_within(watched.camera, window));
    let clean = missing.is_empty() && account.surplus() == 0 && account.out_of_order.is_empty();
    ensure!(clean, "ffmpeg plays {}: {account}", watched.stream);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(expected: &[(u64, u64)], unheard: &[(u64, u64)], absence: (u64, u64)) -> Sent {
        let spans = |of: &[(u64, u64)]| of.iter().map(|(first, last)| span(*first, *last)).collect();
        Sent {
            expected: spans(expected),
            unheard: spans(unheard),
            absences: vec![span(absence.0, absence.1)],
        }
    }

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    fn gap(state: &str, cause: &str, start: u64, end: Option<u64>) -> Gap {
        let text = |seconds: u64| format!("1970-01-01T00:00:{seconds:02}Z");
        Gap {
            start: text(start),
            end: end.map(text),
            cause: cause.to_owned(),
            state: state.to_owned(),
            evidence: String::new(),
            frames: None,
        }
    }

    #[test]
    fn an_absent_camera_excuses_its_own_frames_and_no_other() {
        // It died after 20, was back at 60, and somebody was connected from 70 on.
        let sent = sent(&[(10, 19), (70, 80)], &[(20, 20), (60, 69)], (20, 69));
        let whole = Account::of((10..=20).chain(65..=80));
        let found = compare("door", &sent, &whole, &whole);
        assert!(found.is_perfect(), "{found:?}");
        assert_eq!((found.expected, found.unheard), (21, vec![span(60, 64)]));
        for lacks in [19, 70] {
            let one = Account::of((10..=20).chain(65..=80).filter(|n| *n != lacks));
            let found = compare("door", &sent, &one, &whole);
            assert_eq!(found.missing, [span(lacks, lacks)]);
        }
    }

    #[test]
    fn what_nobody_received_is_in_a_gap_that_says_why() {
        let of = |gaps: &[Gap]| untold(&[20_000, 25_000], gaps).unwrap();
        assert_eq!(of(&[gap("lost", "Watchdog", 20, Some(25))]), [0; 0]);
        assert_eq!(of(&[gap("open", "Disconnected", 19, None)]), [0; 0]);
        assert_eq!(of(&[gap("lost", "Watchdog", 18, Some(22))]), [25_000]);
        for nothing in [
            gap("refilled", "Watchdog", 1, None),
            gap("lost", "Unknown", 1, None),
            gap("lost", "", 1, None),
        ] {
            assert_eq!(of(&[nothing]), [20_000, 25_000]);
        }
    }
}
