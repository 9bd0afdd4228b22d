//! Runs, checks and converts a libvirt domain's XML: `firstlight --help`.

fn main() -> std::process::ExitCode {
    // `firstlight check … | head` ends quietly.
    sigpipe::reset();
    firstlight_host::cli::main()
}
