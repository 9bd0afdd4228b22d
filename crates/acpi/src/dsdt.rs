//! The DSDT of a Xen HVM guest, made for the machine at hand: only what exists is in it.
//!
//! Ports and interrupts are those of Xen's public headers (hvm/ioreq.h, arch-x86/guest-acpi.h) and of the PIIX3.

use alloc::format;
use alloc::vec::Vec;

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Arg, FieldEntry, Local, Memory32Fixed, OpRegionSpace,
};

use super::aml::*;
use super::{Input, Tpm};
use firstlight_tables::routing::{PCI_IRQS, Routing};

/// _STA of a device that is there and works.
const PRESENT: u8 = 0x0f;
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
/// Bitmap of online CPUs (arch-x86/guest-acpi.h: XEN_ACPI_CPU_MAP).
const CPU_MAP: u16 = 0xaf00;
const CPU_MAP_SIZE: u8 = 16;
/// The device model's PCI hotplug registers: slots that came, slots that go, eject, removable; 32 bits each.
const PCI_HOTPLUG: u16 = 0xae00;
const HOTPLUG_SIZE: u8 = 16;
const TPM_BASE: u32 = 0xfed4_0000;

/// The definition block, without its header.
pub fn body(input: &Input) -> Vec<u8> {
    let root_bridge = object(
        "PCI0",
        &[
            &name("_HID", &eisa("PNP0A03")),
            &name("_UID", &0u8),
            &name("_BBN", &0u8),
            &name("_CRS", &windows(input)),
            &interrupt_routing(),
            &isa_bridge(input),
            &hotplug_slots(input),
            &hpet(input),
        ],
    );
    let board = scope(
        "\\_SB_",
        &[
            &root_bridge,
            &links(),
            &processors(input),
            &tpm(input),
            &laptop_slate(input),
        ],
    );
    let mut parts = code(&[&sleep_states(input), &interrupt_model(), &board]);
    parts.0.append(&mut events(input).0);
    parts.0
}

/// Sleep states; the device model knows type 0 as off and type 1 as S3.
fn sleep_states(input: &Input) -> Code {
    let state = |at: &str, kind: u8| {
        let package = package(&[&kind, &kind, &0u8, &0u8]);
        code(&[&name(at, &package)])
    };
    let mut states = Code::default();
    if input.s3 {
        states = code(&[&states, &state("\\_S3_", 1)]);
    }
    if input.s4 {
        states = code(&[&states, &state("\\_S4_", 0)]);
    }
    code(&[&states, &state("\\_S5_", 0)])
}

/// The system says whether it uses the I/O APIC.
fn interrupt_model() -> Code {
    code(&[
        &name("PICM", &0u8),
        &method("_PIC", 1, false, &[&store(&path("PICM"), &Arg(0))]),
    ])
}

/// The root bridge's windows.
fn windows(input: &Input) -> Code {
    let cached = AddressSpaceCacheable::WriteCombining;
    let uncached = AddressSpaceCacheable::NotCacheable;
    let low = input.pci_window.clone();
    let low = if low.is_empty() {
        Code::default()
    } else {
        let last = low.end - 1;
        memory_32(uncached, low.start, last)
    };
    let high = match input.pci_window_64.clone() {
        Some(range) if !range.is_empty() => {
            let last = range.end - 1;
            memory_64(uncached, range.start, last)
        }
        _ => Code::default(),
    };
    resources(&[
        &AddressSpace::<u16>::new_bus_number(0, 0xff),
        &ports(0xcf8, 8),
        &io_window(0, 0xcf7),
        &io_window(0xd00, 0xffff),
        &memory_32(cached, 0xa_0000, 0xb_ffff),
        &low,
        &high,
    ])
}

