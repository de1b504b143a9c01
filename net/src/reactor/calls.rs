use std::collections::BTreeMap;

use super::conn::{Conn, Protocol};
use super::slab::{Key, Slab};
use crate::grpc::{
    Answers, CallId, Calls, Flow, Method, Opening, Request, Service, Shared, Sink, Status,
};
use crate::h1::{self, HttpDate};
use crate::peer::ConnId;

/// What answering needs: the connections, and the list of those that have something to write.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) conns: Slab<Conn>,
    /// Those to other members.
    pub(super) peers: BTreeMap<ConnId, Key>,
    /// To be written at the end of the turn, each once.
    pub(super) dirty: Vec<Key>,
    pub(super) date: HttpDate,
    /// Counts the turns of the loop from 1.
    pub(super) turn: u64,
    /// A service heard since its last turn that an answer may go on.
    pub(super) is_writable_told: bool,
}

impl Table {
    pub(super) fn new(date: HttpDate) -> Table {
        Table {
            conns: Slab::new(),
            peers: BTreeMap::new(),
            dirty: Vec::new(),
            date,
            turn: 0,
            is_writable_told: false,
        }
    }

    pub(super) fn mark_dirty(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.is_dirty
        {
            conn.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Lets `answer` answer on an HTTP/2 connection that is not being driven; `None` if it is gone.
    fn with_answers<R>(&mut self, key: Key, answer: impl FnOnce(&mut Answers) -> R) -> Option<R> {
        let Protocol::Http2(connection) = &mut self.conns.get_mut(key)?.protocol else {
            return None;
        };
        let result = answer(connection.answers());
        self.mark_dirty(key);
        Some(result)
    }
}

/// `Calls` over the connections of a loop, one of which may be being driven.
pub(super) struct LoopCalls<'a> {
    table: &'a mut Table,
    driven: Option<(Key, &'a mut Answers)>,
}

impl<'a> LoopCalls<'a> {
    /// While no HTTP/2 connection is being driven.
    pub(super) fn outside(table: &'a mut Table) -> LoopCalls<'a> {
        LoopCalls {
            table,
            driven: None,
        }
    }

    fn with_answers<R>(
        &mut self,
        call: CallId,
        answer: impl FnOnce(&mut Answers) -> R,
    ) -> Option<R> {
        let key = Key {
            index: call.conn,
            generation: call.generation,
        };
        match &mut self.driven {
            // Whoever drives it marks it for writing.
            Some((driven, answers)) if *driven == key => Some(answer(answers)),
            _ => self.table.with_answers(key, answer),
        }
    }
}

impl Calls for LoopCalls<'_> {
    fn reply(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) {
        self.with_answers(call, |answers| answers.reply(call.stream, write));
    }

    fn fail(&mut self, call: CallId, status: Status) {
        self.with_answers(call, |answers| answers.fail(call.stream, status));
    }

    fn send(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) -> Flow {
        self.with_answers(call, |answers| answers.send(call.stream, write))
            .unwrap_or(Flow::Full)
    }

    fn send_shared(
        &mut self,
        call: CallId,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Flow {
        self.with_answers(call, |answers| {
            answers.send_shared(call.stream, write, shared)
        })
        .unwrap_or(Flow::Full)
    }

    fn finish(&mut self, call: CallId, status: Status) {
        self.with_answers(call, |answers| answers.finish(call.stream, status));
    }

    fn has_room(&mut self, call: CallId) -> bool {
        let key = Key {
            index: call.conn,
            generation: call.generation,
        };
        match &self.driven {
            Some((driven, answers)) if *driven == key => answers.has_room(),
            _ => match self.table.conns.get_mut(key).map(|conn| &mut conn.protocol) {
                Some(Protocol::Http2(connection)) => connection.answers().has_room(),
                _ => true,
            },
        }
    }

    fn reply_http(&mut self, call: CallId, response: h1::Response) {
        let key = Key {
            index: call.conn,
            generation: call.generation,
        };
        let date = self.table.date;
        let Some(conn) = self.table.conns.get_mut(key) else {
            return;
        };
        let Protocol::Http1 { connection, number } = &mut conn.protocol else {
            return;
        };
        if *number == call.stream {
            connection.respond(&response, &date);
            conn.is_nudged = connection.has_unread();
            self.table.mark_dirty(key);
        }
    }
}

/// Shows the events of one driven connection to the service, with the table beside it.
pub(super) struct ServiceSink<'a, S> {
    pub(super) table: &'a mut Table,
    pub(super) key: Key,
    pub(super) service: &'a mut S,
}

impl<S> ServiceSink<'_, S> {
    fn call(&self, stream: u32) -> CallId {
        CallId {
            conn: self.key.index,
            generation: self.key.generation,
            stream,
        }
    }

    fn split<'b>(&'b mut self, answers: &'b mut Answers) -> (&'b mut S, LoopCalls<'b>) {
        (
            self.service,
            LoopCalls {
                table: self.table,
                driven: Some((self.key, answers)),
            },
        )
    }
}

impl<S: Service> Sink for ServiceSink<'_, S> {
    fn method(&self, path: &[u8]) -> Method {
        self.service.method(path)
    }

    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        let call = self.call(stream);
        let (service, mut calls) = self.split(answers);
        service.on_request(&mut calls, call, request);
    }

    fn on_open(&mut self, answers: &mut Answers, stream: u32, opening: Opening<'_>) {
        let call = self.call(stream);
        let (service, mut calls) = self.split(answers);
        service.on_open(&mut calls, call, opening);
    }

    fn on_end(&mut self, answers: &mut Answers, stream: u32) {
        let call = self.call(stream);
        let (service, mut calls) = self.split(answers);
        service.on_end(&mut calls, call);
    }

    fn on_cancel(&mut self, _answers: &mut Answers, stream: u32) {
        self.service.on_cancel(self.call(stream));
    }

    fn on_writable(&mut self, answers: &mut Answers, stream: u32) {
        self.table.is_writable_told = true;
        let call = self.call(stream);
        let (service, mut calls) = self.split(answers);
        service.on_writable(&mut calls, call);
    }
}
