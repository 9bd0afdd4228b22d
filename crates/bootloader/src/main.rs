//! `firstlight-bootloader`: pygrub's successor.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    firstlight_bootloader::supervisor::main()
}
