//! Programs that are not ours: where they are, and what to do when they are not.

use std::env;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Finds `name`: first `BASALT_<NAME>`, then the search path. A test that gets `None` returns at once, having said so;
/// with `BASALT_REQUIRE_CLIENTS=1`, as in our own runs, a missing tool is a failure instead.
///
/// # Panics
/// When the tool is missing and skipping is forbidden.
pub fn find(name: &str) -> Option<PathBuf> {
    let variable = format!("BASALT_{}", name.to_uppercase().replace('-', "_"));
    let found = env::var_os(&variable)
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .or_else(|| on_path(name));
    if found.is_none() {
        missing(&format!("{name} (set {variable} or put it on PATH)"));
    }
    found
}

/// Says that a test is skipped because `what` is not there.
///
/// # Panics
/// When skipping is forbidden by `BASALT_REQUIRE_CLIENTS=1`.
pub fn missing(what: &str) {
    assert!(
        env::var_os("BASALT_REQUIRE_CLIENTS").is_none_or(|value| value != "1"),
        "not there, and required: {what}"
    );
    eprintln!("SKIPPED, PROVES NOTHING: not there: {what}");
}

/// What `one` answers to each number below `count`, in order, found by as many threads as there are processors.
///
/// # Panics
/// When `one` does.
pub fn in_parallel<T: Send>(count: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            done.push((number, one(number)));
        }
    };
    let mut all: Vec<(u64, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, answer)| answer).collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The server under test: `BASALT_BASALT`, or the workspace's own, built once in the profile of the tests.
///
/// # Panics
/// When the build fails.
pub fn basalt() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| match env::var_os("BASALT_BASALT") {
            Some(path) => PathBuf::from(path),
            None => built("basalt"),
        })
        .clone()
}

/// The benchmark, built once in the profile of the tests.
///
/// # Panics
/// When the build fails.
pub fn bench() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("basalt-bench")).clone()
}

/// Builds a package of the workspace whose program has the same name.
fn built(package: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--package", package, "--bin", package])
        .current_dir(workspace());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(
        build.status().expect("cargo started these tests").success(),
        "building {package} failed"
    );
    profile_dir().join(package)
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package lies one level below the root")
        .to_path_buf()
}

/// Where this profile's binaries lie: the test itself runs in its folder `deps`.
pub fn profile_dir() -> PathBuf {
    let own = env::current_exe().expect("a running test has a path");
    own.ancestors()
        .nth(2)
        .expect("target/profile/deps/test")
        .to_path_buf()
}

/// A positive number from the environment, or the default that keeps an everyday run short.
///
/// # Panics
/// When the variable is set and is no number.
pub fn count(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}
