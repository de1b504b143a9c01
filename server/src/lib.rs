//! The server of basalt as a library.
