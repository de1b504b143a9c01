//! Failing plans as files: `tests/bugs/*.json`, read by people, replayed by a test.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// A plan that failed once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// What went wrong then.
    pub violation: String,
    /// The smallest plan that was found to do it.
    pub plan: Plan,
}

impl Kept {
    /// Writes it into `dir`, named after its seed.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("seed-{}.json", self.plan.seed));
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    /// Reads one.
    ///
    /// # Errors
    /// The file system's, or it is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }
}
