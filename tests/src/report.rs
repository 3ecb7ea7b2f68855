//! Asks a replicator for its report, or tells it to take over, as the operator does: mutual TLS on the control port.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::{
    MemberReport, PATH_REPORT, PATH_TAKE, TakeOutcome, TakeReason, TakeRequest, TakeResponse,
};
use reqwest::RequestBuilder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::de::DeserializeOwned;

const LIMIT: Duration = Duration::from_secs(3);

/// The operator's identity in one pair.
#[derive(Clone)]
pub struct Operator {
    client: reqwest::Client,
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
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .timeout(LIMIT)
            .no_proxy();
        Ok(Self {
            client: client.build()?,
        })
    }

    /// The report of the member whose control port is at `address`.
    pub async fn report(&self, address: &str) -> Result<MemberReport> {
        answer(self.client.get(format!("https://{address}{PATH_REPORT}"))).await
    }

    /// Tells a standby to take over in a switchover from this epoch.
    pub async fn switch_over(&self, address: &str, epoch: u64) -> Result<TakeOutcome> {
        let reason = TakeReason::Switchover;
        let request = self.client.post(format!("https://{address}{PATH_TAKE}"));
        let answer: TakeResponse = answer(request.json(&TakeRequest { epoch, reason })).await?;
        Ok(answer.outcome)
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    let answer = request.send().await?;
    let (status, url) = (answer.status(), answer.url().clone());
    let body = answer.bytes().await?;
    ensure!(
        status.is_success(),
        "{url}: {status}: {}",
        String::from_utf8_lossy(&body)
    );
    serde_json::from_slice(&body).with_context(|| url.to_string())
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
