//! Who is at the other end. Pod addresses are recycled, so an address proves nothing; the certificate does. Both sides
//! show one that the pair's own authority signed, and its URI names the member (or the operator).

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    version,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why there is no identity, or the peer has none.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or unreadable.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The certificates do not fit.
    #[error("certificates: {0}")]
    Rustls(#[from] rustls::Error),
    /// The verifier cannot be built.
    #[error("certificate authority: {0}")]
    Verifier(String),
    /// The peer's certificate names no one.
    #[error("the peer's certificate has no gapless:// URI")]
    Nameless,
}

/// Both sides' configuration, as it was on disk when it was read.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For dialling.
    pub client: Arc<ClientConfig>,
    /// For listening.
    pub server: Arc<ServerConfig>,
}

impl Identity {
    /// Reads `tls.crt`, `tls.key` and `ca.crt` in `dir`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let (chain, key) = (certificates(&dir.join("tls.crt"))?, key(&dir.join("tls.key"))?);
        let mut roots = RootCertStore::empty();
        for authority in certificates(&dir.join("ca.crt"))? {
            roots.add(authority)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let built = |e: rustls::server::VerifierBuilderError| TlsError::Verifier(e.to_string());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(clients.build().map_err(built)?)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let chain_of = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let verifier = Arc::new(ByAuthority(chain_of.build().map_err(built)?));
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

fn file_error(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|e| file_error(path, e))?;
    found.collect::<Result<_, _>>().map_err(|e| file_error(path, e))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error(path, e))
}

/// Until when the certificate in `dir` is valid, seconds since the Unix epoch.
///
/// # Errors
/// [`TlsError`].
pub fn valid_until(dir: &Path) -> Result<i64, TlsError> {
    let path = dir.join("tls.crt");
    let chain = certificates(&path)?;
    let first = chain.first().ok_or_else(|| file_error(&path, "it is empty"))?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|e| file_error(&path, e))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// The `gapless://` URI in a certificate: who shows it.
///
/// # Errors
/// [`TlsError::Nameless`].
pub fn identity_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<String, TlsError> {
    let first = certificates.and_then(<[_]>::first).ok_or(TlsError::Nameless)?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|_| TlsError::Nameless)?;
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) if uri.starts_with("gapless://") => Some((*uri).to_owned()),
        _ => None,
    };
    names.flatten().find_map(uri).ok_or(TlsError::Nameless)
}

/// Checks that the pair's authority signed the certificate. The name is not an address but the URI, which is compared
/// after the handshake.
#[derive(Debug)]
struct ByAuthority(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            // The chain, the times and the usage were checked before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_until_when_it_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        assert!(valid_until(dir.path()).is_err(), "there is none");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::default();
        wanted.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = wanted.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("tls.crt"), certificate.pem()).unwrap();
        assert_eq!(valid_until(dir.path()).unwrap(), 1_927_843_200);
    }
}
