//! Whose an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::member::PairIdentity;
use crate::names;

/// The kind of volumes, the only one that a user may bring along.
const CLAIM: &str = "PersistentVolumeClaim";

impl PairIdentity {
    /// Whether an object that is called like one of this pair's is the pair's: it has the pair as an owner, by its UID, or was made for one
    /// of the same name before it, by its labels. A volume that nobody owns is adopted by its name alone.
    pub fn owns(&self, kind: &str, metadata: &ObjectMeta) -> bool {
        let owners = || metadata.owner_references.iter().flatten();
        let label = |key: &str| metadata.labels.as_ref()?.get(key).map(String::as_str);
        let managed = label(names::LABEL_MANAGED_BY) == Some(names::MANAGER);
        let labelled = managed && label(names::LABEL_PAIR) == Some(&self.name);
        let brought = kind == CLAIM && owners().next().is_none();
        labelled || brought || owners().any(|owner| owner.uid == self.uid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_ours_by_its_owner_or_its_labels_and_a_volume_without_an_owner_too() {
        let owner = |uid: &str| json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Any", "name": "any", "uid": uid }] });
        let labels = |manager: &str, pair: &str| json!({ "labels": { names::LABEL_MANAGED_BY: manager, names::LABEL_PAIR: pair } });
        let both = |mut owner: serde_json::Value, labels: &serde_json::Value| {
            owner["labels"] = labels["labels"].clone();
            owner
        };
        let (made, other) = (labels(names::MANAGER, "front"), labels(names::MANAGER, "back"));
        let cases = [
            ("the pair's own", owner("uid-front"), [true, true]),
            (
                "of a pair of that name before",
                both(owner("uid-before"), &made),
                [true, true],
            ),
            ("kept from a pair of that name before", made, [true, true]),
            ("of another pair", both(owner("uid-back"), &other), [false, false]),
            (
                "of another program",
                both(owner("uid-shop"), &labels("Helm", "front")),
                [false, false],
            ),
            ("of another owner", owner("uid-shop"), [false, false]),
            ("nobody's", json!({}), [false, true]),
            (
                "nobody's, of another program",
                labels("Helm", "front"),
                [false, true],
            ),
        ];
        let pair = PairIdentity {
            namespace: "cctv".into(),
            name: "front".into(),
            uid: "uid-front".into(),
        };
        for (what, metadata, expected) in cases {
            let metadata = serde_json::from_value(metadata).unwrap();
            let ours = ["Service", CLAIM].map(|kind| pair.owns(kind, &metadata));
            assert_eq!(ours, expected, "{what}");
        }
    }
}