/// `_PRT`, for the PIC by the four links and for the I/O APIC by its own inputs.
fn interrupt_routing() -> Code {
    const LINKS: [&str; 4] = ["\\_SB_.LNKA", "\\_SB_.LNKB", "\\_SB_.LNKC", "\\_SB_.LNKD"];
    let links = LINKS.map(|name| code(&[&path(name)]));
    let routing = Routing::XEN;
    let (mut pic, mut apic) = (Rows::default(), Rows::default());
    for device in 1..32u8 {
        let address = u32::from(device) << 16 | 0xffff;
        for pin in 0..4 {
            let link = &links[usize::from(routing.router.pirq(device, pin) & 3)];
            let input = routing.ioapic_input(device, pin);
            pic.add(&[&address, &pin, link, &0u8]);
            apic.add(&[&address, &pin, &0u8, &input]);
        }
    }
    code(&[
        &name("PRTP", &pic.finish()),
        &name("PRTA", &apic.finish()),
        &method(
            "_PRT",
            0,
            false,
            &[
                &when(&path("PICM"), &[&give(&path("PRTA"))]),
                &give(&path("PRTP")),
            ],
        ),
    ])
}

/// The interrupt link devices, whose registers are the bridge's.
fn links() -> Code {
    code(&[&link('A', 1), &link('B', 2), &link('C', 3), &link('D', 4)])
}

fn link(letter: char, uid: u8) -> Code {
    const DISABLED: u8 = 0x80;
    let register = code(&[&path(&format!("\\_SB_.PCI0.ISA_.PIR{letter}"))]);
    let possible = resources(&[&pci_irqs(PCI_IRQS)]);
    let status = when(&and(&register, &DISABLED), &[&give(&9u8)]);
    let current = code(&[
        &name("BUFR", &resources(&[&pci_irqs(0)])),
        &create_word_field(&path("BUFR"), 1, "IRQV"),
        &store(&path("IRQV"), &shift_left(&1u8, &and(&register, &15u8))),
        &give(&path("BUFR")),
    ]);
    let set = code(&[
        &create_word_field(&Arg(0), 1, "IRQV"),
        &find_set_right_bit(&path("IRQV"), &Local(0)),
        &decrement(&Local(0)),
        &store(&register, &Local(0)),
    ]);
    let disable = store(&register, &or(&register, &DISABLED));
    object(
        &format!("LNK{letter}"),
        &[
            &name("_HID", &eisa("PNP0C0F")),
            &name("_UID", &uid),
            &method("_STA", 0, false, &[&status, &give(&0x0bu8)]),
            &name("_PRS", &possible),
            &method("_DIS", 0, false, &[&disable]),
            &method("_CRS", 0, true, &[&current]),
            &method("_SRS", 1, true, &[&set]),
        ],
    )
}

/// The PIIX3 and the devices behind it.
fn isa_bridge(input: &Input) -> Code {
    let registers =
        ['A', 'B', 'C', 'D'].map(|letter| FieldEntry::Named([b'P', b'I', b'R', letter as u8], 8));
    object(
        "ISA_",
        &[
            &name("_ADR", &0x1_0000u32),
            &region("PIRQ", OpRegionSpace::PCIConfig, &0x60u8, &4u8),
            &fields("PIRQ", false, &registers),
            &board_resources(),
            &chips(),
            &keyboard_and_mouse(),
            &legacy_ports(input),
            &generation_id(input),
        ],
    )
}

#[inline(never)]
fn device(at: &str, id: &str, uid: Option<u8>, resources: &Code) -> Code {
    let uid = uid.map_or(Code::default(), |uid| code(&[&name("_UID", &uid)]));
    object(
        at,
        &[&name("_HID", &eisa(id)), &uid, &name("_CRS", resources)],
    )
}

/// Ports that no device driver asks for and that nothing else may be placed on.
fn board_resources() -> Code {
    const PORTS: [(u16, u8); 9] = [
        (0x22, 0x0c),
        (0x80, 0x01),
        (0x84, 0x03),
        (0x92, 0x01),
        (0xb2, 0x02),
        (0x4d0, 0x02),
        (PCI_HOTPLUG, HOTPLUG_SIZE),
        (CPU_MAP, CPU_MAP_SIZE),
        (super::GPE0, super::GPE0_SIZE),
    ];
    let ports: Vec<_> = PORTS
        .iter()
        .map(|(first, length)| ports(*first, *length))
        .collect();
    let items: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    device("SYSR", "PNP0C02", Some(1), &resources(&items))
}

