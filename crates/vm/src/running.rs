//! A started QEMU.

use anyhow::{Context, Result};
use std::io::Read;
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

/// A started QEMU, which does not outlive this value. What it writes to its standard output arrives in pieces, each with its time.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Receiver<(Instant, Vec<u8>)>,
}

/// What a wait for a running QEMU ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// What was waited for.
    Found(T),
    /// QEMU ended by itself.
    Ended(ExitStatus),
    /// The deadline passed.
    Late,
}

impl Running {
    /// Starts `command` with no standard input.
    ///
    /// # Errors
    /// QEMU is not installed.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: is QEMU installed?"))?;
        let mut output = child.stdout.take().context("QEMU has no standard output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let piece = (Instant::now(), buffer[..length].to_vec());
                if sender.send(piece).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            output: receiver,
        })
    }

    /// Gives `take` each piece of QEMU's output as it comes, until that has enough.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn read<T>(
        &mut self,
        deadline: Instant,
        mut take: impl FnMut(Instant, &[u8]) -> Result<ControlFlow<T>>,
    ) -> Result<Outcome<T>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok((time, bytes)) => {
                    if let ControlFlow::Break(found) = take(time, &bytes)? {
                        return Ok(Outcome::Found(found));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Outcome::Late),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Outcome::Ended(self.child.wait()?));
                }
            }
        }
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: QEMU has either ended already or is ended by this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;
    use std::time::Duration;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script])).expect("a shell")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn what_a_program_says_is_read_until_it_is_enough_or_the_end() {
        let mut said = Vec::new();
        let outcome = shell("echo one; exec sleep 60")
            .read(soon(), |_, bytes| {
                said.extend_from_slice(bytes);
                Ok(match said.ends_with(b"\n") {
                    true => ControlFlow::Break(said.len()),
                    false => ControlFlow::Continue(()),
                })
            })
            .expect("no error");
        assert_eq!(outcome, Outcome::Found(4));
        let ignore = |_, _: &[u8]| Ok(ControlFlow::<()>::Continue(()));
        let outcome = shell("exit 3").read(soon(), ignore).expect("no error");
        assert!(matches!(outcome, Outcome::Ended(status) if status.code() == Some(3)));
        let outcome = shell("exec sleep 60").read(Instant::now(), ignore);
        assert_eq!(outcome.expect("no error"), Outcome::Late);
    }

    #[test]
    fn the_end_of_a_program_is_seen() {
        let mut running = shell("exit 3");
        let status = wait::until(soon(), wait::POLL, || running.ended());
        let status = status.expect("no error").expect("an end");
        assert_eq!(status.code(), Some(3));
    }
}
