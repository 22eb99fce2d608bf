//! The `stiver` binary. Everything it does stands in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stiver::cli::run()
}