fn chips() -> Code {
    let pic = resources(&[&ports(0x20, 2), &ports(0xa0, 2), &irq(2)]);
    let dma = resources(&[
        &dma(4, true),
        &ports(0, 16),
        &ports(0x81, 3),
        &ports(0x87, 1),
        &ports(0x89, 3),
        &ports(0x8f, 1),
        &ports(0xc0, 32),
    ]);
    code(&[
        &device("PIC_", "PNP0000", None, &pic),
        &device("DMAC", "PNP0200", None, &dma),
        &device(
            "TMR_",
            "PNP0100",
            None,
            &resources(&[&ports(0x40, 4), &irq(0)]),
        ),
        &device(
            "RTC_",
            "PNP0B00",
            None,
            &resources(&[&ports(0x70, 2), &irq(8)]),
        ),
        &device("SPKR", "PNP0800", None, &resources(&[&ports(0x61, 1)])),
    ])
}

fn keyboard_and_mouse() -> Code {
    let keyboard = resources(&[&ports(0x60, 1), &ports(0x64, 1), &irq(1)]);
    code(&[
        &device("PS2K", "PNP0303", None, &keyboard),
        &device("PS2M", "PNP0F13", None, &resources(&[&irq(12)])),
    ])
}

/// The floppy controller, serial ports and the printer port, where they are.
fn legacy_ports(input: &Input) -> Code {
    let mut all = Code::default();
    if input.floppy {
        let floppy = resources(&[&ports(0x3f2, 4), &ports(0x3f7, 1), &irq(6), &dma(2, false)]);
        all = code(&[&all, &device("FDC0", "PNP0700", None, &floppy)]);
    }
    let serial = [("COM1", 0x3f8, 4), ("COM2", 0x2f8, 3)];
    for (index, (at, first, line)) in serial.into_iter().enumerate() {
        if input.serial[index] {
            let resources = resources(&[&ports(first, 8), &irq(line)]);
            all = code(&[
                &all,
                &device(at, "PNP0501", Some(index as u8 + 1), &resources),
            ]);
        }
    }
    if input.parallel {
        let printer = resources(&[&ports(0x378, 8), &irq(7)]);
        all = code(&[&all, &device("LPT1", "PNP0400", Some(1), &printer)]);
    }
    all
}

/// The generation ID: the guest asks ADDR where its 128 bits are.
fn generation_id(input: &Input) -> Code {
    let Some(addr) = input.generation_id else {
        return Code::default();
    };
    let halves = (addr as u32, (addr >> 32) as u32);
    object(
        "VGID",
        &[
            &name("_HID", &eisa("XEN0000")),
            &name("_UID", &0u8),
            &name("_CID", &"VM_Gen_Counter"),
            &name("_DDN", &"VM_Gen_Counter"),
            &name("ADDR", &package(&[&halves.0, &halves.1])),
        ],
    )
}

/// The slots that the device model may fill and empty: not those of the chip set, of the display, and of Xen's platform device, without
/// which the guest's other devices are gone, and which a user would else be offered for safe removal.
fn hotplug(input: &Input) -> impl Iterator<Item = u8> {
    let fixed = [input.vga_device, input.platform_device];
    (2..32u8).filter(move |slot| !fixed.contains(&Some(*slot)))
}

