//! The generated files: the CustomResourceDefinition, alone and as a template of the chart.

use std::path::{Path, PathBuf};

use kube::CustomResourceExt;

use crate::RecorderPair;

/// Says that a file is generated, and by what.
const HEADER: &str = "# Generated from crds/src by `make gen`. Do not edit.\n";

/// A file and what it must hold.
#[derive(Debug)]
pub struct Generated {
    /// Its path, from the root of the repository.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// Every generated file.
///
/// # Errors
/// Where the definition cannot be written as YAML.
pub fn all() -> Result<Vec<Generated>, serde_yaml::Error> {
    let mut crd = RecorderPair::crd();
    let plain = format!("{HEADER}{}", serde_yaml::to_string(&crd)?);
    // Uninstalling the chart must not delete every pair in the cluster.
    let keep = ("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    crd.metadata.annotations.get_or_insert_default().extend([keep]);
    let chart = format!("{HEADER}{}", serde_yaml::to_string(&crd)?);
    Ok(vec![
        file("crds/generated/recorderpair.yaml", plain),
        file("charts/gapless-crds/templates/recorderpair.yaml", chart),
    ])
}

fn file(path: &str, text: String) -> Generated {
    Generated {
        path: path.into(),
        text,
    }
}

/// The root of the repository, as it was when this was built.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
