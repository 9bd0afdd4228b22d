//! What waits for the user: the prompt for the menu's key, the menu, and the report when nothing boots.
//!
//! INT 19h and INT 18h halt until the next interrupt while a dialog is open, and ask it again after each: a timer tick is the
//! longest that it sleeps.

use super::bootstrap::Boot;
use super::candidate::Target;
use super::canvas::Canvas;
use super::display::Display;
use super::information::{self, TITLE};
use super::label;
use super::medium::Medium;
use super::menu::{self, Action, Entry, Menu};
use super::report;
use crate::arch::Hardware;
use crate::bios::bda::Bda;
use crate::bios::{Bios, console, keyboard};
use crate::devices::ps2;
use crate::platform::qemu::fw_cfg::FwCfg;
use crate::platform::qemu::wishes;
use crate::platform::{Machine, Platform};
use crate::settings::{self, Timeout};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use spin::Mutex;

/// How long the menu's key is waited for, in milliseconds, and the report stays, where nobody says.
const MENU_MS: u32 = 2500;
const FAIL_MS: u32 = 60_000;
/// Ticks of the BIOS clock a day.
const TICKS_A_DAY: u32 = 0x18_00b0;

/// A dialog that is open.
#[derive(Debug)]
pub struct Dialog {
    /// Nothing is shown where only a key that waits already is looked for.
    display: Option<Display>,
    timer: Timer,
    page: Page,
}

#[derive(Debug)]
enum Page {
    Prompt {
        message: Option<String>,
        key: Option<u8>,
    },
    Menu(Menu),
    Report,
}

/// What comes of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It stays open until the next interrupt.
    Stay,
    /// The order goes on.
    GoOn,
    /// This candidate is tried first.
    Boot(usize),
    /// The machine restarts.
    Restart,
}

/// The way to the menu, where there is one: at the start of the machine, before anything is booted.
pub fn prompt<H: Hardware>(boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H) -> Option<Dialog> {
    let (mut timeout, page) = {
        let bios = &*bios.lock();
        let (settings, qemu) = (&bios.settings, qemu(&bios.machine));
        let wish = settings.menu.or_else(|| Some(wishes::menu(hw, qemu?)));
        match wish {
            Some(settings::Menu::On) => {}
            Some(settings::Menu::Choice) if boot.lock().candidates().len() > 1 => {}
            _ => return None,
        }
        let timeout = settings
            .menu_timeout
            .or_else(|| wishes::menu_timeout(hw, qemu?));
        let key = settings.menu_key.or_else(|| wishes::menu_key(hw, qemu?));
        let message = settings.menu_message.clone();
        let message = message.or_else(|| wishes::menu_message(hw, qemu?));
        (
            timeout.unwrap_or(Timeout::Ms(MENU_MS)),
            Page::Prompt { message, key },
        )
    };
    let no_time = timeout == Timeout::Ms(0);
    if no_time && keyboard::peek(hw).is_none() {
        // A key that was pressed before, and whose interrupt comes as soon as it may.
        let waits = ps2::status(hw).is_some_and(|status| status & ps2::OUTPUT_FULL != 0);
        if !waits {
            return None;
        }
        timeout = Timeout::Ms(1);
    }
    Some(Dialog {
        display: (!no_time).then(|| Display::open(bios, hw)),
        timer: Timer::new(hw, timeout),
        page,
    })
}

/// What is shown when nothing could be booted.
pub fn report<H: Hardware>(bios: &Mutex<Bios>, hw: &H) -> Dialog {
    let timeout = {
        let bios = &*bios.lock();
        let set = bios.settings.fail_timeout;
        set.or_else(|| wishes::fail_timeout(hw, qemu(&bios.machine)?))
    };
    // What was typed before is no answer to this.
    keyboard::clear(hw);
    Dialog {
        display: Some(Display::open(bios, hw)),
        timer: Timer::new(hw, timeout.unwrap_or(Timeout::Ms(FAIL_MS))),
        page: Page::Report,
    }
}

/// The device by which QEMU tells what its user wants. Under Xen there is one for a kernel only.
fn qemu(machine: &Machine) -> Option<&FwCfg> {
    match machine.platform {
        Platform::Qemu => machine.fw_cfg.as_ref(),
        Platform::Xen(_) => None,
    }
}

impl Dialog {
    /// Takes the keys that have come, and shows what has changed.
    pub fn step<H: Hardware>(&mut self, boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H) -> Choice {
        if let Some(display) = &self.display {
            console::poll_keys_of(bios, hw, display.port());
        }
        self.timer.advance(Bda::ticks().get(hw));
        let choice = match &mut self.page {
            Page::Prompt { key, .. } => {
                let key = *key;
                if keyboard::take_first(hw, |word| report::opens_menu(word, key)) {
                    self.open_menu(boot, bios, hw);
                    Choice::Stay
                } else if self.timer.over() {
                    Choice::GoOn
                } else {
                    Choice::Stay
                }
            }
            Page::Report => match keyboard::take(hw) {
                Some(menu::key::ESC) => {
                    self.open_menu(boot, bios, hw);
                    Choice::Stay
                }
                Some(_) => Choice::Restart,
                None if self.timer.over() => Choice::Restart,
                None => Choice::Stay,
            },
            Page::Menu(menu) => keys(menu, bios, hw),
        };
        if choice == Choice::Stay {
            let canvas = self.draw(boot);
            if let Some(display) = &mut self.display {
                display.show(bios, hw, canvas);
            }
        }
        choice
    }

