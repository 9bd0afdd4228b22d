//! Kernels as QEMU's fw_cfg gives them, whole and damaged. The device is read by port, so that every byte passes the fake machine.

use super::*;
use crate::platform::qemu::fw_cfg::fake::FakeFwCfg;
use proptest::prelude::*;
use std::cell::RefCell;

/// Guest memory lies below, the buffers of the test program lie above.
const GUEST_END: u64 = 1 << 40;
const RAM_END: u64 = 64 << 20;
/// What the firmware keeps of RAM.
const RESIDENT: Range<u64> = (60 << 20)..(61 << 20);
const KERNEL: u64 = 2 << 20;

/// A machine whose guest memory only takes note of where it is written.
struct Machine {
    device: FakeFwCfg,
    written: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl Machine {
    fn new(items: &[(u16, &[u8])]) -> Self {
        let mut device = FakeFwCfg::new(&[]);
        device.dma = false;
        for (key, bytes) in items {
            device = device.item(*key, bytes);
        }
        Self {
            device,
            written: RefCell::default(),
        }
    }

    /// Loads what is given, if anything is.
    fn load(&self) -> Option<Result<Ready, DirectError>> {
        let fw_cfg = FwCfg::open(self).ok()?;
        let kernel = Given::find(self, &fw_cfg)?;
        kernel.needs_services();
        Some(kernel.load(self, &fw_cfg, &map(), 0xf_0000, false))
    }

    /// The guest's memory from `addr` on, as it was written last.
    fn memory(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, written) in self.written.borrow().iter() {
            for (byte, at) in written.iter().zip(*at..) {
                if (addr..addr + len as u64).contains(&at) {
                    bytes[(at - addr) as usize] = *byte;
                }
            }
        }
        bytes
    }

    fn only_free_ram_is_written(&self) -> bool {
        let map = allowed(&map()).unwrap();
        self.written.borrow().iter().all(|(at, bytes)| {
            let size = bytes.len() as u64;
            map.ram_in(*at..at + size) == size
        })
    }
}

fn map() -> E820Map {
    let mut map = E820Map::new();
    map.insert(0..RAM_END, Kind::Ram).unwrap();
    map.insert(0x9_fc00..0x10_0000, Kind::Reserved).unwrap();
    map.insert(RESIDENT, Kind::Reserved).unwrap();
    map
}

impl Ports for Machine {
    fn in8(&self, port: u16) -> u8 {
        self.device.in8(port)
    }
    fn in16(&self, port: u16) -> u16 {
        self.device.in16(port)
    }
    fn in32(&self, port: u16) -> u32 {
        self.device.in32(port)
    }
    fn out8(&self, port: u16, value: u8) {
        self.device.out8(port, value);
    }
    fn out16(&self, port: u16, value: u16) {
        self.device.out16(port, value);
    }
    fn out32(&self, port: u16, value: u32) {
        self.device.out32(port, value);
    }
    fn in8_repeated(&self, port: u16, bytes: &mut [u8]) {
        self.device.in8_repeated(port, bytes);
    }
}

impl PhysMem for Machine {
    fn read(&self, addr: u64, buf: &mut [u8]) {
        match addr < GUEST_END {
            true => buf.copy_from_slice(&self.memory(addr, buf.len())),
            false => self.device.read(addr, buf),
        }
    }
    fn write(&self, addr: u64, data: &[u8]) {
        match addr < GUEST_END {
            true => self.written.borrow_mut().push((addr, data.to_vec())),
            false => self.device.write(addr, data),
        }
    }
}

impl Clock for Machine {
    fn now_us(&self) -> u64 {
        self.device.now_us()
    }
}

/// What QEMU gives with a PVH kernel.
fn pvh(addr: u32, kernel: u32, cmdline: u32, initrd: u32) -> Vec<(u16, Vec<u8>)> {
    let word = |key, value: u32| (key, value.to_le_bytes().to_vec());
    vec![
        word(key::KERNEL_ADDR, addr),
        word(key::KERNEL_SIZE, kernel),
        word(key::KERNEL_ENTRY, addr),
        word(key::CMDLINE_SIZE, cmdline),
        (key::CMDLINE_DATA, b"quiet\0".to_vec()),
        word(key::INITRD_SIZE, initrd),
        (key::INITRD_DATA, b"initrd".to_vec()),
        word(key::SETUP_SIZE, 64),
        (key::SETUP_DATA, b"\x7fELF".to_vec()),
    ]
}

