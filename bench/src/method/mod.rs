//! How a comparison is made: servers of our own, slices by turns, what a result must carry to be believed.

mod host;
mod process;
mod results;
