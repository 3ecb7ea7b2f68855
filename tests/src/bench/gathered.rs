//! Samples of failovers, gathered over runs in a file of JSON lines: one in a hundred wants more samples than a run has.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// A failover, and under which conditions it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gathered {
    /// What ended the primary.
    pub kind: String,
    /// How many streams the pair recorded.
    pub streams: usize,
    /// Whether a process that never waits ran on each core.
    pub loaded: bool,
    /// The day.
    pub date: jiff::civil::Date,
    /// From the fault until the standby wrote every stream, milliseconds.
    pub recording_ms: u64,
    /// From the fault until the Service led to the new primary, milliseconds.
    pub authority_ms: u64,
    /// Of how much a viewer of each stream saw nothing, milliseconds.
    pub viewers_ms: Vec<u64>,
}

impl Gathered {
    /// Whether both were measured under the same conditions.
    fn like(&self, other: &Self) -> bool {
        (&self.kind, self.streams, self.loaded) == (&other.kind, other.streams, other.loaded)
    }

    /// Adds this to a file, which is made if it is not there.
    pub fn append(&self, path: &Path) -> Result<()> {
        let named = || path.display().to_string();
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(named)?;
        writeln!(file, "{}", serde_json::to_string(self)?).with_context(named)
    }
}

/// All that a file has.
pub fn load(path: &Path) -> Result<Vec<Gathered>> {
    let lines = BufReader::new(File::open(path).with_context(|| path.display().to_string())?).lines();
    let numbered = lines.zip(1..);
    numbered
        .map(|(line, number)| {
            let found = serde_json::from_str(&line?);
            found.with_context(|| format!("{}, line {number}", path.display()))
        })
        .collect()
}

/// A row of docs/benchmarks.md for all conditions of which there are samples.
pub fn rows(all: &[Gathered]) -> Vec<String> {
    let mut rows = Vec::new();
    for (place, first) in all.iter().enumerate() {
        if all[..place].iter().any(|earlier| earlier.like(first)) {
            continue;
        }
        let alike = || all.iter().filter(|other| other.like(first));
        let viewers = Spread::of(alike().flat_map(|one| one.viewers_ms.iter().copied()));
        rows.push(format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            first.kind,
            first.streams,
            if first.loaded { "loaded" } else { "idle" },
            alike().count(),
            Spread::of(alike().map(|one| one.recording_ms)).tail(),
            Spread::of(alike().map(|one| one.authority_ms)).tail(),
            viewers.len(),
            viewers.tail(),
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{Gathered, load, rows};

    fn sample(kind: &str, authority_ms: u64) -> Gathered {
        Gathered {
            kind: kind.to_owned(),
            streams: 2,
            loaded: false,
            date: jiff::civil::date(2026, 11, 29),
            recording_ms: 200,
            authority_ms,
            viewers_ms: vec![0, 40],
        }
    }

    #[test]
    fn runs_of_the_same_conditions_are_one_row() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("samples.jsonl");
        let all = [
            sample("node-off", 900),
            sample("node-freeze", 7),
            sample("node-off", 910),
        ];
        for one in &all {
            one.append(&file).unwrap();
        }
        let loaded = load(&file).unwrap();
        assert_eq!(loaded, all);
        let expected = [
            "| `node-off` | 2 | idle | 2 | 200 / 200 / – / 200 | 900 / 910 / – / 910 | 4 | 0 / 40 / – / 40 |",
            "| `node-freeze` | 2 | idle | 1 | 200 / 200 / – / 200 | 7 / 7 / – / 7 | 2 | 0 / 40 / – / 40 |",
        ];
        assert_eq!(rows(&loaded), expected);
        std::fs::write(&file, "{}\n").unwrap();
        let error = format!("{:#}", load(&file).unwrap_err());
        assert!(error.contains("samples.jsonl, line 1: missing field"), "{error}");
    }
}
