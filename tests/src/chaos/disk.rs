use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own in a file, which can be filled up. Unmounted with its handle.
pub(super) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Makes one and mounts it at `at`. `None`, said loudly, where this process may not mount.
    pub(super) fn mount(at: &Path) -> Option<SmallDisk> {
        let image = at.with_extension("image");
        let made = File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
        let run = |program: &str, words: &[&Path]| {
            let status = Command::new(program).args(words).status();
            status.is_ok_and(|status| status.success())
        };
        let [quiet, force, no_reserve] = ["-q", "-F", "-m0"].map(Path::new);
        let is_there = made.is_ok()
            && run("mkfs.ext4", &[quiet, force, no_reserve, &image])
            && run("mount", &[Path::new("-o"), Path::new("loop"), &image, at]);
        if !is_there {
            println!("no disk can be mounted here: there will be no full disks");
            return None;
        }
        Some(SmallDisk { at: at.to_owned() })
    }

    /// Takes all that is free.
    pub(super) fn fill(&self) {
        let Ok(mut file) = File::create(self.filler()) else {
            return;
        };
        let piece = vec![0; PIECE_BYTES];
        loop {
            match file.write(&piece) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Gives it back.
    pub(super) fn free(&self) {
        // It is not there if not even its name had room.
        let _ = std::fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may hold it for a moment yet.
        let done = Command::new("umount").arg("-l").arg(&self.at).status();
        if !done.is_ok_and(|status| status.success()) {
            println!("{} is still mounted", self.at.display());
        }
    }
}

/// Room for a log with its spare segments and a few checkpoints.
const DISK_BYTES: u64 = 1 << 30;
const PIECE_BYTES: usize = 1 << 20;
