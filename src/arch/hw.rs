//! What the firmware asks of the hardware, as traits: [`pc`](super::pc) is the machine, `fake` stands in for it on the host.
//!
//! Methods take `&self`: ports and guest memory are shared with devices and with the guest, so exclusive access would claim
//! more than is true. Implementations are cheap to copy or to borrow.

use core::arch::asm;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The x86 I/O port space.
pub trait Ports {
    /// Reads one byte from `port`.
    fn in8(&self, port: u16) -> u8;
    /// Reads 16 bits from `port`.
    fn in16(&self, port: u16) -> u16;
    /// Reads 32 bits from `port`.
    fn in32(&self, port: u16) -> u32;
    /// Writes one byte to `port`.
    fn out8(&self, port: u16, value: u8);
    /// Writes 16 bits to `port`.
    fn out16(&self, port: u16, value: u16);
    /// Writes 32 bits to `port`.
    fn out32(&self, port: u16, value: u32);

    /// Fills `bytes` from one 8-bit port, as `rep insb` does.
    fn in8_repeated(&self, port: u16, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.in8(port);
        }
    }

    /// Fills `words` from one 16-bit port, as `rep insw` does.
    fn in16_repeated(&self, port: u16, words: &mut [u16]) {
        for word in words {
            *word = self.in16(port);
        }
    }

    /// Fills `bytes`, a multiple of four, from one 32-bit port, as `rep insd` does: one exit to KVM, which reads ahead.
    fn in32_repeated(&self, port: u16, bytes: &mut [u8]) {
        for chunk in bytes.chunks_exact_mut(4) {
            chunk.copy_from_slice(&self.in32(port).to_le_bytes());
        }
    }

    /// Writes all `bytes` to one 8-bit port, as `rep outsb` does.
    fn out8_repeated(&self, port: u16, bytes: &[u8]) {
        for byte in bytes {
            self.out8(port, *byte);
        }
    }

    /// Writes all `words` to one 16-bit port, as `rep outsw` does.
    fn out16_repeated(&self, port: u16, words: &[u16]) {
        for word in words {
            self.out16(port, *word);
        }
    }

    /// Writes all `bytes`, a multiple of four, to one 32-bit port, as `rep outsd` does.
    fn out32_repeated(&self, port: u16, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(4) {
            self.out32(
                port,
                u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]),
            );
        }
    }
}

/// Physical memory and memory-mapped registers, by physical address.
///
/// Every access is volatile. Addresses that nothing answers read as all ones on the machine, which has a way of its own for each
/// access: what they do by themselves here is for memory alone, in tests.
pub trait PhysMem {
    /// Whether devices find the same memory at `addr`: not where a caller's own page tables show something else there.
    fn is_plain(&self, addr: u64) -> bool {
        let _ = addr;
        true
    }
    /// Copies guest memory at `addr` into `buf`.
    fn read(&self, addr: u64, buf: &mut [u8]);
    /// Copies `data` to guest memory at `addr`.
    fn write(&self, addr: u64, data: &[u8]);
    /// Sets `len` bytes at `addr` to `byte`.
    fn fill(&self, addr: u64, len: u64, byte: u8) {
        (addr..addr + len).for_each(|at| self.write8(at, byte));
    }
    /// Copies `len` bytes from `src` to `dst`, which do not overlap.
    fn copy(&self, dst: u64, src: u64, len: u64) {
        for at in 0..len {
            self.write8(dst + at, self.read8(src + at));
        }
    }

    /// Reads one byte in one access.
    fn read8(&self, addr: u64) -> u8 {
        let mut bytes = [0; 1];
        self.read(addr, &mut bytes);
        u8::from_le_bytes(bytes)
    }
    /// Reads 16 bits in one access.
    fn read16(&self, addr: u64) -> u16 {
        let mut bytes = [0; 2];
        self.read(addr, &mut bytes);
        u16::from_le_bytes(bytes)
    }
    /// Reads 32 bits in one access.
    fn read32(&self, addr: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes);
        u32::from_le_bytes(bytes)
    }
    /// Reads 64 bits in one access.
    fn read64(&self, addr: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes);
        u64::from_le_bytes(bytes)
    }
    /// Writes one byte in one access.
    fn write8(&self, addr: u64, value: u8) {
        self.write(addr, &value.to_le_bytes());
    }
    /// Writes 16 bits in one access.
    fn write16(&self, addr: u64, value: u16) {
        self.write(addr, &value.to_le_bytes());
    }
    /// Writes 32 bits in one access.
    fn write32(&self, addr: u64, value: u32) {
        self.write(addr, &value.to_le_bytes());
    }
    /// Writes 64 bits in one access.
    fn write64(&self, addr: u64, value: u64) {
        self.write(addr, &value.to_le_bytes());
    }

    /// Reads a structure that any bytes make.
    fn read_as<T: FromBytes + IntoBytes>(&self, addr: u64) -> T
    where
        Self: Sized,
    {
        let mut value = T::new_zeroed();
        self.read(addr, value.as_mut_bytes());
        value
    }

    /// Writes a structure's bytes.
    fn write_as<T: IntoBytes + Immutable>(&self, addr: u64, value: &T)
    where
        Self: Sized,
    {
        self.write(addr, value.as_bytes());
    }
}

