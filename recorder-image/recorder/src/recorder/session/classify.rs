//! From what went wrong in a session to a code for machines and a sentence for people that names the stream and the
//! cure. Credentials never get into either.

use url::Url;

use crate::local::{ErrorCode, StreamError};

/// The longest detail of a library that is passed on, in characters.
const MAX_DETAIL: usize = 160;

/// What went wrong, before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The URL is not one of a camera.
    BadUrl(String),
    /// The name of the host does not resolve.
    Dns(String),
    /// A step of setting up the session took too long.
    SetupTimeout(&'static str),
    /// Frames ceased to come for this many milliseconds.
    Watchdog(u64),
    /// Frames came (this many), but no key frame among them, or after them.
    NoKeyFrame(u64),
    /// The camera ended the session.
    Ended,
    /// The camera answered with this RTSP status.
    Status(u16),
    /// Another failure of the RTSP library, in its words.
    Rtsp(String),
    /// The session describes no video; what it does describe.
    NoVideo(Vec<String>),
    /// The video codec is not supported.
    Codec(String),
    /// Packets were lost on the way: the number of packets.
    Loss(u16),
    /// The task panicked.
    Panicked,
}

impl From<&retina::Error> for Fault {
    fn from(e: &retina::Error) -> Self {
        e.status_code()
            .map_or_else(|| Self::Rtsp(e.to_string()), Self::Status)
    }
}

impl Fault {
    /// The code for machines.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadUrl(_) | Self::NoKeyFrame(_) | Self::Loss(_) => ErrorCode::Malformed,
            Self::Dns(_) => ErrorCode::UnknownHost,
            Self::SetupTimeout(_) | Self::Watchdog(_) => ErrorCode::Timeout,
            Self::Ended => ErrorCode::Unreachable,
            Self::Status(status) => of_status(*status),
            Self::Rtsp(text) => of_text(text),
            Self::NoVideo(_) => ErrorCode::NoVideoTrack,
            Self::Codec(_) => ErrorCode::UnsupportedCodec,
            Self::Panicked => ErrorCode::TaskFailed,
        }
    }

    /// A short word for the gap ledger and the metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Watchdog(_) => "Watchdog",
            Self::Loss(_) => "PacketLoss",
            Self::Panicked => "TaskFailed",
            _ => "Disconnected",
        }
    }

    fn what(&self) -> String {
        match self {
            Self::BadUrl(why) => format!("the URL is not usable ({why})"),
            Self::Dns(why) => format!("the host name does not resolve ({why})"),
            Self::SetupTimeout(step) => format!("no answer to {step} in time"),
            Self::Watchdog(ms) => format!("connected, but no frame for {ms} ms"),
            Self::NoKeyFrame(n) => format!(
                "{n} frames came, but no key frame with parameter sets: set the camera to send one every few seconds"
            ),
            Self::Ended => "the camera closed the connection".into(),
            Self::Status(status) => format!("the camera answered with RTSP status {status}"),
            Self::Rtsp(text) => text.clone(),
            Self::NoVideo(tracks) if tracks.is_empty() => "the session has no tracks".into(),
            Self::NoVideo(tracks) => format!("the session has no video, only {}", tracks.join(", ")),
            Self::Codec(name) => format!("the video codec {name} is not supported"),
            Self::Loss(packets) => format!("{packets} packets were lost"),
            Self::Panicked => "the task of this stream failed and is started again".into(),
        }
    }
}

fn of_status(status: u16) -> ErrorCode {
    match status {
        401 | 403 => ErrorCode::Unauthorized,
        404 | 410 | 454 => ErrorCode::NoVideoTrack,
        408 => ErrorCode::Timeout,
        415 => ErrorCode::UnsupportedCodec,
        500..=599 | 453 => ErrorCode::Unreachable,
        _ => ErrorCode::NotRtsp,
    }
}

fn of_text(text: &str) -> ErrorCode {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if has(&[
        "unable to connect",
        "error writing",
        "connection reset",
        "eof",
        "broken pipe",
    ]) {
        ErrorCode::Unreachable
    } else if has(&["credentials", "unauthorized", "authenticat"]) {
        ErrorCode::Unauthorized
    } else if text.starts_with("timeout") || has(&["timed out"]) {
        ErrorCode::Timeout
    } else if has(&["rtsp framing error", "invalid rtsp"]) {
        ErrorCode::NotRtsp
    } else if has(&["unsupported"]) {
        ErrorCode::UnsupportedCodec
    } else {
        ErrorCode::Malformed
    }
}

