//! The Lease service as far as it can be answered while no lease exists.

use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::hot::{put_int_field, write_header};

use super::backend::Backend;
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;
use super::waiting::Then;

/// Number of `InternalRaftRequest`'s field.
const LEASE_REVOKE: u32 = 9;

impl<B: Backend> Services<B> {
    pub(super) fn on_lease_revoke(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id] = fields::ints(message)?;
        self.admit(Rpc::LeaseRevoke, false, meta)?;
        let mut body = Vec::with_capacity(11);
        put_int_field(&mut body, 1, id as i64);
        self.propose(call, (Rpc::LeaseRevoke, LEASE_REVOKE), &body, Then::Answer)
    }

    pub(super) fn on_lease_time_to_live(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id] = fields::ints(message)?;
        self.admit(Rpc::LeaseTimeToLive, false, meta)?;
        let header = self.header_now();
        calls.reply(call, |out| {
            write_header(out, &header);
            put_int_field(out, 2, id as i64);
            // A time to live of -1: there is no such lease.
            put_int_field(out, 3, -1);
        });
        Ok(())
    }

    pub(super) fn on_lease_leases(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::LeaseLeases, false, meta)?;
        let header = self.header_now();
        calls.reply(call, |out| write_header(out, &header));
        Ok(())
    }
}
