//! A member's control port: HTTP over mutual TLS, on a connection that is kept.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use crds::member::{MemberReport, PATH_REPORT, PATH_TAKE, TakeOutcome, TakeRequest, TakeResponse};
use crds::names;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Access, Setup, tls};

/// A member that takes longer to answer is silent.
const DEADLINE: Duration = Duration::from_millis(500);
/// A member is trusted with its own pair only, not with the operator's memory.
const MAX_ANSWER: usize = 4 << 20;

/// The way to one member.
#[derive(Debug)]
pub(super) struct MemberClient {
    member: String,
    tls: Option<(Access, Arc<ClientConfig>)>,
    open: Option<(SocketAddr, SendRequest<Full<Bytes>>)>,
}

impl MemberClient {
    pub(super) fn new(member: String) -> Self {
        Self {
            member,
            tls: None,
            open: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.member
    }

    /// What it says of itself; `None` where it says nothing in time, or nothing that makes sense.
    pub(super) async fn report(&mut self, setup: &Setup, pod: Option<&Pod>) -> Option<MemberReport> {
        let address = address(pod?)?;
        let report: anyhow::Result<MemberReport> = self
            .ask(setup, address, Method::GET, PATH_REPORT, Bytes::new())
            .await;
        match report {
            Ok(report) if report.member == self.member => Some(report),
            Ok(report) => {
                tracing::warn!(member = %self.member, says = %report.member, "a member reports as another");
                None
            }
            Err(error) => {
                tracing::debug!(member = %self.member, error = format!("{error:#}"), "no report");
                None
            }
        }
    }

    /// Tells it to take.
    pub(super) async fn take(
        &mut self,
        setup: &Setup,
        pod: Option<&Pod>,
        order: &TakeRequest,
    ) -> anyhow::Result<TakeOutcome> {
        let address = pod.and_then(address).context("the member has no address")?;
        let body = Bytes::from(serde_json::to_vec(order)?);
        let answer: TakeResponse = self.ask(setup, address, Method::POST, PATH_TAKE, body).await?;
        Ok(answer.outcome)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        setup: &Setup,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let asked = timeout(DEADLINE, self.exchange(setup, address, method, path, body)).await;
        let answer = asked.unwrap_or_else(|_| bail!("no answer in {} ms", DEADLINE.as_millis()));
        if answer.is_err() {
            self.open = None;
        }
        Ok(serde_json::from_slice(&answer?)?)
    }

    async fn exchange(
        &mut self,
        setup: &Setup,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let sender = self.connection(setup, address).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        // An order that is refused is an answer, too.
        ensure!(
            status.is_success() || status.as_u16() == 409,
            "{path} answers {status}"
        );
        Ok(body)
    }

    /// The open connection, or a new one where it ended, leads elsewhere, or was made with an old certificate.
    async fn connection(
        &mut self,
        setup: &Setup,
        address: SocketAddr,
    ) -> anyhow::Result<&mut SendRequest<Full<Bytes>>> {
        let config = self.config(setup)?;
        let usable = |(to, sender): &(SocketAddr, SendRequest<_>)| *to == address && !sender.is_closed();
        let sender = match self.open.take().filter(usable) {
            Some((_, mut sender)) => {
                sender.ready().await?;
                sender
            }
            None => connect(config, address).await?,
        };
        let (_, sender) = self.open.insert((address, sender));
        Ok(sender)
    }

    fn config(&mut self, setup: &Setup) -> anyhow::Result<Arc<ClientConfig>> {
        let access = setup.access.as_ref().context("the pair has no keys yet")?;
        if let Some((known, config)) = &self.tls
            && known == access
        {
            return Ok(config.clone());
        }
        self.open = None;
        let uri = names::member_uri(&setup.id.uid, &self.member);
        let config = Arc::new(tls::client(&access.authority, &access.identity, uri)?);
        self.tls = Some((access.clone(), config.clone()));
        Ok(config)
    }
}

fn address(pod: &Pod) -> Option<SocketAddr> {
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, names::PORT_CONTROL))
}

async fn connect(config: Arc<ClientConfig>, address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::IpAddress(address.ip().into());
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
    // It ends with the sender, or with the member.
    tokio::spawn(connection);
    Ok(sender)
}