fn cure(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownHost => "check the host in the stream's URL and the cluster's DNS",
        ErrorCode::Unreachable => {
            "check that the camera is on, reachable from this node, and has a free session"
        }
        ErrorCode::Unauthorized => "check the user name and the password in the stream's Secret",
        ErrorCode::NotRtsp => "check the port and the path in the stream's URL: it must be RTSP",
        ErrorCode::NoVideoTrack => "check the path in the stream's URL: it must name a video stream",
        ErrorCode::UnsupportedCodec => "set the camera to H.264 or H.265",
        ErrorCode::Timeout => "check the camera and the network between it and this node",
        ErrorCode::Malformed => "check the network, and the camera's firmware",
        ErrorCode::TaskFailed => "please report it with the log of this container",
        ErrorCode::DiskFull => "free space on the volume, or make it larger",
        ErrorCode::DiskFailing => "check the disk of the member's node",
    }
}

/// Words that must not be printed.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// From a user name and a password; both are hidden, in plain and percent-encoded.
    pub fn new(username: Option<&str>, password: Option<&str>) -> Self {
        let mut secrets = Self::default();
        for word in [password, username].into_iter().flatten() {
            secrets.hide(word);
            secrets.hide(&url::form_urlencoded::byte_serialize(word.as_bytes()).collect::<String>());
        }
        secrets
    }

    /// Hides what a URL has behind its host and looks like a credential too: some cameras want them in the query, or in
    /// the path, as in `/user=admin_password=x_channel=1.sdp`.
    #[must_use]
    pub fn of_url(mut self, url: &Url) -> Self {
        let query = url.query().unwrap_or_default();
        for (_, value) in url.query_pairs() {
            self.hide_value(&value);
        }
        for text in [url.path(), query] {
            for pair in text.split(['/', '&', ';', '_', '?']) {
                if let Some((_, value)) = pair.split_once('=') {
                    self.hide_value(value);
                }
            }
            if text.contains('=') {
                self.hide(text.trim_start_matches('/'));
            }
        }
        // A word that contains another one goes first.
        self.0.sort_by_key(|w| std::cmp::Reverse(w.len()));
        self
    }

    fn hide_value(&mut self, value: &str) {
        // A shorter one, as in `channel=1`, would take each `1` out of every message.
        if value.chars().count() >= 3 {
            self.hide(value);
        }
    }

    fn hide(&mut self, word: &str) {
        if !word.is_empty() {
            self.0.push(word.to_owned());
        }
    }

    /// `text` on one line, shortened, without the secrets, and with no more of URLs than their hosts.
    pub fn redact(&self, text: &str) -> String {
        let line = text.lines().next().unwrap_or_default();
        let mut out = hosts_only(line);
        for word in &self.0 {
            out = out.replace(word.as_str(), "***");
        }
        out.chars().take(MAX_DETAIL).collect()
    }
}

/// Leaves `scheme://host:port` of each `scheme://user:password@host:port/path?query` in a text.
fn hosts_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let ends = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
        let (url, after) = tail.split_at(tail.find(ends).unwrap_or(tail.len()));
        // What belongs to the sentence around it.
        let (url, mark) = url.split_at(url.trim_end_matches([')', ']', ',', ';', ':', '.']).len());
        // A password may have a slash in it, which belongs in no URL, but is typed.
        let host = url.rsplit('@').next().unwrap_or_default();
        out.push_str(&host[..host.find(['/', '?', '#']).unwrap_or(host.len())]);
        out.push_str(mark);
        rest = after;
    }
    out + rest
}

/// The address of a stream: scheme, host and port. Some cameras want credentials in the path or the query.
pub fn printable(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme())
}

/// Puts a fault into words.
pub fn explain(stream: &str, address: &str, fault: &Fault, secrets: &Secrets) -> StreamError {
    let code = fault.code();
    let what = secrets.redact(&fault.what());
    StreamError {
        code,
        message: format!("stream {stream} ({address}): {what}; {}", cure(code)),
    }
}

