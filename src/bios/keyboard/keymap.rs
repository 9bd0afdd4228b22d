//! From scan codes of set 1 to the words that INT 16h returns, for the US layout.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 16h, keyboard scan code tables.

/// Which of a key's four words is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No shift key.
    Plain,
    /// Shift, or Caps Lock on a letter, or Num Lock on the keypad.
    Shift,
    /// Ctrl.
    Ctrl,
    /// Alt.
    Alt,
}

/// A key's words at the four levels; 0 where the key gives nothing.
type Row = [u16; 4];

/// Whether scan code `code` is a letter, to which Caps Lock applies.
pub fn is_letter(code: u8) -> bool {
    matches!(code, 0x10..=0x19 | 0x1e..=0x26 | 0x2c..=0x32)
}

/// Whether scan code `code` is a keypad digit or its decimal point, to which Num Lock applies.
pub fn is_keypad(code: u8) -> bool {
    matches!(code, 0x47..=0x49 | 0x4b..=0x4d | 0x4f..=0x53)
}

/// The digit on keypad key `code`.
pub fn keypad_digit(code: u8) -> Option<u8> {
    const DIGITS: [u8; 12] = [7, 8, 9, 0xff, 4, 5, 6, 0xff, 1, 2, 3, 0];
    let digit = *DIGITS.get(usize::from(code.checked_sub(0x47)?))?;
    (digit != 0xff).then_some(digit)
}

/// The word of scan code `code`, without its release bit; `extended` after E0h.
pub fn word(code: u8, extended: bool, level: Level) -> Option<u16> {
    let row = if extended {
        extended_row(code)?
    } else {
        row(code)?
    };
    let word = row[level as usize];
    (word != 0).then_some(word)
}

fn row(code: u8) -> Option<Row> {
    let function = |first: [u16; 4], n: u8| first.map(|word| word + (u16::from(n) << 8));
    Some(match code {
        0x10..=0x19 => letter(code, b"qwertyuiop"[usize::from(code - 0x10)]),
        0x1e..=0x26 => letter(code, b"asdfghjkl"[usize::from(code - 0x1e)]),
        0x2c..=0x32 => letter(code, b"zxcvbnm"[usize::from(code - 0x2c)]),
        0x3b..=0x44 => function([0x3b00, 0x5400, 0x5e00, 0x6800], code - 0x3b),
        0x01..=0x0f => TOP_ROW[usize::from(code - 1)],
        _ => OTHERS.iter().find(|(key, _)| *key == code)?.1,
    })
}

fn letter(code: u8, lower: u8) -> Row {
    let scan = u16::from(code) << 8;
    [
        scan | u16::from(lower),
        scan | u16::from(lower.to_ascii_uppercase()),
        scan | u16::from(lower & 0x1f),
        scan,
    ]
}

/// Esc to Tab.
const TOP_ROW: [Row; 15] = [
    [0x011b, 0x011b, 0x011b, 0x0100],
    [0x0231, 0x0221, 0, 0x7800],
    [0x0332, 0x0340, 0x0300, 0x7900],
    [0x0433, 0x0423, 0, 0x7a00],
    [0x0534, 0x0524, 0, 0x7b00],
    [0x0635, 0x0625, 0, 0x7c00],
    [0x0736, 0x075e, 0x071e, 0x7d00],
    [0x0837, 0x0826, 0, 0x7e00],
    [0x0938, 0x092a, 0, 0x7f00],
    [0x0a39, 0x0a28, 0, 0x8000],
    [0x0b30, 0x0b29, 0, 0x8100],
    [0x0c2d, 0x0c5f, 0x0c1f, 0x8200],
    [0x0d3d, 0x0d2b, 0, 0x8300],
    [0x0e08, 0x0e08, 0x0e7f, 0x0e00],
    [0x0f09, 0x0f00, 0x9400, 0xa500],
];

