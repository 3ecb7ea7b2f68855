//! Probes while a process reads its volume, which may take long: it is alive, and not ready yet.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::listen::{self, Limits, Routers};

/// The most connections meanwhile. The volume is read with the descriptors that are left.
const CONNECTIONS: usize = 512;

/// Answers probes until it is dropped.
#[derive(Debug)]
#[must_use = "probes are answered until it is dropped"]
pub struct Early {
    answering: AbortHandle,
}

impl Drop for Early {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// Listens at `address`, and answers probes there until the second value is dropped. Who connects after that waits for the listener.
/// A connection is answered once, and ends: else a viewer would hear for ever that the volume is being read.
///
/// # Errors
/// When the address cannot be listened at.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, Early)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let early = TcpListener::from_std(listener.try_clone()?)?;
    let reading = (StatusCode::SERVICE_UNAVAILABLE, "the volume is being read\n");
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(move || async move { reading });
    let routers = Routers {
        all: router.clone(),
        crowded: router,
    };
    // Each is above the limit: it asks once, and soon.
    let limits = Limits {
        connections: 0,
        spare: CONNECTIONS,
        ..Limits::default()
    };
    let answering = tokio::spawn(listen::serve(early, "a probe", routers, limits));
    let early = Early {
        answering: answering.abort_handle(),
    };
    Ok((TcpListener::from_std(listener)?, early))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn asked(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_request_that_is_never_whole_is_not_waited_for() {
        let (listener, early) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let begin = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HT").await.unwrap();
            stream
        };
        let ended = async |mut stream: TcpStream| {
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
            assert!(read.is_ok(), "it is kept");
        };
        ended(begin().await).await;
        let half = begin().await;
        // It is accepted: else it would wait for who serves next.
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(early);
        ended(half).await;
    }

    #[tokio::test]
    async fn no_cache_keeps_that_a_volume_is_read() {
        let (listener, _early) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let answer = asked(listener.local_addr().unwrap(), "/v1/streams").await;
        assert!(answer.contains("\r\ncache-control: no-store\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_process_that_reads_is_alive_and_not_ready_and_then_serves_at_the_same_place() {
        let (listener, early) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(asked(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(asked(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(asked(address, "/v1/streams").await.starts_with("HTTP/1.1 503"));
        let mut kept = TcpStream::connect(address).await.unwrap();
        kept.write_all(b"GET /v1/streams HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 16];
        kept.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 503"));
        drop(early);
        kept.read_to_end(&mut Vec::new()).await.unwrap();
        let router = Router::new().route("/readyz", get(|| async { "ok" }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        assert!(asked(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    }
}
