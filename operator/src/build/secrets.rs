//! Secrets: the rendered configuration, certificates, the viewers' token.

use std::collections::BTreeMap;

use crds::member::{PairIdentity, RenderedConfig};
use crds::{Secret, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as SecretObject;
use serde_json::{Value, json};
use uuid::Uuid;

use super::labels;
use super::object::Object;
use crate::mint::Minted;
use crate::pki::Identity;

/// Key of the UIDs of every stream that the pair ever had, in the Secret of the configuration.
pub(crate) const KEY_STREAMS: &str = "streams.json";
/// Annotation of that Secret while it waits for the volumes to tell which streams they have.
pub(crate) const ANNOTATION_RECOVERING: &str = "gapless.video/recovering";
/// Key of the operator's certificate in the CA's Secret.
pub(crate) const KEY_OPERATOR_CERT: &str = "operator.crt";
/// Key of the operator's key in the CA's Secret.
pub(crate) const KEY_OPERATOR_KEY: &str = "operator.key";

/// The rendered configuration, and beside it every UID that was ever minted.
pub(super) fn config(
    id: &PairIdentity,
    config: &RenderedConfig,
    minted: Option<&BTreeMap<String, Uuid>>,
) -> Object {
    // The process that talks to strangers knows no camera's password.
    let without = RenderedConfig {
        streams: Vec::new(),
        ..config.clone()
    };
    let data = json!({
        names::KEY_CONFIG: text(config),
        names::KEY_REPLICATOR_CONFIG: text(&without),
        KEY_STREAMS: text(&minted),
    });
    let mut fields = opaque(&data);
    if minted.is_none() {
        fields["metadata"]["annotations"][ANNOTATION_RECOVERING] = json!("true");
    }
    secret(id, &names::config_secret(&id.name), &fields)
}

/// As JSON text; none of these types can fail.
pub(super) fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The pair's authority, and the operator's identity. No pod mounts it.
pub(super) fn authority(id: &PairIdentity, minted: &Minted) -> Object {
    let data = json!({
        names::KEY_CA: minted.authority.0.cert,
        names::KEY_CA_KEY: minted.authority.0.key,
        KEY_OPERATOR_CERT: minted.operator.cert,
        KEY_OPERATOR_KEY: minted.operator.key,
    });
    secret(id, &names::ca_secret(&id.name), &opaque(&data))
}

/// A member's certificate.
pub(super) fn member(id: &PairIdentity, ordinal: u8, identity: &Identity, authority: &Identity) -> Object {
    let data = json!({
        names::KEY_CERT: identity.cert,
        names::KEY_KEY: identity.key,
        names::KEY_CA: authority.cert,
    });
    let fields = json!({ "type": "kubernetes.io/tls", "data": encoded(&data) });
    secret(id, &names::tls_secret(&id.name, ordinal), &fields)
}

/// The viewers' token.
pub(super) fn viewer(id: &PairIdentity, token: &Secret) -> Object {
    let data = json!({ names::KEY_TOKEN: token });
    secret(id, &names::viewer_secret(&id.name), &opaque(&data))
}

fn opaque(data: &Value) -> Value {
    json!({ "type": "Opaque", "data": encoded(data) })
}

/// Base64, as `data` wants it. (`stringData` is written only, so server-side apply could not own it.)
fn encoded(data: &Value) -> Value {
    let entries = data.as_object().into_iter().flatten();
    let encode = |(key, text): (&String, &Value)| {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        (key.clone(), json!(ByteString(bytes)))
    };
    Value::Object(entries.map(encode).collect())
}

fn secret(id: &PairIdentity, name: &str, fields: &Value) -> Object {
    Object::new::<SecretObject>(id, name, &labels::pair(id), fields.clone()).owned_by(id)
}
