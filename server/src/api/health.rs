//! The gRPC health protocol. There is one service, the server itself, and while it answers it
//! serves.

use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::grpc_health_v1::health_check_response::ServingStatus;
use basalt_pb::hot::{begin_nested, end_nested, put_int_field, put_nested};

use super::backend::Backend;
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;

impl<B: Backend> Services<B> {
    pub(super) fn on_health_check(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let service = fields::text(message, 1)?;
        self.admit(Rpc::HealthCheck, false, meta)?;
        if !service.is_empty() {
            return Err(Error::UnknownService);
        }
        calls.reply(call, |out| {
            put_int_field(out, 1, ServingStatus::Serving as i64)
        });
        Ok(())
    }

    /// The stream stays open for a change of status, which does not come.
    pub(super) fn on_health_watch(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let service = fields::text(message, 1)?;
        self.admit(Rpc::HealthWatch, false, meta)?;
        let status = match service {
            "" => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        };
        // One message of two bytes; nothing follows that would have to wait.
        let _ = calls.send(call, |out| put_int_field(out, 1, status as i64));
        Ok(())
    }

    pub(super) fn on_health_list(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::HealthList, false, meta)?;
        calls.reply(call, |out| {
            // One entry of the map: the empty name, which Go's maps do write, and its status.
            let entry = begin_nested(out, 1);
            put_nested(out, 1, b"");
            let status = begin_nested(out, 2);
            put_int_field(out, 1, ServingStatus::Serving as i64);
            end_nested(out, status);
            end_nested(out, entry);
        });
        Ok(())
    }
}
