//! Leases do not exist yet: every lease is one that was not found.

use super::{Applied, Machine, Refused};
use crate::types::LeaseId;

impl Machine {
    /// Whether a key may be attached to `lease`. 0 is no lease.
    pub(super) fn has_lease(&self, lease: LeaseId) -> bool {
        lease == LeaseId(0)
    }

    pub(super) fn lease_revoke(&mut self, _: LeaseId) -> Applied {
        Refused::LeaseNotFound.into()
    }
}
