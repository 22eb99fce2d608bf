//! The `stiver` binary. Everything it does stands in `cli`.

fn main() {}
