//! Catching up: watchers that want similar revisions read the log together, a slice at a time.

use std::ops::ControlFlow;

use super::dispatch::Left;
use super::gather::{Gather, Gathered};
use super::watchers::{Outlet, State, Watchers};
use crate::mvcc::{ChangesAt, NeedRead, Reader};
use crate::types::Term;

/// A walk through the log for some watchers.
pub(super) struct Pass {
    at: ChangesAt,
    /// Its watchers were sent everything up to this revision that they want.
    done: i64,
    /// The revision that is being gathered, perhaps not to its end; else `done`.
    open: i64,
    gather: Gather,
    /// Numbers of its watchers, and of some that have left.
    members: Vec<u32>,
    count: usize,
}

impl Pass {
    fn new(next: i64) -> Self {
        Self {
            at: ChangesAt::revision(next),
            done: next - 1,
            open: next - 1,
            gather: Gather::default(),
            members: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn leave(&mut self) {
        self.count -= 1;
    }

    fn enter(&mut self, number: u32) {
        self.count += 1;
        self.members.push(number);
    }

    /// Goes on at `next`, with nothing gathered.
    fn go_to(&mut self, next: i64) {
        self.at = ChangesAt::revision(next);
        (self.done, self.open) = (next - 1, next - 1);
        self.gather = Gather::default();
    }
}

impl<A: Copy> Watchers<A> {
    /// Finds a pass for a watcher that is in no list, or begins one.
    pub(super) fn join_pass(&mut self, number: u32) {
        let next = self.watchers[number].next;
        let numbers = self.passes.numbers();
        let nearest = numbers
            .filter(|pass| self.passes[*pass].open < next)
            .max_by_key(|pass| self.passes[*pass].open);
        let is_near = |pass: &u32| next - self.passes[*pass].open <= self.hub.bounds.pass_span;
        let is_full = self.passes.len() >= self.hub.bounds.passes;
        let pass = match nearest.filter(|pass| is_full || is_near(pass)) {
            Some(pass) => pass,
            None if is_full => self.rewind_first(next),
            None => self.passes.insert(Pass::new(next)),
        };
        self.passes[pass].enter(number);
        self.watchers[number].state = State::behind(pass);
        self.tidy(pass);
    }

    /// Lets the pass that is furthest behind begin at `next` or before.
    fn rewind_first(&mut self, next: i64) -> u32 {
        let numbers = self.passes.numbers();
        let first = numbers
            .min_by_key(|pass| self.passes[*pass].done)
            .expect("there are as many as there may be");
        self.settle(first);
        // In the middle of the wanted revision it begins that one again, and what it has gathered before it.
        let owed = self.passes[first].done + 1;
        self.passes[first].go_to(next.min(owed));
        first
    }

    /// Notes with each watcher of a pass what it was sent.
    fn settle(&mut self, pass: u32) {
        self.tidy_all(pass);
        let Pass { members, done, .. } = &self.passes[pass];
        for number in members {
            let watcher = &mut self.watchers[*number];
            watcher.next = watcher.next.max(done + 1);
        }
    }

    /// Forgets who has left, if that is most.
    fn tidy(&mut self, pass: u32) {
        let Pass { members, count, .. } = &self.passes[pass];
        if members.len() > 2 * count + MEMBERS_UNTIDY_MAX {
            self.tidy_all(pass);
        }
    }

    fn tidy_all(&mut self, pass: u32) {
        let mut members = std::mem::take(&mut self.passes[pass].members);
        members.sort_unstable();
        members.dedup();
        let watchers = &self.watchers;
        let is_in = |number: &u32| {
            let watcher = watchers.get(*number);
            watcher.is_some_and(|watcher| watcher.state == State::behind(pass))
        };
        members.retain(is_in);
        self.passes[pass].members = members;
    }

    /// Does a slice for the next pass in turn.
    pub(super) fn catch_up(
        &mut self,
        reader: &Reader,
        term: Term,
        out: &mut impl Outlet<A>,
    ) -> Left {
        if self.passes.len() == 0 {
            return Left::Nothing;
        }
        let after = |pass: &u32| *pass > self.last_pass;
        let next = self.passes.numbers().find(after);
        let Some(pass) = next.or_else(|| self.passes.numbers().next()) else {
            return Left::Nothing;
        };
        self.last_pass = pass;
        let left = self.slice(pass, reader, term, out);
        match left {
            Left::Nothing if self.passes.len() > 0 => Left::More,
            // The others do not wait for what this one misses.
            Left::Reads if self.passes.len() > 1 => Left::More,
            left => left,
        }
    }

    fn slice(&mut self, pass: u32, reader: &Reader, term: Term, out: &mut impl Outlet<A>) -> Left {
        let pin = reader.pin();
        let view = pin.view();
        if self.passes[pass].done + 1 < view.compacted() {
            self.cancel_below(pass, view.compacted(), term, out);
        }
        if self.passes[pass].count == 0 {
            self.passes.remove(pass);
            return Left::Nothing;
        }
        let own = &mut self.passes[pass];
        let mut gather = std::mem::take(&mut own.gather);
        let (mut at, mut open) = (own.at, own.open);
        let newest = view.revision();
        let bounds = self.hub.bounds;
        let mut left = bounds.slice_records;
        let mut missing: Option<NeedRead> = None;
        // Whether all of `open` was gathered.
        let mut is_whole = false;
        let walked = view.changes(&mut at, newest, |change| {
            let main = change.record().mod_revision.main;
            if left == 0 || main != open && gather.bytes() >= bounds.slice_bytes {
                is_whole = main != open;
                return ControlFlow::Break(());
            }
            left -= 1;
            let added = gather.add(&self.hub.index, &view, &change, |group| {
                self.last_unsynced(group).is_some()
            });
            if let Err(need) = added {
                missing = Some(need);
                return ControlFlow::Break(());
            }
            open = main;
            ControlFlow::Continue(())
        });
        let own = &mut self.passes[pass];
        (own.at, own.open) = (at, open);
        let is_there = walked == Ok(true);
        if !is_there && !is_whole {
            own.gather = gather;
            return match (walked, missing) {
                (Ok(_), None) => Left::More,
                _ => Left::Reads,
            };
        }
        let header = self.header((newest, term));
        for gathered in gather.take() {
            self.deliver_gathered(pass, &gathered, &header, out);
        }
        let own = &mut self.passes[pass];
        own.gather = gather;
        own.done = if is_there { newest } else { open };
        own.open = own.done;
        if is_there {
            self.dissolve(pass);
        }
        Left::Nothing
    }

    fn deliver_gathered(
        &mut self,
        pass: u32,
        gathered: &Gathered,
        header: &[u8],
        out: &mut impl Outlet<A>,
    ) {
        let done = self.passes[pass].done;
        let mut at = self.last_unsynced(gathered.group.entry());
        while let Some(number) = at {
            at = self.unsynced_before(number);
            let watcher = &self.watchers[number];
            let next = watcher.next.max(done + 1);
            if watcher.state == State::behind(pass) {
                let events = gathered.events_from(next);
                if !events.is_empty() && !self.deliver(number, header, &events, out) {
                    self.stall(number, next);
                }
            }
        }
    }

    /// All watchers of a pass are at the newest revision: what comes after it is dispatched to them.
    fn dissolve(&mut self, pass: u32) {
        self.settle(pass);
        for number in std::mem::take(&mut self.passes[pass].members) {
            self.sync(number);
        }
        self.passes.remove(pass);
    }

    /// Cancels those whose next revision is compacted; the others go on above. [W4]
    fn cancel_below(&mut self, pass: u32, compacted: i64, term: Term, out: &mut impl Outlet<A>) {
        self.settle(pass);
        for number in self.passes[pass].members.clone() {
            if self.watchers[number].next < compacted {
                self.cancel_compacted(number, compacted, term, out);
            }
        }
        self.tidy_all(pass);
        self.passes[pass].go_to(compacted);
    }
}

/// Members of a pass beyond twice its watchers that are not worth forgetting.
const MEMBERS_UNTIDY_MAX: usize = 64;
