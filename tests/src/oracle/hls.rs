//! Reads an HLS media playlist (RFC 8216) and the frames it names.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use url::Url;

use super::{Account, Source, mp4};

/// One segment of a playlist.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As written.
    pub uri: String,
    /// Bytes of the resource, if not all.
    pub range: Option<Range<u64>>,
    /// Seconds.
    pub duration: f64,
    /// The media of this time do not exist (EXT-X-GAP): not to be fetched.
    pub gap: bool,
    /// EXT-X-DISCONTINUITY before it.
    pub discontinuity: bool,
    /// EXT-X-PROGRAM-DATE-TIME, as written.
    pub date_time: Option<String>,
    /// URI of the initialization section (EXT-X-MAP).
    pub map: Option<String>,
}

/// A media playlist.
#[derive(Clone, Debug, Default)]
pub struct Playlist {
    /// The segments in order.
    pub entries: Vec<Entry>,
    /// It will not grow (EXT-X-ENDLIST).
    pub ended: bool,
}

impl Playlist {
    /// Reads the text of a playlist.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some("#EXTM3U") {
            bail!("not a playlist");
        }
        let mut reader = Reader::default();
        for line in lines {
            reader.line(line).with_context(|| line.to_owned())?;
        }
        Ok(reader.playlist)
    }

    /// How many seconds are marked as gaps.
    pub fn gap_seconds(&self) -> f64 {
        self.entries
            .iter()
            .filter(|entry| entry.gap)
            .map(|entry| entry.duration)
            .sum()
    }
}

/// The tags that apply to the segment that comes next.
#[derive(Default)]
struct Reader {
    playlist: Playlist,
    map: Option<String>,
    duration: Option<f64>,
    range: Option<Range<u64>>,
    gap: bool,
    discontinuity: bool,
    date_time: Option<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXTINF" => self.duration = Some(value.split(',').next().unwrap_or_default().parse()?),
            "#EXT-X-BYTERANGE" => self.range = Some(self.byte_range(value)?),
            "#EXT-X-MAP" => self.map = Some(attribute(value, "URI").context("no URI")?.to_owned()),
            "#EXT-X-GAP" => self.gap = true,
            "#EXT-X-DISCONTINUITY" => self.discontinuity = true,
            "#EXT-X-PROGRAM-DATE-TIME" => self.date_time = Some(value.to_owned()),
            "#EXT-X-ENDLIST" => self.playlist.ended = true,
            _ if line.starts_with('#') => {}
            _ => self.segment(line)?,
        }
        Ok(())
    }

    fn segment(&mut self, uri: &str) -> Result<()> {
        self.playlist.entries.push(Entry {
            uri: uri.to_owned(),
            range: self.range.take(),
            duration: self.duration.take().context("a segment without EXTINF")?,
            gap: std::mem::take(&mut self.gap),
            discontinuity: std::mem::take(&mut self.discontinuity),
            date_time: self.date_time.take(),
            map: self.map.clone(),
        });
        Ok(())
    }

    /// `length[@offset]`; without an offset it goes on where the segment before it ended.
    fn byte_range(&self, value: &str) -> Result<Range<u64>> {
        let (len, start) = if let Some((len, start)) = value.split_once('@') {
            (len, start.parse()?)
        } else {
            let before = self.playlist.entries.last().and_then(|entry| entry.range.clone());
            (value, before.context("a byte range without an offset")?.end)
        };
        Ok(start..start + len.parse::<u64>()?)
    }
}

/// A quoted attribute of a tag.
fn attribute<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = value.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(inner, _)| inner)
}

/// Fetches every byte that a playlist names, in its order, and counts the frames: what a viewer gets.
pub async fn canonical(source: &Source, url: &Url) -> Result<(Playlist, Account)> {
    let playlist = Playlist::parse(&String::from_utf8(source.get(url, None).await?)?)?;
    let mut account = Account::default();
    for (uri, range) in joined(&playlist) {
        let data = source.get(&url.join(uri)?, range.clone()).await?;
        let found = mp4::frames(&data).with_context(|| format!("{uri} {range:?}"))?;
        if found.torn > 0 {
            bail!(
                "{uri} {range:?}: {} bytes at the end are no whole fragment",
                found.torn
            );
        }
        found.account(&mut account);
    }
    Ok((playlist, account))
}

/// The resources to fetch, with neighbouring byte ranges joined.
fn joined(playlist: &Playlist) -> Vec<(&str, Option<Range<u64>>)> {
    let mut out: Vec<(&str, Option<Range<u64>>)> = Vec::new();
    for entry in playlist.entries.iter().filter(|entry| !entry.gap) {
        match (out.last_mut(), &entry.range) {
            (Some((uri, Some(before))), Some(range)) if *uri == entry.uri && before.end == range.start => {
                before.end = range.end;
            }
            _ => out.push((&entry.uri, entry.range.clone())),
        }
    }
    out
}
