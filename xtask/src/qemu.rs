//! How this tool starts QEMU: the machines that Firstlight supports, and the arguments that every guest has in common.

use std::path::Path;
use std::process::Command;

/// A machine type of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// i440FX and PIIX3, with IDE disks.
    Pc,
    /// Q35 and ICH9, with AHCI disks.
    Q35,
}

impl Machine {
    /// QEMU's name of the machine, and this tool's.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Pc => "pc",
            Machine::Q35 => "q35",
        }
    }
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accelerator {
    /// QEMU's translator: works everywhere.
    Tcg,
    /// Linux's KVM, where /dev/kvm is there and may be used.
    Kvm,
}

/// A QEMU without defaults but the machine's own devices, no firmware named and no disk.
pub fn command(machine: Machine, accelerator: Accelerator, memory: &str, cpus: u32) -> Command {
    let accelerator = match accelerator {
        Accelerator::Tcg => "tcg",
        Accelerator::Kvm => "kvm",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-machine",
        &format!("{},accel={accelerator}", machine.name()),
    ]);
    command.args([
        "-m",
        memory,
        "-smp",
        &cpus.to_string(),
        "-nodefaults",
        "-vga",
        "std",
    ]);
    command
}

/// The value of `-drive` for the raw or qcow2 image `file` on the machine's own controller. With `snapshot`, what the guest writes is
/// thrown away when QEMU ends.
pub fn drive(file: &Path, format: &str, snapshot: bool) -> String {
    let snapshot = if snapshot { "on" } else { "off" };
    // A comma in a value is doubled for QEMU.
    let file = file.display().to_string().replace(',', ",,");
    format!("if=ide,media=disk,format={format},snapshot={snapshot},file={file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_file_name_does_not_end_it() {
        assert!(
            drive(Path::new("/tmp/a,b.img"), "raw", true)
                .ends_with("snapshot=on,file=/tmp/a,,b.img")
        );
    }
}
