use super::error::Reason;
use crate::limits::Limits;
use std::time::{Duration, Instant};

/// Counts what costs us and brings the client nothing, and says when it is enough.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    faults: u32,
    idle_frames: u32,
    /// `Streams::sent_frames` when an idle frame last came.
    sent_frames: u64,
    /// Streams opened in this thousand, and those of them that were reset before their answer.
    opened: u32,
    early_resets: u32,
    resets: PerSecond,
    settings: PerSecond,
}

#[derive(Debug)]
struct PerSecond {
    since: Option<Instant>,
    count: u32,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Guard {
        let idle = || PerSecond {
            since: None,
            count: 0,
        };
        Guard {
            limits,
            faults: 0,
            idle_frames: 0,
            sent_frames: 0,
            opened: 0,
            early_resets: 0,
            resets: idle(),
            settings: idle(),
        }
    }

    pub(super) fn on_open(&mut self) {
        self.opened += 1;
        self.idle_frames = 0;
        if self.opened == 1000 {
            self.opened = 0;
            self.early_resets = 0;
        }
    }

    /// A request's data came.
    pub(super) fn on_progress(&mut self) {
        self.idle_frames = 0;
    }

    /// A frame that moves nothing. It is excused when we have sent something since the last one.
    pub(super) fn on_idle_frame(&mut self, sent_frames: u64) -> Result<(), Reason> {
        if std::mem::replace(&mut self.sent_frames, sent_frames) != sent_frames {
            self.idle_frames = 0;
        }
        self.idle_frames += 1;
        if self.idle_frames > self.limits.idle_frames_max {
            return Err(Reason::calm("too many frames without use"));
        }
        Ok(())
    }

    /// We reset a stream because of what the client sent.
    pub(super) fn on_fault(&mut self) -> Result<(), Reason> {
        self.faults += 1;
        if self.faults > self.limits.peer_faults_max {
            return Err(Reason::calm("too many stream errors"));
        }
        Ok(())
    }

    /// The client reset an open stream, whose answer had not ended.
    pub(super) fn on_reset(&mut self, now: Instant) -> Result<(), Reason> {
        self.early_resets += 1;
        let is_too_fast = self.resets.count(now) > self.limits.resets_per_second_max;
        if is_too_fast || self.early_resets > self.limits.early_resets_per_mille_max {
            return Err(Reason::calm("too many resets"));
        }
        Ok(())
    }

    pub(super) fn on_settings(&mut self, now: Instant) -> Result<(), Reason> {
        if self.settings.count(now) > self.limits.settings_per_second_max {
            return Err(Reason::calm("too many settings"));
        }
        Ok(())
    }
}

impl PerSecond {
    fn count(&mut self, now: Instant) -> u32 {
        match self.since {
            Some(since) if now.saturating_duration_since(since) < Duration::from_secs(1) => {
                self.count += 1
            }
            _ => {
                self.since = Some(now);
                self.count = 1;
            }
        }
        self.count
    }
}
