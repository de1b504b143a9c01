//! The load generator of basalt.
fn main() {}
