//! How everything that belongs to a pair is called.

/// The API group.
pub const GROUP: &str = "gapless.video";
/// The field manager of every server-side apply, and the `managed-by` label.
pub const MANAGER: &str = "gapless-operator";
/// Members of a pair, in the order in which they are preferred.
pub const ORDINALS: [u8; 2] = [0, 1];
/// The longest name of a pair: it is part of a label's value and of the names of Services, at most 63 bytes each.
pub const MAX_PAIR_NAME: usize = 50;

/// Label: the pair's name.
pub const LABEL_PAIR: &str = "gapless.video/pair";
/// Label: the member's name.
pub const LABEL_MEMBER: &str = "gapless.video/member";
/// Label: the program, [`APP`].
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: the pair's name, as tools know it. Volumes do not have it: Argo CD removes what has it and was not asked for.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: who manages it, [`MANAGER`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: the part, [`COMPONENT`].
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// The value of [`LABEL_NAME`].
pub const APP: &str = "gapless";
/// The value of [`LABEL_COMPONENT`].
pub const COMPONENT: &str = "recorder";

/// Annotation of a volume: what Argo CD must not do to it. Media has one owner, its user.
pub const ANNOTATION_ARGO_SYNC: &str = "argocd.argoproj.io/sync-options";
/// The value of [`ANNOTATION_ARGO_SYNC`].
pub const ARGO_KEEP: &str = "Prune=false,Delete=false";
/// Annotation of the Lease and of EndpointSlices: the epoch, in decimal.
pub const ANNOTATION_EPOCH: &str = "gapless.video/epoch";
/// Annotation of the read Service's EndpointSlice: the member that its peer suspects and took out.
pub const ANNOTATION_SUSPECTED: &str = "gapless.video/suspected";
/// Annotation of the Lease: the leash, in milliseconds.
pub const ANNOTATION_LEASH_MS: &str = "gapless.video/leash-ms";
/// Annotation of the Lease: a counter that every swap raises.
pub const ANNOTATION_COUNTER: &str = "gapless.video/counter";
/// Annotation of the Lease: the store id of the one follower whose answers count.
pub const ANNOTATION_FOLLOWER_STORE: &str = "gapless.video/follower-store";
/// Annotation of a pod: the hash of the rendered configuration. It changes without a restart.
pub const ANNOTATION_CONFIG_HASH: &str = "gapless.video/config-hash";
/// Annotation of a pod: the hash of the template it was made from. Another one means a rolling update.
pub const ANNOTATION_POD_HASH: &str = "gapless.video/pod-hash";
/// Annotation of a pair, set by its user: move the primary to this member. Removed when done.
pub const ANNOTATION_SWITCHOVER: &str = "gapless.video/switchover";

/// Port of the recorder's HTTP API.
pub const PORT_HTTP: u16 = 8080;
/// Port of the replicator's probes and metrics.
pub const PORT_STATUS: u16 = 8081;
/// Port on which members hear each other.
pub const PORT_PEER: u16 = 7443;
/// Port on which a member hears the operator.
pub const PORT_CONTROL: u16 = 7444;
/// Name of [`PORT_HTTP`].
pub const PORT_NAME_HTTP: &str = "http";
/// Name of [`PORT_STATUS`].
pub const PORT_NAME_STATUS: &str = "status";
/// Name of [`PORT_PEER`].
pub const PORT_NAME_PEER: &str = "peer";
/// Name of [`PORT_CONTROL`].
pub const PORT_NAME_CONTROL: &str = "control";

/// The container that records.
pub const CONTAINER_RECORDER: &str = "recorder";
/// The container that replicates.
pub const CONTAINER_REPLICATOR: &str = "replicator";
/// User, group and file-system group of a pod.
pub const UID: i64 = 65532;

