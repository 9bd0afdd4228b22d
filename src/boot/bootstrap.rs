//! INT 19h and INT 18h: one candidate after the other, and what happens when there is none left.
//!
//! Boot sectors are read through INT 13h, as any program would: an option ROM that put a drive of its own in front of ours is
//! heard. Source: BIOS Boot Specification 1.01, sections 3.4 and 6.

use super::candidate::{Candidate, Reason, Target};
use super::order::Order;
use super::report;
use crate::arch::{Frame, Hardware, Outcome, RealRegs};
use crate::bios::Bios;
use crate::bios::bda::Bda;
use crate::devices::reset;
use alloc::vec::Vec;
use spin::Mutex;

/// Where a boot sector is loaded and entered: 0000:7C00.
pub const BOOT_SECTOR: u16 = 0x7c00;
/// Bytes of IP, CS and FLAGS, which the way out of the firmware takes off the caller's stack.
const RETURN_FRAME: u32 = 6;
/// Ticks of the BIOS clock a day.
const TICKS_A_DAY: u32 = 0x18_00b0;
/// How long the report stays: 60 s at 18.2 ticks a second.
const WAIT_TICKS: u32 = 1092;

/// How far the boot has come.
#[derive(Debug, Default)]
pub struct Boot {
    candidates: Vec<Candidate>,
    order: Order,
    /// The candidate to try next.
    next: usize,
    /// Why each one tried so far was not booted.
    tried: Vec<(usize, Reason)>,
    /// The tick at which the report was shown.
    waiting_since: Option<u32>,
}

impl Boot {
    /// A boot of these candidates, which stand in their order. Later ones come in by `order`.
    pub fn new(candidates: Vec<Candidate>, order: Order) -> Self {
        Self {
            candidates,
            order,
            ..Self::default()
        }
    }

    /// Takes further candidates in, each in its place of the order.
    pub fn add(&mut self, candidates: impl Iterator<Item = Candidate>) {
        let mut all = core::mem::take(&mut self.candidates);
        all.extend(candidates);
        self.candidates = self.order.arrange(all);
    }

    /// The candidates in order.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn start(&mut self) {
        self.next = 0;
        self.tried.clear();
    }

    /// The candidate that was booted last gives up.
    fn give_up(&mut self) {
        if let Some(index) = self.next.checked_sub(1) {
            self.tried.push((index, Reason::GaveUp));
        }
    }

    fn take_next(&mut self) -> Option<(usize, Candidate)> {
        let index = self.next;
        let candidate = self.candidates.get(index)?.clone();
        self.next += 1;
        Some((index, candidate))
    }

    /// What was tried, and why it failed.
    fn failures(&self) -> Vec<(Candidate, Reason)> {
        let failure = |(index, reason): &(usize, Reason)| {
            Some((self.candidates.get(*index)?.clone(), reason.clone()))
        };
        self.tried.iter().filter_map(failure).collect()
    }
}

/// INT 19h: boots the first candidate that can be.
pub fn start<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H, frame: &mut Frame) -> Outcome {
    let waiting = bios.lock().boot.waiting_since;
    if let Some(since) = waiting {
        return wait(hw, since);
    }
    bios.lock().boot.start();
    go_on(bios, hw, frame)
}

/// INT 18h: the candidate that was booted could not do it; boots the next one.
pub fn next<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H, frame: &mut Frame) -> Outcome {
    let waiting = bios.lock().boot.waiting_since;
    if let Some(since) = waiting {
        return wait(hw, since);
    }
    bios.lock().boot.give_up();
    go_on(bios, hw, frame)
}

