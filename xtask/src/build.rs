//! `cargo xtask build`: the firmware in its two containers.

use crate::project;
use anyhow::{Context, Result, ensure};
use object::elf::{
    ELFCLASS32, ELFDATA2LSB, ELFMAG, EM_386, ET_EXEC, EV_CURRENT, FileHeader32, Ident, PF_R, PF_W,
    PF_X, PT_LOAD, ProgramHeader32,
};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, U16, U32};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Build the firmware: target/firmware/firstlight.rom and target/firmware/hvmloader.
#[derive(clap::Args)]
pub struct Args {}

/// The files that a build leaves behind.
pub struct Firmware {
    /// The ROM image with a reset vector, for QEMU's `-bios`.
    pub rom: PathBuf,
    /// The 32-bit ELF, for Xen's `firmware_override`.
    pub hvmloader: PathBuf,
}

/// Bytes of the ROM. It ends at 4 GiB; the upper 128 KiB also show below 1 MiB.
const ROM_SIZE: usize = 384 << 10;
/// Where Xen's domain builder puts the image; nothing else of a new domain is there.
const XEN_LOAD_ADDRESS: u32 = 0x10_0000;

/// The program as it lies in memory before it runs.
struct Image {
    /// Everything that is loaded, from link address zero.
    bytes: Vec<u8>,
    /// Where the part begins that the ROM has: what comes before runs on Xen only.
    rom_start: usize,
    /// Where Xen enters it.
    entry: u32,
    /// Bytes that it occupies once it runs.
    resident: u64,
}

impl Image {
    fn rom_part(&self) -> &[u8] {
        &self.bytes[self.rom_start..]
    }
}

/// Carries out `cargo xtask build`.
pub fn main(_: Args) -> Result<()> {
    let image = compile()?;
    let firmware = contain(&image)?;
    println!(
        "{}: {} KiB, {} bytes used",
        firmware.rom.display(),
        ROM_SIZE >> 10,
        image.rom_part().len()
    );
    println!(
        "{}: {} bytes",
        firmware.hvmloader.display(),
        fs::metadata(&firmware.hvmloader)?.len()
    );
    println!("resident in the guest: {} KiB", image.resident >> 10);
    Ok(())
}

/// Builds the firmware, or finds it up to date.
///
/// # Errors
/// It does not compile, or its files cannot be written.
pub fn firmware() -> Result<Firmware> {
    contain(&compile()?)
}

fn compile() -> Result<Image> {
    let root = project::root();
    // The same bytes wherever the source lies: no path of this machine goes into the binary.
    let flags = format!(
        "--remap-path-prefix={}=firstlight --remap-path-prefix={}=cargo",
        root.display(),
        home::cargo_home()?.display()
    );
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "firstlight",
            "--bin",
            "firstlight",
        ])
        .arg("--target-dir")
        .arg(project::target().join("firmware-build"))
        .env("RUSTFLAGS", flags)
        .current_dir(root)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the firmware does not compile");
    let elf = elf_path();
    read_image(&elf).with_context(|| format!("{} is not the image it should be", elf.display()))
}

/// Where the functions that the firmware's last build calls `names` lie in its image. A name is a part of the symbol's.
///
/// # Errors
/// There is no build, or one of them is not in it.
pub fn symbols<const N: usize>(names: [&str; N]) -> Result<[u64; N]> {
    let path = elf_path();
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

/// The firmware as the linker leaves it.
fn elf_path() -> PathBuf {
    project::target().join("firmware-build/release/firstlight")
}

fn read_image(path: &Path) -> Result<Image> {
    let data = fs::read(path)?;
    let elf = object::elf::FileHeader64::<LittleEndian>::parse(&*data)?;
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
        rom_start: symbol("rom_start")? as usize,
        entry: file.entry() as u32,
        resident: symbol("resident_end")?,
    })
}

fn contain(image: &Image) -> Result<Firmware> {
    let directory = project::target().join("firmware");
    fs::create_dir_all(&directory)?;
    let firmware = Firmware {
        rom: directory.join("firstlight.rom"),
        hvmloader: directory.join("hvmloader"),
    };
    fs::write(&firmware.rom, rom(image)?)?;
    fs::write(&firmware.hvmloader, hvmloader(image))?;
    Ok(firmware)
}

/// The image at the end of the ROM: its F segment part comes last, so the reset vector is where the processor looks.
fn rom(image: &Image) -> Result<Vec<u8>> {
    let content = image.rom_part();
    let used = content.len();
    ensure!(
        used <= ROM_SIZE,
        "the image has {used} bytes, the ROM only {ROM_SIZE}"
    );
    let mut rom = vec![0xff; ROM_SIZE - used];
    rom.extend_from_slice(content);
    Ok(rom)
}

/// A 32-bit ELF with one segment, which is what Xen's domain builder takes for a guest without Xen notes.
fn hvmloader(image: &Image) -> Vec<u8> {
    const E: LittleEndian = LittleEndian;
    let header_size = size_of::<FileHeader32<LittleEndian>>();
    let segment_size = size_of::<ProgramHeader32<LittleEndian>>();
    let offset = 0x1000;
    let header = FileHeader32 {
        e_ident: Ident {
            magic: ELFMAG,
            class: ELFCLASS32,
            data: ELFDATA2LSB,
            version: EV_CURRENT,
            os_abi: 0,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(E, ET_EXEC),
        e_machine: U16::new(E, EM_386),
        e_version: U32::new(E, EV_CURRENT.into()),
        e_entry: U32::new(E, XEN_LOAD_ADDRESS + image.entry),
        e_phoff: U32::new(E, header_size as u32),
        e_shoff: U32::new(E, 0),
        e_flags: U32::new(E, 0),
        e_ehsize: U16::new(E, header_size as u16),
        e_phentsize: U16::new(E, segment_size as u16),
        e_phnum: U16::new(E, 1),
        e_shentsize: U16::new(E, 40),
        e_shnum: U16::new(E, 0),
        e_shstrndx: U16::new(E, 0),
    };
    let size = image.bytes.len() as u32;
    let segment = ProgramHeader32 {
        p_type: U32::new(E, PT_LOAD),
        p_offset: U32::new(E, offset as u32),
        p_vaddr: U32::new(E, XEN_LOAD_ADDRESS),
        p_paddr: U32::new(E, XEN_LOAD_ADDRESS),
        p_filesz: U32::new(E, size),
        p_memsz: U32::new(E, size),
        p_flags: U32::new(E, PF_R | PF_W | PF_X),
        p_align: U32::new(E, 0x1000),
    };
    let mut elf = object::pod::bytes_of(&header).to_vec();
    elf.extend_from_slice(object::pod::bytes_of(&segment));
    elf.resize(offset, 0);
    elf.extend_from_slice(&image.bytes);
    elf
}
