//! The tables of fixed layout: FADT, FACS, MADT, HPET, WAET, SRAT, SLIT, TCPA and TPM2 (ACPI specification 6.5,
//! chapter 5; TCG ACPI specification 1.4; Microsoft's WAET 1.0).

use alloc::vec::Vec;
use core::ops::Range;

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use zerocopy::IntoBytes;

use super::{GPE0, GPE0_SIZE, HPET_BASE, Input, Numa};
use firstlight_tables::place::checksum;
use firstlight_tables::routing::PCI_IRQS;

/// Bytes of the header that all these tables but the FACS share.
pub const HEADER_SIZE: usize = 36;
const CHECKSUM_OFFSET: usize = 9;
/// The OEM's ID and the OEM's ID of the table.
const OEM_FIELDS: Range<usize> = 10..24;
const OEM: [u8; 6] = *b"Xen\0\0\0";
const OEM_TABLE: [u8; 8] = *b"HVM\0\0\0\0\0";
const CREATOR: [u8; 4] = *b"FLIT";

/// Port of the PM1a event block (hvm/ioreq.h: ACPI_PM1A_EVT_BLK_ADDRESS_V1).
const PM1A_EVENT: u16 = 0xb000;
const PM1A_CONTROL: u16 = PM1A_EVENT + 4;
const PM_TIMER: u16 = PM1A_EVENT + 8;
/// ISA interrupt of ACPI events.
pub const SCI: u8 = 9;

const LOCAL_APIC: u32 = 0xfee0_0000;
const IOAPIC: u32 = 0xfec0_0000;

/// A table with its header: `body` is what follows the header.
pub fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let size = HEADER_SIZE + body.len();
    let mut table = Vec::with_capacity(size);
    table.extend_from_slice(signature);
    table.extend_from_slice(&(size as u32).to_le_bytes());
    table.extend_from_slice(&[revision, 0]);
    table.extend_from_slice(&OEM);
    table.extend_from_slice(&OEM_TABLE);
    table.extend_from_slice(&1u32.to_le_bytes());
    table.extend_from_slice(&CREATOR);
    table.extend_from_slice(&1u32.to_le_bytes());
    table.extend_from_slice(body);
    table[CHECKSUM_OFFSET] = checksum(&table);
    table
}

/// The OEM's ID and the OEM's ID of the table, in the header of `table`.
pub fn oem(table: &[u8]) -> &[u8] {
    &table[OEM_FIELDS]
}

/// Gives a table the OEM's IDs of another.
pub fn set_oem(table: &mut [u8], oem: &[u8]) {
    table[OEM_FIELDS].copy_from_slice(oem);
    table[CHECKSUM_OFFSET] = 0;
    table[CHECKSUM_OFFSET] = checksum(table);
}

/// The root pointer, in the F segment, with the OEM's ID of a table.
pub fn rsdp(rsdt: u32, xsdt: u64, oem: &[u8]) -> [u8; 36] {
    let mut rsdp = [0; 36];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[9..15].copy_from_slice(&oem[..6]);
    rsdp[15] = 2;
    rsdp[16..20].copy_from_slice(&rsdt.to_le_bytes());
    rsdp[20..24].copy_from_slice(&36u32.to_le_bytes());
    rsdp[24..32].copy_from_slice(&xsdt.to_le_bytes());
    rsdp[8] = checksum(&rsdp[..20]);
    rsdp[32] = checksum(&rsdp);
    rsdp
}

/// The FACS, which has no header and no checksum.
pub fn facs() -> [u8; 64] {
    let mut facs = [0; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4..8].copy_from_slice(&64u32.to_le_bytes());
    facs[32] = 1;
    facs
}

fn register(port: u16, bits: u8) -> GAS {
    let size = match bits {
        8 => AccessSize::ByteAccess,
        16 => AccessSize::WordAccess,
        _ => AccessSize::DwordAccess,
    };
    GAS::new(AddressSpace::SystemIo, bits, 0, size, port.into())
}

