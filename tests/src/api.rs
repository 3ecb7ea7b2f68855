//! The HTTP API of a member, as a viewer's program sees it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::oracle::{Account, Playlist, Source, Span, canonical, frames};
use crate::wait::now_ms;

/// A duplicate is removed this long after it came, at the earliest, milliseconds.
const RECLAIMED_AFTER_MS: u64 = 600_000;

/// One configured stream in `/v1/streams`.
#[derive(Clone, Debug, Deserialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// `receiving`, `connecting`, `failed` or `idle`; empty for a stream that is recorded, but not configured any more.
    #[serde(default)]
    pub state: String,
    /// When the newest frame came.
    #[serde(default, rename = "lastFrame")]
    pub last_frame: Option<String>,
    /// Whether this member writes it.
    #[serde(default)]
    pub writing: bool,
    /// Why it fails.
    #[serde(default)]
    pub error: Option<StreamError>,
}

/// Why a stream fails.
#[derive(Clone, Debug, Deserialize)]
pub struct StreamError {
    /// In one word.
    pub code: String,
    /// In a sentence.
    pub message: String,
}

/// One segment in `/v1/streams/{name}/segments`.
#[derive(Clone, Debug, Deserialize)]
pub struct Segment {
    /// Identity; the name of the file.
    pub id: String,
    /// `open`, `partial` or `sealed`.
    pub state: String,
    /// `live` if this member recorded it, `peer` if it got it.
    pub origin: String,
    /// Bytes.
    pub length: u64,
    /// When it ends.
    pub end: String,
    /// BLAKE3 of the file, in hexadecimal, once it is sealed.
    #[serde(default)]
    pub root: Option<String>,
    /// Where to download it.
    pub href: String,
}

/// A hole in `/v1/streams/{name}/timeline`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Where it begins.
    pub start: String,
    /// Where it ends; `None` while it lasts.
    pub end: Option<String>,
    /// Why.
    pub cause: String,
    /// `open`, `refilled` or `lost`.
    pub state: String,
    /// What was seen.
    pub evidence: String,
    /// How many frames, where it is known.
    pub frames: Option<u64>,
}

/// What `/v1/streams/{name}/timeline` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Who recorded what.
    pub spans: Vec<Value>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// Up to here all is durable on this member.
    #[serde(default)]
    pub durable_end: Option<String>,
    /// Up to here the other member has confirmed it.
    #[serde(default)]
    pub acknowledged_end: Option<String>,
}

/// One member's API.
#[derive(Clone)]
pub struct MemberApi {
    base: Url,
    token: String,
    source: Source,
}

impl MemberApi {
    /// The API at `http://address`.
    pub fn new(address: &str, token: &str) -> Result<Self> {
        let base = Url::parse(&format!("http://{address}/"))?;
        Ok(Self::at(&base, token))
    }

    /// The API at a URL.
    pub fn at(base: &Url, token: &str) -> Self {
        Self {
            base: base.clone(),
            token: token.to_owned(),
            source: Source::new().with_token(token),
        }
    }

    /// Where it is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Whether it says that it is ready.
    pub async fn ready(&self) -> Result<()> {
        self.source.get(&self.base.join("readyz")?, None).await.map(drop)
    }

    /// All streams.
    pub async fn streams(&self) -> Result<Vec<StreamInfo>> {
        let answer: Value = self.source.json(&self.base.join("v1/streams")?).await?;
        let list = answer.get("streams").cloned().unwrap_or(answer);
        Ok(serde_json::from_value(list)?)
    }

    /// One stream.
    pub async fn stream(&self, name: &str) -> Result<StreamInfo> {
        let all = self.streams().await?;
        all.into_iter()
            .find(|info| info.name == name)
            .with_context(|| format!("no stream {name}"))
    }

    /// The segments that end after a moment (Unix, milliseconds).
    pub async fn segments(&self, stream: &str, from_ms: u64) -> Result<Vec<Segment>> {
        self.listed(stream, &format!("from={from_ms}")).await
    }

    /// The segments that have something of the time between two moments.
    pub async fn segments_between(&self, stream: &str, from_ms: u64, to_ms: u64) -> Result<Vec<Segment>> {
        self.listed(stream, &format!("from={from_ms}&to={to_ms}")).await
    }

    /// What this member recorded by itself of the time between two moments and still has: bytes, by stream and segment.
    pub async fn written_between(
        &self,
        streams: &[String],
        from_ms: u64,
        to_ms: u64,
    ) -> Result<BTreeMap<(String, String), u64>> {
        let mut found = BTreeMap::new();
        for stream in streams {
            let all = self.segments_between(stream, from_ms, to_ms).await?;
            let own = all.into_iter().filter(|segment| segment.origin == "live");
            found.extend(own.map(|segment| ((stream.clone(), segment.id), segment.length)));
        }
        Ok(found)
    }

    async fn listed(&self, stream: &str, query: &str) -> Result<Vec<Segment>> {
        let url = self.base.join(&format!("v1/streams/{stream}/segments?{query}"))?;
        let answer: Value = self.source.json(&url).await?;
        let list = answer.get("segments").cloned().unwrap_or(answer);
        Ok(serde_json::from_value(list)?)
    }

    /// Who recorded what, from a moment on.
    pub async fn timeline(&self, stream: &str, from_ms: u64) -> Result<Timeline> {
        let url = self
            .base
            .join(&format!("v1/streams/{stream}/timeline?from={from_ms}"))?;
        self.source.json(&url).await
    }

    /// Who recorded what between two moments.
    pub async fn timeline_between(&self, stream: &str, from_ms: u64, to_ms: u64) -> Result<Timeline> {
        let query = format!("v1/streams/{stream}/timeline?from={from_ms}&to={to_ms}");
        let url = self.base.join(&query)?;
        self.source.json(&url).await
    }