    fn open_menu<H: Hardware>(&mut self, boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H) {
        keyboard::clear(hw);
        let menu = Menu::new(TITLE.into(), entries(boot, hw), Bda::ticks().get(hw));
        self.page = Page::Menu(menu);
        self.timer = Timer::new(hw, Timeout::Forever);
        self.display.get_or_insert_with(|| Display::open(bios, hw));
    }

    fn draw(&self, boot: &Mutex<Boot>) -> Canvas {
        let left = self.timer.seconds_left();
        match &self.page {
            Page::Prompt { message, key } => {
                report::draw_prompt(TITLE, message.as_deref(), *key, left)
            }
            Page::Report => report::draw(TITLE, &boot.lock().failures(), left),
            Page::Menu(menu) => menu.draw(),
        }
    }

    /// Leaves an empty screen.
    pub fn close<H: Hardware>(self, bios: &Mutex<Bios>, hw: &H) {
        if let Some(display) = self.display {
            display.close(bios, hw);
        }
    }
}

/// Takes the menu's keys.
fn keys<H: Hardware>(menu: &mut Menu, bios: &Mutex<Bios>, hw: &H) -> Choice {
    while let Some(word) = keyboard::take(hw) {
        match menu.key(word, Bda::ticks().get(hw)) {
            Action::Draw => {}
            Action::Information => {
                let bios = &*bios.lock();
                let log = log_tail();
                menu.show_information(information::lines(hw, &bios.machine, &bios.settings, &log));
            }
            Action::Boot(index) => return Choice::Boot(index),
            Action::GoOn => return Choice::GoOn,
            Action::Restart => return Choice::Restart,
        }
    }
    Choice::Stay
}

fn log_tail() -> String {
    #[cfg(not(test))]
    return crate::logger::tail();
    #[cfg(test)]
    String::new()
}

/// What the menu says of each candidate. Media are read for it, by INT 13h.
fn entries<H: Hardware>(boot: &Mutex<Boot>, hw: &H) -> Vec<Entry> {
    let (candidates, failures) = {
        let boot = boot.lock();
        (boot.candidates().to_vec(), boot.reasons())
    };
    let entry = |(candidate, failure): (super::candidate::Candidate, Option<_>)| {
        let (medium, reason) = match candidate.target {
            Target::Drive(drive) | Target::Cd(drive) => (Medium::of(hw, drive), failure),
            Target::Nothing(reason) => (None, Some(reason)),
            Target::Rom(_) | Target::Network(_) => (None, failure),
        };
        Entry {
            bootable: !matches!(
                (&reason, medium),
                (
                    Some(
                        super::candidate::Reason::NotSupported
                            | super::candidate::Reason::Unusable(_)
                    ),
                    None
                )
            ),
            kind: candidate.kind,
            name: candidate.name.to_string(),
            size: medium.map(|medium| medium.size()),
            label: medium.and_then(|medium| label::of(|index| medium.read(hw, index))),
            place: candidate.place.map(|place| place.to_string()),
            problem: reason.map(|reason| reason.to_string()),
        }
    };
    candidates.into_iter().zip(failures).map(entry).collect()
}

/// Counts ticks of the BIOS clock, past midnight too.
#[derive(Clone, Copy, Debug)]
struct Timer {
    last: u32,
    passed: u32,
    limit: Option<u32>,
}

impl Timer {
    fn new(hw: &impl Hardware, timeout: Timeout) -> Self {
        let limit = match timeout {
            Timeout::Forever => None,
            // 18.2065 ticks a second.
            Timeout::Ms(ms) => Some((u64::from(ms) * 182_065).div_ceil(10_000_000) as u32),
        };
        Self {
            last: Bda::ticks().get(hw),
            passed: 0,
            limit,
        }
    }

    fn advance(&mut self, now: u32) {
        let step = now.wrapping_add(TICKS_A_DAY).wrapping_sub(self.last) % TICKS_A_DAY;
        self.passed = self.passed.saturating_add(step);
        self.last = now;
    }

    fn over(&self) -> bool {
        self.limit.is_some_and(|limit| self.passed >= limit)
    }

    /// Whole seconds, rounded up; `None` for ever.
    fn seconds_left(&self) -> Option<u32> {
        let left = self.limit?.saturating_sub(self.passed);
        // The limit was rounded up by part of a tick.
        let seconds = (u64::from(left.saturating_sub(1)) * 10_000).div_ceil(182_065) as u32;
        Some(seconds.max(left.min(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn time_is_counted_past_midnight(start in 0..TICKS_A_DAY, ms in 1u32..1_000_000) {
            let hw = Fake::default();
            Bda::ticks().set(&hw, start);
            let mut timer = Timer::new(&hw, Timeout::Ms(ms));
            let seconds = timer.seconds_left().unwrap();
            prop_assert!((ms.saturating_sub(60).div_ceil(1000)..=ms.div_ceil(1000)).contains(&seconds), "{seconds}");
            let ticks = u64::from(ms) * 182_065 / 10_000_000;
            for tick in 0..ticks as u32 {
                timer.advance((start + tick) % TICKS_A_DAY);
                prop_assert!(!timer.over());
            }
            timer.advance((start + ticks as u32 + 1) % TICKS_A_DAY);
            prop_assert!(timer.over());
        }
    }
}
