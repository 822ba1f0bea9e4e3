//! Arguments to command to exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepup::cli::main()
}
