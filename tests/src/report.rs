//! Asks a replicator for its report, or tells it to take over, as the operator does: mutual TLS on the control port.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::{
    MemberReport, PATH_REPORT, PATH_TAKE, TakeOutcome, TakeReason, TakeRequest, TakeResponse,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(3);

/// The operator's identity in one pair.
#[derive(Clone)]
pub struct Operator {
    connector: TlsConnector,
}

impl Operator {
    /// From the certificate and key, in PEM.
    pub fn new(certificate: &[u8], key: &[u8]) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The report of the member whose control port is at `address`.
    pub async fn report(&self, address: &str) -> Result<MemberReport> {
        self.ask(address, &format!("GET {PATH_REPORT} HTTP/1.0\r\n\r\n"))
            .await
    }

    /// Tells a standby to take over in a switchover from this epoch.
    pub async fn switch_over(&self, address: &str, epoch: u64) -> Result<TakeOutcome> {
        let reason = TakeReason::Switchover;
        let body = serde_json::to_string(&TakeRequest { epoch, reason })?;
        let head = format!(
            "POST {PATH_TAKE} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer: TakeResponse = self.ask(address, &(head + &body)).await?;
        Ok(answer.outcome)
    }

    async fn ask<T: DeserializeOwned>(&self, address: &str, request: &str) -> Result<T> {
        let exchange = async {
            let socket = TcpStream::connect(address).await?;
            let mut tls = self
                .connector
                .connect(ServerName::try_from("member")?, socket)
                .await?;
            // HTTP/1.0: the answer ends with the connection, unchunked
            tls.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            let ended = tls.read_to_end(&mut answer).await;
            ensure!(ended.is_ok() || !answer.is_empty(), "{ended:?}");
            parse(&answer)
        };
        tokio::time::timeout(LIMIT, exchange)
            .await
            .with_context(|| format!("{address} does not answer"))?
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(answer)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}: {body}");
    Ok(serde_json::from_str(body)?)
}

/// The test is the client, and it dialled the address it wanted: any server will do.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
