//! The MultiProcessor tables that systems without ACPI read (Intel MultiProcessor Specification 1.4, chapter 4).

use alloc::vec::Vec;

use super::place::{Placer, Zone, checksum};
use super::routing::Routing;

/// What the tables describe.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Local APIC IDs; the first is the boot processor's.
    pub apic_ids: &'a [u32],
    /// CPUID leaf 1, EAX and EDX.
    pub cpu: (u32, u32),
    /// The I/O APIC's ID.
    pub ioapic_id: u8,
    /// Interrupt routing.
    pub routing: Routing,
    /// PCI interrupt pins in use on bus 0: device, and pin with 0 for INTA#.
    pub pci_pins: &'a [(u8, u8)],
    /// Whether the timer's IRQ 0 is wired to I/O APIC input 2.
    pub timer_on_input_2: bool,
}

const LOCAL_APIC: u32 = 0xfee0_0000;
const IOAPIC: u32 = 0xfec0_0000;
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
const HEADER_SIZE: usize = 44;
const POINTER_SIZE: usize = 16;

/// Interrupt types of section 4.3.4.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Polarity and trigger mode: as the bus has them; active low and level.
const CONFORMS: u8 = 0;
const LOW_LEVEL: u8 = 0b1111;

/// The configuration table.
pub fn config_table(input: &Input) -> Vec<u8> {
    let mut table = Entries {
        bytes: Vec::with_capacity(HEADER_SIZE + 20 * input.apic_ids.len() + 8 * 32),
        count: 0,
    };
    table.bytes.resize(HEADER_SIZE, 0);
    table.processors(input);
    table.add(&bus(PCI_BUS, b"PCI   "));
    table.add(&bus(ISA_BUS, b"ISA   "));
    let [a, b, c, d] = IOAPIC.to_le_bytes();
    table.add(&[2, input.ioapic_id, 0x11, 1, a, b, c, d]);
    table.interrupts(input);
    table.add(&[4, EXT_INT, CONFORMS, 0, ISA_BUS, 0, 0, 0]);
    table.add(&[4, NMI, CONFORMS, 0, ISA_BUS, 0, 0xff, 1]);
    table.finish()
}

