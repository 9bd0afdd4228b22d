//! INT 19h and INT 18h: one candidate after the other, and what happens when there is none left.
//!
//! Boot sectors are read through INT 13h, as any program would: an option ROM that put a drive of its own in front of ours is
//! heard. The drive that is booted is the first of its kind, 80h if it is a hard disk, which many boot programs take for granted.
//! Source: BIOS Boot Specification 1.01, sections 3.4 and 6.

use super::candidate::{Candidate, Reason, Target};
use super::cd;
use super::dialog::{self, Choice, Dialog};
use super::network;
use super::order::Order;
use super::sector::works_alone;
use crate::arch::{Frame, Handle, Outcome, RealRegs};
use crate::bios::Bios;
use crate::bios::int13::FIRST_DISK;
use crate::bios::{int10, ivt};
use crate::devices::reset;
use crate::low_memory;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use spin::Mutex;

/// Where a boot sector is loaded and entered: 0000:7C00.
pub const BOOT_SECTOR: u16 = low_memory::BOOT_SECTOR as u16;

/// Bytes of a boot sector.
const SECTOR: usize = 512;

/// How far the boot has come.
#[derive(Debug, Default)]
pub struct Boot {
    candidates: Vec<Candidate>,
    order: Order,
    /// The candidates still to be tried.
    queue: VecDeque<usize>,
    /// The candidate that was booted last.
    current: Option<usize>,
    /// Why each one tried so far was not booted.
    tried: Vec<(usize, Reason)>,
    /// The machine has not booted anything since its start.
    started: bool,
    /// What waits for the user.
    dialog: Option<Dialog>,
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

    /// Takes further candidates in, each in its place of the order. Where that makes no difference, the ones come `before` those that are
    /// there, the others `after` them.
    pub fn add(
        &mut self,
        before: impl IntoIterator<Item = Candidate>,
        after: impl Iterator<Item = Candidate>,
    ) {
        let mut all: Vec<_> = before.into_iter().collect();
        all.append(&mut self.candidates);
        all.extend(after);
        self.candidates = self.order.arrange(all);
    }

    /// The order that the platform wants.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Gives drives their numbers anew, from those that they had; without one, a drive cannot be booted.
    pub fn renumber(&mut self, number: impl Fn(u8) -> Option<u8>) {
        for candidate in &mut self.candidates {
            let Target::Drive(drive) = candidate.target else {
                continue;
            };
            candidate.target = number(drive).map_or_else(
                || Target::Nothing(Reason::Unusable("no drive number is left".into())),
                Target::Drive,
            );
        }
    }

    /// The candidates in order.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Starts with the first candidate, or with the one that the user chose.
    fn start(&mut self, chosen: Option<usize>) {
        let others = (0..self.candidates.len()).filter(|index| Some(*index) != chosen);
        self.queue = chosen.into_iter().chain(others).collect();
        self.current = None;
        self.tried.clear();
    }

    /// The candidate that was booted last gives up.
    fn give_up(&mut self) {
        if let Some(index) = self.current.take() {
            self.tried.push((index, Reason::GaveUp));
        }
    }

    fn take_next(&mut self) -> Option<(usize, Target)> {
        let index = self.queue.pop_front()?;
        let candidate = self.candidates.get(index)?;
        Some((index, candidate.target.clone()))
    }

    /// The candidate that was booted last, by its place in the order.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// Whether a guest has the machine.
    pub fn has_booted(&self) -> bool {
        self.current.is_some()
    }

    /// The candidate gets the machine.
    fn hand_over(&mut self, index: usize) {
        log::info!("booting {}", self.candidates[index].name);
        self.current = Some(index);
    }

    /// The candidate could not be booted.
    fn fail(&mut self, index: usize, reason: Reason) {
        log::info!("{}: {reason}", self.candidates[index].name);
        self.current = None;
        self.tried.push((index, reason));
    }

    /// What was tried, and why it failed.
    pub fn failures(&self) -> Vec<(Candidate, Reason)> {
        let failure = |(index, reason): &(usize, Reason)| {
            Some((self.candidates.get(*index)?.clone(), reason.clone()))
        };
        self.tried.iter().filter_map(failure).collect()
    }

    /// For each candidate, why it was not booted when it was tried.
    pub fn reasons(&self) -> Vec<Option<Reason>> {
        let mut reasons = vec![None; self.candidates.len()];
        for (index, reason) in &self.tried {
            if let Some(place) = reasons.get_mut(*index) {
                *place = Some(reason.clone());
            }
        }
        reasons
    }
}

/// INT 19h: boots the first candidate that can be. At the start of the machine, the user may come before that.
pub fn start<H: Handle>(
    boot: &Mutex<Boot>,
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
) -> Outcome {
    restart_if_busy(bios, hw);
    // The locks end with their statements: the dialog draws by INT 10h, and boot sectors are read by INT 13h.
    let open = boot.lock().dialog.take();
    if let Some(dialog) = open {
        return go_on_with(dialog, boot, bios, hw, frame);
    }
    let first = !core::mem::replace(&mut boot.lock().started, true);
    if first && let Some(dialog) = dialog::prompt(boot, bios, hw) {
        return go_on_with(dialog, boot, bios, hw, frame);
    }
    boot.lock().start(None);
    go_on(boot, bios, hw, frame)
}

/// INT 18h: the candidate that was booted could not do it; boots the next one.
pub fn next<H: Handle>(
    boot: &Mutex<Boot>,
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
) -> Outcome {
    restart_if_busy(bios, hw);
    let open = boot.lock().dialog.take();
    if let Some(dialog) = open {
        return go_on_with(dialog, boot, bios, hw, frame);
    }
    boot.lock().give_up();
    go_on(boot, bios, hw, frame)
}

