//! The step from one log to another: a fresh segment, then the superblocks, which name what the member is from then on.

use super::job::{Job, Work};
use super::superblock::Superblock;
use crate::disk::{Disk, DiskError, DiskOp, File};

/// Makes a member what a snapshot says. Until the first superblock is durable it is what it was.
#[derive(Debug)]
pub struct Switch {
    fill: Option<Work>,
    block: Superblock,
}

impl Switch {
    pub(super) fn new(fill: Work, block: Superblock) -> Self {
        let fill = Some(fill);
        Self { fill, block }
    }

    /// Makes the segment, then writes one superblock after the other; true at the end.
    ///
    /// # Errors
    /// The disk's: only a restart can tell what the member is now.
    pub fn step(&mut self, disk: &mut dyn Disk) -> Result<bool, DiskError> {
        if let Some(fill) = self.fill.take() {
            Job::new(fill).run(disk).result?;
            return Ok(false);
        }
        for copy in 0..2 {
            disk.perform(DiskOp::Write {
                file: File::Superblock(copy),
                offset: 0,
                pages: self.block.encode(),
                durable: true,
            })?;
        }
        Ok(true)
    }
}
