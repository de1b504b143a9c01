//! What this release says it is, to tools and to people.

/// The interface level: what Status, /version and the first line of `--version` say.
pub const ETCD: &str = "3.7.3";
/// The cluster version that a new cluster of this release settles on.
pub const CLUSTER: &str = "3.7.0";
/// basalt's own release.
pub const BASALT: &str = env!("CARGO_PKG_VERSION");

/// basalt's own release as numbers, for what members tell each other.
#[must_use]
pub fn numbers() -> [u16; 3] {
    let part = |text: &str| text.parse().unwrap_or(0);
    [
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
    ]
}

/// What `--version` prints. Tools parse the first line; the next three are etcd's by name.
pub fn text() -> String {
    format!(
        "etcd Version: {ETCD}\nGit SHA: {}\nGo Version: none\nGo OS/Arch: {}/{}\nbasalt Version: {BASALT}\nRust Version: {} or newer\n",
        git_sha(),
        std::env::consts::OS,
        go_arch(),
        env!("CARGO_PKG_RUST_VERSION"),
    )
}

/// Set by whoever builds a release; a plain build does not ask git.
fn git_sha() -> &'static str {
    option_env!("BASALT_GIT_SHA").unwrap_or("not provided")
}

/// Go's names for the machines that basalt runs on.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    /// etcd's own tools and many scripts cut the version out of this line.
    #[test]
    fn the_first_line_is_the_interface_level() {
        assert_eq!(super::text().lines().next(), Some("etcd Version: 3.7.3"));
    }
}