/// The FADT of revision 4: the last whose layout all systems since Windows XP read without complaint.
pub fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    const REVISION_4_SIZE: usize = 244;
    const RESET_PORT: u16 = 0xcf9;
    const HARD_RESET: u8 = 6;
    /// CMOS register of the century.
    const CENTURY: u8 = 0x32;
    /// Longer than the C2 and C3 limits: there are no such states.
    const NO_C_STATE: u16 = 0xfff;
    /// The machine has ISA devices and a keyboard controller.
    const LEGACY_AND_8042: u16 = 1 << 0 | 1 << 1;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, 1)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup)
        .flag(Flags::UsePlatformClock)
        .gpe_info(GPE0.into(), 0, GPE0_SIZE, 0, 0);
    fadt.creator_id = CREATOR;
    fadt.creator_revision = 1u32.to_le_bytes();
    fadt.firmware_ctrl = facs.into();
    fadt.dsdt = dsdt.into();
    fadt.x_dsdt = u64::from(dsdt).into();
    fadt.sci_int = u16::from(SCI).into();
    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT).into();
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL).into();
    fadt.pm_tmr_blk = u32::from(PM_TIMER).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = NO_C_STATE.into();
    fadt.p_lvl3_lat = NO_C_STATE.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = LEGACY_AND_8042.into();
    fadt.reset_reg = register(RESET_PORT, 8);
    fadt.reset_value = HARD_RESET;
    fadt.x_pm1a_evt_blk = register(PM1A_EVENT, 32);
    fadt.x_pm1a_cnt_blk = register(PM1A_CONTROL, 16);
    fadt.x_pm_tmr_blk = register(PM_TIMER, 32);
    fadt.x_gpe0_blk = GAS {
        // Byte access whatever the size (ACPI 6.5, table 5.9, X_GPE0_BLK).
        access_size: AccessSize::ByteAccess,
        ..register(GPE0, GPE0_SIZE * 8)
    };
    fadt.major_version = 4;
    fadt.fadt_minor_version = 0;
    fadt.length = (REVISION_4_SIZE as u32).into();
    let mut bytes = fadt.as_bytes()[..REVISION_4_SIZE].to_vec();
    bytes[CHECKSUM_OFFSET] = 0;
    bytes[CHECKSUM_OFFSET] = checksum(&bytes);
    bytes
}

