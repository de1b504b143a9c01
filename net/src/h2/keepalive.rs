use super::error::Reason;
use std::time::{Duration, Instant};

/// Pings: how often the peer may send them, and when we send ours. The policy is grpc-go's, which etcd's clients count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Pings that come sooner after one another are strikes.
    pub peer_interval_min: Duration,
    /// We ping after so long a silence of the peer; `None`: never.
    pub interval: Option<Duration>,
    /// So long after our ping the connection is dead.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> KeepAlive {
        KeepAlive {
            peer_interval_min: Duration::from_secs(5),
            interval: Some(Duration::from_secs(2 * 60 * 60)),
            timeout: Duration::from_secs(20),
        }
    }
}

/// Without an open stream a ping is a strike if it comes sooner.
const IDLE_PEER_INTERVAL_MIN: Duration = Duration::from_secs(2 * 60 * 60);
const STRIKES_MAX: u32 = 2;

/// What `Pings::on_deadline` wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    SendPing,
    PeerIsDead,
}

#[derive(Debug)]
pub(super) struct Pings {
    policy: KeepAlive,
    last_read: Instant,
    /// Our ping was sent then, and nothing has been read since.
    asked: Option<Instant>,
    last_peer_ping: Option<Instant>,
    strikes: u32,
    /// HEADERS and DATA frames sent when the last ping came.
    sent_frames: u64,
}

impl Pings {
    pub(super) fn new(policy: KeepAlive, now: Instant) -> Pings {
        Pings {
            policy,
            last_read: now,
            asked: None,
            last_peer_ping: None,
            strikes: 0,
            sent_frames: 0,
        }
    }

    pub(super) fn on_read(&mut self, now: Instant) {
        self.last_read = now;
        self.asked = None;
    }

    /// A ping has come. If we sent HEADERS or DATA since the one before it is excused, because clients measure bandwidth
    /// with pings.
    pub(super) fn on_peer_ping(
        &mut self,
        now: Instant,
        has_streams: bool,
        sent_frames: u64,
    ) -> Result<(), Reason> {
        let last = self.last_peer_ping.replace(now);
        if std::mem::replace(&mut self.sent_frames, sent_frames) != sent_frames {
            self.strikes = 0;
            return Ok(());
        }
        let interval_min = if has_streams {
            self.policy.peer_interval_min
        } else {
            IDLE_PEER_INTERVAL_MIN
        };
        if last.is_some_and(|last| now.saturating_duration_since(last) < interval_min) {
            self.strikes += 1;
        }
        if self.strikes > STRIKES_MAX {
            return Err(Reason::calm("too_many_pings"));
        }
        Ok(())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.asked {
            Some(asked) => Some(asked + self.policy.timeout),
            None => Some(self.last_read + self.policy.interval?),
        }
    }

    pub(super) fn on_deadline(&mut self, now: Instant) -> Due {
        match self.next_deadline() {
            Some(deadline) if deadline <= now => {}
            _ => return Due::Nothing,
        }
        if self.asked.is_some() {
            return Due::PeerIsDead;
        }
        self.asked = Some(now);
        Due::SendPing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings_at(times_ms: &[u64], has_streams: bool, has_sent: bool) -> Result<(), Reason> {
        let start = Instant::now();
        let mut pings = Pings::new(KeepAlive::default(), start);
        times_ms.iter().try_for_each(|&at| {
            let sent_frames = if has_sent { at + 1 } else { 0 };
            pings.on_peer_ping(start + Duration::from_millis(at), has_streams, sent_frames)
        })
    }

    #[test]
    fn third_strike_ends_the_connection_and_traffic_excuses_pings() {
        assert_eq!(pings_at(&[0, 10, 20], true, false), Ok(()));
        let refused = pings_at(&[0, 10, 20, 30], true, false).unwrap_err();
        assert_eq!(refused, Reason::calm("too_many_pings"));
        assert_eq!(pings_at(&[0, 10, 20, 30, 40, 50], true, true), Ok(()));
    }

    #[test]
    fn pings_at_the_allowed_pace_are_taken_only_beside_open_streams() {
        let times: Vec<u64> = (0..100).map(|n| n * 5_000).collect();
        assert_eq!(pings_at(&times, true, false), Ok(()));
        assert!(pings_at(&times, false, false).is_err());
    }

    #[test]
    fn silent_peer_is_asked_and_then_given_up() {
        let start = Instant::now();
        let mut pings = Pings::new(KeepAlive::default(), start);
        let asked_at = start + Duration::from_secs(7200);
        assert_eq!(
            pings.on_deadline(asked_at - Duration::from_secs(1)),
            Due::Nothing
        );
        assert_eq!(pings.on_deadline(asked_at), Due::SendPing);
        assert_eq!(
            pings.next_deadline(),
            Some(asked_at + Duration::from_secs(20))
        );
        assert_eq!(
            pings.on_deadline(asked_at + Duration::from_secs(20)),
            Due::PeerIsDead
        );
        pings.on_read(asked_at + Duration::from_secs(19));
        assert_eq!(
            pings.on_deadline(asked_at + Duration::from_secs(20)),
            Due::Nothing
        );
    }
}
