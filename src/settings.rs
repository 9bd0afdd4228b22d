//! Every knob in one place.

/// What the user may set. docs/settings.md says where each is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Mirror the text console to COM1, and take keys from it.
    pub serial_console: bool,
    /// Log level: warnings and errors by default.
    pub log: Option<log::LevelFilter>,
}
