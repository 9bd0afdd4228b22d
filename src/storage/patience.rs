//! How long a command may take.

/// The deadline of a device's commands: short for one that never answered, so that a dead device does not hold up the boot, and
/// long for one that works, since a host's storage can stall for many seconds and come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    answered: bool,
}

impl Patience {
    /// For a device that never answered. [`Disk`](super::Disk) tries twice, and the boot goes on within 10 s.
    const NEW_US: u64 = 4_500_000;
    /// For one that did. As long as SeaBIOS waits for ATA drives.
    const KNOWN_US: u64 = 32_000_000;

    /// Microseconds that the next command may take.
    pub fn us(self) -> u64 {
        if self.answered {
            Self::KNOWN_US
        } else {
            Self::NEW_US
        }
    }

    /// The device answered.
    pub fn answered(&mut self) {
        self.answered = true;
    }
}
