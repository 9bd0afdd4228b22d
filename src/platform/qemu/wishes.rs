//! What the user tells QEMU about the boot menu, the report, the serial console and more, by the names that SeaBIOS gave these
//! fw_cfg files. This firmware's own settings come first. Each is asked for when it is needed, since each costs an access.

use super::fw_cfg::{FwCfg, key};
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::serial::PORTS;
use crate::settings::{Menu, SerialConsole, Settings, Timeout};
use alloc::string::String;

/// The most bytes of a message.
const MESSAGE_LIMIT: u32 = 1024;

/// Turns the serial console on where the user has no graphical display, or names a port. The setting comes first.
pub fn serial_console(
    hw: &(impl Ports + PhysMem + Clock),
    fw_cfg: &FwCfg,
    settings: &mut Settings,
) {
    if settings.serial_console.is_some() {
        return;
    }
    let port = match fw_cfg.number_file(hw, b"etc/sercon-port") {
        Some(port) => port,
        None if fw_cfg.number::<2>(hw, key::NOGRAPHIC) != 0 => PORTS[0].into(),
        None => 0,
    };
    if port == 0 {
        return;
    }
    match PORTS.iter().position(|known| u64::from(*known) == port) {
        Some(index) => settings.serial_console = Some(SerialConsole::Port(index as u8)),
        None => log::warn!("etc/sercon-port: {port:#x} is none of COM1 to COM4"),
    }
}

/// Whether there is a boot menu (`-boot menu=on`).
pub fn menu(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Menu {
    let wish = fw_cfg
        .number_file(hw, b"etc/show-boot-menu")
        .unwrap_or_else(|| fw_cfg.number::<2>(hw, key::BOOT_MENU));
    match wish {
        0 => Menu::Off,
        2 => Menu::Choice,
        _ => Menu::On,
    }
}

/// How long the key that opens the menu is waited for (`-boot splash-time=`).
pub fn menu_timeout(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<Timeout> {
    timeout(hw, fw_cfg, b"etc/boot-menu-wait")
}

/// The scan code of the key that opens the menu.
pub fn menu_key(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<u8> {
    u8::try_from(fw_cfg.number_file(hw, b"etc/boot-menu-key")?).ok()
}

/// What is shown while that key is waited for.
pub fn menu_message(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<String> {
    let text = fw_cfg.read_file(hw, b"etc/boot-menu-message", MESSAGE_LIMIT)?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// How long the report stays (`-boot reboot-timeout=`); QEMU always says, and by default for ever.
pub fn fail_timeout(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<Timeout> {
    timeout(hw, fw_cfg, b"etc/boot-fail-wait")
}

/// What every processor's feature control register is to hold.
pub fn feature_control(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<u64> {
    fw_cfg.number_file(hw, b"etc/msr_feature_control")
}

/// Which cards' option ROMs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CardRoms {
    /// None.
    None,
    /// The video card's.
    Video,
    /// All.
    All,
}

/// Which cards' option ROMs the user wants.
pub fn card_roms(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> CardRoms {
    let wish = fw_cfg.number_file(hw, b"etc/pci-optionrom-exec");
    match wish.or_else(|| fw_cfg.number_file(hw, b"pci-optionrom-exec")) {
        Some(0) => CardRoms::None,
        Some(1) => CardRoms::Video,
        _ => CardRoms::All,
    }
}

/// Whether the video card's ROM is run for a guest that wakes up from S3.
pub fn video_rom_at_wake(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> bool {
    let wish = fw_cfg.number_file(hw, b"etc/s3-resume-vga-init");
    wish.or_else(|| fw_cfg.number_file(hw, b"s3-resume-vga-init"))
        .is_some_and(|wish| wish != 0)
}

/// Whether an option ROM with a wrong checksum is left out.
pub fn rom_checksums(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> bool {
    fw_cfg.number_file(hw, b"etc/optionroms-checksum") != Some(0)
}

/// A file of milliseconds. Files of four and eight bytes are signed, and a negative time is for ever.
fn timeout(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg, name: &[u8]) -> Option<Timeout> {
    let bytes = fw_cfg.read_file(hw, name, 8)?;
    let ms = match bytes[..] {
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        _ => {
            let mut wide = [0; 8];
            wide[..bytes.len()].copy_from_slice(&bytes);
            i64::from_le_bytes(wide)
        }
    };
    Some(Timeout::from_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::super::fw_cfg::fake::FakeFwCfg;
    use super::*;

    fn open(fake: &FakeFwCfg) -> FwCfg {
        FwCfg::open(fake).expect("fw_cfg")
    }

    #[test]
    fn what_qemu_gives_by_default() {
        let fake = FakeFwCfg::new(&[("etc/boot-fail-wait", &[0xff; 4])]);
        let fw_cfg = open(&fake);
        let mut settings = Settings::default();
        serial_console(&fake, &fw_cfg, &mut settings);
        assert_eq!(settings, Settings::default());
        assert_eq!(menu(&fake, &fw_cfg), Menu::Off);
        assert_eq!(fail_timeout(&fake, &fw_cfg), Some(Timeout::Forever));
        assert_eq!(menu_timeout(&fake, &fw_cfg), None);
    }

    #[test]
    fn what_the_user_asks_for() {
        let fake = FakeFwCfg::new(&[
            ("etc/boot-fail-wait", &[0xd0, 7, 0, 0]),
            ("etc/boot-menu-wait", &[0xff, 0xff]),
            ("etc/boot-menu-key", &[0x86, 0, 0, 0]),
            ("etc/boot-menu-message", b"\nPress F12\n"),
        ])
        .item(key::BOOT_MENU, &[1, 0])
        .item(key::NOGRAPHIC, &[1, 0]);
        let fw_cfg = open(&fake);
        let mut settings = Settings::default();
        serial_console(&fake, &fw_cfg, &mut settings);
        assert_eq!(settings.console_port(), Some(0));
        assert_eq!(menu(&fake, &fw_cfg), Menu::On);
        assert_eq!(fail_timeout(&fake, &fw_cfg), Some(Timeout::Ms(2000)));
        assert_eq!(menu_timeout(&fake, &fw_cfg), Some(Timeout::Ms(65535)));
        assert_eq!(menu_key(&fake, &fw_cfg), Some(0x86));
        let message = menu_message(&fake, &fw_cfg);
        assert_eq!(message.as_deref(), Some("\nPress F12\n"));
        settings.serial_console = Some(SerialConsole::Off);
        serial_console(&fake, &fw_cfg, &mut settings);
        assert_eq!(settings.console_port(), None);
    }

    #[test]
    fn a_port_by_its_number() {
        let fake = FakeFwCfg::new(&[("etc/sercon-port", &[0xe8, 3])]);
        let mut settings = Settings::default();
        serial_console(&fake, &open(&fake), &mut settings);
        assert_eq!(settings.console_port(), Some(2));
    }
}
