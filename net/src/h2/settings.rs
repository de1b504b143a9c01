use super::error::{ErrorCode, Reason};
use super::frame::{self, ID_MAX, kind};

/// Both sides start from these (RFC 9113, 6.5.2).
pub(super) const INITIAL_WINDOW_DEFAULT: u32 = 65_535;
/// Smallest and default bound of a frame's payload; also the one we announce.
pub(super) const FRAME_BYTES_DEFAULT: usize = 16_384;
const FRAME_BYTES_CEILING: u32 = (1 << 24) - 1;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What one side has told the other about what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of the dynamic table that its decoder keeps.
    pub header_table_bytes: u32,
    /// Streams that its peer may have open; `u32::MAX` is not sent.
    pub streams_max: u32,
    /// Bytes its peer may send on a new stream before an update.
    pub initial_window: u32,
    /// Bytes of payload in a frame.
    pub frame_bytes_max: u32,
    /// Bytes of a header list; advice only, `u32::MAX` is not sent.
    pub header_list_bytes_max: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            header_table_bytes: crate::hpack::DEFAULT_TABLE_BYTES as u32,
            streams_max: u32::MAX,
            initial_window: INITIAL_WINDOW_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT as u32,
            header_list_bytes_max: u32::MAX,
        }
    }
}

impl Settings {
    /// Takes over what a SETTINGS payload says; unknown settings are ignored.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::frame_size("SETTINGS is not made of whole settings"));
        }
        for &[n1, n0, v3, v2, v1, v0] in settings {
            let value = u32::from_be_bytes([v3, v2, v1, v0]);
            match u16::from_be_bytes([n1, n0]) {
                HEADER_TABLE_SIZE => self.header_table_bytes = value,
                ENABLE_PUSH if value > 1 => {
                    return Err(Reason::protocol("ENABLE_PUSH is neither 0 nor 1"));
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if value > ID_MAX => {
                    return Err(Reason::new(
                        ErrorCode::FlowControlError,
                        "INITIAL_WINDOW_SIZE too large",
                    ));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE
                    if !(FRAME_BYTES_DEFAULT as u32..=FRAME_BYTES_CEILING).contains(&value) =>
                {
                    return Err(Reason::protocol("MAX_FRAME_SIZE out of range"));
                }
                MAX_FRAME_SIZE => self.frame_bytes_max = value,
                MAX_HEADER_LIST_SIZE => self.header_list_bytes_max = value,
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the SETTINGS frame that tells these where they differ from the defaults; a server always tells its
    /// frame size, as grpc-go does, a client that it wants no pushes.
    pub(super) fn put(&self, out: &mut Vec<u8>, is_client: bool) {
        let defaults = Settings::default();
        let mut settings: Vec<(u16, u32)> = Vec::new();
        if is_client {
            settings.push((ENABLE_PUSH, 0));
        } else {
            settings.push((MAX_FRAME_SIZE, self.frame_bytes_max));
        }
        for (number, ours, default) in [
            (
                HEADER_TABLE_SIZE,
                self.header_table_bytes,
                defaults.header_table_bytes,
            ),
            (
                MAX_CONCURRENT_STREAMS,
                self.streams_max,
                defaults.streams_max,
            ),
            (
                INITIAL_WINDOW_SIZE,
                self.initial_window,
                defaults.initial_window,
            ),
            (
                MAX_HEADER_LIST_SIZE,
                self.header_list_bytes_max,
                defaults.header_list_bytes_max,
            ),
        ] {
            if ours != default {
                settings.push((number, ours));
            }
        }
        frame::put_header(out, settings.len() * 6, kind::SETTINGS, 0, 0);
        for (number, value) in settings {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_read() {
        let told = Settings {
            streams_max: 100,
            initial_window: 1 << 20,
            header_list_bytes_max: 65_536,
            ..Settings::default()
        };
        let mut out = Vec::new();
        told.put(&mut out, false);
        let mut read = Settings::default();
        assert_eq!(read.read(&out[frame::HEADER_BYTES..]), Ok(()));
        assert_eq!(read, told);
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_codes_of_the_rfc() {
        let refused = |number: u8, value: u32| {
            let mut payload = vec![0, number];
            payload.extend(value.to_be_bytes());
            Settings::default().read(&payload).unwrap_err().code
        };
        assert_eq!(refused(2, 2), ErrorCode::ProtocolError);
        assert_eq!(refused(4, 1 << 31), ErrorCode::FlowControlError);
        assert_eq!(refused(5, 16_383), ErrorCode::ProtocolError);
        assert_eq!(refused(5, 1 << 24), ErrorCode::ProtocolError);
        assert_eq!(
            Settings::default().read(&[0; 5]).unwrap_err().code,
            ErrorCode::FrameSizeError
        );
        assert_eq!(Settings::default().read(&[9, 9, 1, 1, 1, 1]), Ok(()));
    }
}