/// The warning about tracks of a session that are not recorded; the video is.
pub fn unrecorded_tracks(stream: &str, tracks: &[String]) -> StreamError {
    StreamError {
        code: ErrorCode::UnsupportedCodec,
        message: format!(
            "stream {stream}: {} is not recorded, only H.264, H.265, AAC and G.711 are; turn it off in the camera if it is not needed",
            tracks.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fault: &Fault) -> StreamError {
        explain(
            "door",
            "rtsp://cam/1",
            fault,
            &Secrets::new(Some("admin"), Some("s3cr#t")),
        )
    }

    #[test]
    fn the_table_of_codes() {
        let rtsp = |s: &str| Fault::Rtsp(s.into());
        let table = [
            (Fault::Dns("x".into()), ErrorCode::UnknownHost),
            (Fault::Status(401), ErrorCode::Unauthorized),
            (Fault::Status(404), ErrorCode::NoVideoTrack),
            (Fault::Status(503), ErrorCode::Unreachable),
            (Fault::Status(400), ErrorCode::NotRtsp),
            (Fault::SetupTimeout("DESCRIBE"), ErrorCode::Timeout),
            (Fault::Watchdog(2000), ErrorCode::Timeout),
            (Fault::NoVideo(vec!["audio/aac".into()]), ErrorCode::NoVideoTrack),
            (Fault::Codec("av1".into()), ErrorCode::UnsupportedCodec),
            (Fault::Panicked, ErrorCode::TaskFailed),
            (
                rtsp("Unable to connect to RTSP server: Connection refused (os error 111)"),
                ErrorCode::Unreachable,
            ),
            (
                rtsp("RTSP framing error: Invalid RTSP message; next 10 bytes"),
                ErrorCode::NotRtsp,
            ),
            (rtsp("Timeout"), ErrorCode::Timeout),
            (rtsp("bad FU-A header\n\nconn: 1.2.3.4"), ErrorCode::Malformed),
        ];
        for (fault, code) in table {
            let error = said(&fault);
            assert_eq!(error.code, code, "{fault:?}");
            assert!(
                error.message.starts_with("stream door (rtsp://cam/1): "),
                "{}",
                error.message
            );
            assert!(error.message.contains("; "), "names a cure: {}", error.message);
            assert!(!error.message.contains('\n'));
        }
    }

    #[test]
    fn credentials_are_never_said() {
        for text in [
            "cannot open rtsp://admin:s3cr#t@cam/1",
            "cannot open rtsp://admin:s3cr%23t@cam/1 (401)",
            "Authorization: Basic admin s3cr#t",
            "two rtsp://a:b@x/ and rtsp://c:d@y/",
        ] {
            let message = said(&Fault::Rtsp(text.into())).message;
            for secret in ["admin", "s3cr", "a:b@", "c:d@"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
    }

    #[test]
    fn addresses_are_scheme_host_and_port() {
        for (url, printed) in [
            ("rtsp://admin:pw@cam:554/a?user=admin&pass=pw", "rtsp://cam:554"),
            ("rtsp://cam/user=admin_password=x_channel=1.sdp", "rtsp://cam"),
            ("rtsp://[2001:db8::1]:8554/x", "rtsp://[2001:db8::1]:8554"),
        ] {
            assert_eq!(printable(&Url::parse(url).unwrap()), printed);
        }
    }

    #[test]
    fn credentials_in_the_path_or_the_query_are_never_said() {
        for url in [
            "rtsp://cam/user=admin_password=hunter2_channel=1.sdp?real_stream",
            "rtsp://cam/s?usr=admin&pwd=hunter2&n=1",
            "rtsp://cam/s;user=admin;pwd=hunter2",
        ] {
            let url = Url::parse(url).unwrap();
            let secrets = Secrets::default().of_url(&url);
            let path = url.path();
            for text in [
                format!("cannot open {url} (404)"),
                format!("Bad response to DESCRIBE of {path}"),
                format!("user admin, password hunter2, \"{url}\", <{url}>"),
            ] {
                let said = explain("door", &printable(&url), &Fault::Rtsp(text), &secrets).message;
                assert!(!said.contains("hunter2") && !said.contains("admin"), "{said}");
            }
            let said = explain("door", &printable(&url), &Fault::Status(401), &secrets).message;
            assert!(
                said.contains("status 401") && said.contains("(rtsp://cam)"),
                "{said}"
            );
        }
    }

    #[test]
    fn of_a_url_in_a_sentence_the_sentence_stays() {
        let redacted = |s: &str| Secrets::default().redact(s);
        assert_eq!(
            redacted("to rtsp://a:b/c@cam:5/x?y: refused"),
            "to rtsp://cam:5: refused"
        );
        assert_eq!(redacted("(see http://h/p), or not"), "(see http://h), or not");
        assert_eq!(redacted("no url"), "no url");
    }
}
