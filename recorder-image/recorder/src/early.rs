//! Probes while a process reads its volume, which may take long: it is alive, and not ready yet.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Answers probes until it is dropped.
#[derive(Debug)]
#[must_use = "probes are answered until it is dropped"]
pub struct Early {
    _until_dropped: oneshot::Sender<()>,
}

/// Listens at `address`, and answers probes there until the second value is dropped. Who connects after that waits for the listener,
/// and connections that were kept end: else a viewer would hear for ever that the volume is being read.
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
    let (until_dropped, dropped) = oneshot::channel::<()>();
    let answering = axum::serve(early, router).with_graceful_shutdown(async move { drop(dropped.await) });
    tokio::spawn(async move {
        if let Err(e) = answering.await {
            tracing::warn!("probes are not answered while the volume is read: {e}");
        }
    });
    let early = Early {
        _until_dropped: until_dropped,
    };
    Ok((TcpListener::from_std(listener)?, early))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