fn bus(id: u8, name: &[u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = *name;
    [1, id, a, b, c, d, e, f]
}

struct Entries {
    bytes: Vec<u8>,
    count: u16,
}

impl Entries {
    fn add(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.count += 1;
    }

    /// The format has eight bits for an APIC ID, of which 255 means all processors; others are left to ACPI.
    fn processors(&mut self, input: &Input) {
        const ENABLED: u8 = 1;
        const BOOT_PROCESSOR: u8 = 2;
        for (index, id) in input.apic_ids.iter().enumerate() {
            let Some(id) = u8::try_from(*id).ok().filter(|id| *id != 0xff) else {
                continue;
            };
            let flags = ENABLED | if index == 0 { BOOT_PROCESSOR } else { 0 };
            let mut entry = [0; 20];
            entry[1..4].copy_from_slice(&[id, 0x14, flags]);
            entry[4..8].copy_from_slice(&input.cpu.0.to_le_bytes());
            entry[8..12].copy_from_slice(&input.cpu.1.to_le_bytes());
            self.add(&entry);
        }
    }

    fn interrupts(&mut self, input: &Input) {
        let ioapic = input.ioapic_id;
        let mut used_by_pci = 0u64;
        for &(device, pin) in input.pci_pins {
            let to = input.routing.ioapic_input(device, pin);
            used_by_pci |= 1 << (to & 63);
            let source = (device & 31) << 2 | pin & 3;
            self.add(&[3, INT, LOW_LEVEL, 0, PCI_BUS, source, ioapic, to]);
        }
        for irq in 0..16 {
            let to = match irq {
                0 if input.timer_on_input_2 => 2,
                // The second PIC's cascade, which reaches no input.
                2 => continue,
                other => other,
            };
            if used_by_pci & (1 << to) == 0 {
                self.add(&[3, INT, CONFORMS, 0, ISA_BUS, irq, ioapic, to]);
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let size = self.bytes.len() as u16;
        let header = &mut self.bytes[..HEADER_SIZE];
        header[..4].copy_from_slice(b"PCMP");
        header[4..6].copy_from_slice(&size.to_le_bytes());
        header[6] = 4;
        header[8..16].copy_from_slice(b"FIRSTLIT");
        header[16..28].copy_from_slice(b"HVM         ");
        header[34..36].copy_from_slice(&self.count.to_le_bytes());
        header[36..40].copy_from_slice(&LOCAL_APIC.to_le_bytes());
        self.bytes[7] = checksum(&self.bytes);
        self.bytes
    }
}

/// The floating pointer to a configuration table at `table`.
pub fn floating_pointer(table: u32) -> [u8; POINTER_SIZE] {
    let mut pointer = [0; POINTER_SIZE];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&table.to_le_bytes());
    pointer[8] = 1;
    pointer[9] = 4;
    pointer[10] = checksum(&pointer);
    pointer
}

/// Makes both structures and places them in one piece in the F segment, or with many processors the configuration table
/// in high memory. Gives the floating pointer's address; `None` where no memory was left.
pub fn install(input: &Input, placer: &mut dyn Placer) -> Option<u64> {
    const MAX_IN_F_SEGMENT: usize = 4096;
    let table = config_table(input);
    let size = POINTER_SIZE + table.len();
    let whole = (size <= MAX_IN_F_SEGMENT)
        .then(|| placer.allocate(Zone::FSegment, size, 16))
        .flatten();
    if let Some(block) = whole {
        let (pointer, rest) = block.bytes.split_at_mut(POINTER_SIZE);
        rest.copy_from_slice(&table);
        pointer.copy_from_slice(&floating_pointer((block.addr as u32) + POINTER_SIZE as u32));
        return Some(block.addr);
    }
    let high = placer.allocate(Zone::High, table.len(), 16)?;
    let pointer = placer.allocate(Zone::FSegment, POINTER_SIZE, 16)?;
    high.bytes.copy_from_slice(&table);
    let table = u32::try_from(high.addr).ok()?;
    pointer.bytes.copy_from_slice(&floating_pointer(table));
    Some(pointer.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::fake::FakePlacer;
    use crate::place::sum;
    use crate::routing::Router;

    fn input() -> Input<'static> {
        Input {
            apic_ids: &[0, 1],
            cpu: (0x663, 0x0f8b_fbff),
            ioapic_id: 0,
            routing: Routing {
                router: Router::Piix3,
                irqs: [10, 10, 11, 11],
            },
            pci_pins: &[(1, 3), (3, 0)],
            timer_on_input_2: true,
        }
    }

    fn interrupts(table: &[u8], bus: u8) -> Vec<(u8, u8)> {
        let mut found = Vec::new();
        let mut at = HEADER_SIZE;
        while at < table.len() {
            let entry = &table[at..];
            if entry[0] == 3 && entry[4] == bus {
                found.push((entry[5], entry[7]));
            }
            at += if entry[0] == 0 { 20 } else { 8 };
        }
        assert_eq!(at, table.len());
        found
    }

    #[test]
    fn describes_a_pc() {
        let table = config_table(&input());
        assert_eq!(sum(&table), 0);
        assert_eq!(&table[..4], b"PCMP");
        assert_eq!(
            usize::from(table[4]) + 256 * usize::from(table[5]),
            table.len()
        );
        assert_eq!(table[HEADER_SIZE..HEADER_SIZE + 4], [0, 0, 0x14, 3]);
        assert_eq!(table[HEADER_SIZE + 20..HEADER_SIZE + 24], [0, 1, 0x14, 1]);
        assert_eq!(interrupts(&table, PCI_BUS), [(7, 11), (12, 11)]);
        let isa = interrupts(&table, ISA_BUS);
        assert_eq!(isa[..4], [(0, 2), (1, 1), (3, 3), (4, 4)]);
        assert!(!isa.iter().any(|(irq, _)| [2, 11].contains(irq)));
        assert!(isa.contains(&(10, 10)));
    }

    #[test]
    fn q35_and_xen_use_the_inputs_above_the_isa_ones() {
        let mut input = input();
        input.routing.router = Router::Ich9;
        input.pci_pins = &[(2, 0), (31, 0), (30, 1)];
        let pci = interrupts(&config_table(&input), PCI_BUS);
        assert_eq!(pci, [(8, 22), (124, 16), (121, 21)]);
        input.routing.router = Router::XenPiix3;
        let pci = interrupts(&config_table(&input), PCI_BUS);
        assert_eq!(pci, [(8, 24), (124, 47), (121, 44)]);
    }

    #[test]
    fn many_processors_move_the_table_up() {
        let ids: Vec<u32> = (0..300).collect();
        let input = Input {
            apic_ids: &ids,
            ..input()
        };
        let mut placer = FakePlacer::default();
        let high = placer.high;
        let addr = install(&input, &mut placer).unwrap();
        assert!(addr.is_multiple_of(16) && addr >= 0xf0000);
        assert!(placer.high < high);
        let mut placer = FakePlacer::default();
        assert!(install(&self::input(), &mut placer).is_some());
        assert_eq!(placer.high, high);
    }

    #[test]
    fn the_pointer_sums_to_zero() {
        assert_eq!(sum(&floating_pointer(0xf_1230)), 0);
    }
}
