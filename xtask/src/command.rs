//! Starting other programs.

use crate::setup;
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// Runs a program to its end without showing what it prints, unless it fails.
///
/// # Errors
/// The program is not there or fails: the end of what it printed is part of the error.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let tail = said.lines().rev().take(30).collect::<Vec<_>>();
    ensure!(
        output.status.success(),
        "{name} failed ({}):\n{}",
        output.status,
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}

/// A command that sees the files it makes as root's: directly if this process runs as root, with fakeroot otherwise.
///
/// # Errors
/// It cannot be told who this process runs as.
pub fn as_if_root(program: &str) -> Result<Command> {
    if setup::is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("fakeroot");
    command.arg(program);
    Ok(command)
}