/// Where the volume of a member is mounted.
pub const PATH_MEDIA: &str = "/media";
/// Where the two containers meet.
pub const PATH_RUN: &str = "/run/gapless";
/// Where the rendered configuration is mounted.
pub const PATH_CONFIG: &str = "/etc/gapless/config";
/// Where the viewers' token is mounted (recorder only).
pub const PATH_VIEWER: &str = "/etc/gapless/viewer";
/// Where the certificates are mounted (replicator only).
pub const PATH_TLS: &str = "/etc/gapless/tls";
/// Where the projected token is mounted (replicator only).
pub const PATH_SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Key of the rendered configuration in its Secret.
pub const KEY_CONFIG: &str = "config.json";
/// Key of the configuration without streams and their credentials, for the replicator, in the same Secret.
pub const KEY_REPLICATOR_CONFIG: &str = "replicator.json";
/// Key of the viewers' token in its Secret.
pub const KEY_TOKEN: &str = "token";
/// Key of a certificate in its Secret.
pub const KEY_CERT: &str = "tls.crt";
/// Key of a private key in its Secret.
pub const KEY_KEY: &str = "tls.key";
/// Key of the pair's CA certificate in its Secret.
pub const KEY_CA: &str = "ca.crt";
/// Key of the pair's CA key, in the CA Secret only.
pub const KEY_CA_KEY: &str = "ca.key";

/// The CEL rule of a field that names an object (a DNS-1123 subdomain). Its length is bounded beside it.
pub(crate) const SUBDOMAIN_RULE: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// Whether an object can have this name, as by the rule of the fields that name one, and 253 bytes. A request with another one would be about something else.
pub fn is_subdomain(name: &str) -> bool {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.iter().all(|end| end.is_some_and(letter)) && label.bytes().all(|c| letter(c) || c == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A member, its pod and its Service: `front-0`.
pub fn member(pair: &str, ordinal: u8) -> String {
    format!("{pair}-{ordinal}")
}

/// Both members, in the order in which they are preferred.
pub fn members(pair: &str) -> [String; 2] {
    ORDINALS.map(|ordinal| member(pair, ordinal))
}

/// A member's volume: `media-front-0`.
pub fn claim(member: &str) -> String {
    format!("media-{member}")
}

/// The Secret of the rendered configuration.
pub fn config_secret(pair: &str) -> String {
    format!("{pair}-config")
}

/// The Secret of a member's certificate.
pub fn tls_secret(pair: &str, ordinal: u8) -> String {
    format!("{pair}-tls-{ordinal}")
}

/// The Secret of the pair's CA and of the operator's certificate.
pub fn ca_secret(pair: &str) -> String {
    format!("{pair}-ca")
}

/// The Secret of the viewers' token.
pub fn viewer_secret(pair: &str) -> String {
    format!("{pair}-viewer")
}

/// ServiceAccount, Role and RoleBinding of the replicators.
pub fn replicator_account(pair: &str) -> String {
    format!("{pair}-replicator")
}

/// The Service, and its slice, that lead to any member. Also the name of the Lease and of the disruption budget.
pub fn read_service(pair: &str) -> String {
    pair.to_owned()
}

/// The Service, and its slice, that lead to the primary.
pub fn primary_service(pair: &str) -> String {
    format!("{pair}-primary")
}

/// The Lease.
pub fn lease(pair: &str) -> String {
    pair.to_owned()
}

/// The identity in a member's certificate.
pub fn member_uri(pair_uid: &str, member: &str) -> String {
    format!("gapless://{pair_uid}/member/{member}")
}

/// The identity in the operator's certificate.
pub fn operator_uri(pair_uid: &str) -> String {
    format!("gapless://{pair_uid}/operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits_every_object() {
        let pair = "p".repeat(MAX_PAIR_NAME);
        for name in [
            claim(&member(&pair, 0)),
            replicator_account(&pair),
            primary_service(&pair),
        ] {
            assert!(name.len() <= 63, "{name} is too long");
        }
    }
}