/// Time, for deadlines and delays.
pub trait Clock {
    /// Microseconds since some moment, never backwards. Costs a device access or more: ask it while you wait, not before.
    fn now_us(&self) -> u64;

    /// Polls `ready` until it answers something or `timeout_us` have passed; the first polls ask no clock.
    fn wait_for<T>(&self, timeout_us: u64, mut ready: impl FnMut() -> Option<T>) -> Option<T>
    where
        Self: Sized,
    {
        const FREE_POLLS: u32 = 16;
        for _ in 0..FREE_POLLS {
            if let Some(value) = ready() {
                return Some(value);
            }
            self.relax();
        }
        let start = self.now_us();
        loop {
            if let Some(value) = ready() {
                return Some(value);
            }
            if self.now_us().wrapping_sub(start) >= timeout_us {
                return ready();
            }
            self.relax();
        }
    }

    /// Passes at least `us` microseconds.
    fn delay_us(&self, us: u64) {
        let start = self.now_us();
        while self.now_us().wrapping_sub(start) < us {
            self.relax();
        }
    }

    /// A pause between two polls that touches no device: 0.1 to 0.4 us on a processor of its own, in few instructions.
    fn relax(&self) {
        // SAFETY: PAUSE changes nothing.
        unsafe {
            asm!(
                ".rept 8",
                "pause",
                ".endr",
                options(nomem, nostack, preserves_flags)
            )
        };
    }
}

/// Registers for code that runs in real mode on our behalf. The layout is the one of `bridge.s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct RealRegs {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
    /// ESI.
    pub esi: u32,
    /// EDI.
    pub edi: u32,
    /// EBP.
    pub ebp: u32,
    /// DS.
    pub ds: u16,
    /// ES.
    pub es: u16,
    /// Where to go: offset.
    pub ip: u16,
    /// Where to go: segment.
    pub cs: u16,
    /// FLAGS: what the callee starts with, then what it returned with.
    pub flags: u16,
    /// Keeps the size a multiple of four.
    pub reserved: u16,
}

/// Calls out of the firmware into real mode.
///
/// No lock that a BIOS service waits for may be held over a call: the callee can raise any interrupt.
pub trait RealMode {
    /// Far-calls the entry point `regs.cs:regs.ip` of an option ROM, on a stack in segment 0 and with limits of 4 GiB.
    fn call_rom(&self, regs: &mut RealRegs);
    /// Far-calls `regs.cs:regs.ip` with `words` on its stack, pushed first to last, and takes them off again afterwards.
    fn call_far_with(&self, regs: &mut RealRegs, words: &[u16; 4]);
    /// Raises interrupt `vector` through the guest's interrupt vector table.
    fn call_int(&self, vector: u8, regs: &mut RealRegs);

    /// Serves hardware interrupts that are pending, in real mode as the guest would, where [`allow_interrupts`] lets it.
    ///
    /// [`allow_interrupts`]: Self::allow_interrupts
    fn serve_interrupts(&self);
    /// Lets [`serve_interrupts`](Self::serve_interrupts) do what it says, or not, and returns what was before. Only for a
    /// service that holds no lock but one which handlers find taken.
    fn allow_interrupts(&self, allowed: bool) -> bool;
}

/// CPUID as a function: EAX in, EAX to EDX out.
pub trait Cpuid {
    /// The four registers of leaf `leaf`, subleaf 0.
    fn cpuid(&self, leaf: u32) -> [u32; 4];
}

impl<F: Fn(u32) -> [u32; 4]> Cpuid for F {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        self(leaf)
    }
}

/// Memory that devices read and write on their own: rings, descriptor tables, bounce buffers.
pub trait DmaMemory {
    /// `len` bytes of physical memory below 4 GiB at a multiple of `align`, for as long as the firmware lives, that hold anything.
    /// `align` is a power of two, at most 4096. `None` where no memory is left.
    fn dma_buffer(&self, len: usize, align: usize) -> Option<u64>;

    /// The same with zeros in it.
    fn dma_memory(&self, len: usize, align: usize) -> Option<u64>
    where
        Self: PhysMem,
    {
        let start = self.dma_buffer(len, align)?;
        self.fill(start, len as u64, 0);
        Some(start)
    }
}

/// All of it.
pub trait Hardware: Ports + PhysMem + Clock + RealMode + DmaMemory {}
impl<T: Ports + PhysMem + Clock + RealMode + DmaMemory> Hardware for T {}

/// Hardware that a driver keeps: the machine is a copy of nothing, a fake is shared.
pub trait Handle: Hardware + Clone + Send + 'static {
    /// Xen, as a driver keeps it.
    #[cfg(feature = "xen")]
    type Xen: super::hypercalls::Hypercalls + Clone + Send + 'static;

    /// Xen, where it is what started this machine.
    #[cfg(feature = "xen")]
    fn xen(&self) -> Option<Self::Xen>;
}
