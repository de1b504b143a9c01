use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::listener::ListenOptions;
use super::stream::Stream;
use crate::limits::ADOPT_QUEUE_MAX;

/// What other threads may do to a running loop.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waker: mio::Waker,
    /// The loop has begun its last look at its inboxes, or waits: whoever adds something now must wake it.
    asleep: AtomicBool,
    /// Something below is new since the loop last looked.
    has_errand: AtomicBool,
    /// Milliseconds to drain, plus one; 0 while the loop shall run.
    stop: AtomicU64,
    /// Whether waiting clients are taken.
    accepts: AtomicBool,
    adopted: Mutex<Vec<(Stream, ListenOptions)>>,
}

impl Handle {
    pub(super) fn new(waker: mio::Waker) -> Handle {
        Handle(Arc::new(Shared {
            waker,
            // Before its first turn a loop has looked at nothing.
            asleep: AtomicBool::new(true),
            has_errand: AtomicBool::new(false),
            stop: AtomicU64::new(0),
            accepts: AtomicBool::new(false),
            adopted: Mutex::new(Vec::new()),
        }))
    }

    /// Makes the loop take another turn. Call it after something was put where `Service::on_turn` looks.
    ///
    /// Costs a system call only when the loop waits: a busy loop looks anyway.
    pub fn wake(&self) {
        // SeqCst: pairs with `going_to_sleep`. Either the loop sees what was added before this swap, or this sees `asleep`.
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            // An eventfd that is full has woken the loop already.
            let _ = self.0.waker.wake();
        }
    }

    /// Takes the clients that wait at the listeners from now on; before, the kernel keeps them.
    pub fn accept(&self) {
        self.0.accepts.store(true, Ordering::SeqCst);
        self.errand();
    }

    /// Stop accepting, say goodbye to the clients, let what is in flight end for at most `drain`, then return from `run`.
    pub fn stop(&self, drain: Duration) {
        let millis = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX - 1);
        self.0
            .stop
            .store(millis.saturating_add(1), Ordering::SeqCst);
        self.errand();
    }

    /// Hands an accepted connection to this loop. It is closed if too many wait already.
    pub(super) fn adopt(&self, stream: Stream, options: ListenOptions) {
        {
            let mut adopted = self
                .0
                .adopted
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if adopted.len() >= ADOPT_QUEUE_MAX {
                return;
            }
            adopted.push((stream, options));
        }
        self.errand();
    }

    fn errand(&self) {
        self.0.has_errand.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Asked before sleeping: the errands of a turn are looked at early in it.
    pub(super) fn has_errand(&self) -> bool {
        self.0.has_errand.load(Ordering::SeqCst)
    }

    /// True once after an errand was given; look at all of them then.
    pub(super) fn take_errand(&self) -> bool {
        self.has_errand() && self.0.has_errand.swap(false, Ordering::SeqCst)
    }

    pub(super) fn take_adopted(&self) -> Vec<(Stream, ListenOptions)> {
        std::mem::take(
            &mut *self
                .0
                .adopted
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(super) fn accepts(&self) -> bool {
        self.0.accepts.load(Ordering::SeqCst)
    }

    pub(super) fn is_same_loop(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn stop_requested(&self) -> Option<Duration> {
        let millis = self.0.stop.load(Ordering::SeqCst);
        (millis > 0).then(|| Duration::from_millis(millis - 1))
    }

    /// Before the last look at the inboxes.
    pub(super) fn going_to_sleep(&self) {
        self.0.asleep.store(true, Ordering::SeqCst);
    }

    pub(super) fn awake(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
    }

    pub(super) fn waker_of(poll: &mio::Poll, token: mio::Token) -> io::Result<mio::Waker> {
        mio::Waker::new(poll.registry(), token)
    }
}
