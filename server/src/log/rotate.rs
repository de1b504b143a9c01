use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::time::Timestamp;

/// `--log-rotation-config-json`. Zero means no limit, but for the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes above which the file is put aside.
    pub bytes_max: u64,
    /// Age above which a file put aside is removed.
    pub age_max: Duration,
    /// Files put aside that are kept.
    pub backups_max: usize,
}

#[derive(serde::Deserialize)]
#[serde(default)]
struct Json {
    maxsize: u64,
    maxage: u64,
    maxbackups: usize,
}

impl Default for Json {
    fn default() -> Json {
        Json {
            maxsize: 100,
            maxage: 0,
            maxbackups: 0,
        }
    }
}

impl Rotation {
    /// Reads etcd's JSON: sizes in MB, ages in days. `localtime` and `compress` are passed over.
    pub fn parse(json: &str) -> Result<Rotation, String> {
        let Json {
            maxsize,
            maxage,
            maxbackups,
        } = serde_json::from_str(json)
            .map_err(|error| format!("improperly formatted log rotation config: {error}"))?;
        let megabytes = if maxsize == 0 {
            Json::default().maxsize
        } else {
            maxsize
        };
        Ok(Rotation {
            bytes_max: megabytes.saturating_mul(1 << 20),
            age_max: Duration::from_secs(maxage.saturating_mul(86_400)),
            backups_max: maxbackups,
        })
    }
}

/// Opens a log file for appending, made if it is not there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// A log file that is put aside as `name-<time>.ext` when it is full.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Rotation,
}

impl RotatingFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<RotatingFile> {
        let file = open(path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatingFile {
            path: path.to_owned(),
            file,
            bytes,
            rotation,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (stem, extension) = self.name_parts();
        let time = Timestamp::now().to_string().replace(':', "-");
        fs::rename(
            &self.path,
            self.path
                .with_file_name(format!("{stem}-{time}{extension}")),
        )?;
        self.file = open(&self.path)?;
        self.bytes = 0;
        self.remove_old()
    }

    /// Removes what is too old or too many; names sort by time.
    fn remove_old(&self) -> io::Result<()> {
        let (stem, extension) = self.name_parts();
        let is_backup = |name: &str| {
            name.strip_prefix(&format!("{stem}-"))
                .and_then(|rest| rest.strip_suffix(&extension))
                .is_some_and(|time| time.len() == TIME_LEN && time.ends_with('Z'))
        };
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut backups: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_backup))
            .map(|entry| entry.path())
            .collect();
        backups.sort();
        let surplus = match self.rotation.backups_max {
            0 => 0,
            max => backups.len().saturating_sub(max),
        };
        for (i, path) in backups.iter().enumerate() {
            if i < surplus || self.is_too_old(path)? {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn is_too_old(&self, path: &Path) -> io::Result<bool> {
        let age = SystemTime::now().duration_since(fs::metadata(path)?.modified()?);
        // A file of the future is not old.
        Ok(!self.rotation.age_max.is_zero() && age.is_ok_and(|age| age > self.rotation.age_max))
    }

    fn name_parts(&self) -> (String, String) {
        let text =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension =
            text(self.path.extension()).map_or(String::new(), |extension| format!(".{extension}"));
        (text(self.path.file_stem()).unwrap_or_default(), extension)
    }
}

impl Write for RotatingFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.rotation.bytes_max {
            // A file that cannot be put aside grows on: lines are worth more than its size.
            let _ = self.rotate();
        }
        let written = self.file.write(lines)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Characters of a [`Timestamp`].
const TIME_LEN: usize = 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_json_is_read_and_zero_size_means_100_mb() {
        let rotation =
            Rotation::parse(r#"{"maxsize": 0, "maxage": 2, "maxbackups": 3, "compress": false}"#);
        let expected = Rotation {
            bytes_max: 100 << 20,
            age_max: Duration::from_secs(172_800),
            backups_max: 3,
        };
        assert_eq!(rotation, Ok(expected));
        assert!(
            Rotation::parse("{")
                .unwrap_err()
                .starts_with("improperly formatted log rotation config")
        );
    }

    #[test]
    fn a_full_file_is_put_aside_and_only_the_newest_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        fs::write(dir.path().join("a-other.log"), "not ours").expect("written");
        let rotation = Rotation {
            bytes_max: 10,
            age_max: Duration::ZERO,
            backups_max: 2,
        };
        let mut file = RotatingFile::open(&path, rotation).expect("made");
        for number in 0..5 {
            file.write_all(format!("line {number}\n").as_bytes())
                .expect("written");
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), "line 4\n");
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .expect("there")
            .map(|entry| {
                entry
                    .expect("read")
                    .file_name()
                    .into_string()
                    .expect("plain")
            })
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"a-other.log".to_owned()));
        let texts: Vec<String> = names[..2]
            .iter()
            .map(|name| fs::read_to_string(dir.path().join(name)).expect("there"))
            .collect();
        assert_eq!(texts, ["line 2\n", "line 3\n"]);
    }
}
