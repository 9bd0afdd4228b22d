use super::*;
use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use crate::arch::linear;
use crate::bios::bda::{self, Bda};
use crate::bios::int10::{TextCard, Video, VideoRom};
use crate::bios::keyboard;
use crate::bios::tests::bios;
use crate::boot::candidate::Kind;
use crate::devices::name::Name;
use crate::devices::vga::Vga;
use crate::settings::{Menu, Timeout};
use std::cell::RefCell;
use std::rc::Rc;

const RESET: (u16, u32) = (0xcf9, 0x06);
const ESC: u16 = 0x011b;
const F12: u16 = 0x8600;
const ENTER: u16 = 0x1c0d;
const DOWN: u16 = 0x50e0;
const TICKS_A_DAY: u32 = 0x18_00b0;

fn candidate(name: &str, target: Target) -> Candidate {
    Candidate {
        kind: Kind::HardDisk,
        name: Name::new(name.to_owned()),
        place: None,
        target,
    }
}

/// Drive 80h cannot be read, 81h is not formatted, 82h and 83h boot.
fn disks(hw: &Fake, regs: &mut RealRegs) {
    match (regs.eax >> 8, regs.edx as u8) {
        (0x02, 0x80) => {
            regs.flags |= crate::arch::frame::CARRY;
            regs.eax = 0x1000;
        }
        (0x02, 0x81) => hw.fill(linear(regs.es, regs.ebx as u16), 512, 0),
        (0x02, _) => hw.write16(linear(regs.es, regs.ebx as u16) + 510, 0xaa55),
        _ => regs.flags |= crate::arch::frame::CARRY,
    }
}

/// A machine with a screen.
struct Machine {
    hw: Fake,
    bios: Mutex<Bios>,
    boot: Mutex<Boot>,
    screen: Rc<RefCell<Vec<u8>>>,
}

impl Machine {
    fn new() -> Self {
        let hw = Fake::default();
        bda::init(&hw, 0x9fc0, 639);
        let screen = Rc::new(RefCell::new(vec![b' '; 80 * 25]));
        let shown = screen.clone();
        hw.on_int(move |hw, vector, regs| match (vector, regs.eax >> 8) {
            (0x13, _) => disks(hw, regs),
            (0x10, 0x00) => shown.borrow_mut().fill(b' '),
            (0x10, 0x13) => {
                let at = (regs.edx >> 8) * 80 + (regs.edx & 0xff);
                for index in 0..regs.ecx {
                    let character = hw.read8(u64::from(regs.ebp + 2 * index));
                    shown.borrow_mut()[(at + index) as usize] = character;
                }
            }
            _ => {}
        });
        let bios = bios();
        bios.lock().services.video = Video::Ready([0, 0xc000]);
        let boot = Boot::new(
            vec![
                candidate("first", Target::Drive(0x80)),
                candidate("second", Target::Drive(0x81)),
                candidate("cd", Target::Nothing(Reason::NotSupported)),
                candidate("third", Target::Drive(0x82)),
                candidate("fourth", Target::Drive(0x83)),
            ],
            Order::default(),
        );
        let boot = Mutex::new(boot);
        Self {
            hw,
            bios,
            boot,
            screen,
        }
    }

    fn with_menu(timeout: Timeout) -> Self {
        let machine = Self::new();
        machine.bios.lock().settings.menu = Some(Menu::On);
        machine.bios.lock().settings.menu_timeout = Some(timeout);
        machine
    }

    fn call(&self, vector: u8) -> (Outcome, Frame) {
        let mut frame = Frame {
            vector: vector.into(),
            ebx: 0x1234,
            ..Frame::default()
        };
        let outcome = crate::boot::dispatch(&self.boot, &self.bios, &self.hw, &mut frame);
        (outcome, frame)
    }

    /// Goes on with INT 19h after keys; the drive that is booted, if one is.
    fn keys(&self, keys: &[u16]) -> Option<u8> {
        for key in keys {
            keyboard::store(&self.hw, *key);
        }
        let (outcome, frame) = self.call(0x19);
        (outcome == Outcome::Return).then(|| frame.dl())
    }

