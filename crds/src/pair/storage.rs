//! Volumes, and how long media stays on them.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Size, Span};

/// The volume of each member.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)")
        .message("storage.className cannot be changed: volumes cannot move to another class. Make a new RecorderPair instead"),
    validation = Rule::new("!has(self.retention.maxSize) || quantity(self.retention.maxSize).compareTo(quantity(self.size)) <= 0")
        .message("storage.retention.maxSize is larger than storage.size: media of that size does not fit on the volume")
)]
pub struct Storage {
    /// The StorageClass; the cluster's default where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The size of each of the two volumes. It can grow, if the StorageClass allows it.
    #[x_kube(
        validation = Rule::new("quantity(self).compareTo(quantity('64Mi')) >= 0")
            .message("storage.size must be 64Mi at least"),
        validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0")
            .message("storage.size cannot shrink: Kubernetes cannot make a volume smaller")
    )]
    pub size: Size,
    /// How long media stays.
    #[serde(default)]
    pub retention: Retention,
    /// What becomes of the volumes, and all media, when the RecorderPair is deleted.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

/// How long media stays. What is oldest goes first.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.maxAge) || duration(self.minAge) <= duration(self.maxAge)")
    .message("storage.retention.minAge must not be longer than storage.retention.maxAge"))]
pub struct Retention {
    /// Younger media is never removed, even if the volume is full: then recording stops on it.
    #[x_kube(validation = Rule::new("duration(self) <= duration('87600h')")
        .message("storage.retention.minAge must be 87600h (ten years) at most"))]
    #[serde(default = "default_min_age")]
    pub min_age: Span,
    /// Older media is removed.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("storage.retention.maxAge must be from 1m to 87600h (ten years)"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// The oldest media is removed above this size. Nine tenths of the volume where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            min_age: default_min_age(),
            max_age: None,
            max_size: None,
        }
    }
}

fn default_min_age() -> Span {
    Span::of(Duration::from_hours(1))
}

/// What becomes of the volumes when the RecorderPair is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenDeleted {
    /// They stay, and a RecorderPair of the same name adopts them.
    #[default]
    Retain,
    /// They are deleted, with all media.
    Delete,
}
