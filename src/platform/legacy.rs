//! The tables that systems without ACPI read: MP and PIR, from the PCI functions that were found.

use alloc::vec::Vec;

use crate::arch::Cpuid;
use crate::devices::pci::PciDevice;
use firstlight_tables::place::Placer;
use firstlight_tables::routing::Routing;
use firstlight_tables::sort;
use firstlight_tables::{mp, pir};

/// Devices of bus 0 that the PIR table has whether they are there or not: cards may be plugged in, and SeaBIOS lists these.
const SLOTS: core::ops::RangeInclusive<u8> = 1..=6;

/// How interrupts reach the controllers.
pub struct Interrupts {
    /// From PCI's pins.
    pub routing: Routing,
    /// The I/O APIC's ID.
    pub ioapic_id: u8,
}

impl Interrupts {
    /// Places an MP and a PIR table for the functions on bus 0, and says where they are. `apic_ids` are those of the
    /// processors, the boot processor's first.
    pub fn install(
        &self,
        cpu: &impl Cpuid,
        apic_ids: &[u32],
        pci: &[PciDevice],
        placer: &mut dyn Placer,
    ) -> (Option<u64>, Option<u64>) {
        let functions = || pci.iter().filter(|function| function.bdf.bus() == 0);
        let pins = functions()
            .filter_map(|function| Some((function.bdf.device(), function.pin.checked_sub(1)?)));
        let pins = distinct(pins.collect());
        let found = functions().map(|function| function.bdf.device());
        let devices = distinct(found.chain(SLOTS).collect());
        let [signature, _, _, features] = cpu.cpuid(1);
        let mp = mp::Input {
            apic_ids,
            cpu: (signature, features),
            ioapic_id: self.ioapic_id,
            routing: self.routing,
            pci_pins: &pins,
            timer_on_input_2: true,
        };
        let mp = mp::install(&mp, placer);
        let pir = pir::install(self.routing.router, &devices, placer);
        if mp.is_none() || pir.is_none() {
            log::error!("no MP or PIR table: no memory left for it");
        }
        (mp, pir)
    }
}

/// In order, each once.
fn distinct<T: Ord + Copy>(mut values: Vec<T>) -> Vec<T> {
    sort::by_key(&mut values, |value| *value);
    values.dedup();
    values
}