    fn pass_ticks(&self, ticks: u32) {
        Bda::ticks().update(&self.hw, |now| (now + ticks) % TICKS_A_DAY);
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.borrow()).into_owned()
    }

    fn has_reset(&self) -> bool {
        self.hw.port_writes.borrow().contains(&RESET)
    }

    fn draws(&self) -> usize {
        let calls = self.hw.real_calls.borrow();
        calls
            .iter()
            .filter(|(vector, _)| *vector == Some(0x10))
            .count()
    }
}

#[test]
fn boots_the_first_that_works_then_the_next() {
    let machine = Machine::new();
    let (outcome, frame) = machine.call(0x19);
    assert_eq!(outcome, Outcome::Return);
    assert_eq!((frame.cs, frame.ip, frame.dl()), (0, 0x7c00, 0x82));
    assert_eq!((frame.ss, frame.esp, frame.ebx), (0, 0x7bfa, 0));
    assert_eq!(frame.flags, crate::arch::frame::INTERRUPT);
    assert_eq!(machine.call(0x18).1.dl(), 0x83);
    assert_eq!(machine.call(0x19).1.dl(), 0x82);
}

#[test]
fn without_a_menu_nothing_is_asked_and_nothing_drawn() {
    let machine = Machine::new();
    machine.keys(&[F12]);
    assert_eq!(machine.draws(), 0);
    assert_eq!(machine.hw.port_accesses.get(), 0);
}

