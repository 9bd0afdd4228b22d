//! QEMU's machine monitor, QMP.

use crate::wait;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long QEMU's monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to the monitor of a QEMU whose [`crate::Guest::monitor`] is set. It takes one connection at a time.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to a QEMU that may have just been started.
    ///
    /// # Errors
    /// There is none within 20 s.
    pub fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + ANSWER * wait::scale();
        let stream = wait::until(
            deadline,
            wait::POLL,
            || Ok(UnixStream::connect(socket).ok()),
        )?;
        let stream = stream.context("no connection to QEMU's monitor")?;
        stream.set_read_timeout(Some(ANSWER * wait::scale()))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.answer()?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Gives a command of QMP and returns its result.
    ///
    /// # Errors
    /// QEMU is gone, does not answer, or refuses.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let mut line = request.to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut reply = self.answer()?;
        ensure!(reply.get("error").is_none(), "QEMU: {command}: {reply}");
        Ok(reply["return"].take())
    }

    /// Gives a command of the human monitor and returns what QEMU says.
    ///
    /// # Errors
    /// As [`Monitor::execute`].
    pub fn command(&mut self, command: &str) -> Result<String> {
        let arguments = json!({ "command-line": command });
        let said = self.execute("human-monitor-command", arguments)?;
        Ok(said.as_str().unwrap_or_default().replace('\r', ""))
    }

    /// The next message that is no event.
    fn answer(&mut self) -> Result<Value> {
        loop {
            let mut line = String::new();
            let length = self.stream.read_line(&mut line);
            let length = length.context("QEMU's monitor does not answer")?;
            ensure!(length > 0, "QEMU closed its monitor");
            let message: Value = serde_json::from_str(&line)?;
            if message.get("event").is_none() {
                return Ok(message);
            }
        }
    }
}
