//! The Lease service. Grants and revokes go through the log; what time says is asked of the leader.

use basalt_engine::command::field::{LEASE_GRANT, LEASE_REVOKE};
use basalt_engine::limits::LEASE_BYTES;
use basalt_engine::replica::Ask;
use basalt_engine::types::LeaseId;
use basalt_net::grpc::{CallId, Metadata};
use basalt_pb::hot::put_int_field;

use super::backend::Backend;
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;
use super::waiting::Then;

impl<B: Backend> Services<B> {
    /// What is chosen here and not by every member for itself: the id, if the client leaves it open, and the least time to
    /// live, which is this member's flags'.
    pub(super) fn on_lease_grant(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [ttl, id] = fields::ints(message)?;
        self.admit(Rpc::LeaseGrant, false, meta)?;
        if !self.quota.allows(LEASE_BYTES, self.used_bytes()) {
            return self.refuse_for_space(call, Rpc::LeaseGrant);
        }
        let ttl = ttl.cast_signed().max(self.config.lease_ttl_min);
        let id = match id.cast_signed() {
            0 => self.draw_lease_id(),
            id => id,
        };
        let mut body = Vec::with_capacity(22);
        put_int_field(&mut body, 1, ttl);
        put_int_field(&mut body, 2, id);
        self.propose(call, (Rpc::LeaseGrant, LEASE_GRANT), &body, Then::Answer)
    }

    pub(super) fn on_lease_revoke(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id] = fields::ints(message)?;
        self.admit(Rpc::LeaseRevoke, false, meta)?;
        let mut body = Vec::with_capacity(11);
        put_int_field(&mut body, 1, id.cast_signed());
        self.propose(call, (Rpc::LeaseRevoke, LEASE_REVOKE), &body, Then::Answer)
    }

    pub(super) fn on_lease_time_to_live(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id, keys] = fields::ints(message)?;
        self.admit(Rpc::LeaseTimeToLive, false, meta)?;
        let ask = Ask::TimeToLive {
            id: LeaseId(id.cast_signed()),
            keys: keys != 0,
        };
        self.ask(call, Rpc::LeaseTimeToLive, ask)
    }

    pub(super) fn on_lease_leases(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::LeaseLeases, false, meta)?;
        self.ask(call, Rpc::LeaseLeases, Ask::Leases)
    }

    /// As etcd's: positive, of the ids of proposals.
    pub(super) fn draw_lease_id(&self) -> i64 {
        loop {
            let id = (self.config.ids.draw().0 & (u64::MAX >> 1)).cast_signed();
            if id != 0 {
                return id;
            }
        }
    }
}
