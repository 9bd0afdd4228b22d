//! The registers of a real-mode caller, saved by the bridge for the time of one BIOS call.

use crate::low_memory::BOOT_SECTOR;
use crate::units::linear;

/// FLAGS.CF, bit 0.
pub const CARRY: u16 = 1 << 0;
/// FLAGS.ZF, bit 6.
pub const ZERO: u16 = 1 << 6;
/// FLAGS.IF, bit 9.
pub const INTERRUPT: u16 = 1 << 9;

/// What AX is where a BIOS starts a boot program or an option ROM, as some of them want to see.
pub const STARTED_BY_A_BIOS: u32 = 0xaa55;

/// A caller's registers. What a service leaves here is what the caller gets.
///
/// The layout is the one of `bridge.s`, which fills and empties it. IP, CS and FLAGS are those that the interrupt pushed on
/// the caller's stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
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
    /// ESP, pointing at the pushed IP.
    pub esp: u32,
    /// DS.
    pub ds: u16,
    /// ES.
    pub es: u16,
    /// FS.
    pub fs: u16,
    /// GS.
    pub gs: u16,
    /// SS.
    pub ss: u16,
    /// The interrupt's number.
    pub vector: u16,
    /// IP: where the caller goes on.
    pub ip: u16,
    /// CS: where the caller goes on.
    pub cs: u16,
    /// FLAGS: CF and ZF carry results back.
    pub flags: u16,
    /// Not zero: the A20 gate was off at the call, and goes off again after it.
    pub a20_off: u16,
}

macro_rules! halves {
    ($($reg:ident $word:ident $set_word:ident $low:ident $set_low:ident $high:ident $set_high:ident;)*) => {$(
        #[doc = concat!("Bits 15:0 of ", stringify!($reg), ".")]
        pub fn $word(&self) -> u16 { self.$reg as u16 }
        #[doc = concat!("Sets bits 15:0 of ", stringify!($reg), ".")]
        pub fn $set_word(&mut self, value: u16) { self.$reg = self.$reg & !0xffff | u32::from(value); }
        #[doc = concat!("Bits 7:0 of ", stringify!($reg), ".")]
        pub fn $low(&self) -> u8 { self.$reg as u8 }
        #[doc = concat!("Sets bits 7:0 of ", stringify!($reg), ".")]
        pub fn $set_low(&mut self, value: u8) { self.$reg = self.$reg & !0xff | u32::from(value); }
        #[doc = concat!("Bits 15:8 of ", stringify!($reg), ".")]
        pub fn $high(&self) -> u8 { (self.$reg >> 8) as u8 }
        #[doc = concat!("Sets bits 15:8 of ", stringify!($reg), ".")]
        pub fn $set_high(&mut self, value: u8) { self.$reg = self.$reg & !0xff00 | u32::from(value) << 8; }
    )*};
}

macro_rules! words {
    ($($reg:ident $word:ident $set_word:ident;)*) => {$(
        #[doc = concat!("Bits 15:0 of ", stringify!($reg), ".")]
        pub fn $word(&self) -> u16 { self.$reg as u16 }
        #[doc = concat!("Sets bits 15:0 of ", stringify!($reg), ".")]
        pub fn $set_word(&mut self, value: u16) { self.$reg = self.$reg & !0xffff | u32::from(value); }
    )*};
}

impl Frame {
    halves! {
        eax ax set_ax al set_al ah set_ah;
        ebx bx set_bx bl set_bl bh set_bh;
        ecx cx set_cx cl set_cl ch set_ch;
        edx dx set_dx dl set_dl dh set_dh;
    }
    words! {
        esi si set_si;
        edi di set_di;
        ebp bp set_bp;
    }

    /// Address of the byte at `offset` of a far call's arguments, which lie on the caller's stack above FLAGS, CS and IP of the
    /// interrupt that the entry made of the call, and CS and IP of the call itself.
    pub fn argument(&self, offset: u16) -> u64 {
        const ARGUMENTS: u16 = 10;
        let sp = self.esp as u16;
        linear(self.ss, sp.wrapping_add(ARGUMENTS).wrapping_add(offset))
    }

    /// Sets or clears the caller's CF.
    pub fn set_carry(&mut self, on: bool) {
        self.flags = if on {
            self.flags | CARRY
        } else {
            self.flags & !CARRY
        };
    }

    /// Sets or clears the caller's ZF.
    pub fn set_zero(&mut self, on: bool) {
        self.flags = if on {
            self.flags | ZERO
        } else {
            self.flags & !ZERO
        };
    }

    /// Makes the caller go on in a boot program at `segment:offset`, with DL the drive and a stack that ends at 0000:7C00. As much of
    /// its address as can be is offset, since there are CDs that count on CS = 0, which SeaBIOS gives them.
    pub fn start(&mut self, segment: u16, offset: u16, drive: u8) {
        /// IP, CS and FLAGS, which the way out of the firmware takes off the caller's stack.
        const RETURN_FRAME: u32 = 6;
        *self = Self {
            eax: STARTED_BY_A_BIOS,
            edx: drive.into(),
            esp: BOOT_SECTOR as u32 - RETURN_FRAME,
            cs: segment & 0xf000,
            ip: offset.wrapping_add(segment << 4),
            flags: INTERRUPT,
            vector: self.vector,
            ..Self::default()
        };
    }

    /// The call worked: CF clear, AH zero.
    pub fn succeed(&mut self) {
        self.set_carry(false);
        self.set_ah(0);
    }

    /// The call failed: CF set, AH the status.
    pub fn fail(&mut self, status: u8) {
        self.set_carry(true);
        self.set_ah(status);
    }
}

/// Entry points in segment F000h whose place no program knows, by offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries {
    /// Divide error.
    pub int00: u16,
    /// Invalid opcode.
    pub int06: u16,
    /// Vectors 0Ah to 0Fh: end an interrupt of the first controller that nothing serves.
    pub master_irqs: [u16; 6],
    /// Ends an interrupt of the second controller that nothing serves.
    pub slave_irq: u16,
    /// INT 18h, boot failure.
    pub int18: u16,
    /// INT 08h while there is a serial console.
    pub int08_console: u16,
    /// INT 70h, real-time clock interrupt.
    pub int70: u16,
    /// INT 74h, mouse interrupt.
    pub int74: u16,
    /// INT 75h, x87 error.
    pub int75: u16,
    /// INT 76h and 77h, hard disk interrupts.
    pub int76: u16,
    /// POST memory manager, far-called.
    pub pmm: u16,
    /// Plug and Play BIOS, far-called.
    pub pnp: u16,
    /// BIOS32 service directory, far-called in 32-bit protected mode.
    pub bios32: u16,
    /// APM, far-called in 16-bit protected mode.
    pub apm16: u16,
    /// APM, far-called in 32-bit protected mode.
    pub apm32: u16,
    /// The last part of INT 15h AH=89h, as an interrupt handler.
    pub to_protected_mode: u16,
}

/// What becomes of the caller when a service is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]

pub enum Outcome {
    /// Back to the caller, with the frame as it is.
    Return,
    /// Enable interrupts, halt until one comes, and make the same call again: how a service waits without a nested stack.
    WaitForInterrupt,
    /// Go on at the given handler as if the caller had raised it: the caller's own return stays on its stack.
    Chain {
        /// Its segment.
        segment: u16,
        /// Its offset.
        offset: u16,
    },
}
