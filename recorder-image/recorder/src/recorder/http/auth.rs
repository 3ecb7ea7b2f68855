//! The viewer's token.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use super::error::ApiError;
use super::query;

/// The token in force. It is kept as a hash, so that comparing takes the same time for every guess.
#[derive(Debug)]
pub struct Token {
    path: PathBuf,
    hash: RwLock<Option<blake3::Hash>>,
}

impl Token {
    /// The token in the file at `path`, read by [`Self::reload`].
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            hash: RwLock::new(None),
        }
    }

    /// Reads the file again; a token that cannot be read leaves the last one in force.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn reload(&self) -> std::io::Result<()> {
        let text = std::fs::read_to_string(&self.path)?;
        let token = text.trim();
        if token.is_empty() {
            return Err(std::io::Error::other("the viewer token is empty"));
        }
        *self.hash.write().unwrap_or_else(PoisonError::into_inner) = Some(blake3::hash(token.as_bytes()));
        Ok(())
    }

    /// Whether `given` is the token. `blake3::Hash` compares in constant time.
    pub fn allows(&self, given: &str) -> bool {
        let hash = *self.hash.read().unwrap_or_else(PoisonError::into_inner);
        hash.is_some_and(|h| h == blake3::hash(given.as_bytes()))
    }
}

/// Lets a request pass that carries the token, as a header or in the query.
pub async fn check(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer = header
        .and_then(|v| v.strip_prefix("Bearer "))
        .map(str::trim)
        .map(str::to_owned);
    let given = bearer.or_else(|| query::value(request.uri().query().unwrap_or_default(), "token"));
    match given {
        Some(given) if token.allows(&given) => next.run(request).await,
        Some(_) => ApiError::unauthorized("the token is not the one of this pair").into_response(),
        None => ApiError::unauthorized("no token was given").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_reloaded_and_a_missing_one_allows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::new(&path);
        assert!(token.reload().is_err());
        assert!(!token.allows(""));
        std::fs::write(&path, "one\n").unwrap();
        token.reload().unwrap();
        assert!(token.allows("one") && !token.allows("two"));
        std::fs::write(&path, "  ").unwrap();
        assert!(token.reload().is_err());
        assert!(token.allows("one"));
    }
}
