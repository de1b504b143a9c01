use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::header;
use super::gather::{Gather, Gathered};
use super::group::{GroupEntry, GroupHeld, Wanted};
use super::index::Index;
use crate::limits;
use crate::mvcc::{ChangesAt, Hold, HoldRefused, NeedRead, Reader};
use crate::types::{ClusterId, MemberId, Term};

/// What one call left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Call again soon.
    More,
    /// Call again when a part of the log may have been read in.
    Reads,
    /// Call again when a connection may have room.
    Room,
}

/// What the dispatcher and all network loops share.
pub struct Hub {
    pub(super) index: Index,
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    /// Watchers of all loops. While it is 0 nothing is dispatched.
    watchers: AtomicUsize,
    /// Every event up to this revision was put into the loops' mail.
    dispatched: AtomicI64,
    mails: Box<[Mailbox]>,
    counts: Counters,
    pub(super) bounds: Bounds,
}

/// How much of what is done at a time; see `limits`. Smaller in tests, which have little history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) slice_records: usize,
    pub(super) slice_bytes: usize,
    pub(super) mail_bytes: usize,
    pub(super) over_bytes: usize,
    pub(super) passes: usize,
    pub(super) pass_span: i64,
}

/// What happened since the start, and what is; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Watchers now.
    pub watchers: u64,
    /// Streams now.
    pub streams: u64,
    /// Watchers that are behind the newest revision now.
    pub slow_watchers: u64,
    /// Events that were handed to connections.
    pub events: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) streams: AtomicU64,
    pub(super) slow_watchers: AtomicU64,
    pub(super) events: AtomicU64,
}

/// Events on their way to one loop.
#[derive(Default)]
struct Mailbox {
    has_mail: AtomicBool,
    mail: Mutex<Mail>,
}

#[derive(Default)]
pub(super) struct Mail {
    pub(super) letters: Vec<Arc<Letter>>,
    bytes: usize,
    /// The first revision of which there was no room for the events.
    pub(super) lost_from: Option<i64>,
}

/// The events of one revision for all groups that want them.
pub(super) struct Letter {
    pub(super) revision: i64,
    pub(super) header: Vec<u8>,
    pub(super) groups: Vec<Gathered>,
}

/// Takes the events of what was just published to the loops whose watchers want them. One for a
/// member, beside its replica.
pub struct Dispatcher {
    hub: Arc<Hub>,
    reader: Reader,
    /// All up to it is dispatched, or nobody watched.
    done: i64,
    /// What is not dispatched cannot be compacted away: somebody may just have begun to watch.
    hold: Hold,
    /// In the middle of what was published.
    at: Option<ChangesAt>,
    gather: Gather,
    /// The revision that is being gathered.
    open: i64,
}

impl Hub {
    /// For so many network loops; nobody watches yet.
    #[must_use]
    pub fn new(cluster: ClusterId, member: MemberId, loops: usize) -> Arc<Self> {
        Self::with_bounds(cluster, member, loops, Bounds::default())
    }

    pub(super) fn with_bounds(
        cluster: ClusterId,
        member: MemberId,
        loops: usize,
        bounds: Bounds,
    ) -> Arc<Self> {
        Arc::new(Self {
            index: Index::new(loops),
            cluster,
            member,
            watchers: AtomicUsize::new(0),
            dispatched: AtomicI64::new(0),
            mails: (0..loops).map(|_| Mailbox::default()).collect(),
            counts: Counters::default(),
            bounds,
        })
    }

    /// For metrics; the numbers are not of one instant.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        let load = |from: &AtomicU64| from.load(Ordering::Relaxed);
        WatchCounts {
            watchers: self.watchers.load(Ordering::Relaxed) as u64,
            streams: load(&self.counts.streams),
            slow_watchers: load(&self.counts.slow_watchers),
            events: load(&self.counts.events),
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counts
    }

    /// Counts a watcher in; its loop has to say so in the group, and then that it `is_told`.
    pub(super) fn join(&self, wanted: &Wanted<'_>) -> GroupHeld {
        self.watchers.fetch_add(1, Ordering::SeqCst);
        self.index.join(wanted)
    }

    /// The watcher that joined is its loop's in the group: what is published after a pin that the caller takes *now*
    /// reaches the loop's mail.
    pub(super) fn is_told(&self) {
        // Either the dispatcher's looks below, which follow its publish and a fence, see what was just
        // stored; or the caller's pin, which follows this fence, sees what was published.
        fence(Ordering::SeqCst);
    }