/// What QEMU gives with a Multiboot kernel.
fn multiboot(addr: u32, kernel: u32, info_at: u32, info: u32) -> Vec<(u16, Vec<u8>)> {
    let word = |key, value: u32| (key, value.to_le_bytes().to_vec());
    vec![
        word(key::KERNEL_ADDR, addr),
        word(key::KERNEL_SIZE, kernel),
        word(key::KERNEL_ENTRY, addr + 16),
        (key::KERNEL_DATA, b"kernel".to_vec()),
        word(key::INITRD_ADDR, info_at),
        word(key::INITRD_SIZE, info),
        (key::INITRD_DATA, vec![0x0c, 0, 0, 0]),
    ]
}

fn machine(items: &[(u16, Vec<u8>)]) -> Machine {
    let items: Vec<(u16, &[u8])> = items.iter().map(|(k, v)| (*k, v.as_slice())).collect();
    Machine::new(&items)
}

#[test]
fn nothing_given_is_no_kernel() {
    assert!(machine(&[]).load().is_none());
}

#[test]
fn a_pvh_kernel_is_told_where_everything_is() {
    let machine = machine(&pvh(KERNEL as u32, 0x1000, 6, 6));
    let ready = machine.load().unwrap().unwrap();
    let entry = KERNEL as u32;
    assert_eq!(
        ready,
        Ready::Protected {
            entry,
            esi: 0,
            ebx: PVH_INFO as u32,
            eax: 0
        }
    );
    assert_eq!(machine.read64(PVH_INFO) as u32, pvh::MAGIC);
    let modules = machine.read64(PVH_INFO + 16);
    assert_eq!(machine.memory(machine.read64(modules), 6), b"initrd");
    let cmdline = machine.read64(PVH_INFO + 24);
    assert_eq!(machine.memory(cmdline, 6), b"quiet\0");
    assert_eq!(machine.read64(PVH_INFO + 32), 0xf_0000);
    assert_eq!(
        machine.read64(PVH_INFO + 48) as usize,
        map().entries().len()
    );
    assert!(machine.only_free_ram_is_written());
}

#[test]
fn a_multiboot_kernel_is_told_the_memory() {
    let machine = machine(&multiboot(KERNEL as u32, 0x1000, 0x9000, 88));
    let ready = machine.load().unwrap().unwrap();
    let (entry, ebx, eax) = (KERNEL as u32 + 16, 0x9000, multiboot::MAGIC);
    assert_eq!(
        ready,
        Ready::Protected {
            entry,
            esi: 0,
            ebx,
            eax
        }
    );
    assert_eq!(machine.memory(KERNEL, 6), b"kernel");
    assert_eq!(machine.read64(0x9000) as u32, 0x0c | 1 | 1 << 6);
    assert_eq!(machine.read64(0x9004) as u32, 0x9_fc00 >> 10);
    assert_eq!(machine.read64(0x9008) as u32, 59 << 10);
    assert_eq!(machine.read64(0x9000 + 48) as u32, 0x9000 + 88);
    assert!(machine.only_free_ram_is_written());
}

/// The addresses of the start information or Multiboot information, and of what it is about.
fn told(ready: &Ready, kernel: Range<u64>, machine: &Machine) -> u64 {
    let Ready::Protected { ebx, .. } = *ready else {
        panic!("{ready:?}");
    };
    assert!(!kernel.contains(&ebx.into()), "{ebx:#x}");
    assert!(machine.only_free_ram_is_written());
    ebx.into()
}

#[test]
fn what_a_kernel_is_told_lies_beside_it() {
    let multi = machine(&multiboot(0x8000, 0x5a2f, 0x9000, 88));
    let info = told(&multi.load().unwrap().unwrap(), 0x8000..0xda2f, &multi);
    assert_eq!(multi.read64(info + 48) as u32, info as u32 + 88);
    // Neither below 640 KiB nor where QEMU says.
    let all_low = 0x1000..0x9_fc00;
    let size = (all_low.end - all_low.start) as u32;
    let multi = machine(&multiboot(
        all_low.start as u32,
        size,
        RESIDENT.start as u32,
        88,
    ));
    let info = told(&multi.load().unwrap().unwrap(), all_low.clone(), &multi);
    assert!(info > MIB);
    let low = machine(&pvh(0x1_0000, 0x2_0000, 6, 6));
    let info = told(&low.load().unwrap().unwrap(), 0x1_0000..0x3_0000, &low);
    let cmdline = low.read64(info + 24);
    assert!(!(0x1_0000..0x3_0000).contains(&cmdline));
    assert_eq!(low.memory(cmdline, 6), b"quiet\0");
}