/// The display, and a device for each slot that the device model may fill and empty at any time.
fn hotplug_slots(input: &Input) -> Code {
    let registers = &[
        FieldEntry::Named(*b"PCIU", 32),
        FieldEntry::Named(*b"PCID", 32),
        FieldEntry::Named(*b"B0EJ", 32),
        FieldEntry::Named(*b"B0RM", 32),
    ];
    let mut all = code(&[
        &region("PCST", OpRegionSpace::SystemIO, &PCI_HOTPLUG, &HOTPLUG_SIZE),
        &fields("PCST", true, registers),
    ]);
    if let Some(slot) = input.vga_device.filter(|slot| (2..32).contains(slot)) {
        all.0.append(&mut vga(slot).0);
    }
    for slot in hotplug(input) {
        all.0.append(&mut hotplug_slot(slot).0);
    }
    all
}

/// The display stays on in the light sleep states and needs no driver's help in S3.
fn vga(slot: u8) -> Code {
    object(
        "VGA_",
        &[
            &name("_ADR", &(u32::from(slot) << 16)),
            &name("_S1D", &0u8),
            &name("_S2D", &0u8),
            &name("_S3D", &0u8),
        ],
    )
}

fn hotplug_slot(slot: u8) -> Code {
    let bit = 1u32 << slot;
    let eject = store(&path("B0EJ"), &bit);
    let removable = and(&path("B0RM"), &bit);
    let status = when(&removable, &[&give(&PRESENT)]);
    object(
        &slot_name(slot),
        &[
            &name("_ADR", &(u32::from(slot) << 16)),
            &name("_SUN", &slot),
            &method("_EJ0", 1, false, &[&eject]),
            &method("_STA", 0, false, &[&status, &give(&0u8)]),
        ],
    )
}

fn slot_name(slot: u8) -> alloc::string::String {
    format!("SL{slot:02}")
}

fn hpet(input: &Input) -> Code {
    if !input.hpet {
        return Code::default();
    }
    let registers = Memory32Fixed::new(true, super::HPET_BASE, 0x400);
    device("HPET", "PNP0103", Some(0), &resources(&[&registers]))
}

/// Processor objects, and what tells the system that one came or goes.
///
/// CPON has a byte a CPU: whether it was online when last looked at. The toolstack changes the bitmap behind PRS and
/// raises event 2.
fn processors(input: &Input) -> Code {
    let cpus = input.cpus.len().min(256);
    let online = input.cpus.iter().map(|cpu| u8::from(cpu.online)).take(cpus);
    let mut all = code(&[
        &name("CPON", &buffer(&online.collect::<Vec<_>>())),
        &processor_status(),
    ]);
    for (id, cpu) in input.cpus.iter().take(cpus).enumerate() {
        let id = id as u8;
        let calls = (
            give(&call("CPST", &[&id])),
            give(&call("CPMT", &[&id, &cpu.apic_id])),
        );
        let mut object = processor(
            &processor_name(id),
            id,
            &[
                &name("_HID", &"ACPI0007"),
                &name("_UID", &id),
                &method("_STA", 0, false, &[&calls.0]),
                &method("_MAT", 0, false, &[&calls.1]),
                &method("_EJ0", 1, false, &[]),
            ],
        );
        all.0.append(&mut object.0);
    }
    code(&[&all, &processor_notify(cpus), &processor_scan(cpus)])
}

fn processor_name(id: u8) -> alloc::string::String {
    format!("CP{id:02X}")
}

/// CPST(CPU): its _STA. CPMT(CPU, APIC ID): its entry in the MADT.
fn processor_status() -> Code {
    let is_online = value_at(&path("CPON"), &Arg(0));
    let status = when(&is_online, &[&give(&PRESENT)]);
    let entry = buffer(&[0, 8, 0, 0, 0, 0, 0, 0]);
    let set = |index: u8, value: &dyn Aml| store(&element(&Local(0), &index), value);
    code(&[
        &method("CPST", 1, false, &[&status, &give(&0u8)]),
        &method(
            "CPMT",
            2,
            false,
            &[
                &store(&Local(0), &entry),
                &set(2, &Arg(0)),
                &set(3, &Arg(1)),
                &set(4, &is_online),
                &give(&Local(0)),
            ],
        ),
    ])
}