fn go_on<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H, frame: &mut Frame) -> Outcome {
    loop {
        // The lock ends with the statement: the boot sector is read through INT 13h, which takes it.
        let next = bios.lock().boot.take_next();
        let Some((index, candidate)) = next else {
            return give_up(bios, hw);
        };
        let result = match candidate.target {
            Target::Drive(drive) => load_boot_sector(hw, drive).map(|()| drive),
            Target::Rom(vector) => {
                let pnp_header = bios.lock().services.option_roms.pnp_header();
                log::info!("booting {}", candidate.name);
                // It comes back when it cannot.
                vector.call(hw, pnp_header);
                Err(Reason::GaveUp)
            }
            Target::Nothing(reason) => Err(reason),
        };
        match result {
            Ok(drive) => {
                log::info!("booting {}", candidate.name);
                enter_boot_sector(frame, drive);
                return Outcome::Return;
            }
            Err(reason) => {
                log::info!("{}: {reason}", candidate.name);
                bios.lock().boot.tried.push((index, reason));
            }
        }
    }
}

fn load_boot_sector<H: Hardware>(hw: &H, drive: u8) -> Result<(), Reason> {
    const READ_ONE_SECTOR: u32 = 0x0201;
    const FIRST_SECTOR: u32 = 0x0001;
    const SIGNATURE: u16 = 0xaa55;
    let mut regs = RealRegs {
        eax: READ_ONE_SECTOR,
        ecx: FIRST_SECTOR,
        edx: drive.into(),
        ebx: BOOT_SECTOR.into(),
        ..RealRegs::default()
    };
    hw.call_int(0x13, &mut regs);
    if regs.flags & crate::arch::frame::CARRY != 0 {
        return Err(Reason::Unreadable((regs.eax >> 8) as u8));
    }
    if hw.read16(u64::from(BOOT_SECTOR) + 510) != SIGNATURE {
        return Err(Reason::NoSignature);
    }
    Ok(())
}

/// Makes the caller of INT 19h or 18h go on in the boot sector, with DL the drive and a stack that ends below it.
fn enter_boot_sector(frame: &mut Frame, drive: u8) {
    *frame = Frame {
        // Boot programs of old look for this to see that a BIOS started them.
        eax: 0xaa55,
        edx: drive.into(),
        esp: u32::from(BOOT_SECTOR) - RETURN_FRAME,
        ip: BOOT_SECTOR,
        flags: crate::arch::frame::INTERRUPT,
        vector: frame.vector,
        ..Frame::default()
    };
}

fn give_up<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H) -> Outcome {
    let (failures, mirrored) = {
        let bios = bios.lock();
        (bios.boot.failures(), bios.settings.serial_console)
    };
    // Before the screen, which may be slow: whoever runs the machine may have nothing but the log.
    log::error!("nothing could be booted");
    for (candidate, reason) in &failures {
        log::error!("{}: {reason}", candidate.name);
    }
    report::show(hw, &report::text(&failures), mirrored);
    bios.lock().boot.waiting_since = Some(Bda::ticks().get(hw));
    Outcome::WaitForInterrupt
}

