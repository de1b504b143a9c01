//! The clients of other languages under `tests/conformance`, built once.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::tools;

/// Builds the Go program of that folder of `tests/conformance/go`. `None`, said loudly, without Go.
///
/// # Panics
/// When Go is there and the build fails.
pub fn go_program(name: &str) -> Option<PathBuf> {
    static ONE_BUILD: Mutex<()> = Mutex::new(());
    let go = tools::find("go")?;
    let _turn = ONE_BUILD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let to = tools::profile_dir().join("conformance").join(name);
    let status = Command::new(go)
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&to)
        .arg(format!("./{name}"))
        .current_dir(conformance().join("go"))
        .status()
        .expect("go was found");
    assert!(status.success(), "building the Go program {name} failed");
    Some(to)
}

/// The folder of the foreign clients and of the differential test's scripts.
pub fn conformance() -> PathBuf {
    tools::workspace().join("tests/conformance")
}