/// The MADT.
pub fn madt(input: &Input) -> Vec<u8> {
    const PC_WITH_PICS: u32 = 1;
    const LEVEL_LOW: u16 = 0b1111;
    let mut body = Vec::with_capacity(128 + 16 * input.cpus.len());
    body.extend_from_slice(&LOCAL_APIC.to_le_bytes());
    body.extend_from_slice(&PC_WITH_PICS.to_le_bytes());
    for (uid, cpu) in input.cpus.iter().enumerate() {
        let online = u32::from(cpu.online);
        match (u8::try_from(uid), u8::try_from(cpu.apic_id)) {
            (Ok(uid), Ok(id)) if id != 0xff => {
                body.extend_from_slice(&[0, 8, uid, id]);
                body.extend_from_slice(&online.to_le_bytes());
            }
            _ => {
                body.extend_from_slice(&[9, 16, 0, 0]);
                for word in [cpu.apic_id, online, uid as u32] {
                    body.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
    body.extend_from_slice(&[1, 12, input.ioapic_id, 0]);
    body.extend_from_slice(&IOAPIC.to_le_bytes());
    body.extend_from_slice(&0u32.to_le_bytes());
    let mut redirect = |irq: u8, gsi: u32, flags: u16| {
        body.extend_from_slice(&[2, 10, 0, irq]);
        body.extend_from_slice(&gsi.to_le_bytes());
        body.extend_from_slice(&flags.to_le_bytes());
    };
    redirect(0, 2, 0);
    for irq in (0..16u8).filter(|irq| PCI_IRQS & 1 << irq != 0) {
        redirect(irq, irq.into(), LEVEL_LOW);
    }
    // All processors: NMI at LINT1.
    body.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    table(b"APIC", 2, &body)
}

/// The HPET's description.
pub fn hpet() -> Vec<u8> {
    /// Intel, 64-bit counter, legacy replacement, three timers.
    const BLOCK_ID: u32 = 0x8086_a201;
    let mut body = BLOCK_ID.to_le_bytes().to_vec();
    // In memory, no bit width or offset given.
    body.extend_from_slice(&[0, 0, 0, 0]);
    body.extend_from_slice(&u64::from(HPET_BASE).to_le_bytes());
    body.extend_from_slice(&[0, 0, 0, 0]);
    table(b"HPET", 1, &body)
}

/// Tells Windows that the RTC and the PM timer are emulated well: no interrupt acknowledge, one read is enough.
pub fn waet() -> Vec<u8> {
    table(b"WAET", 1, &3u32.to_le_bytes())
}

/// Which node each CPU and each range of memory belongs to.
pub fn srat(input: &Input, numa: &Numa) -> Vec<u8> {
    const ENABLED: u32 = 1;
    let mut body = 1u32.to_le_bytes().to_vec();
    body.extend_from_slice(&[0; 8]);
    for (cpu, node) in input.cpus.iter().zip(&numa.cpu_nodes) {
        let [a, b, c, d] = node.to_le_bytes();
        match u8::try_from(cpu.apic_id) {
            Ok(id) => {
                body.extend_from_slice(&[0, 16, a, id]);
                body.extend_from_slice(&ENABLED.to_le_bytes());
                body.extend_from_slice(&[0, b, c, d, 0, 0, 0, 0]);
            }
            Err(_) => {
                body.extend_from_slice(&[2, 24, 0, 0, a, b, c, d]);
                body.extend_from_slice(&cpu.apic_id.to_le_bytes());
                body.extend_from_slice(&ENABLED.to_le_bytes());
                body.extend_from_slice(&[0; 8]);
            }
        }
    }
    for memory in &numa.memory {
        body.extend_from_slice(&[1, 40]);
        body.extend_from_slice(&memory.node.to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&memory.range.start.to_le_bytes());
        let size = memory.range.end.saturating_sub(memory.range.start);
        body.extend_from_slice(&size.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&ENABLED.to_le_bytes());
        body.extend_from_slice(&[0; 8]);
    }
    table(b"SRAT", 3, &body)
}

/// The distances between nodes; `None` where they are not a square of the nodes.
pub fn slit(numa: &Numa) -> Option<Vec<u8>> {
    let nodes = usize::try_from(numa.nodes).ok()?;
    if nodes == 0 || numa.distances.len() != nodes.checked_mul(nodes)? {
        return None;
    }
    let mut body = u64::from(numa.nodes).to_le_bytes().to_vec();
    body.extend_from_slice(&numa.distances);
    Some(table(b"SLIT", 1, &body))
}

/// Where a TPM 1.2's event log is.
pub fn tcpa(log: u64, size: u32) -> Vec<u8> {
    const CLIENT: u16 = 0;
    let mut body = CLIENT.to_le_bytes().to_vec();
    body.extend_from_slice(&size.to_le_bytes());
    body.extend_from_slice(&log.to_le_bytes());
    table(b"TCPA", 2, &body)
}

/// Where a TPM 2.0's command buffer and event log are.
pub fn tpm2(log: u64, size: u32) -> Vec<u8> {
    const CLIENT: u16 = 0;
    const CONTROL_AREA: u64 = 0xfed4_0040;
    const COMMAND_RESPONSE_BUFFER: u32 = 7;
    let mut body = u32::from(CLIENT).to_le_bytes().to_vec();
    body.extend_from_slice(&CONTROL_AREA.to_le_bytes());
    body.extend_from_slice(&COMMAND_RESPONSE_BUFFER.to_le_bytes());
    body.extend_from_slice(&[0; 12]);
    body.extend_from_slice(&size.to_le_bytes());
    body.extend_from_slice(&log.to_le_bytes());
    table(b"TPM2", 4, &body)
}