    /// Takes a watcher out.
    pub(super) fn leave(&self, group: GroupEntry<'_>) {
        self.index.leave(group);
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    /// The revision up to which `take_mail` then gives everything.
    pub(super) fn dispatched(&self) -> i64 {
        // Acquire: pairs with the store in `dispatch`, behind which the mail lies.
        self.dispatched.load(Ordering::Acquire)
    }

    pub(super) fn take_mail(&self, net_loop: usize) -> Mail {
        let mailbox = &self.mails[net_loop];
        if !mailbox.has_mail.load(Ordering::Acquire) {
            return Mail::default();
        }
        let mut mail = mailbox.lock();
        mailbox.has_mail.store(false, Ordering::Release);
        std::mem::take(&mut *mail)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            slice_records: limits::WATCH_SLICE_RECORDS,
            slice_bytes: limits::WATCH_SLICE_BYTES,
            mail_bytes: limits::WATCH_MAIL_BYTES_MAX,
            over_bytes: limits::WATCH_STREAM_OVER_BYTES,
            passes: limits::WATCH_PASSES_MAX,
            pass_span: limits::WATCH_PASS_SPAN,
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, letter: &Arc<Letter>, bytes: usize, bytes_max: usize) {
        let mut mail = self.lock();
        if mail.lost_from.is_none() {
            if mail.bytes + bytes <= bytes_max || mail.letters.is_empty() {
                mail.bytes += bytes;
                mail.letters.push(Arc::clone(letter));
            } else {
                mail.lost_from = Some(letter.revision);
            }
        }
        self.has_mail.store(true, Ordering::Release);
    }
}

impl Dispatcher {
    /// What is published now is the past; watchers find it in the log.
    ///
    /// # Errors
    /// As [`Reader::hold`].
    pub fn new(hub: Arc<Hub>, reader: &Reader) -> Result<Self, HoldRefused> {
        let revision = reader.pin().view().revision();
        let hold = reader.hold(revision)?;
        hub.dispatched.store(revision, Ordering::Release);
        Ok(Self {
            hub,
            reader: reader.clone(),
            done: revision,
            hold,
            at: None,
            gather: Gather::default(),
            open: 0,
        })
    }

    /// Dispatches what was published since the last time, a slice of it at most. `newest` is the store's
    /// published revision. `on_mail` hears of each loop that has got mail.
    pub fn dispatch(&mut self, newest: i64, term: Term, on_mail: impl FnMut(usize)) -> Left {
        if newest == self.done {
            return Left::Nothing;
        }
        // See `Hub::is_told`.
        fence(Ordering::SeqCst);
        if self.hub.watchers.load(Ordering::SeqCst) == 0 && self.at.is_none() {
            self.finish(newest);
            return Left::Nothing;
        }
        self.dispatch_slice(term, on_mail)
    }

    fn dispatch_slice(&mut self, term: Term, mut on_mail: impl FnMut(usize)) -> Left {
        let reader = self.reader.clone();
        let pin = reader.pin();
        let view = pin.view();
        let newest = view.revision();
        let mut at = self.at.unwrap_or(ChangesAt::revision(self.done + 1));
        let mut left = self.hub.bounds.slice_records;
        let mut missing: Option<NeedRead> = None;
        let mut has_mail = vec![false; self.hub.mails.len()];
        let walked = view.changes(&mut at, newest, |change| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            let main = change.record().mod_revision.main;
            if main != self.open {
                self.send(term, &mut has_mail);
                self.open = main;
            }
            let index = &self.hub.index;
            match self.gather.add(index, &view, &change, |_| true) {
                Ok(()) => ControlFlow::Continue(()),
                Err(need) => {
                    missing = Some(need);
                    ControlFlow::Break(())
                }
            }
        });
        self.at = Some(at);
        if walked == Ok(true) {
            self.send(term, &mut has_mail);
            self.finish(newest);
        }
        let loops = has_mail.iter().enumerate().filter(|(_, has)| **has);
        loops.for_each(|(net_loop, _)| on_mail(net_loop));
        match (walked, missing) {
            (Ok(true), _) => Left::Nothing,
            (Ok(false), None) => Left::More,
            (Err(_), _) | (_, Some(_)) => Left::Reads,
        }
    }

    fn finish(&mut self, revision: i64) {
        self.done = revision;
        self.at = None;
        self.open = 0;
        self.hold.raise(revision);
        self.hub.dispatched.store(revision, Ordering::Release);
    }

    /// Puts the gathered revision into the mail of every loop that has watchers of it.
    fn send(&mut self, term: Term, has_mail: &mut [bool]) {
        if self.gather.is_empty() {
            return;
        }
        let bytes = self.gather.bytes();
        let hub = &self.hub;
        let letter = Arc::new(Letter {
            revision: self.open,
            header: header(hub.cluster.0, hub.member.0, self.open, term.0),
            groups: self.gather.take(),
        });
        for (net_loop, mailbox) in hub.mails.iter().enumerate() {
            let is_for = |gathered: &Gathered| gathered.group.entry().first_of(net_loop).is_some();
            if letter.groups.iter().any(is_for) {
                mailbox.put(&letter, bytes, hub.bounds.mail_bytes);
                has_mail[net_loop] = true;
            }
        }
    }
}
