//! Assembles the guest programs with the assembler and linker that the Rust toolchain's C compiler brings.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The boot sectors of `guest/hostile`.
const HOSTILE: [&str; 13] = [
    "apm",
    "breakpoint",
    "deadlines",
    "little",
    "longjump",
    "nmi",
    "overwrite",
    "restart",
    "switch",
    "unreal",
    "upper",
    "v86",
    "window",
];

/// What says with which registers it is entered, in `guest/handover`, and where it is linked.
const HANDOVER: [(&str, u32); 6] = [
    ("sector", 0x7c00),
    ("wake", 0x7c00),
    ("bootrom", 0),
    ("kernel", 0),
    ("zimage", 0),
    ("multiboot", 0x8000),
];

fn main() {
    let guest = Path::new("guest");
    println!("cargo::rerun-if-changed={}", guest.display());
    assemble(guest, "boot", 0x7c00);
    assemble(guest, "executor", 0);
    assemble(guest, "xen", 0x7c00);
    assemble(guest, "rom", 0);
    assemble(guest, "waitkey", 0);
    assemble(guest, "letter", 0x7c00);
    assemble(guest, "which", 0x7c00);
    assemble(guest, "bcv", 0);
    assemble(guest, "bbs", 0x7c00);
    assemble(guest, "floppy", 0x7c00);
    assemble(guest, "slow", 0x7c00);
    assemble(guest, "transfers", 0x7c00);
    assemble(guest, "bootloop", 0);
    for name in HOSTILE {
        assemble(guest, &format!("hostile/{name}"), 0x7c00);
    }
    for (name, address) in HANDOVER {
        assemble(guest, &format!("handover/{name}"), address);
    }
    // It has an ELF header of its own making.
    assemble(guest, "pvh", 0);
}

/// Makes `OUT_DIR/NAME.bin` of the last part of `name`, the plain bytes of `guest/NAME.s` linked at `address`.
fn assemble(guest: &Path, name: &str, address: u32) {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let source = guest.join(name).with_extension("s");
    let name = source.file_stem().expect("a file has a name");
    let object = out.join(name).with_extension("o");
    run(Command::new("as")
        .arg("--64")
        .arg("-I")
        .arg(guest)
        .arg(&source)
        .arg("-o")
        .arg(&object));
    run(Command::new("ld")
        .args(["-m", "elf_x86_64", "--oformat", "binary"])
        .arg(format!("-Ttext={address:#x}"))
        .arg(&object)
        .arg("-o")
        .arg(out.join(name).with_extension("bin")));
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (Debian package binutils)"));
    assert!(status.success(), "{command:?}: {status}");
}
