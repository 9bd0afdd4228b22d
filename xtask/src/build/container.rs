//! The containers in which a hypervisor takes the firmware.

use super::Image;
use object::elf::{
    ELFCLASS32, ELFDATA2LSB, ELFMAG, EM_386, ET_EXEC, EV_CURRENT, FileHeader32, Ident, PF_R, PF_W,
    PF_X, PT_LOAD, ProgramHeader32,
};
use object::{LittleEndian, U16, U32};

/// QEMU takes ROMs of a multiple of this. The ROM ends at 4 GiB; its upper 128 KiB also show below 1 MiB.
const ROM_UNIT: usize = 64 << 10;
/// Where Xen's domain builder puts the image; nothing else of a new domain is there.
const XEN_LOAD_ADDRESS: u32 = 0x10_0000;

/// The image at the end of a ROM as small as it can be: its F segment part comes last, so the reset vector is where the processor looks.
pub fn rom(image: &Image) -> Vec<u8> {
    let used = image.bytes.len();
    let mut rom = vec![0xff; used.next_multiple_of(ROM_UNIT) - used];
    rom.extend_from_slice(&image.bytes);
    rom
}

/// A 32-bit ELF with one segment, which is what Xen's domain builder takes for a guest without Xen notes.
pub fn hvmloader(image: &Image) -> Vec<u8> {
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
