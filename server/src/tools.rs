//! What the commands beside the server share.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// The flags of the command `name`, or the status to end with: help was printed, or a wrong line was named with status `bad`.
pub(crate) fn parse<T: Parser>(
    name: &str,
    args: impl Iterator<Item = OsString>,
    bad: u8,
) -> Result<T, ExitCode> {
    let words = std::iter::once(name.into()).chain(args);
    T::try_parse_from(words).map_err(|error| match error.use_stderr() {
        true => {
            eprint!("{error}");
            ExitCode::from(bad)
        }
        false => {
            print!("{error}");
            ExitCode::SUCCESS
        }
    })
}

/// As the server's for a command line that cannot be read.
pub(crate) const BAD_LINE: u8 = 2;
