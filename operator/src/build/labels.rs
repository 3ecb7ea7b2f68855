//! Labels.

use crds::names;
use serde_json::{Value, json};

use crds::member::PairIdentity;

/// Of everything that belongs to a pair.
pub(super) fn pair(id: &PairIdentity) -> Value {
    let mut labels = common(id);
    labels[names::LABEL_INSTANCE] = json!(id.name);
    labels
}

fn common(id: &PairIdentity) -> Value {
    json!({
        names::LABEL_NAME: names::APP,
        names::LABEL_MANAGED_BY: names::MANAGER,
        names::LABEL_COMPONENT: names::COMPONENT,
        names::LABEL_PAIR: id.name,
    })
}

/// Of everything that belongs to a member.
pub(super) fn member(id: &PairIdentity, member: &str) -> Value {
    let mut labels = pair(id);
    labels[names::LABEL_MEMBER] = json!(member);
    labels
}

/// Of a member's volume, which may outlive its pair: without the one by which tools find what they deployed, and remove
/// what nobody asks for any more.
pub(super) fn volume(id: &PairIdentity, member: &str) -> Value {
    let mut labels = common(id);
    labels[names::LABEL_MEMBER] = json!(member);
    labels
}