#[test]
fn between_the_parts_of_a_block_there_may_be_other_things() {
    let items = multiboot(0x8000, 0x20_0000, 0x9000, 88);
    let apart = machine(&items);
    apart.load().unwrap().unwrap();
    assert!(apart.only_free_ram_is_written());
    let mut wants = items;
    let mut block = vec![0; 0x20_0000];
    block[0xf_0000 - 0x8000] = 1;
    wants.push((key::KERNEL_DATA, block));
    let (start, size) = (0xc_0000, 0x4_0000);
    let refused = Err(DirectError::NotRam { start, size });
    assert_eq!(machine(&wants).load(), Some(refused));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let inside = RESIDENT.start as u32;
    for items in [
        pvh(inside, 0x1000, 6, 6),
        pvh(KERNEL as u32, u32::MAX, 6, 6),
        multiboot(inside - 16, 0x1000, 0x9000, 88),
        multiboot(KERNEL as u32, 0x1000, 0x9000, 40),
    ] {
        let machine = machine(&items);
        assert!(machine.load().unwrap().is_err(), "{items:x?}");
        assert!(machine.written.borrow().is_empty(), "{items:x?}");
    }
    for items in [
        pvh(KERNEL as u32, 0x1000, u32::MAX, 6),
        pvh(KERNEL as u32, 0x1000, 6, 0x7000_0000),
    ] {
        let machine = machine(&items);
        assert!(machine.load().unwrap().is_err(), "{items:x?}");
        assert!(machine.only_free_ram_is_written(), "{items:x?}");
    }
}

/// Sizes that either fit many times or never do, so that a case takes no time.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..0x2000, (RAM_END as u32)..]
}

/// Addresses everywhere, with more of them where it matters.
fn address() -> impl Strategy<Value = u32> {
    let edges = [
        0,
        0x9_fc00,
        0x10_0000,
        RESIDENT.start as u32,
        RAM_END as u32,
    ];
    let near = prop::sample::select(edges.to_vec());
    prop_oneof![
        any::<u32>(),
        0..RAM_END as u32,
        (near, -0x2000i32..0x2000).prop_map(|(edge, by)| edge.wrapping_add_signed(by))
    ]
}

#[test]
fn an_entry_outside_the_image_is_refused() {
    let outside = KERNEL as u32 + 0x1000;
    for mut items in [
        pvh(KERNEL as u32, 0x1000, 6, 6),
        multiboot(KERNEL as u32, 0x1000, 0x9000, 88),
    ] {
        items[2] = (key::KERNEL_ENTRY, outside.to_le_bytes().to_vec());
        let machine = machine(&items);
        let refused = Err(DirectError::EntryOutside(outside.into()));
        assert_eq!(machine.load(), Some(refused));
        assert!(machine.written.borrow().is_empty());
    }
}

proptest! {
    #[test]
    fn no_pvh_kernel_is_loaded_outside_free_ram(
        addr in address(), kernel in size(), cmdline in size(), initrd in size(),
    ) {
        let machine = machine(&pvh(addr, kernel, cmdline, initrd));
        let _ = machine.load();
        prop_assert!(machine.only_free_ram_is_written());
    }

    #[test]
    fn no_multiboot_kernel_is_loaded_outside_free_ram(
        addr in address(), kernel in size(), info_at in address(), info in size(), bytes: [u8; 88],
    ) {
        let mut items = multiboot(addr & !16, kernel, info_at, info);
        items.push((key::INITRD_DATA, bytes.to_vec()));
        let machine = machine(&items);
        let _ = machine.load();
        prop_assert!(machine.only_free_ram_is_written());
    }

    #[test]
    fn no_linux_kernel_is_loaded_outside_free_ram(
        setup in prop::collection::vec(any::<u8>(), 0x1f1..0x280),
        version in prop_oneof![0x202u16..0x210, any::<u16>()],
        sectors in 0u8..3,
        kernel in size(), cmdline in size(), initrd in size(), init in size(), preferred in address(),
    ) {
        let mut setup = setup;
        setup.resize(0x800, 0);
        setup[0x1f1] = sectors;
        setup[0x1fe..0x202].copy_from_slice(&[0x55, 0xaa, 0xeb, 0x66]);
        setup[0x202..0x206].copy_from_slice(b"HdrS");
        setup[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        setup[0x230..0x234].copy_from_slice(&0x20_0000u32.to_le_bytes());
        setup[0x258..0x260].copy_from_slice(&u64::from(preferred).to_le_bytes());
        setup[0x260..0x264].copy_from_slice(&init.to_le_bytes());
        let mut items = pvh(0, kernel, cmdline, initrd);
        items.push((key::SETUP_SIZE, (setup.len() as u32).to_le_bytes().to_vec()));
        items.push((key::SETUP_DATA, setup));
        let machine = machine(&items);
        let _ = machine.load();
        prop_assert!(machine.only_free_ram_is_written());
    }
}
