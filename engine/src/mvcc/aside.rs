use std::collections::VecDeque;
use std::sync::Arc;

use super::revlog::BadSegment;
use super::revlog::frame::Frame;
use super::wants::NeedRead;
use super::{Reader, View};
use crate::disk::Disk;
use crate::limits::ASIDE_FRAMES_MAX;

/// What a background job has read for itself: a walk over everything must not push out of the cache
/// what clients read.
#[derive(Default)]
pub(crate) struct Aside {
    /// The newest last, at most `ASIDE_FRAMES_MAX`.
    frames: VecDeque<Held>,
}

struct Held {
    /// The file.
    number: u64,
    index: u32,
    frame: Frame,
}

impl Aside {
    /// Frame `index` of file `number`.
    pub(crate) fn find(&self, number: u64, index: u32) -> Option<&Frame> {
        let mut held = self.frames.iter().rev();
        let found = held.find(|held| held.number == number && held.index == index);
        found.map(|held| &held.frame)
    }

    pub(crate) fn put(&mut self, number: u64, index: u32, frame: Frame) {
        if self.frames.len() >= ASIDE_FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(Held {
            number,
            index,
            frame,
        });
    }

    /// Does `step`, each time under a pin of its own, until it misses nothing.
    ///
    /// # Errors
    /// What it needs cannot be read. The member hears of it too.
    pub(crate) fn run<T>(
        &mut self,
        reader: &Reader,
        disk: &mut dyn Disk,
        mut step: impl FnMut(View<'_>) -> Result<T, NeedRead>,
    ) -> Result<T, BadSegment> {
        loop {
            let need = match step(reader.pin().view().with(self)) {
                Ok(done) => return Ok(done),
                Err(need) => need,
            };
            self.read(reader, disk, need)?;
        }
    }

    fn read(
        &mut self,
        reader: &Reader,
        disk: &mut dyn Disk,
        need: NeedRead,
    ) -> Result<(), BadSegment> {
        let NeedRead::Frame { frame: index, .. } = need else {
            unreachable!("jobs walk records, and leaves without looking into pages");
        };
        let file = || reader.pin().view().log.file_of(need).map(Arc::clone);
        // Not held across the read: no memory of any store is freed under a pin.
        let Some(from) = file() else {
            return Ok(());
        };
        match from.read(disk, index) {
            Ok(frame) => self.put(from.number, index, frame),
            Err(bad) => {
                let now = file();
                if now.is_some_and(|now| now.number == from.number) {
                    reader.pin().view().log.note(need);
                    return Err(bad);
                }
                // Rewritten meanwhile, and the file may be gone: the next step looks anew.
            }
        }
        Ok(())
    }
}