#[test]
fn says_why_and_restarts_after_a_minute() {
    let machine = Machine::new();
    Bda::ticks().set(&machine.hw, TICKS_A_DAY - 10);
    machine.call(0x19);
    machine.call(0x18);
    assert_eq!(machine.call(0x18).0, Outcome::WaitForInterrupt);
    let text = machine.screen();
    for part in [
        "its boot sector cannot be read: bad sector (status 10h)",
        "not bootable: no 55AAh",
        "booting from it is not supported",
        "its boot program found nothing to start",
        "or wait 60 seconds",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    machine.pass_ticks(1092);
    assert_eq!(machine.call(0x18).0, Outcome::WaitForInterrupt);
    assert!(!machine.has_reset());
    machine.pass_ticks(1);
    machine.call(0x18);
    assert!(machine.has_reset());
}

#[test]
fn the_report_stays_as_long_as_the_user_says() {
    for (timeout, restarts) in [(Timeout::Forever, false), (Timeout::Ms(2000), true)] {
        let machine = Machine::new();
        *machine.boot.lock() = Boot::default();
        machine.bios.lock().settings.fail_timeout = Some(timeout);
        machine.call(0x19);
        machine.pass_ticks(30);
        machine.call(0x19);
        assert!(!machine.has_reset());
        machine.pass_ticks(10);
        machine.call(0x19);
        assert_eq!(machine.has_reset(), restarts);
    }
}

#[test]
fn a_key_restarts_and_escape_leads_to_the_menu() {
    let machine = Machine::new();
    *machine.boot.lock() = Boot::default();
    // Typed before there was a report to answer.
    machine.keys(&[ENTER]);
    assert!(machine.screen().contains("no disk"));
    assert!(!machine.has_reset());
    machine.keys(&[ESC]);
    assert!(machine.screen().contains("nothing to boot from"));
    assert!(!machine.has_reset());
    machine.pass_ticks(20);
    machine.keys(&[ESC]);
    assert!(machine.screen().contains("Nothing could be booted"));
    machine.keys(&[ENTER]);
    assert!(machine.has_reset());
}

#[test]
fn the_menu_boots_what_is_chosen_once() {
    let machine = Machine::with_menu(Timeout::Ms(3000));
    assert_eq!(machine.keys(&[]), None);
    assert!(machine.screen().contains("Press Esc or F12"));
    assert_eq!(machine.keys(&[F12]), None);
    assert!(machine.screen().contains("  4  third"));
    // The screen that is left is empty.
    assert_eq!(machine.keys(&[DOWN, DOWN, DOWN, DOWN, ENTER]), Some(0x83));
    assert_eq!(machine.screen().trim(), "");
    // It gives up: the order goes on without it, and starts anew.
    assert_eq!(machine.call(0x18).1.dl(), 0x82);
    assert_eq!(machine.call(0x18).0, Outcome::WaitForInterrupt);
    machine.pass_ticks(50);
    machine.keys(&[ESC]);
    machine.pass_ticks(50);
    assert_eq!(machine.keys(&[ESC]), Some(0x82));
    // A guest that calls INT 19h meets no menu.
    assert_eq!(machine.keys(&[]), Some(0x82));
}

#[test]
fn nobody_presses_a_key() {
    let machine = Machine::with_menu(Timeout::Ms(1));
    assert_eq!(machine.keys(&[]), None);
    machine.pass_ticks(1);
    assert_eq!(machine.keys(&[]), Some(0x82));
    let machine = Machine::with_menu(Timeout::Forever);
    for _ in 0..100 {
        machine.pass_ticks(10_000);
        assert_eq!(machine.keys(&[]), None);
    }
}

#[test]
fn with_no_time_only_a_key_from_before_counts() {
    let machine = Machine::with_menu(Timeout::Ms(0));
    machine.hw.script_port(0x64, &[0x1c]);
    assert_eq!(machine.keys(&[]), Some(0x82));
    assert_eq!((machine.draws(), machine.hw.port_accesses.get()), (0, 1));

    let machine = Machine::with_menu(Timeout::Ms(0));
    assert_eq!(machine.keys(&[0x1e61, ESC]), None);
    assert!(machine.screen().contains("Boot menu"));

    // A byte that waits in the keyboard controller: its interrupt comes first.
    let machine = Machine::with_menu(Timeout::Ms(0));
    machine.hw.script_port(0x64, &[0x1d]);
    assert_eq!(machine.keys(&[]), None);
    machine.pass_ticks(1);
    assert_eq!(machine.keys(&[]), Some(0x82));
    assert_eq!(machine.draws(), 0);
}

#[test]
fn a_menu_for_a_choice_needs_two() {
    let machine = Machine::with_menu(Timeout::Forever);
    machine.bios.lock().settings.menu = Some(Menu::Choice);
    machine.boot.lock().candidates.drain(..4);
    assert_eq!(machine.keys(&[]), Some(0x83));
}

#[test]
fn information_and_a_restart() {
    let machine = Machine::with_menu(Timeout::Forever);
    machine.keys(&[F12]);
    machine.keys(&[F12, 0x1769]);
    assert!(machine.screen().contains("Memory"));
    machine.pass_ticks(20);
    machine.keys(&[ESC]);
    assert!(machine.screen().contains("Choose what"));
    machine.keys(&[0x1372]);
    assert!(machine.has_reset());
}

/// A machine whose card waits for its ROM; `misc` is its Miscellaneous Output register, zero after a reset.
fn with_waiting_card(misc: u32) -> Machine {
    let machine = Machine::new();
    machine.bios.lock().services.video = Video::Waiting(VideoRom {
        segment: 0xc000,
        bdf: None,
        pnp_header: 0,
        card: Some(TextCard {
            vga: Vga::at(0xe000_0000),
            font: 0xc_1000,
            shown: false,
        }),
    });
    machine.hw.script_port(0x3cc, &[misc]);
    machine
}

/// Whether a card that waits for its ROM is in text mode.
fn shows_text(machine: &Machine) -> bool {
    machine.bios.lock().services.video.shows()
}

#[test]
fn text_mode_is_set_for_a_guest_that_could_draw() {
    let machine = with_waiting_card(0);
    // Equipment, before anything is booted: an option ROM may ask.
    machine.call(0x11);
    assert!(!shows_text(&machine));
    assert_eq!(machine.keys(&[]), Some(0x82));
    assert!(!shows_text(&machine));
    machine.call(0x11);
    assert!(shows_text(&machine));
    let writes = machine.hw.port_writes.borrow().len();
    assert!(writes > 80, "{writes} writes");
    machine.call(0x12);
    assert_eq!(machine.hw.port_writes.borrow().len(), writes);
}

#[test]
fn a_guest_keeps_what_it_has_made_of_the_card() {
    let machine = with_waiting_card(0x67);
    assert_eq!(machine.keys(&[]), Some(0x82));
    let before = machine.hw.port_writes.borrow().len();
    machine.call(0x11);
    assert_eq!(machine.hw.port_writes.borrow().len(), before);
    // What it shows is kept when the ROM starts.
    assert!(shows_text(&machine));
}
