//! Builds, runs, tests and measures Firstlight: `cargo xtask --help`.
//!
//! One module of the library a command. Each command's arguments are a [`clap::Args`] structure in its module, beside a `main`
//! function that carries the command out.

use clap::{Parser, Subcommand};
use xtask::{bench, build, dist, inspect, kvm, run, setup, test, xen};

/// Developer commands of Firstlight, the boot firmware for virtual machines.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    Build(build::Args),
    Dist(dist::Args),
    Inspect(inspect::Args),
    Kvm(kvm::Args),
    Run(run::Args),
    Setup(setup::Args),
    Test(test::Args),
    Xen(xen::Args),
}

fn main() -> anyhow::Result<()> {
    // `cargo xtask … | head` ends quietly.
    sigpipe::reset();
    match Cli::parse().command {
        Command::Bench(args) => bench::main(args),
        Command::Build(args) => build::main(args),
        Command::Dist(args) => dist::main(args),
        Command::Inspect(args) => inspect::main(args),
        Command::Kvm(args) => kvm::main(args),
        Command::Run(args) => run::main(args),
        Command::Setup(args) => setup::main(args),
        Command::Test(args) => test::main(args),
        Command::Xen(args) => xen::main(args),
    }
}
