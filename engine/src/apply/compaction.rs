//! Compaction: the watermark at once, the memory later.

use basalt_pb::hot::CompactionRequest;

use super::{Applied, Machine, Refused};
use crate::mvcc::RevisionRefused;
use crate::types::Term;

impl Machine {
    pub(super) fn compact(
        &mut self,
        request: CompactionRequest,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Applied {
        if let Err(refused) = self.store.compact(request.revision) {
            return Refused::from(refused).into();
        }
        let outcome = self.answer(self.store.revision(), term, out, |_| {});
        if request.physical {
            Applied::Compacting {
                revision: request.revision,
                outcome,
            }
        } else {
            Applied::Done(outcome)
        }
    }
}

impl From<RevisionRefused> for Refused {
    fn from(refused: RevisionRefused) -> Self {
        match refused {
            RevisionRefused::Compacted => Self::Compacted,
            RevisionRefused::Future => Self::FutureRevision,
        }
    }
}