/// CPNT(CPU, event): tells the system.
fn processor_notify(cpus: usize) -> Code {
    let mut tests = Code::default();
    for id in 0..cpus {
        let id = id as u8;
        let notify = notify(&path(&processor_name(id)), &Arg(1));
        let test = equal(&Arg(0), &id);
        let mut test = when(&test, &[&notify]);
        tests.0.append(&mut test.0);
    }
    method("CPNT", 2, false, &[&tests])
}

/// CPSC: compares the bitmap with what was seen before.
fn processor_scan(cpus: usize) -> Code {
    let (map, cpu, now) = (Local(0), Local(1), Local(2));
    let seen = value_at(&path("CPON"), &cpu);
    let map_byte = value_at(&map, &shift_right(&cpu, &3u8));
    let bit = and(&shift_right(&map_byte, &and(&cpu, &7u8)), &1u8);
    let tell_of = |event: u8| call("CPNT", &[&cpu, &event]);
    let (came, goes) = (tell_of(DEVICE_CHECK), tell_of(EJECT_REQUEST));
    let tell = code(&[&when(&now, &[&came]), &otherwise(&[&goes])]);
    let remember = store(&element(&path("CPON"), &cpu), &now);
    let look = code(&[
        &store(&now, &bit),
        &when(&not_equal(&now, &seen), &[&remember, &tell]),
        &increment(&cpu),
    ]);
    let count = cpus.min(usize::from(CPU_MAP_SIZE) * 8) as u16;
    code(&[
        &region("PRST", OpRegionSpace::SystemIO, &CPU_MAP, &CPU_MAP_SIZE),
        &fields("PRST", false, &[FieldEntry::Named(*b"PRS_", 128)]),
        &method(
            "CPSC",
            0,
            true,
            &[
                &store(&map, &path("PRS_")),
                &store(&cpu, &0u8),
                &repeat_while(&less(&cpu, &count), &[&look]),
            ],
        ),
    ])
}

fn tpm(input: &Input) -> Code {
    let (id, size) = match input.tpm {
        None => return Code::default(),
        Some(Tpm::V12) => (code(&[&eisa("PNP0C31")]), 0x5000),
        Some(Tpm::V20) => (code(&[&"MSFT0101"]), 0x1000),
    };
    let registers = resources(&[&Memory32Fixed::new(true, TPM_BASE, size)]);
    object("TPM_", &[&name("_HID", &id), &name("_CRS", &registers)])
}

/// The convertible's display sensor, for guests that switch between laptop and slate.
fn laptop_slate(input: &Input) -> Code {
    if !input.laptop_slate {
        return Code::default();
    }
    object(
        "CONV",
        &[
            // A method, since the ID that Windows looks for has one letter less than a name may have.
            &method("_HID", 0, false, &[&give(&"ID9001")]),
            &name("_CID", &eisa("PNP0C60")),
        ],
    )
}

/// General-purpose events: 1 for PCI slots, 2 for CPUs. The slot registers are read once, since reading may clear them.
fn events(input: &Input) -> Code {
    let (came, goes) = (Local(0), Local(1));
    let mut slots = code(&[
        &store(&came, &path("\\_SB_.PCI0.PCIU")),
        &store(&goes, &path("\\_SB_.PCI0.PCID")),
    ]);
    for slot in hotplug(input) {
        let bit = 1u32 << slot;
        let target = code(&[&path(&format!("\\_SB_.PCI0.{}", slot_name(slot)))]);
        for (register, event) in [(&came, DEVICE_CHECK), (&goes, EJECT_REQUEST)] {
            let notify = notify(&target, &event);
            let pending = and(register, &bit);
            let mut test = when(&pending, &[&notify]);
            slots.0.append(&mut test.0);
        }
    }
    let scan = call("\\_SB_.CPSC", &[]);
    scope(
        "\\_GPE",
        &[
            &method("_E01", 0, false, &[&slots]),
            &method("_E02", 0, false, &[&scan]),
        ],
    )
}
