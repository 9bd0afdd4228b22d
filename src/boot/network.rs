//! Network boot: the option ROM of the card whose turn it is, and its bootstrap entry (BEV).
//!
//! Such a ROM takes longer to start than all the rest of a boot, so no other card's is started. What it leaves in memory, UNDI
//! and PXE services, is its own and the loaded program's affair. Source: BIOS Boot Specification 1.01, section 3.3 and
//! appendix D; Preboot Execution Environment 2.1, section 4.

use super::candidate::Reason;
use crate::arch::Hardware;
use crate::bios::{Bios, option_roms};
use crate::devices::pci::Bdf;
use crate::rom::VectorKind;
use alloc::format;
use spin::Mutex;

/// Boots from the network by the card at `bdf`. Comes back with the reason when that was not possible.
pub fn boot(bios: &Mutex<Bios>, hw: &impl Hardware, bdf: Bdf) -> Reason {
    if let Err(error) = option_roms::of_card(bios, hw, bdf) {
        return Reason::Unusable(format!("its network boot ROM cannot be used: {error}"));
    }
    let entry = {
        let roms = &bios.lock().services.option_roms;
        let mut vectors = roms.vectors.iter();
        let own = vectors.find(|v| v.bdf == Some(bdf) && v.kind == VectorKind::Bootstrap);
        own.map(|vector| vector.entry(roms.pnp_header()))
    };
    let Some(mut entry) = entry else {
        return Reason::Unusable("its option ROM cannot boot from the network".into());
    };
    bios.lock().machine.close_shadow(hw);
    hw.call_rom(&mut entry);
    Reason::NoNetworkBoot
}
