//! Every knob in one place.

use alloc::string::String;
use core::fmt;
use firstlight_tables::smbios;

/// What the user may set. docs/settings.md says where each is read from. What is `None` was not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the text console is mirrored to, and keys are taken from.
    pub serial_console: Option<SerialConsole>,
    /// What is booted first: see [`Order::with_setting`](crate::boot::order::Order::with_setting).
    pub order: String,
    /// Whether there is a boot menu.
    pub menu: Option<Menu>,
    /// How long the user has for the key that opens the menu.
    pub menu_timeout: Option<Timeout>,
    /// The scan code, as INT 16h gives it, of a key that opens the menu beside Esc and F12.
    pub menu_key: Option<u8>,
    /// What is shown while that key is waited for.
    pub menu_message: Option<String>,
    /// How long the report stays when nothing boots.
    pub fail_timeout: Option<Timeout>,
    /// Disks have the sectors that the device has; otherwise all have 512 bytes.
    pub native_sectors: bool,
    /// Log level: warnings and errors by default.
    pub log: Option<log::LevelFilter>,
    /// Where the values in the SMBIOS tables come from.
    pub smbios_mode: smbios::Mode,
    /// On Xen, leave the paravirtual disks alone.
    pub no_pv_disk: bool,
    /// On Xen, start the toolstack's SeaBIOS where it asks for one, rather than the built-in BIOS.
    pub payload_module: bool,
    /// Report each step of the firmware's way to the guest on the debug port.
    pub bench: bool,
}

/// The serial console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialConsole {
    /// There is none.
    Off,
    /// On this port; COM1 is 0.
    Port(u8),
}

/// When the boot menu is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Never.
    Off,
    /// At every start.
    On,
    /// At every start with more than one candidate.
    Choice,
}

/// A time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// It has no end.
    Forever,
    /// Milliseconds.
    Ms(u32),
}

impl Timeout {
    /// Milliseconds as QEMU has them, where a negative number is for ever.
    pub fn from_ms(ms: i64) -> Self {
        u32::try_from(ms.min(u32::MAX.into())).map_or(Self::Forever, Self::Ms)
    }

    fn parse(value: &str) -> Result<Self, SettingError> {
        if value == "forever" {
            return Ok(Self::Forever);
        }
        let ms = value.parse().map_err(|_| SettingError::BadValue)?;
        Ok(Self::from_ms(ms))
    }
}

/// Why a setting was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// There is no setting of this name.
    UnknownName,
    /// The setting has no such value.
    BadValue,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownName => "there is no such setting",
            Self::BadValue => "not a value that this setting takes",
        })
    }
}

impl Settings {
    /// Sets `name`, as it is called on every platform, to `value`.
    ///
    /// # Errors
    /// The name or the value is not known; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        match name {
            "serial-console" => self.serial_console = Some(serial_console(value)?),
            "order" => self.order = value.into(),
            "menu" => {
                self.menu = Some(match value {
                    "choice" => Menu::Choice,
                    _ if switch(value)? => Menu::On,
                    _ => Menu::Off,
                });
            }
            "menu-timeout" => self.menu_timeout = Some(Timeout::parse(value)?),
            "menu-key" => self.menu_key = Some(scan_code(value)?),
            "menu-message" => self.menu_message = Some(value.into()),
            "fail-timeout" => self.fail_timeout = Some(Timeout::parse(value)?),
            "sector-size" => {
                self.native_sectors = match value {
                    "512" => false,
                    "native" => true,
                    _ => return Err(SettingError::BadValue),
                }
            }
            "bench" => self.bench = switch(value)?,
            "log" => self.log = Some(value.parse().map_err(|_| SettingError::BadValue)?),
            "pv-disk" => self.no_pv_disk = !switch(value)?,
            "payload" => {
                self.payload_module = match value {
                    "builtin" => false,
                    "module" => true,
                    _ => return Err(SettingError::BadValue),
                }
            }
            "smbios-mode" => {
                self.smbios_mode = smbios::Mode::from_name(value).ok_or(SettingError::BadValue)?;
            }
            // Texts for the SMBIOS tables, which read them where they are.
            name if name.starts_with("smbios.") => {}
            _ => return Err(SettingError::UnknownName),
        }
        Ok(())
    }

    /// The port of the serial console, where there is to be one; COM1 is 0.
    pub fn console_port(&self) -> Option<u8> {
        match self.serial_console {
            Some(SerialConsole::Port(port)) => Some(port),
            _ => None,
        }
    }
}

/// `yes` or `no`, in the ways that people write it.
fn switch(value: &str) -> Result<bool, SettingError> {
    match value {
        "yes" | "on" | "true" | "1" => Ok(true),
        "no" | "off" | "false" | "0" => Ok(false),
        _ => Err(SettingError::BadValue),
    }
}

fn serial_console(value: &str) -> Result<SerialConsole, SettingError> {
    const NAMES: [&str; 4] = ["com1", "com2", "com3", "com4"];
    let named = NAMES
        .iter()
        .position(|name| value.eq_ignore_ascii_case(name));
    Ok(match named {
        Some(port) => SerialConsole::Port(port as u8),
        None if switch(value)? => SerialConsole::Port(0),
        None => SerialConsole::Off,
    })
}

/// A key by its scan code as INT 16h has it, or by its name where it is one of `f1` to `f12`.
fn scan_code(value: &str) -> Result<u8, SettingError> {
    let function = value.strip_prefix(['f', 'F']).map(str::parse);
    let code = match function {
        Some(Ok(number @ 1..=10)) => 0x3a + number,
        Some(Ok(number @ 11..=12)) => 0x7a + number,
        Some(_) => return Err(SettingError::BadValue),
        None => value.parse().map_err(|_| SettingError::BadValue)?,
    };
    if code == 0 {
        return Err(SettingError::BadValue);
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_values_change_nothing() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("log", "debug"), Ok(()));
        assert_eq!(settings.set("log", "loud"), Err(SettingError::BadValue));
        assert_eq!(
            settings.set("colour", "red"),
            Err(SettingError::UnknownName)
        );
        assert_eq!(settings.log, Some(log::LevelFilter::Debug));
    }

    #[test]
    fn values_as_people_write_them() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("serial-console", "COM3"),
            ("menu", "on"),
            ("menu-timeout", "-1"),
            ("menu-key", "f11"),
            ("fail-timeout", "99999999999"),
        ] {
            assert_eq!(settings.set(name, value), Ok(()), "{name}");
        }
        assert_eq!(settings.console_port(), Some(2));
        assert_eq!(settings.menu, Some(Menu::On));
        assert_eq!(settings.menu_timeout, Some(Timeout::Forever));
        assert_eq!(settings.menu_key, Some(0x85));
        assert_eq!(settings.fail_timeout, Some(Timeout::Ms(u32::MAX)));
        for (name, value) in [
            ("serial-console", "com5"),
            ("menu", "maybe"),
            ("menu-timeout", "3s"),
            ("menu-key", "f13"),
            ("menu-key", "0"),
        ] {
            assert_eq!(settings.set(name, value), Err(SettingError::BadValue));
        }
        settings.set("serial-console", "no").unwrap();
        assert_eq!(settings.console_port(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(name in 0usize..9, value in ".*") {
            const NAMES: [&str; 9] = [
                "pv-disk", "serial-console", "order", "menu", "menu-timeout", "menu-key", "menu-message", "fail-timeout", "log",
            ];
            let mut settings = Settings::default();
            if settings.set(NAMES[name], &value).is_err() {
                prop_assert_eq!(settings, Settings::default());
            }
        }
    }
}