/// Restarts the machine where a handler that ran while a drive worked boots anew: nobody waits for the drive any more.
fn restart_if_busy<H: Handle>(bios: &Mutex<Bios>, hw: &H) {
    let drives = bios.lock().drives.clone();
    if drives.try_lock().is_none() {
        log::error!("booted while a drive works: restarting");
        reset::machine(hw);
    }
}

/// Asks the dialog that is open what it comes to.
fn go_on_with<H: Handle>(
    mut dialog: Dialog,
    boot: &Mutex<Boot>,
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
) -> Outcome {
    let chosen = match dialog.step(boot, bios, hw) {
        Choice::GoOn => None,
        Choice::Boot(index) => Some(index),
        choice => {
            if choice == Choice::Restart {
                reset::machine(hw);
            }
            boot.lock().dialog = Some(dialog);
            return Outcome::WaitForInterrupt;
        }
    };
    dialog.close(bios, hw);
    boot.lock().start(chosen);
    go_on(boot, bios, hw, frame)
}

fn go_on<H: Handle>(boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let drives = bios.lock().drives.clone();
    loop {
        drives.lock().as_found(hw);
        let next = boot.lock().take_next();
        let Some((index, target)) = next else {
            return give_up(boot, bios, hw, frame);
        };
        let result = match target {
            Target::Drive(drive) => {
                let drive = drives.lock().prefer(hw, drive);
                let any = drive < FIRST_DISK && boot.lock().order.any_diskette;
                load_boot_sector(bios, hw, drive, any).map(|sector| {
                    if works_alone(&sector) {
                        int10::show_text(bios, hw);
                    }
                    Start {
                        segment: 0,
                        offset: BOOT_SECTOR,
                        drive,
                    }
                })
            }
            Target::Cd(drive) => {
                let drive = drives.lock().prefer(hw, drive);
                cd::load(bios, hw, drive).inspect(|_| int10::show_text(bios, hw))
            }
            Target::Rom(vector) => {
                let pnp_header = bios.lock().services.option_roms.pnp_header();
                let mut entry = vector.entry(pnp_header);
                // It comes back when it cannot, or calls INT 18h. What it boots may call INT 19h, and never comes back here.
                drop(vector);
                int10::show_text(bios, hw);
                boot.lock().hand_over(index);
                bios.lock().machine.close_shadow(hw);
                hw.call_rom(&mut entry);
                Err(Reason::GaveUp)
            }
            Target::Network(bdf) => {
                boot.lock().hand_over(index);
                Err(network::boot(bios, hw, bdf))
            }
            Target::Nothing(reason) => Err(reason),
        };
        match result {
            Ok(start) => {
                boot.lock().hand_over(index);
                bios.lock().machine.close_shadow(hw);
                frame.start(start.segment, start.offset, start.drive);
                return Outcome::Return;
            }
            Err(reason) => boot.lock().fail(index, reason),
        }
    }
}

/// Reads the first sector of a drive to its place, and returns it. It has to have a signature unless `any` sector will do.
fn load_boot_sector<H: Handle>(
    bios: &Mutex<Bios>,
    hw: &H,
    drive: u8,
    any: bool,
) -> Result<[u8; SECTOR], Reason> {
    const READ_ONE_SECTOR: u32 = 0x0201;
    const FIRST_SECTOR: u32 = 0x0001;
    const SIGNATURE: [u8; 2] = [0x55, 0xaa];
    let (eax, flags) = if ivt::is_ours(hw, 0x13, ivt::entry::INT_13) {
        // The way through real mode would be some twenty exits to a hypervisor.
        let mut frame = Frame {
            vector: 0x13,
            eax: READ_ONE_SECTOR,
            ecx: FIRST_SECTOR,
            edx: drive.into(),
            ebx: BOOT_SECTOR.into(),
            ..Frame::default()
        };
        crate::bios::dispatch(bios, hw, &mut frame);
        (frame.eax, frame.flags)
    } else {
        let mut regs = RealRegs {
            eax: READ_ONE_SECTOR,
            ecx: FIRST_SECTOR,
            edx: drive.into(),
            ebx: BOOT_SECTOR.into(),
            ..RealRegs::default()
        };
        hw.call_int(0x13, &mut regs);
        (regs.eax, regs.flags)
    };
    if flags & crate::arch::frame::CARRY != 0 {
        let drives = bios.lock().drives.clone();
        let empty = drives.lock().is_empty_floppy(drive);
        return Err(match empty {
            true => Reason::NoMedium,
            false => Reason::Unreadable((eax >> 8) as u8),
        });
    }
    let sector: [u8; SECTOR] = hw.read_as(BOOT_SECTOR.into());
    if !any && !sector.ends_with(&SIGNATURE) {
        return Err(Reason::NoSignature);
    }
    Ok(sector)
}

/// Where a boot program was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The segment that it starts in.
    pub segment: u16,
    /// The offset that it starts at.
    pub offset: u16,
    /// The drive number that it is given.
    pub drive: u8,
}

fn give_up<H: Handle>(
    boot: &Mutex<Boot>,
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
) -> Outcome {
    let failures = boot.lock().failures();
    // Before the screen, which may be slow: whoever runs the machine may have nothing but the log.
    log::error!("nothing could be booted");
    for (candidate, reason) in &failures {
        log::error!("{}: {reason}", candidate.name);
    }
    go_on_with(dialog::report(bios, hw), boot, bios, hw, frame)
}

#[cfg(test)]
mod tests;
