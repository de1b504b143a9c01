//! A wake-up of the poll with the precision of the kernel's timers; the poll's own time-out counts in milliseconds.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// One timer, registered for good.
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it rings, on the caller's clock; to leave a setting alone that stands already.
    due: u64,
}

impl Alarm {
    /// Registers a timer that is not set.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub(crate) fn new(poll: &Poll, token: Token) -> Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, due: 0 })
    }

    /// Rings at `due`, at once if that is past; an earlier setting is forgotten. Both are nanoseconds of one clock.
    ///
    /// # Errors
    /// None in practice: the descriptor is a timer.
    pub(crate) fn set(&mut self, due: u64, now: u64) -> Result<()> {
        if self.due == due && due > now {
            return Ok(());
        }
        self.due = due;
        let nanoseconds = due.saturating_sub(now).max(1);
        let value = Timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as i64,
            tv_nsec: (nanoseconds % 1_000_000_000) as i64,
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Takes note of a ring. The timer is not read: the poll tells edges, and each expiry is one.
    pub(crate) fn on_ring(&mut self) {
        self.due = 0;
    }
}