/// Restarts the machine when a key is pressed or the time is over.
fn wait<H: Hardware>(hw: &H, since: u32) -> Outcome {
    let passed = (Bda::ticks().get(hw) + TICKS_A_DAY).wrapping_sub(since) % TICKS_A_DAY;
    let key = Bda::keyboard_head().get(hw) != Bda::keyboard_tail().get(hw);
    if key || passed >= WAIT_TICKS {
        reset::machine(hw);
    }
    Outcome::WaitForInterrupt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::PhysMem;
    use crate::arch::fake::Fake;
    use crate::arch::linear;
    use crate::bios::tests::bios;
    use crate::boot::candidate::Kind;

    fn candidate(name: &str, target: Target) -> Candidate {
        Candidate {
            kind: Kind::HardDisk,
            name: name.into(),
            place: None,
            target,
        }
    }

    /// Drive 80h cannot be read, 81h is not formatted, 82h and 83h boot.
    fn disks(hw: &Fake, vector: u8, regs: &mut RealRegs) {
        if vector != 0x13 {
            return;
        }
        match regs.edx as u8 {
            0x80 => {
                regs.flags |= crate::arch::frame::CARRY;
                regs.eax = 0x1000;
            }
            0x81 => hw.fill(linear(regs.es, regs.ebx as u16), 512, 0),
            _ => hw.write16(linear(regs.es, regs.ebx as u16) + 510, 0xaa55),
        }
    }

    fn call(bios: &Mutex<Bios<Fake>>, hw: &Fake, vector: u8) -> (Outcome, Frame) {
        let mut frame = Frame {
            vector: vector.into(),
            ebx: 0x1234,
            ..Frame::default()
        };
        let outcome = crate::bios::dispatch(bios, hw, &mut frame);
        (outcome, frame)
    }

    fn machine() -> (Fake, Mutex<Bios<Fake>>) {
        let hw = Fake::default();
        hw.on_int(disks);
        let bios = bios();
        bios.lock().boot = Boot::new(
            vec![
                candidate("first", Target::Drive(0x80)),
                candidate("second", Target::Drive(0x81)),
                candidate("cd", Target::Nothing(Reason::NotSupported)),
                candidate("third", Target::Drive(0x82)),
                candidate("fourth", Target::Drive(0x83)),
            ],
            Order::default(),
        );
        (hw, bios)
    }

    fn screen(hw: &Fake) -> String {
        let calls = hw.real_calls.borrow();
        let characters = calls.iter().filter(|(vector, _)| *vector == Some(0x10));
        characters
            .map(|(_, regs)| char::from(regs.eax as u8))
            .collect()
    }

    #[test]
    fn boots_the_first_that_works_then_the_next() {
        let (hw, bios) = machine();
        let (outcome, frame) = call(&bios, &hw, 0x19);
        assert_eq!(outcome, Outcome::Return);
        assert_eq!((frame.cs, frame.ip, frame.dl()), (0, 0x7c00, 0x82));
        assert_eq!((frame.ss, frame.esp, frame.ebx), (0, 0x7bfa, 0));
        assert_eq!(frame.flags, crate::arch::frame::INTERRUPT);
        assert_eq!(call(&bios, &hw, 0x18).1.dl(), 0x83);
        assert_eq!(call(&bios, &hw, 0x19).1.dl(), 0x82);
    }

    #[test]
    fn says_why_and_restarts_after_a_minute() {
        let (hw, bios) = machine();
        call(&bios, &hw, 0x19);
        call(&bios, &hw, 0x18);
        Bda::ticks().set(&hw, TICKS_A_DAY - 10);
        assert_eq!(call(&bios, &hw, 0x18).0, Outcome::WaitForInterrupt);
        let text = screen(&hw);
        for part in [
            "first: its boot sector cannot be read: bad sector (status 10h)",
            "second: not bootable",
            "cd: booting from it is not supported",
            "third: its boot program",
            "fourth: its boot program",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let reset = (0xcf9, 0x06);
        Bda::ticks().set(&hw, WAIT_TICKS - 11);
        assert_eq!(call(&bios, &hw, 0x18).0, Outcome::WaitForInterrupt);
        assert!(!hw.port_writes.borrow().contains(&reset));
        Bda::ticks().set(&hw, WAIT_TICKS - 10);
        call(&bios, &hw, 0x18);
        assert!(hw.port_writes.borrow().contains(&reset));
    }

    #[test]
    fn a_key_restarts() {
        let (hw, bios) = machine();
        bios.lock().boot = Boot::default();
        assert_eq!(call(&bios, &hw, 0x19).0, Outcome::WaitForInterrupt);
        assert!(screen(&hw).contains("no disk"));
        call(&bios, &hw, 0x19);
        assert!(!hw.port_writes.borrow().contains(&(0xcf9, 0x06)));
        Bda::keyboard_tail().set(&hw, 0x20);
        call(&bios, &hw, 0x19);
        assert!(hw.port_writes.borrow().contains(&(0xcf9, 0x06)));
    }
}
