use super::frame::ID_MAX;

/// Bytes that we may send, on a stream or on the connection. A change of SETTINGS can make it negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendWindow(i64);

/// The window left its range: FLOW_CONTROL_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowOverflow;

impl SendWindow {
    pub(super) fn new(bytes: u32) -> SendWindow {
        SendWindow(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub(super) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(super) fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.available());
        self.0 -= bytes as i64;
    }

    /// By a WINDOW_UPDATE, or by a change of the initial window.
    pub(super) fn change(&mut self, bytes: i64) -> Result<(), WindowOverflow> {
        let changed = self.0 + bytes;
        if changed > i64::from(ID_MAX) {
            return Err(WindowOverflow);
        }
        self.0 = changed;
        Ok(())
    }
}

/// Bytes that the peer may send, on a stream or on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiveWindow {
    left: u32,
    size: u32,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> ReceiveWindow {
        ReceiveWindow { left: size, size }
    }

    /// The peer has used some of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), WindowOverflow> {
        let bytes = u32::try_from(bytes).map_err(|_| WindowOverflow)?;
        self.left = self.left.checked_sub(bytes).ok_or(WindowOverflow)?;
        Ok(())
    }

    /// The update to send once half is used: rare enough to cost nothing, early enough that the peer never waits.
    pub(super) fn take_update(&mut self) -> Option<u32> {
        if self.left > self.size / 2 {
            return None;
        }
        let update = self.size - self.left;
        self.left = self.size;
        (update > 0).then_some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_window_may_go_below_zero_but_never_above_its_ceiling() {
        let mut window = SendWindow::new(10);
        window.take(10);
        assert_eq!(window.change(-100), Ok(()));
        assert_eq!(window.available(), 0);
        assert_eq!(window.change(101), Ok(()));
        assert_eq!(window.available(), 1);
        assert_eq!(window.change(i64::from(ID_MAX)), Err(WindowOverflow));
    }

    #[test]
    fn receive_window_is_refilled_when_half_is_used() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.take(49), Ok(()));
        assert_eq!(window.take_update(), None);
        assert_eq!(window.take(1), Ok(()));
        assert_eq!(window.take_update(), Some(50));
        assert_eq!(window.take(101), Err(WindowOverflow));
    }
}
