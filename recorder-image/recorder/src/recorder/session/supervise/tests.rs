//! Sessions as they are asked for, against a camera that answers and sends nothing.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::local::{StreamState, StreamUid};
use crate::recorder::metrics::Metrics;
use crate::recorder::ring::Limits;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                   a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n";

/// What a camera was asked, in order.
#[derive(Debug, Default)]
struct Book {
    asked: Vec<String>,
    /// So many times more it says that it has no session left.
    refuses: usize,
}

#[derive(Clone, Debug, Default)]
struct Camera(Arc<Mutex<Book>>);

impl Camera {
    async fn listen(refuses: usize) -> (Self, Source) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rtsp://{}/stream", listener.local_addr().unwrap());
        let camera = Self::default();
        camera.book(|book| book.refuses = refuses);
        let serving = camera.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(socket));
            }
        });
        (camera, Source::new(&url, None, None).unwrap())
    }

    fn book<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(self, socket: TcpStream) {
        let mut socket = BufReader::new(socket);
        loop {
            let (mut method, mut sequence) = (String::new(), String::new());
            loop {
                let mut line = String::new();
                if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                match line.trim() {
                    "" => break,
                    line if method.is_empty() => method = line.split(' ').next().unwrap().to_owned(),
                    line => sequence += line.strip_prefix("CSeq: ").unwrap_or_default(),
                }
            }
            let answer = self.answer(&method, &sequence);
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, sequence: &str) -> String {
        let refused = self.book(|book| {
            book.asked.push(method.to_owned());
            let refused = method == "SETUP" && book.refuses > 0;
            book.refuses -= usize::from(refused);
            refused
        });
        if refused {
            return format!("RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: {sequence}\r\n\r\n");
        }
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        let (headers, body) = match method {
            "DESCRIBE" => (
                format!(
                    "Content-Type: application/sdp\r\nContent-Length: {}\r\n",
                    SDP.len()
                ),
                SDP,
            ),
            "SETUP" => (format!("{transport}Session: 7;timeout=60\r\n"), ""),
            _ => ("Session: 7\r\n".to_owned(), ""),
        };
        format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{headers}\r\n{body}")
    }

    /// Waits until it was asked this, and nothing else.
    async fn was_asked(&self, methods: &[&str]) {
        for _ in 0..400 {
            if self.book(|book| book.asked == methods) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}, not {methods:?}", self.book(|book| book.asked.clone()));
    }
}

fn stream(demand: Demand) -> Arc<Stream> {
    let limits = Limits {
        max_bytes: 1 << 20,
        preroll: Duration::ZERO,
    };
    let metrics = Arc::new(Metrics::new("front-0"));
    let stream = Stream::new("door".into(), StreamUid::default(), limits, &metrics);
    stream.ask(demand);
    Arc::new(stream)
}

fn state(stream: &Stream) -> (StreamState, bool) {
    let health = stream.health(Duration::from_nanos(crate::clock::boottime_ns()));
    (health.state, health.error.is_some())
}

#[tokio::test]
async fn a_cold_stream_has_a_session_only_while_it_is_needed() {
    let (camera, source) = Camera::listen(0).await;
    let stream = stream(Demand::Unknown);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        state(&stream),
        (StreamState::Connecting, false),
        "nothing is known"
    );
    stream.ask(Demand::Nothing);
    tokio::time::sleep(Duration::from_millis(200)).await;
    camera.was_asked(&[]).await;
    assert_eq!(state(&stream), (StreamState::Idle, false));
    stream.ask(Demand::Needed);
    camera.was_asked(&["DESCRIBE", "SETUP", "PLAY"]).await;
    assert_eq!(state(&stream), (StreamState::Connecting, false));
    stream.ask(Demand::Nothing);
    camera.was_asked(&["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]).await;
    assert_eq!(state(&stream), (StreamState::Idle, false));
}

/// A session was set up, or tried to be, and the stream is idle all the same.
async fn rests_after_asking(stream: &Stream, camera: &Camera) {
    camera.was_asked(&["DESCRIBE", "SETUP"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(state(stream), (StreamState::Idle, false));
}

#[tokio::test]
async fn a_warm_stream_only_has_to_play() {
    let (camera, source) = Camera::listen(0).await;
    let stream = stream(Demand::Session);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    rests_after_asking(&stream, &camera).await;
    stream.ask(Demand::Needed);
    camera.was_asked(&["DESCRIBE", "SETUP", "PLAY"]).await;
}

#[tokio::test]
async fn a_session_that_is_refused_to_a_stream_at_rest_is_no_fault() {
    let (camera, source) = Camera::listen(1).await;
    let stream = stream(Demand::Session);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    rests_after_asking(&stream, &camera).await;
    stream.ask(Demand::Needed);
    camera
        .was_asked(&["DESCRIBE", "SETUP", "DESCRIBE", "SETUP", "PLAY"])
        .await;
}

#[tokio::test]
async fn a_stream_that_is_needed_asks_often_while_another_member_lets_go() {
    let (camera, source) = Camera::listen(4).await;
    let stream = stream(Demand::Needed);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    let four = ["DESCRIBE", "SETUP"].repeat(4);
    camera
        .was_asked(&[&four[..], &["DESCRIBE", "SETUP", "PLAY"]].concat())
        .await;
}

#[tokio::test]
async fn a_camera_that_answers_another_member_again_is_asked_at_once() {
    // The waits after these are 0.2, 0.4, 0.8 and 1.6 s at the most, and half of it at the least.
    let (camera, source) = Camera::listen(4).await;
    let stream = stream(Demand::Always);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    let four = ["DESCRIBE", "SETUP"].repeat(4);
    camera.was_asked(&four).await;
    let asked = [&four[..], &["DESCRIBE", "SETUP", "PLAY"]].concat();
    let refused = std::time::Instant::now();
    stream.answers.send_modify(|answers| *answers += 1);
    while !camera.book(|book| book.asked == asked) {
        assert!(
            refused.elapsed() < Duration::from_millis(800),
            "it waits all the same"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn members_that_take_a_camera_from_each_other_back_off_all_the_same() {
    let (camera, source) = Camera::listen(usize::MAX).await;
    let stream = stream(Demand::Always);
    let _session = supervise(Arc::clone(&stream), Ok(source));
    for _ in 0..150 {
        stream.answers.send_modify(|answers| *answers += 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // At 0, at once, and after waits of at least 0.2, 0.4 and 0.8 s.
    let attempts = camera.book(|book| book.asked.len() / 2);
    assert!((2..=5).contains(&attempts), "{attempts} attempts in 1.5 s");
}
