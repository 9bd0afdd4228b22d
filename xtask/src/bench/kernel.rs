//! The way to a kernel that QEMU gives: what `cargo xtask bench` shows, and what the tests hold the firmware to.

use super::measure::{Bench, Contestant, Guest};
use super::trace;
use anyhow::{Context, Result};
use firstlight_vm::Machine;
use std::collections::BTreeMap;
use std::path::Path;

/// QEMU's small firmware that starts nothing but kernels (Debian package qemu-system-data).
pub const QBOOT: &str = "/usr/share/qemu/qboot.rom";
/// The name of the step in which Firstlight installs the guest's tables.
const TABLES: &str = "tables";

/// From reset to the kernel's first instruction.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Guest instructions.
    pub instructions: u64,
    /// Device accesses, by device.
    pub accesses: BTreeMap<String, u64>,
}

impl Costs {
    /// All device accesses.
    pub fn total_accesses(&self) -> u64 {
        self.accesses.values().sum()
    }
}

impl Bench<'_> {
    pub(super) fn kernel(&self, firmware: &Contestant, screen: bool) -> Result<Costs> {
        let guest = Guest::Kernel { screen };
        Ok(Costs {
            instructions: self.instructions(firmware, guest)?,
            accesses: self.accesses_to_start(firmware, guest)?,
        })
    }
}

/// The costs of the firmware in the file `rom`, without a screen.
///
/// # Errors
/// There is no such file, or it does not start the kernel.
pub fn costs(machine: Machine, rom: &Path) -> Result<Costs> {
    with(machine, rom, |bench, firmware| {
        bench.kernel(firmware, false)
    })
}

/// The instructions in which Firstlight, in the file `rom`, installs the guest's tables.
///
/// # Errors
/// As [`costs`], or the firmware does not report its steps.
pub fn table_instructions(machine: Machine, rom: &Path) -> Result<u64> {
    let steps = with(machine, rom, |bench, firmware| {
        bench.steps(firmware, Guest::Kernel { screen: false })
    })?;
    tables(&steps)
}

/// The instructions of the step in which the tables are installed.
pub(super) fn tables(steps: &[trace::Step]) -> Result<u64> {
    trace::cost(steps, TABLES).context("no report of the tables")
}

fn with<T>(
    machine: Machine,
    rom: &Path,
    measure: impl FnOnce(&Bench, &Contestant) -> Result<T>,
) -> Result<T> {
    let directory = tempfile::tempdir()?;
    let bench = Bench {
        machine,
        directory: directory.path(),
    };
    let firmware = Contestant::new("the firmware", Some(rom.to_owned()));
    measure(&bench, &firmware)
}
