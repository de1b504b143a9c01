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

/// A Python with the pinned packages of `tests/conformance/python`. `None`, said loudly, without Python or the packages.
pub fn python() -> Option<PathBuf> {
    static ONE_INSTALL: Mutex<()> = Mutex::new(());
    let python = tools::find("python3")?;
    let _turn = ONE_INSTALL
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tools::profile_dir().join("conformance").join("python");
    let own = folder.join("bin/python");
    let requirements = conformance().join("python/requirements.txt");
    let has_packages = || run(Command::new(&own).args(["-c", "import aetcd"]));
    if has_packages() {
        return Some(own);
    }
    run(Command::new(python).args(["-m", "venv"]).arg(&folder));
    run(Command::new(&own)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary=:all:",
            "-r",
        ])
        .arg(requirements));
    if !has_packages() {
        tools::missing("the packages of tests/conformance/python/requirements.txt");
        return None;
    }
    Some(own)
}

/// A Node and the folder with the pinned packages of `tests/conformance/node`. `None`, said loudly, without Node or the packages.
///
/// # Panics
/// When the folder for the packages cannot be made.
pub fn node() -> Option<(PathBuf, PathBuf)> {
    static ONE_INSTALL: Mutex<()> = Mutex::new(());
    let (node, npm) = (tools::find("node")?, tools::find("npm")?);
    let _turn = ONE_INSTALL
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tools::profile_dir().join("conformance").join("node");
    std::fs::create_dir_all(&folder).expect("below the target directory");
    for file in ["package.json", "package-lock.json", "check.js"] {
        let from = conformance().join("node").join(file);
        std::fs::copy(from, folder.join(file)).expect("it is in the workspace");
    }
    let has_packages = || {
        run(Command::new(&node)
            .args(["-e", "require('etcd3')"])
            .current_dir(&folder))
    };
    if !has_packages() {
        run(Command::new(npm)
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder));
    }
    if !has_packages() {
        tools::missing("the packages of tests/conformance/node/package.json");
        return None;
    }
    Some((node, folder))
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// The folder of the foreign clients and of the differential test's scripts.
pub fn conformance() -> PathBuf {
    tools::workspace().join("tests/conformance")
}
