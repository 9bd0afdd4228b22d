//! What the services need set up before the first guest instruction. Each function stands alone, so that a boot that has no use
//! for a device leaves it out.

use super::bda::{self, Bda};
use super::layout::Field;
use super::{bios32, ebda, int1a, ivt, pmm, pnp};
use crate::arch::{Entries, Hardware, PhysMem, linear};
use crate::devices::{parallel, pic, pit, ps2, serial};
use crate::low_memory::conventional_kb;
use firstlight_tables::e820::E820Map;
use firstlight_tables::place::{Placer, Zone};

/// Lines that are let through from the start: those whose handlers we have.
const ENABLED_IRQS: u16 = 1 << pic::irq::TIMER
    | 1 << pic::irq::KEYBOARD
    | 1 << pic::irq::FLOPPY
    | 1 << pic::irq::RTC
    | 1 << pic::irq::MOUSE
    | 1 << pic::irq::FPU
    | 1 << pic::irq::IDE_PRIMARY;

/// Writes the vector table and both data areas, on a machine with the memory `map`. Option ROMs and drivers add to them afterwards.
pub fn low_memory(hw: &impl PhysMem, map: &E820Map, entries: &Entries) {
    ivt::init(hw, entries);
    ebda::init(hw);
    bda::init(hw, ebda::SEGMENT, conventional_kb(map));
}

/// Sets up the interrupt controllers, the timer and the clock, and takes the time of day over.
pub fn interrupts_and_time(hw: &impl Hardware) {
    pic::init(hw, ENABLED_IRQS);
    pit::init(hw);
    int1a::init(hw);
}

/// System control port A.
pub const SYSTEM_CONTROL_A: u16 = 0x92;
/// Bit 20 of addresses works.
pub const A20_OPEN: u8 = 1 << 1;
/// Rises to reset the processor.
pub const FAST_RESET: u8 = 1 << 0;

/// Sets up the keyboard controller and the keyboard, and lets A20's gate show that it is open, which reset left it. Comes before the
/// interrupt controllers: their initialisation forgets the interrupt of the controller's own answers.
pub fn keyboard(hw: &impl Hardware) {
    hw.out8(SYSTEM_CONTROL_A, A20_OPEN);
    match ps2::init(hw) {
        Ok(()) => {}
        Err(ps2::Error::Absent) => log::info!("no keyboard controller"),
        Err(error) => log::warn!("the keyboard does not work: {error:?}"),
    }
}

/// Puts the headers into the F segment by which guests and option ROMs find the Plug and Play BIOS, the POST
/// memory manager and the 32-bit PCI BIOS. Returns
/// the Plug and Play header's offset in segment F000h, zero where there was no room.
pub fn entry_points(placer: &mut dyn Placer, entries: &Entries) -> u16 {
    let bios32 = linear(ivt::SEGMENT, entries.bios32) as u32;
    place_header(placer, &bios32::header(bios32));
    place_header(placer, &pmm::header(entries.pmm));
    let pnp = place_header(placer, &pnp::header(entries.pnp));
    pnp.map_or(0, |addr| (addr - linear(ivt::SEGMENT, 0)) as u16)
}

fn place_header(placer: &mut dyn Placer, header: &[u8]) -> Option<u64> {
    let Some(block) = placer.allocate(Zone::FSegment, header.len(), 16) else {
        log::warn!("no room in the F segment for a BIOS header");
        return None;
    };
    block.bytes.copy_from_slice(header);
    Some(block.addr)
}

/// Finds serial and parallel ports, and enters them in the data area.
pub fn ports(hw: &impl Hardware) {
    /// Timer ticks that INT 14h and INT 17h wait.
    const SERIAL_TIMEOUT: u8 = 10;
    const PARALLEL_TIMEOUT: u8 = 20;
    let mut count = 0;
    for base in serial::PORTS
        .into_iter()
        .filter(|base| serial::is_present(hw, *base))
    {
        add(
            hw,
            (&Bda::com_ports(), &Bda::com_timeouts()),
            &mut count,
            base,
            SERIAL_TIMEOUT,
        );
    }
    let mut printers = 0;
    for base in parallel::PORTS
        .into_iter()
        .filter(|base| parallel::is_present(hw, *base))
    {
        add(
            hw,
            (&Bda::lpt_ports(), &Bda::lpt_timeouts()),
            &mut printers,
            base,
            PARALLEL_TIMEOUT,
        );
    }
    let number = (count as u16) << bda::EQUIPMENT_SERIAL_SHIFT
        | (printers as u16) << bda::EQUIPMENT_PARALLEL_SHIFT;
    Bda::equipment().update(hw, |equipment| equipment | number);
}

fn add<const N: usize, const M: usize>(
    hw: &impl PhysMem,
    (ports, timeouts): (&Field<[u16; N]>, &Field<[u8; M]>),
    count: &mut usize,
    base: u16,
    timeout: u8,
) {
    if let (Some(port), Some(ticks)) = (ports.element(*count), timeouts.element(*count)) {
        port.set(hw, base);
        ticks.set(hw, timeout);
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn ports_are_counted() {
        let hw = Fake::default();
        hw.script_port(0x3f9, &[2]);
        hw.script_port(0x3fa, &[2]);
        hw.script_port(0x378, &[0xaa]);
        hw.script_port(0x379, &[0xdf]);
        ports(&hw);
        assert_eq!(Bda::equipment().get(&hw), 0x4200);
        assert_eq!(Bda::com_ports().get(&hw), [0x3f8, 0, 0, 0]);
        assert_eq!(hw.read8(0x478), 20);
    }
}
