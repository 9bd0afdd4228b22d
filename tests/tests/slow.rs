//! What goes on while a disk takes its time.

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine};

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/slow.bin"));

/// Bytes a second of the slow disk: the second read of 65,024 waits for 10 s.
const THROTTLE: &str = "throttling.bps-total=6000";

/// INT 13h's status for a drive that is not ready.
const NOT_READY: u16 = 0xaa;

/// The number behind `key` in the guest's line.
fn number(line: &str, key: char) -> Result<u16> {
    let word = line.split(' ').find_map(|word| word.strip_prefix(key));
    let word = word.with_context(|| format!("no {key} in {line:?}"))?;
    Ok(u16::from_str_radix(word, 16)?)
}

/// A read of ten seconds works, ticks are counted, hooks have services, and INT 13h is busy for them.
fn time_goes_on(config: Config) -> Result<()> {
    let boot = Disk::blank(16 << 20)?;
    boot.write(0, PROGRAM)?;
    let slow = Disk::patterned(16 << 20)?;
    let log = config
        .disk(&boot.path())
        .drive(&format!("file={},{THROTTLE}", slow.path().display()))
        .deadline_seconds(90)
        .start()?
        .wait_for(Log::Debug, " R0000")?;
    let line = log.lines().find(|line| line.starts_with('T'));
    let line = line.with_context(|| format!("no answer in {log:?}"))?;
    let (ticks, seconds) = (number(line, 'T')?, number(line, 'S')?);
    ensure!(seconds >= 9, "the disk was not slow: {line}");
    // A busy host loses ticks of its guests; a firmware that keeps interrupts out loses nearly all.
    ensure!(ticks >= seconds * 9, "{ticks} ticks in {seconds} s: {line}");
    let hooks = number(line, 'H')?;
    ensure!(hooks >= ticks / 2, "{hooks} of {ticks} hooks were served");
    let busy = number(line, 'B')?;
    ensure!(busy == NOT_READY, "INT 13h from a hook: {busy:02X}h");
    Ok(())
}

#[test]
fn time_goes_on_while_an_ide_disk_is_slow() -> Result<()> {
    time_goes_on(Config::new(Machine::Pc, Firmware::Firstlight))
}

#[test]
fn time_goes_on_while_a_sata_disk_is_slow() -> Result<()> {
    time_goes_on(Config::new(Machine::Q35, Firmware::Firstlight).sata())
}