const OTHERS: [(u8, Row); 28] = [
    (0x1a, [0x1a5b, 0x1a7b, 0x1a1b, 0x1a00]),
    (0x1b, [0x1b5d, 0x1b7d, 0x1b1d, 0x1b00]),
    (0x1c, [0x1c0d, 0x1c0d, 0x1c0a, 0x1c00]),
    (0x27, [0x273b, 0x273a, 0, 0x2700]),
    (0x28, [0x2827, 0x2822, 0, 0x2800]),
    (0x29, [0x2960, 0x297e, 0, 0x2900]),
    (0x2b, [0x2b5c, 0x2b7c, 0x2b1c, 0x2b00]),
    (0x33, [0x332c, 0x333c, 0, 0x3300]),
    (0x34, [0x342e, 0x343e, 0, 0x3400]),
    (0x35, [0x352f, 0x353f, 0, 0x3500]),
    (0x37, [0x372a, 0x372a, 0x9600, 0x3700]),
    (0x39, [0x3920, 0x3920, 0x3920, 0x3920]),
    (0x47, [0x4700, 0x4737, 0x7700, 0]),
    (0x48, [0x4800, 0x4838, 0x8d00, 0]),
    (0x49, [0x4900, 0x4939, 0x8400, 0]),
    (0x4a, [0x4a2d, 0x4a2d, 0x8e00, 0x4a00]),
    (0x4b, [0x4b00, 0x4b34, 0x7300, 0]),
    (0x4c, [0x4cf0, 0x4c35, 0x8f00, 0]),
    (0x4d, [0x4d00, 0x4d36, 0x7400, 0]),
    (0x4e, [0x4e2b, 0x4e2b, 0x9000, 0x4e00]),
    (0x4f, [0x4f00, 0x4f31, 0x7500, 0]),
    (0x50, [0x5000, 0x5032, 0x9100, 0]),
    (0x51, [0x5100, 0x5133, 0x7600, 0]),
    (0x52, [0x5200, 0x5230, 0x9200, 0]),
    (0x53, [0x5300, 0x532e, 0x9300, 0]),
    (0x56, [0x565c, 0x567c, 0, 0]),
    (0x57, [0x8500, 0x8700, 0x8900, 0x8b00]),
    (0x58, [0x8600, 0x8800, 0x8a00, 0x8c00]),
];

fn extended_row(code: u8) -> Option<Row> {
    Some(match code {
        0x1c => [0xe00d, 0xe00d, 0xe00a, 0xa600],
        0x35 => [0xe02f, 0xe02f, 0x9500, 0xa400],
        0x47 => [0x47e0, 0x47e0, 0x77e0, 0x9700],
        0x48 => [0x48e0, 0x48e0, 0x8de0, 0x9800],
        0x49 => [0x49e0, 0x49e0, 0x84e0, 0x9900],
        0x4b => [0x4be0, 0x4be0, 0x73e0, 0x9b00],
        0x4d => [0x4de0, 0x4de0, 0x74e0, 0x9d00],
        0x4f => [0x4fe0, 0x4fe0, 0x75e0, 0x9f00],
        0x50 => [0x50e0, 0x50e0, 0x91e0, 0xa000],
        0x51 => [0x51e0, 0x51e0, 0x76e0, 0xa100],
        0x52 => [0x52e0, 0x52e0, 0x92e0, 0xa200],
        0x53 => [0x53e0, 0x53e0, 0x93e0, 0xa300],
        _ => return None,
    })
}

/// The key that types `byte`, as a word: for characters that come from elsewhere than the keyboard. Unknown ones have no
/// scan code.
pub fn word_for_ascii(byte: u8) -> u16 {
    (1..0x3a)
        .filter_map(row)
        .flat_map(|[plain, shift, ctrl, _]| [plain, shift, ctrl])
        .find(|word| word & 0xff == u16::from(byte) && byte != 0)
        .unwrap_or(u16::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_four_levels() {
        assert_eq!(word(0x1e, false, Level::Plain), Some(0x1e61));
        assert_eq!(word(0x1e, false, Level::Shift), Some(0x1e41));
        assert_eq!(word(0x1e, false, Level::Ctrl), Some(0x1e01));
        assert_eq!(word(0x1e, false, Level::Alt), Some(0x1e00));
    }

    #[test]
    fn function_and_cursor_keys() {
        assert_eq!(word(0x44, false, Level::Plain), Some(0x4400));
        assert_eq!(word(0x3b, false, Level::Alt), Some(0x6800));
        assert_eq!(word(0x48, true, Level::Plain), Some(0x48e0));
        assert_eq!(word(0x47, false, Level::Alt), None);
        assert_eq!(keypad_digit(0x52), Some(0));
        assert_eq!(keypad_digit(0x4a), None);
    }

    #[test]
    fn characters_find_their_keys() {
        assert_eq!(word_for_ascii(b'a'), 0x1e61);
        assert_eq!(word_for_ascii(b'\r'), 0x1c0d);
        assert_eq!(word_for_ascii(0x1b), 0x011b);
        assert_eq!(word_for_ascii(3), 0x2e03);
        assert_eq!(word_for_ascii(0xe9), 0xe9);
    }
}
