//! `cargo xtask build`: the firmware in its two containers.
//!
//! It is compiled twice: with what only Xen runs, for the ELF file, and without those crates and modules, for the ROM.

mod container;
pub mod host;
mod size;

use crate::project;
use anyhow::{Context, Result, ensure};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol};
use size::{Budgets, Sizes};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Build the firmware: target/firmware/firstlight.rom and target/firmware/hvmloader
///
/// Prints what each crate and module takes of the ROM and of the guest's memory, in bytes.
#[derive(clap::Args)]
pub struct Args {
    /// Build the host bootloader instead: target/firmware/firstlight-bootloader
    #[arg(long)]
    bootloader: bool,
    /// Compile the firmware for another target of Rust's: `none` is x86_64-unknown-none, whose code does without SSE
    #[arg(long, value_enum, conflicts_with = "bootloader")]
    target: Option<Target>,
}

/// A target of Rust's beside the one that every toolchain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// x86_64-unknown-none.
    None,
}

impl Target {
    /// Rust's name of it.
    const fn name(self) -> &'static str {
        match self {
            Self::None => "x86_64-unknown-none",
        }
    }

    /// Whether the toolchain has it.
    fn ensure_installed(self) -> Result<()> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--print", "target-libdir", "--target", self.name()])
            .current_dir(project::root())
            .output()
            .context("cannot start rustc")?;
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success() && Path::new(&directory).exists(),
            "the toolchain has no target {0}: run `rustup target add {0}`",
            self.name()
        );
        Ok(())
    }
}

/// The files that a build leaves behind.
pub struct Firmware {
    /// The ROM image with a reset vector, for QEMU's `-bios`.
    pub rom: PathBuf,
    /// The 32-bit ELF, for Xen's `firmware_override`.
    pub hvmloader: PathBuf,
}

/// The two ways in which the firmware is compiled.
#[derive(Clone, Copy)]
enum Variant {
    /// Without what only Xen runs.
    Rom,
    /// With all there is.
    Hvmloader,
}

impl Variant {
    /// The firmware as the linker leaves it.
    fn elf(self) -> PathBuf {
        let name = match self {
            Self::Rom => "rom.elf",
            Self::Hvmloader => "hvmloader.elf",
        };
        project::target().join("firmware").join(name)
    }
}

/// The program as it lies in memory before it runs.
struct Image {
    /// Everything that is loaded, from link address zero.
    bytes: Vec<u8>,
    /// Where Xen enters it.
    entry: u32,
    /// Bytes that it occupies once it runs.
    resident: u64,
}

/// Carries out `cargo xtask build`.
pub fn main(args: Args) -> Result<()> {
    if args.bootloader {
        return host::main();
    }
    let firmware = firmware_for(args.target)?;
    let in_rom = Sizes::read(&fs::read(Variant::Rom.elf())?, true)?;
    let resident = Sizes::read(&fs::read(Variant::Hvmloader.elf())?, false)?;
    print!("{}", size::table(&in_rom, &resident, &budgets()?));
    for file in [&firmware.rom, &firmware.hvmloader] {
        println!(
            "{}: {} KiB",
            file.display(),
            fs::metadata(file)?.len() >> 10
        );
    }
    Ok(())
}

fn budgets() -> Result<Budgets> {
    Budgets::read(&project::root().join("budgets.toml"))
}

/// Builds the firmware, or finds it up to date.
///
/// # Errors
/// It does not compile, is larger than budgets.toml allows, or its files cannot be written.
pub fn firmware() -> Result<Firmware> {
    firmware_for(None)
}

fn firmware_for(target: Option<Target>) -> Result<Firmware> {
    if let Some(target) = target {
        target.ensure_installed()?;
    }
    let directory = project::target().join("firmware");
    fs::create_dir_all(&directory)?;
    let (rom, hvmloader) = (
        compile(Variant::Rom, target)?,
        compile(Variant::Hvmloader, target)?,
    );
    let contained = container::rom(&rom);
    budgets()?.check(
        contained.len() as u64,
        &Sizes::read(&fs::read(Variant::Rom.elf())?, true)?,
        rom.resident.max(hvmloader.resident),
    )?;
    let firmware = Firmware {
        rom: directory.join("firstlight.rom"),
        hvmloader: directory.join("hvmloader"),
    };
    fs::write(&firmware.rom, contained)?;
    fs::write(&firmware.hvmloader, container::hvmloader(&hvmloader))?;
    Ok(firmware)
}

fn compile(variant: Variant, target: Option<Target>) -> Result<Image> {
    let root = project::root();
    let directory = project::target().join("firmware-build");
    // The same bytes wherever the source lies: no path of this machine goes into the binary.
    let mut flags = format!(
        "--remap-path-prefix={}=firstlight --remap-path-prefix={}=cargo",
        root.display(),
        home::cargo_home()?.display()
    );
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--quiet"])
        .args(["--package", "firstlight", "--bin", "firmware"])
        .args(["--features", "program"])
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(root);
    let mut product = directory.clone();
    if let Some(target) = target {
        // Linked as the other: by the C compiler, and to any address.
        flags
            .push_str(" -Clinker=cc -Clinker-flavor=gcc -Crelocation-model=pie -Ccode-model=small");
        cargo.args(["--target", target.name()]);
        product.push(target.name());
    }
    cargo.env("RUSTFLAGS", flags);
    if let Variant::Rom = variant {
        cargo.arg("--no-default-features");
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the firmware does not compile");
    // Both variants have the same name there.
    let elf = variant.elf();
    fs::copy(product.join("release/firmware"), &elf)?;
    read_image(&elf).with_context(|| format!("{} is not the image it should be", elf.display()))
}

/// Where the functions that the firmware's last build for Xen calls `names` lie in its image. A name is a part of the symbol's.
///
/// # Errors
/// There is no build, or one of them is not in it.
pub fn symbols<const N: usize>(names: [&str; N]) -> Result<[u64; N]> {
    let path = Variant::Hvmloader.elf();
    let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*data)?;
    let mut addresses = [0; N];
    for (address, name) in addresses.iter_mut().zip(names) {
        *address = file
            .symbols()
            .find(|symbol| symbol.name().is_ok_and(|own| own.contains(name)))
            .map(|symbol| symbol.address())
            .with_context(|| format!("no symbol {name}"))?;
    }
    Ok(addresses)
}

fn read_image(path: &Path) -> Result<Image> {
    let data = fs::read(path)?;
    let elf = FileHeader64::<LittleEndian>::parse(&*data)?;
    let file = object::File::parse(&*data)?;
    let symbol = |name: &str| {
        file.symbols()
            .find(|symbol| symbol.name() == Ok(name))
            .map(|symbol| symbol.address())
            .with_context(|| format!("no symbol {name}"))
    };
    let mut bytes = vec![0; symbol("image_file_end")? as usize];
    for header in elf.program_headers(LittleEndian, &*data)? {
        let content = header
            .data(LittleEndian, &*data)
            .ok()
            .context("segment outside the file")?;
        if header.p_type(LittleEndian) == PT_LOAD && !content.is_empty() {
            let start = header.p_vaddr(LittleEndian) as usize;
            bytes
                .get_mut(start..start + content.len())
                .context("segment outside the image")?
                .copy_from_slice(content);
        }
    }
    Ok(Image {
        bytes,
        entry: file.entry() as u32,
        resident: symbol("resident_end")?,
    })
}
