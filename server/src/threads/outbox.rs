use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use basalt_engine::replica::{Outcome, Refused, Replies};
use basalt_engine::types::ReplyTo;
use basalt_net::reactor::Handle;

/// Answers of the background worker to one network loop. They are rare: a lock will do.
pub(super) struct Outbox {
    answers: Mutex<Vec<Answer>>,
    has_answers: AtomicBool,
    net_loop: Handle,
}

/// The whole message, or why there is none.
type Answer = (ReplyTo, Result<Vec<u8>, Refused>);

impl Outbox {
    pub(super) fn new(net_loop: Handle) -> Arc<Outbox> {
        Arc::new(Outbox {
            answers: Mutex::default(),
            has_answers: AtomicBool::new(false),
            net_loop,
        })
    }

    pub(super) fn answer(&self, to: ReplyTo, answer: Result<Vec<u8>, Refused>) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((to, answer));
        // SeqCst, here and in `drain_into`: the loop says that it sleeps and then looks, this sets and then asks whether it
        // sleeps. One of the two must see the other.
        self.has_answers.store(true, Ordering::SeqCst);
        self.net_loop.wake();
    }

    /// Moves all answers to the end of `replies`.
    pub(super) fn drain_into(&self, replies: &mut Replies) {
        if !self.has_answers.load(Ordering::SeqCst)
            || !self.has_answers.swap(false, Ordering::SeqCst)
        {
            return;
        }
        for (to, answer) in self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let outcome = match answer {
                Ok(message) => append(replies, &message),
                Err(refused) => Outcome::Refused(refused),
            };
            replies.items.push((to, outcome));
        }
    }
}

/// Adds `from`, in order, behind what `to` holds, and empties it.
pub(super) fn merge(to: &mut Replies, from: &mut Replies) {
    if to.items.is_empty() {
        std::mem::swap(to, from);
    } else {
        for (address, outcome) in from.items.drain(..) {
            let outcome = moved(to, &from.bytes, outcome);
            to.items.push((address, outcome));
        }
    }
    from.clear();
}

/// The outcome with its bytes, which stand in `bytes`, copied into `to`.
pub(super) fn moved(to: &mut Replies, bytes: &[u8], outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Encoded { start, end } => append(to, &bytes[start..end]),
        other => other,
    }
}

fn append(replies: &mut Replies, message: &[u8]) -> Outcome {
    let start = replies.bytes.len();
    replies.bytes.extend_from_slice(message);
    Outcome::Encoded {
        start,
        end: replies.bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(stream: u32) -> ReplyTo {
        ReplyTo {
            net_loop: 0,
            conn: 1,
            generation: 2,
            stream,
        }
    }

    fn replies(stream: u32, message: &[u8]) -> Replies {
        let mut replies = Replies::default();
        let outcome = append(&mut replies, message);
        replies.items.push((address(stream), outcome));
        replies
    }

    fn shown(replies: &Replies) -> Vec<(u32, Vec<u8>)> {
        let message = |outcome: &Outcome| match *outcome {
            Outcome::Encoded { start, end } => replies.bytes[start..end].to_vec(),
            _ => Vec::new(),
        };
        replies
            .items
            .iter()
            .map(|(to, outcome)| (to.stream, message(outcome)))
            .collect()
    }

    /// Answers that waited for a full ring would otherwise carry the bytes of others.
    #[test]
    fn merged_answers_keep_their_order_and_their_bytes() {
        let mut all = Replies::default();
        for (stream, message) in [(1, &b"one"[..]), (3, b""), (5, b"three")] {
            let mut next = replies(stream, message);
            merge(&mut all, &mut next);
            assert!(next.items.is_empty() && next.bytes.is_empty());
        }
        assert_eq!(
            shown(&all),
            [
                (1, b"one".to_vec()),
                (3, Vec::new()),
                (5, b"three".to_vec())
            ]
        );
    }
}
