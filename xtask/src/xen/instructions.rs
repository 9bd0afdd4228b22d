//! What a guest executes, instruction by instruction, while it runs on Xen.
//!
//! QEMU's log has a line for each block of translated instructions that it executes, with the block's address. Told to make blocks
//! of one instruction, it has a line for each instruction. Only those at the firmware's addresses are logged; Xen and dom0 have no
//! code there, so what is executed in between for the guest, such as the device model's part of an access, is not counted.

use super::bed::Bed;
use super::guest::Guest;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Where the firmware of a guest with 256 MiB lies: at the end of its RAM.
pub(super) const LOGGED: Range<u64> = 0x800_0000..0x1000_0000;
/// How often the log is looked at.
const POLL: Duration = Duration::from_millis(50);

impl Bed {
    /// Lets the paused `guest` run, and passes the address of each instruction that it executes at the end of its 256 MiB to `watch`,
    /// until that breaks.
    ///
    /// # Errors
    /// `watch` has not had enough after `deadline`, or QEMU or dom0 do not answer.
    pub fn executed(
        &mut self,
        guest: &Guest,
        deadline: Duration,
        mut watch: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let file = self.instruction_log();
        let mut log =
            File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
        // What is there is of guests before this one.
        log.seek(SeekFrom::End(0))?;
        let mut log = BufReader::new(log);
        self.monitor("one-insn-per-tb on")?;
        self.monitor("log exec,nochain")?;
        self.check(&format!("xl unpause {}", guest.name()))?;
        let end = Instant::now() + deadline;
        let mut line = Vec::new();
        let watched = loop {
            if log.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
                if Instant::now() > end {
                    break false;
                }
                std::thread::sleep(POLL);
                continue;
            }
            let broken = address(&line).is_some_and(|address| watch(address).is_break());
            line.clear();
            if broken {
                break true;
            }
        };
        self.monitor("log none")?;
        self.monitor("one-insn-per-tb off")?;
        ensure!(
            watched,
            "the guest did not get there in {} s\n{}",
            deadline.as_secs(),
            self.tails()
        );
        Ok(())
    }
}

/// The address in a line of QEMU's log of executed blocks: `Trace 1: 0x7f48 [00000000/000000000f7415a0/0040c0b3/ff000201]`, where it
/// is the second number in brackets.
fn address(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let (_, numbers) = line.strip_prefix("Trace ")?.split_once('[')?;
    u64::from_str_radix(numbers.split('/').nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_from_a_line_of_the_log() {
        let line = b"Trace 1: 0x7f4800 [00000000/000000000f7415a0/0040c0b3/ff000201] \n";
        assert_eq!(address(line), Some(0xf74_15a0));
        assert_eq!(
            address(b"Stopped execution of TB chain before 0x7f [0]"),
            None
        );
    }
}
