//! Every knob in one place.

use core::fmt;
use firstlight_tables::smbios;

/// What the user may set. docs/settings.md says where each is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Mirror the text console to COM1, and take keys from it.
    pub serial_console: bool,
    /// Log level: warnings and errors by default.
    pub log: Option<log::LevelFilter>,
    /// Where the values in the SMBIOS tables come from.
    pub smbios_mode: smbios::Mode,
    /// On Xen, start the toolstack's SeaBIOS where it asks for one, rather than the built-in BIOS.
    pub payload_module: bool,
    /// Report each step of the firmware's way to the guest on the debug port.
    pub bench: bool,
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
            "serial-console" => self.serial_console = switch(value)?,
            "bench" => self.bench = switch(value)?,
            "log" => self.log = Some(value.parse().map_err(|_| SettingError::BadValue)?),
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
}

/// `yes` or `no`, in the ways that people write it.
fn switch(value: &str) -> Result<bool, SettingError> {
    match value {
        "yes" | "on" | "true" | "1" => Ok(true),
        "no" | "off" | "false" | "0" => Ok(false),
        _ => Err(SettingError::BadValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
