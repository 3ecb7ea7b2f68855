//! Whether sound is beside the pictures. ffprobe, an outside judge, says when each packet of a segment plays.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// Times that are no further apart than this follow each other, seconds.
const NEAR: f64 = 0.03;

/// From and to, seconds since 1970.
type Time = (f64, f64);

/// The sound of a stream, held against its pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    /// What ffprobe calls the codecs of all segments.
    pub codecs: Vec<String>,
    /// For how many seconds there are pictures.
    pub pictures: f64,
    /// For how many of them there is no sound.
    pub silent: f64,
    /// The longest time of these, seconds.
    pub longest: f64,
}

/// When pictures and sound of some segments play.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    codecs: Vec<String>,
    pictures: Vec<Time>,
    sound: Vec<Time>,
}

impl Heard {
    /// Adds the packets of a segment, and fails if a decoder complains of its sound.
    pub async fn add(&mut self, segment: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), segment)?;
        let found = probe(file.path()).await?;
        for stream in found["streams"].as_array().context("no streams")? {
            let (index, kind) = (&stream["index"], stream["codec_type"].as_str());
            let times = times(&found, index)?;
            match kind {
                Some("video") => self.pictures.extend(times),
                Some("audio") => {
                    self.codecs
                        .push(stream["codec_name"].as_str().unwrap_or_default().to_owned());
                    self.sound.extend(times);
                    decodes(file.path()).await?;
                }
                _ => {}
            }
        }
        self.codecs.sort_unstable();
        self.codecs.dedup();
        Ok(())
    }

    /// What a window of time lacks.
    pub fn within(&self, window: Time) -> Sound {
        let pictures = joined(self.pictures.clone());
        let cut = |(from, to): &Time| (from.max(window.0), to.min(window.1));
        let pictures: Vec<Time> = pictures.iter().map(cut).filter(|(from, to)| from < to).collect();
        let silent = without(&pictures, &joined(self.sound.clone()));
        let length = |times: &[Time]| times.iter().map(|(from, to)| to - from).sum();
        Sound {
            codecs: self.codecs.clone(),
            pictures: length(&pictures),
            silent: length(&silent),
            longest: silent.iter().map(|(from, to)| to - from).fold(0.0, f64::max),
        }
    }
}

async fn probe(file: &Path) -> Result<Value> {
    let args = "-loglevel error -show_entries stream=index,codec_type,codec_name:packet=stream_index,pts_time,duration_time -of json";
    let output = Command::new("ffprobe")
        .args(args.split(' '))
        .arg(file)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ffprobe: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn decodes(file: &Path) -> Result<()> {
    let output = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0:a", "-f", "null", "-"])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty() && output.status.success(), "the sound: {said}");
    Ok(())
}

fn times(found: &Value, index: &Value) -> Result<Vec<Time>> {
    let number = |packet: &Value, field: &str| {
        let text = packet[field]
            .as_str()
            .with_context(|| format!("{packet} has no {field}"))?;
        Ok::<f64, anyhow::Error>(text.parse()?)
    };
    let packets = found["packets"].as_array().context("no packets")?;
    let of = packets.iter().filter(|packet| packet["stream_index"] == *index);
    of.map(|packet| {
        let from = number(packet, "pts_time")?;
        Ok((from, from + number(packet, "duration_time")?))
    })
    .collect()
}

/// The times in order, those that follow each other as one.
fn joined(mut times: Vec<Time>) -> Vec<Time> {
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut out: Vec<Time> = Vec::new();
    for (from, to) in times {
        match out.last_mut() {
            Some(before) if from <= before.1 + NEAR => before.1 = before.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

/// What of `all` is in none of `others`; both in order.
fn without(all: &[Time], others: &[Time]) -> Vec<Time> {
    let mut out = Vec::new();
    for (from, to) in all {
        let mut at = *from;
        for (begin, end) in others.iter().filter(|(begin, end)| end > from && begin < to) {
            if *begin > at {
                out.push((at, *begin));
            }
            at = at.max(*end);
        }
        if at < *to {
            out.push((at, *to));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_found_where_it_is() {
        let heard = Heard {
            codecs: vec!["aac".to_owned()],
            pictures: vec![(0.0, 4.0), (4.01, 10.0), (20.0, 30.0)],
            sound: vec![(2.0, 5.0), (0.0, 1.0), (6.0, 29.0)],
        };
        let found = heard.within((0.0, 100.0));
        assert!((found.pictures - 20.0).abs() < 1e-9, "{found:?}");
        assert!(
            (found.silent - 3.0).abs() < 1e-9 && (found.longest - 1.0).abs() < 1e-9,
            "{found:?}"
        );
        let found = heard.within((6.0, 25.0));
        assert!(
            found.silent.abs() < 1e-9 && (found.pictures - 9.0).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!(Heard::default().within((0.0, 1.0)), Sound::default());
    }
}
