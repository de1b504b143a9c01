//! Versions of the interface that members speak, which etcd calls cluster version.

use core::fmt;
use core::str::FromStr;

/// `major.minor.patch`. Cluster versions have patch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub patch: u64,
}

impl Release {
    /// The interface level that this release of basalt speaks.
    pub const OWN: Self = Self {
        major: 3,
        minor: 7,
        patch: 3,
    };

    /// The cluster version that a member of this release can take part in.
    #[must_use]
    pub const fn cluster(self) -> Self {
        Self { patch: 0, ..self }
    }
}

/// The text is not three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of the form major.minor.patch")]
pub struct BadRelease;

impl FromStr for Release {
    type Err = BadRelease;

    fn from_str(text: &str) -> Result<Self, BadRelease> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or(BadRelease)
        });
        let mut next = || parts.next().ok_or(BadRelease)?;
        let release = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        if parts.next().is_some() {
            return Err(BadRelease);
        }
        Ok(release)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the log must come back as the same version, and compare by number.
    #[test]
    fn releases_are_read_and_ordered_by_number() {
        let nine: Release = "3.9.0".parse().expect("a release");
        let ten: Release = "3.10.0".parse().expect("a release");
        assert!(nine < ten);
        assert_eq!(ten.to_string(), "3.10.0");
        assert_eq!(Release::OWN.cluster().to_string(), "3.7.0");
        for text in ["", "3", "3.7", "3.7.x", "3.7.0.1", "3.7.+1", "v3.7.0"] {
            assert_eq!(text.parse::<Release>(), Err(BadRelease), "{text}");
        }
    }
}
