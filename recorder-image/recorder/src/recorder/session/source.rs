//! Where a stream comes from: its address and its credentials, kept apart.

use std::fmt;

use crds::pair::{Audio, Transport};
use url::Url;

use super::classify::{Fault, Secrets, printable};

/// A camera's address, ready for use.
#[derive(Clone)]
pub struct Source {
    /// Without user name and password.
    pub url: Url,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// How its packets come.
    pub transport: Transport,
    /// What becomes of its sound.
    pub audio: Audio,
    /// For messages.
    pub address: String,
    /// What must not be in messages.
    pub secrets: Secrets,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a URL. Credentials beside it win over those within it. Packets come within the RTSP connection, sound with them.
    ///
    /// # Errors
    /// [`Fault::BadUrl`] when it is no `rtsp://` URL with a host.
    pub fn new(url: &str, username: Option<&str>, password: Option<&str>) -> Result<Self, Fault> {
        let mut url = Url::parse(url).map_err(|e| Fault::BadUrl(e.to_string()))?;
        let own = |part: &str| (!part.is_empty()).then(|| decoded(part));
        let username = username.map(str::to_owned).or_else(|| own(url.username()));
        let password = password
            .map(str::to_owned)
            .or_else(|| url.password().and_then(own));
        let secrets = Secrets::new(username.as_deref(), password.as_deref());
        if url.scheme() != "rtsp" {
            return Err(Fault::BadUrl(
                "its scheme must be rtsp; RTSP over TLS is not supported".into(),
            ));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(Fault::BadUrl("it names no host".into()));
        }
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| Fault::BadUrl("its user part cannot be read".into()))?;
        let secrets = secrets.of_url(&url);
        let address = printable(&url);
        let credentials = username.map(|u| (u, password.unwrap_or_default()));
        Ok(Self {
            url,
            credentials,
            transport: Transport::default(),
            audio: Audio::default(),
            address,
            secrets,
        })
    }
}

fn decoded(part: &str) -> String {
    // A form decoder would turn '+' into a space, so '+' is kept out of its sight.
    let part = part.replace('+', "%2B");
    let pair = format!("={part}");
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, v)| v.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let source = Source::new("rtsp://ad%40min:p%3Aw+1@cam:554/s?x=1", None, None).unwrap();
        assert_eq!(source.url.as_str(), "rtsp://cam:554/s?x=1");
        assert_eq!(source.credentials, Some(("ad@min".into(), "p:w+1".into())));
        assert_eq!(source.address, "rtsp://cam:554");
        assert!(!format!("{source:?}").contains("p:w"));
    }

    #[test]
    fn credentials_beside_the_url_win() {
        let source = Source::new("rtsp://a:b@cam/", Some("c"), Some("d")).unwrap();
        assert_eq!(source.credentials, Some(("c".into(), "d".into())));
    }

    #[test]
    fn what_is_no_camera_is_refused() {
        for url in ["rtsps://cam/", "http://cam/", "rtsp:///x", "cam"] {
            assert!(
                matches!(Source::new(url, None, None), Err(Fault::BadUrl(_))),
                "{url}"
            );
        }
    }
}
