//! Cameras that cannot be recorded: each is named with its reason and cure, and the others lose nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::member::StreamConfig;
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, judge, watched};
use e2e::members::{Pair, with_login};
use e2e::net::free_port;
use e2e::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::seconds;

const GOOD: usize = 2;
const PASSWORD: &str = "c0rrect-h0rse";
const WRONG: &str = "wr0ng-battery";

#[tokio::test]
async fn each_bad_stream_says_why_and_the_others_go_on() {
    let cameras = Cameras::start(Options::loopback(GOOD).unwrap()).await.unwrap();
    let locked = Options::loopback(2).unwrap().login(&format!("viewer:{PASSWORD}"));
    let locked = Cameras::start(locked).await.unwrap();
    let mut pair = Pair::prepare(&cameras).unwrap();
    let nonsense = serve_nonsense().await.unwrap();
    let bad = [
        (
            "host",
            "rtsp://no-such-host.invalid/live".to_owned(),
            "UnknownHost",
        ),
        (
            "port",
            format!("rtsp://127.0.0.1:{}/live", free_port().unwrap()),
            "Unreachable",
        ),
        ("password", locked.url(0), "Unauthorized"),
        ("anonymous", locked.url(1), "Unauthorized"),
        ("nonsense", format!("rtsp://127.0.0.1:{nonsense}/live"), "NotRtsp"),
        ("audio", cameras.url_of("audio-only"), "NoVideoTrack"),
        ("codec", cameras.url_of("mjpeg"), "UnsupportedCodec"),
    ];
    for (name, url, _) in &bad {
        let mut stream = configured(name, url);
        if *name == "password" {
            with_login(&mut stream, "viewer", WRONG);
        }
        pair.config.streams.push(stream);
    }
    let mut fine = configured("login", &locked.url(0));
    with_login(&mut fine, "viewer", PASSWORD);
    pair.config.streams.push(fine);
    pair.write_config().unwrap();
    pair.start_all().unwrap();

    for member in &pair.members {
        for (name, _, code) in &bad {
            until(
                &format!("{name} fails with {code}"),
                Duration::from_secs(30),
                async || fails_with(&member.api().stream(name).await?, code),
            )
            .await
            .unwrap();
        }
        for name in ["cam-0", "cam-1", "login"] {
            until(
                &format!("{name} is received"),
                Duration::from_secs(20),
                async || Ok((member.api().stream(name).await?.state == "receiving").then_some(())),
            )
            .await
            .unwrap();
        }
    }
    let start = Start::now(&cameras).await.unwrap();
    seconds(8).await;
    let apis = pair.apis();
    let verdict = judge(&cameras, &watched(GOOD), start, &apis, &apis[1])
        .await
        .unwrap();
    verdict.ensure_perfect().unwrap();
    no_credential_is_told(&pair).await;
}

fn configured(name: &str, url: &str) -> StreamConfig {
    let uid = uuid::Uuid::new_v4();
    StreamConfig {
        name: name.to_owned(),
        uid,
        url: url.to_owned(),
        username: None,
        password: None,
        detect_frozen: false,
        transport: crds::pair::Transport::default(),
        audio: crds::pair::Audio::default(),
    }
}

fn fails_with(info: &e2e::api::StreamInfo, code: &str) -> Result<Option<()>> {
    let error = info.error.as_ref();
    let said = error.map(|error| error.code.as_str());
    ensure!(said == Some(code) && info.state != "receiving", "{info:?}");
    let message = error.map_or("", |error| &error.message);
    ensure!(
        message.contains(&info.name),
        "the message does not name the stream: {message}"
    );
    Ok(Some(()))
}

/// Neither logs nor the API nor reports have a password in them.
async fn no_credential_is_told(pair: &Pair) {
    for (index, member) in pair.members.iter().enumerate() {
        let mut told = member.logs().unwrap();
        for info in member.api().streams().await.unwrap() {
            told += &info.error.map_or(String::new(), |error| error.message);
        }
        told += &serde_json::to_string(&pair.report(index).await.unwrap()).unwrap();
        for secret in [PASSWORD, WRONG, e2e::members::TOKEN] {
            assert!(!told.contains(secret), "{} tells {secret}", member.name());
        }
    }
}

/// A server that answers whatever it gets with something that is not RTSP.
async fn serve_nonsense() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(b"220 mail.example ESMTP ready\r\n").await;
        }
    });
    Ok(port)
}
