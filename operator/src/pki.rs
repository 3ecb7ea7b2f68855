//! The certificates of a pair: one authority per pair, one certificate per member, one for the operator.
//!
//! Identities are URIs (`gapless://<pair-uid>/member/<member>`): pod addresses are recycled, names of pairs too.

use std::time::Duration;

use crds::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// How long a certificate of a member or of the operator is valid.
pub const LEAF_LIFE: Duration = Duration::from_hours(24 * 90);
/// How long a pair's authority is valid. Its renewal is not automatic: members trust one authority at a time.
const CA_LIFE: Duration = Duration::from_hours(24 * 365 * 20);
/// Certificates are valid from a while ago: clocks differ.
const BACKDATED: Duration = Duration::from_hours(1);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct PkiError(#[from] rcgen::Error);

/// A certificate with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: Secret,
}

/// A pair's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority(pub Identity);

impl Authority {
    /// Makes a new one, at `now` in Unix time.
    pub fn mint(pair_uid: &str, now: Duration) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = authority_params(pair_uid);
        let start = date_time_ymd(1970, 1, 1);
        params.not_before = start + now.saturating_sub(BACKDATED);
        params.not_after = start + now + CA_LIFE;
        let cert = params.self_signed(&key)?.pem();
        let key = Secret::new(key.serialize_pem());
        Ok(Self(Identity { cert, key }))
    }

    /// Whether it is the authority of this pair, not of one of the same name before it, and its key is its own.
    pub fn is_of(&self, pair_uid: &str) -> bool {
        let Identity { cert, key } = &self.0;
        let key_matches = KeyPair::from_pem(key.expose()).is_ok_and(|key| is_key_of(&key, cert));
        key_matches && is_named(cert, &common_name(pair_uid)).unwrap_or(false)
    }

    /// Makes a certificate for an identity, at `now` in Unix time.
    pub fn issue(&self, pair_uid: &str, uri: &str, now: Duration) -> Result<Identity, PkiError> {
        let issuer_key = KeyPair::from_pem(self.0.key.expose())?;
        // The issuer's name and key id follow from the pair's UID and the key; they are those of the certificate.
        let issuer = Issuer::new(authority_params(pair_uid), issuer_key);
        let key = KeyPair::generate()?;
        let cert = leaf_params(uri, now)?.signed_by(&key, &issuer)?.pem();
        let key = Secret::new(key.serialize_pem());
        Ok(Identity { cert, key })
    }

    /// Whether this identity was issued here, to this URI, and has a third of its life left at `now`.
    pub fn still_good(&self, identity: &Identity, uri: &str, now: Duration) -> bool {
        let key_matches =
            KeyPair::from_pem(identity.key.expose()).is_ok_and(|key| is_key_of(&key, &identity.cert));
        key_matches && self.signed(&identity.cert, uri, now).unwrap_or(false)
    }

    fn signed(&self, cert: &str, uri: &str, now: Duration) -> Option<bool> {
        let (_, authority) = parse_x509_pem(self.0.cert.as_bytes()).ok()?;
        let authority = authority.parse_x509().ok()?;
        let (_, leaf) = parse_x509_pem(cert.as_bytes()).ok()?;
        let leaf = leaf.parse_x509().ok()?;
        let issued_here = leaf.verify_signature(Some(authority.public_key())).is_ok();
        let names = leaf.subject_alternative_name().ok()??;
        let named = names.value.general_names.contains(&GeneralName::URI(uri));
        let from = leaf.validity().not_before.timestamp();
        let until = leaf.validity().not_after.timestamp();
        let renew_at = from + (until - from) / 3 * 2;
        let fresh = i64::try_from(now.as_secs()).is_ok_and(|now| (from..renew_at).contains(&now));
        Some(issued_here && named && fresh)
    }
}

fn is_key_of(key: &KeyPair, cert: &str) -> bool {
    let Ok((_, pem)) = parse_x509_pem(cert.as_bytes()) else {
        return false;
    };
    pem.parse_x509()
        .is_ok_and(|cert| *cert.public_key().subject_public_key.data == *key.public_key_raw())
}

fn is_named(cert: &str, name: &str) -> Option<bool> {
    let (_, pem) = parse_x509_pem(cert.as_bytes()).ok()?;
    let cert = pem.parse_x509().ok()?;
    let common_name = cert.subject().iter_common_name().next()?;
    Some(common_name.as_str().ok()? == name)
}

fn common_name(pair_uid: &str) -> String {
    format!("gapless pair {pair_uid}")
}

fn authority_params(pair_uid: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(pair_uid));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn leaf_params(uri: &str, now: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let start = date_time_ymd(1970, 1, 1);
    params.not_before = start + now.saturating_sub(BACKDATED);
    params.not_after = start + now + LEAF_LIFE;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(24 * 365 * 56);
    const URI: &str = "gapless://uid/member/front-0";

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        let authority = Authority::mint("uid", NOW).unwrap();
        let leaf = authority.issue("uid", URI, NOW).unwrap();
        assert!(authority.still_good(&leaf, URI, NOW));
        assert!(authority.still_good(&leaf, URI, NOW + LEAF_LIFE / 2));
        assert!(!authority.still_good(&leaf, URI, NOW + LEAF_LIFE * 2 / 3));
    }

    #[test]
    fn others_certificates_are_replaced() {
        let authority = Authority::mint("uid", NOW).unwrap();
        let stranger = Authority::mint("uid", NOW).unwrap();
        let leaf = stranger.issue("uid", URI, NOW).unwrap();
        assert!(
            !authority.still_good(&leaf, URI, NOW),
            "issued by another authority"
        );
        let leaf = authority.issue("uid", URI, NOW).unwrap();
        assert!(
            !authority.still_good(&leaf, "gapless://uid/member/front-1", NOW),
            "another name"
        );
        let other = authority.issue("uid", URI, NOW).unwrap();
        let mixed = Identity {
            key: other.key,
            ..leaf
        };
        assert!(!authority.still_good(&mixed, URI, NOW), "another key");
    }

    #[test]
    fn debug_shows_no_key() {
        let authority = Authority::mint("uid", NOW).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
