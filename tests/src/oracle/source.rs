//! Where bytes come from: a member's HTTP API, or files.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{StatusCode, header};
use url::Url;

/// Reads `http:` and `file:` URLs, whole or in part.
#[derive(Clone)]
pub struct Source {
    client: reqwest::Client,
    token: Option<String>,
}

impl Source {
    /// A reader that gives up on a request after 20 s.
    pub fn new() -> Self {
        // The client wants a provider even if it never speaks TLS; another one may be installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build();
        let client = client.expect("the settings are constant");
        Self { client, token: None }
    }

    /// The same, with a token for each request (`Authorization: Bearer`).
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Reads a URL; fails unless it is there.
    pub async fn get(&self, url: &Url, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        if url.scheme() == "file" {
            let path = url.to_file_path().ok().context("not the URL of a file")?;
            let data = tokio::fs::read(&path)
                .await
                .with_context(|| path.display().to_string())?;
            return part(data, range);
        }
        let mut request = self.client.get(url.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(range) = &range {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let wanted = if range.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        let (status, place) = (answer.status(), url.path());
        let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        ensure!(status == wanted, "{place}: {status}: {text}");
        if let Some(range) = range {
            let len = range.end - range.start;
            ensure!(body.len() as u64 == len, "{place}: {} bytes of {len}", body.len());
        }
        Ok(body.into())
    }

    /// Reads JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(&self, url: &Url) -> Result<T> {
        let body = self.get(url, None).await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{}: {}", url.path(), String::from_utf8_lossy(&body)))
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

fn part(data: Vec<u8>, range: Option<Range<u64>>) -> Result<Vec<u8>> {
    let Some(range) = range else { return Ok(data) };
    let wanted = range.start as usize..range.end as usize;
    Ok(data
        .get(wanted)
        .context("a range beyond the end of the file")?
        .to_vec())
}
