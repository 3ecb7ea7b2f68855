//! The test programs of the workspace as `make unit` builds them, which have the switches in them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// A test that hangs, in seconds: it is ended, and counts as neither red nor green.
const LIMIT: &str = "120";

/// The root of the source tree that is under test.
pub(crate) fn repository() -> PathBuf {
    e2e::tests_folder().join("..")
}

/// Runs a script of the repository.
pub(crate) fn script(name: &str, args: &[&Path]) -> Output {
    Command::new(repository().join(name)).args(args).output().unwrap()
}

/// A test program.
pub(crate) struct Program {
    path: PathBuf,
    package: PathBuf,
}

impl Program {
    /// The tests of a library, or of a file in `tests/` of a package, by its name.
    pub(crate) fn of(target: &str) -> &'static Self {
        static ALL: OnceLock<BTreeMap<String, Program>> = OnceLock::new();
        let all = ALL.get_or_init(build);
        all.get(target)
            .unwrap_or_else(|| panic!("no tests {target:?} among {:?}", all.keys()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the tests of these names, and with them breaks an invariant, or none.
    pub(crate) fn run(&self, tests: &[&str], switch: &str) -> Outcome {
        let done = Command::new("timeout")
            .args(["--kill-after=5", LIMIT])
            .arg(&self.path)
            .arg("--exact")
            .args(tests)
            .current_dir(&self.package)
            .env("CARGO_MANIFEST_DIR", &self.package)
            .env("GAPLESS_SABOTAGE", switch)
            .env("GAPLESS_POWER_CUTS", "20")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .env("PROPTEST_MAX_SHRINK_ITERS", "50")
            .output()
            .unwrap();
        Outcome {
            said: String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned(),
        }
    }
}

/// Builds all tests, which costs nothing where they are built, and finds their programs by what cargo says.
fn build() -> BTreeMap<String, Program> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace", "--all-features", "--no-run", "-q"]);
    cargo.arg("--message-format=json").current_dir(repository());
    // What cargo set for this test would make build scripts believe that something changed.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text.starts_with("CARGO_BIN_")
        {
            cargo.env_remove(&name);
        }
    }
    let built = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(
        built.status.success(),
        "the tests with all features do not build:\n{said}"
    );
    let messages = String::from_utf8(built.stdout).unwrap();
    messages.lines().filter_map(program).collect()
}

/// The test program that a message of cargo tells of.
fn program(message: &str) -> Option<(String, Program)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let (target, kind) = (&message["target"], message["target"]["kind"][0].as_str()?);
    if message["profile"]["test"] != true || !["lib", "test"].contains(&kind) {
        return None;
    }
    let program = Program {
        path: message["executable"].as_str()?.into(),
        package: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    };
    Some((target["name"].as_str()?.to_owned(), program))
}

/// What a test program said.
pub(crate) struct Outcome {
    said: String,
}

impl Outcome {
    /// Whether a test passed.
    pub(crate) fn passed(&self, test: &str) -> bool {
        self.ended(test, "ok")
    }

    /// What a test said that failed.
    pub(crate) fn failure(&self, test: &str) -> Option<&str> {
        let title = format!("---- {test} stdout ----\n");
        let (_, words) = self
            .said
            .split_once(&title)
            .filter(|_| self.ended(test, "FAILED"))?;
        Some(words.split("\n---- ").next().unwrap_or(words))
    }

    fn ended(&self, test: &str, how: &str) -> bool {
        let line = format!("test {test} ... {how}");
        self.said.lines().any(|said| said == line)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}
