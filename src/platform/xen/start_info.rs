//! `hvm_start_info`: what the domain builder leaves for us (public header arch-x86/hvm/start_info.h).

use crate::arch::PhysMem;
use crate::units::FOUR_GIB;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_linux::pvh::{self, MAGIC};

/// No toolstack passes more; a larger count is damage.
const MAX_MODULES: u32 = 32;
/// Longest command line taken.
const MAX_CMDLINE: usize = 1024;

/// A file that the toolstack put into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its bytes' physical addresses, below 4 GiB, not empty.
    pub range: Range<u64>,
    /// What it is: "firmware" is the image of `bios=`.
    pub cmdline: String,
}

/// The structure, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartInfo {
    /// The modules, without those that lie nowhere.
    pub modules: Vec<Module>,
    /// Our own command line.
    pub cmdline: String,
}

/// Why there is no start_info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartInfoError {
    /// The address is zero or not below 4 GiB.
    Address(u64),
    /// The magic number is another one.
    Magic(u32),
    /// More modules than any toolstack passes.
    Modules(u32),
}

/// Reads the structure at `addr`, which is EBX at our entry.
///
/// # Errors
/// See [`StartInfoError`]. A module outside of 0 to 4 GiB is logged and left out.
pub fn read(mem: &impl PhysMem, addr: u64) -> Result<StartInfo, StartInfoError> {
    if addr == 0 || addr >= FOUR_GIB - size_of::<pvh::StartInfo>() as u64 {
        return Err(StartInfoError::Address(addr));
    }
    let raw: pvh::StartInfo = mem.read_as(addr);
    if raw.magic != MAGIC {
        return Err(StartInfoError::Magic(raw.magic));
    }
    if raw.module_count > MAX_MODULES {
        return Err(StartInfoError::Modules(raw.module_count));
    }
    let list = checked_range(
        raw.modules,
        u64::from(raw.module_count) * size_of::<pvh::Module>() as u64,
    );
    let modules = list.map_or_else(Vec::new, |list| {
        list.step_by(size_of::<pvh::Module>())
            .filter_map(|at| module(mem, at))
            .collect()
    });
    Ok(StartInfo {
        modules,
        cmdline: text(mem, raw.cmdline),
    })
}

fn module(mem: &impl PhysMem, at: u64) -> Option<Module> {
    let raw: pvh::Module = mem.read_as(at);
    let Some(range) = checked_range(raw.start, raw.size) else {
        log::warn!(
            "Xen: module at {:#x} of {:#x} bytes is not in memory; ignored",
            raw.start,
            raw.size
        );
        return None;
    };
    Some(Module {
        range,
        cmdline: text(mem, raw.cmdline),
    })
}

/// The range of `size` bytes at `start`, where it is not empty, not at 0 and below 4 GiB.
pub fn checked_range(start: u64, size: u64) -> Option<Range<u64>> {
    let end = start.checked_add(size)?;
    (start > 0 && size > 0 && end <= FOUR_GIB).then_some(start..end)
}

fn text(mem: &impl PhysMem, addr: u64) -> String {
    if checked_range(addr, MAX_CMDLINE as u64).is_none() {
        return String::new();
    }
    (addr..addr + MAX_CMDLINE as u64)
        .map(|at| mem.read8(at))
        .take_while(|byte| *byte != 0)
        .map(|byte| if byte.is_ascii() { byte as char } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use proptest::prelude::*;

    const AT: u64 = 0x10_0000;

    fn start_info(modules: &[(u64, u64, &str)]) -> Fake {
        let mem = Fake::default();
        mem.write_as(
            AT,
            &pvh::StartInfo {
                magic: MAGIC,
                module_count: modules.len() as u32,
                modules: AT + 0x1000,
                ..pvh::StartInfo::default()
            },
        );
        for (index, &(start, size, text)) in modules.iter().enumerate() {
            let cmdline = AT + 0x8000 + index as u64 * 0x100;
            mem.write(cmdline, text.as_bytes());
            mem.write_as(
                AT + 0x1000 + index as u64 * 32,
                &pvh::Module {
                    start,
                    size,
                    cmdline,
                    reserved: 0,
                },
            );
        }
        mem
    }

    #[test]
    fn reads_modules() {
        let mem = start_info(&[(0x40_0000, 0x4_0000, "firmware"), (0x50_0000, 12, "acpi")]);
        let info = read(&mem, AT).unwrap();
        assert_eq!(info.modules.len(), 2);
        assert_eq!(info.modules[0].range, 0x40_0000..0x44_0000);
        assert_eq!(info.modules[0].cmdline, "firmware");
    }

    #[test]
    fn leaves_out_modules_that_lie_nowhere() {
        let mem = start_info(&[(0, 12, "a"), (12, 0, "b"), (u64::MAX, 12, "c"), (1, 1, "d")]);
        let info = read(&mem, AT).unwrap();
        assert_eq!(info.modules.len(), 1);
        assert_eq!(info.modules[0].cmdline, "d");
    }

    #[test]
    fn refuses_what_is_no_start_info() {
        let mem = Fake::default();
        assert_eq!(read(&mem, AT), Err(StartInfoError::Magic(0)));
        assert_eq!(read(&mem, 0), Err(StartInfoError::Address(0)));
        assert_eq!(read(&mem, u64::MAX), Err(StartInfoError::Address(u64::MAX)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 56), magic: bool, few: bool, addr: u64) {
            let mem = Fake::default();
            mem.write(AT, &bytes);
            if magic {
                mem.write32(AT, MAGIC);
            }
            if few {
                mem.write32(AT + 12, 3);
            }
            let _ = read(&mem, AT);
            let _ = read(&mem, addr);
        }
    }
}