    /// The bytes of a segment.
    pub async fn download(&self, stream: &str, segment: &Segment) -> Result<Vec<u8>> {
        let list = self.base.join(&format!("v1/streams/{stream}/segments"))?;
        self.source.get(&list.join(&segment.href)?, None).await
    }

    /// The address of a playlist that any player takes: the token is in it.
    pub fn playlist_url(&self, stream: &str, from_ms: u64, to_ms: Option<u64>) -> Result<Url> {
        let mut url = self.base.join(&format!("v1/streams/{stream}/hls.m3u8"))?;
        url.query_pairs_mut().append_pair("from", &from_ms.to_string());
        if let Some(to_ms) = to_ms {
            url.query_pairs_mut().append_pair("to", &to_ms.to_string());
        }
        url.query_pairs_mut().append_pair("token", &self.token);
        Ok(url)
    }

    /// The address of the live view of a stream.
    pub fn live_url(&self, stream: &str) -> Result<Url> {
        Ok(self.base.join(&format!("v1/streams/{stream}/live"))?)
    }

    /// The address of the page that plays it: the token is in it.
    pub fn watch_url(&self, stream: &str) -> Result<Url> {
        let mut url = self.base.join(&format!("v1/streams/{stream}/watch"))?;
        url.query_pairs_mut().append_pair("token", &self.token);
        Ok(url)
    }

    /// What a viewer of a time range gets. The token goes in the addresses, as with a player.
    pub async fn canonical(&self, stream: &str, from_ms: u64, to_ms: u64) -> Result<(Playlist, Account)> {
        canonical(&Source::new(), &self.playlist_url(stream, from_ms, Some(to_ms))?).await
    }

    /// The sum of a metric over all its labels, if it is there.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        self.metric_with(name, "").await
    }

    /// The same, where it has this label.
    pub async fn metric_with(&self, name: &str, label: &str) -> Result<Option<f64>> {
        let text = String::from_utf8(self.source.get(&self.base.join("metrics")?, None).await?)?;
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(label)).collect();
        Ok(metric_in(&lines.join("\n"), name))
    }

    /// Hashes of all sealed segments that end after a moment, by stream and identity; downloads each of them, and fails
    /// if one is not what the member itself says it is.
    pub async fn sealed_hashes(&self, streams: &[String], from_ms: u64) -> Result<Hashes> {
        let mut hashes = Hashes::new();
        for stream in streams {
            for segment in self.segments(stream, from_ms).await? {
                if segment.state != "sealed" {
                    continue;
                }
                let hash = self.hash(stream, &segment).await?;
                hashes.insert((stream.clone(), segment.id), hash);
            }
        }
        Ok(hashes)
    }

    /// Downloads the named segments and says which of them are not there with the hash they had. A duplicate may be gone after a
    /// while; then its frames are in other segments.
    pub async fn changed(&self, hashes: &Hashes) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let streams: std::collections::BTreeSet<_> = hashes.keys().map(|(stream, _)| stream).collect();
        for stream in streams {
            let listed = self.segments(stream, 0).await?;
            for ((_, id), hash) in hashes.iter().filter(|((of, _), _)| of == stream) {
                let found = listed.iter().find(|segment| segment.id == *id);
                let same = match found {
                    Some(segment) => self.hash(stream, segment).await?.hash == hash.hash,
                    None => self.holds(stream, &listed, hash).await?,
                };
                if !same {
                    let state = found.map_or("not listed", |segment| segment.state.as_str());
                    wrong.push(format!("{stream}/{id} ({state})"));
                }
            }
        }
        Ok(wrong)
    }

    /// Whether a segment that is not there may have been a duplicate of these.
    async fn holds(&self, stream: &str, others: &[Segment], gone: &Sealed) -> Result<bool> {
        if gone.end_ms + RECLAIMED_AFTER_MS > now_ms() {
            return Ok(false);
        }
        let mut held = Account::default();
        for segment in others {
            frames(&self.download(stream, segment).await?)?.account(&mut held);
        }
        Ok(held.missing_of(&gone.frames).is_empty())
    }

    async fn hash(&self, stream: &str, segment: &Segment) -> Result<Sealed> {
        let data = self.download(stream, segment).await?;
        let hash = blake3::hash(&data).to_hex().to_string();
        if segment.state == "sealed" {
            let root = segment.root.as_deref();
            ensure!(
                root == Some(&hash),
                "{stream}/{}: root {root:?}, but {hash} was served",
                segment.id
            );
        }
        let mut account = Account::default();
        frames(&data)?.account(&mut account);
        let end: jiff::Timestamp = segment.end.parse()?;
        Ok(Sealed {
            hash,
            frames: account.held(),
            end_ms: u64::try_from(end.as_millisecond())?,
        })
    }
}

/// What a segment was when it was downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// BLAKE3 of its bytes, in hexadecimal.
    pub hash: String,
    frames: Vec<Span>,
    end_ms: u64,
}

/// Each sealed segment, by stream and identity.
pub type Hashes = BTreeMap<(String, String), Sealed>;

/// The sum of a metric over all its labels in the text format of Prometheus.
pub fn metric_in(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let after = rest
            .strip_prefix(' ')
            .or_else(|| rest.starts_with('{').then(|| rest.rsplit(' ').next())?)?;
        after.trim().parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::metric_in;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_totally 9\nb 1.5\n";
        assert_eq!(metric_in(text, "a_total"), Some(5.0));
        assert_eq!(metric_in(text, "b"), Some(1.5));
        assert_eq!(metric_in(text, "c"), None);
    }
}
