//! The Cluster service: the list of members.

use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::hot::{begin_nested, end_nested, write_header};
use prost::Message as _;

use super::backend::Backend;
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;

impl<B: Backend> Services<B> {
    pub(super) fn on_member_list(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [linearizable] = fields::ints(message)?;
        self.admit(Rpc::MemberList, false, meta)?;
        let published = self.backend.published();
        if linearizable != 0 && !published.read_gate().is_free() {
            return self.park(call, Rpc::MemberList, message);
        }
        let cluster = published.cluster();
        // Answers about members carry no revision.
        let header = self.identity.header(published, 0);
        calls.reply(call, |out| {
            write_header(out, &header);
            for member in &cluster.members {
                let mark = begin_nested(out, 2);
                member.encode_raw(out);
                end_nested(out, mark);
            }
        });
        Ok(())
    }
}
