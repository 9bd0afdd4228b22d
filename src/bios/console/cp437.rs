//! Code page 437, the characters of a PC's text screen (Unicode Consortium, VENDORS/MICSFT/PC/CP437.TXT).

/// From 80h up.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
/// What the video card draws for 01h to 1Fh.
const LOWER: &str = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

/// The character at `byte`.
pub fn glyph(byte: u8) -> char {
    let found = match byte {
        0 => Some(' '),
        1..=0x1f => LOWER.chars().nth(usize::from(byte) - 1),
        0x20..=0x7e => Some(char::from(byte)),
        0x7f => Some('⌂'),
        0x80..=0xff => UPPER.chars().nth(usize::from(byte) - 0x80),
    };
    found.unwrap_or('?')
}

/// The byte of a character, `?` for those that the code page does not have.
pub fn byte(character: char) -> u8 {
    let at = |page: &str| page.chars().position(|known| known == character);
    match character {
        ' '..='~' => character as u8,
        _ => match (at(UPPER), at(LOWER)) {
            (Some(index), _) => 0x80 + index as u8,
            (_, Some(index)) => 1 + index as u8,
            _ => b'?',
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole() {
        assert_eq!(UPPER.chars().count(), 128);
        assert_eq!(LOWER.chars().count(), 31);
        assert_eq!(glyph(0xc9), '╔');
        assert_eq!(glyph(0xe1), 'ß');
        for code in 1..=255 {
            let back = if code == 0x7f { b'?' } else { code };
            assert_eq!(byte(glyph(code)), back);
        }
        assert_eq!(byte('€'), b'?');
    }
}
