//! One SMBIOS structure: a formatted area, then its strings, each ending in NUL, then one more NUL (DSP0134, section 6.1).

use alloc::vec::Vec;

/// The end-of-table structure.
pub const END_OF_TABLE: u8 = 127;
/// OEM strings.
pub const OEM_STRINGS: u8 = 11;

/// Type, length and handle: what every structure begins with.
pub const HEADER_SIZE: usize = 4;

/// The most strings a structure can number.
const MAX_STRINGS: u8 = 255;

/// Why bytes are not a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructureError {
    /// Fewer bytes than the header, or a length field below its size.
    NoHeader,
    /// The formatted area is longer than the bytes given.
    Truncated,
    /// The strings do not end with two NULs.
    Unterminated,
}

/// A complete structure in its stored form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure<'a> {
    bytes: &'a [u8],
}

impl<'a> Structure<'a> {
    /// Takes the first structure of `bytes`; also gives what follows it.
    ///
    /// # Errors
    /// [`StructureError`] where `bytes` do not begin with a complete structure.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), StructureError> {
        let header = bytes.get(..HEADER_SIZE).ok_or(StructureError::NoHeader)?;
        let formatted = usize::from(header[1]);
        if formatted < HEADER_SIZE {
            return Err(StructureError::NoHeader);
        }
        let strings = bytes.get(formatted..).ok_or(StructureError::Truncated)?;
        let end = strings
            .windows(2)
            .position(|pair| pair == [0, 0])
            .ok_or(StructureError::Unterminated)?;
        let (bytes, rest) = bytes.split_at(formatted + end + 2);
        Ok((Self { bytes }, rest))
    }

    /// All bytes, with both NULs at the end.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The structure's type.
    pub fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// The structure's handle.
    pub fn handle(&self) -> u16 {
        u16::from_le_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The formatted area, header included.
    pub fn formatted(&self) -> &'a [u8] {
        &self.bytes[..usize::from(self.bytes[1])]
    }

    /// The strings, in the order of their numbers (the first is 1).
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let area = &self.bytes[usize::from(self.bytes[1])..];
        area.split(|byte| *byte == 0)
            .take_while(|string| !string.is_empty())
    }
}

/// The structures of a table, up to the end-of-table structure or the first bytes that are none.
pub fn structures(mut table: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    core::iter::from_fn(move || {
        let (structure, rest) = Structure::parse(table).ok()?;
        table = rest;
        (structure.kind() != END_OF_TABLE).then_some(structure)
    })
}

/// Makes one structure. Nothing of it is inlined: the ROM is small, and a table is made once.
pub struct Builder {
    bytes: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Builder {
    /// An empty structure of type `kind`.
    pub fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&[kind, 0, low, high]);
        Self {
            bytes,
            strings: Vec::new(),
            count: 0,
        }
    }

    /// Appends bytes to the formatted area.
    #[inline(never)]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a byte.
    #[inline(never)]
    pub fn byte(self, value: u8) -> Self {
        self.raw(&[value])
    }

    /// Appends 16 bits.
    #[inline(never)]
    pub fn word(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends 32 bits.
    #[inline(never)]
    pub fn dword(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends 64 bits.
    #[inline(never)]
    pub fn qword(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// Adds a string and appends its number; an empty one is number 0, which readers show as not given.
    #[inline(never)]
    pub fn string(mut self, text: &[u8]) -> Self {
        let number = self.add_string(text);
        self.byte(number)
    }

    /// Adds a string that no field of the formatted area names, as type 11 has them, and gives its number: 0 where it
    /// is empty or the structure has no number left. A NUL ends the text, since it would end the string anyway.
    #[inline(never)]
    pub fn add_string(&mut self, text: &[u8]) -> u8 {
        let text = text.split(|byte| *byte == 0).next().unwrap_or(&[]);
        if text.is_empty() || self.count == MAX_STRINGS {
            return 0;
        }
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        self.count += 1;
        self.count
    }

    /// The number of strings so far.
    pub fn string_count(&self) -> u8 {
        self.count
    }

    /// The stored form. A formatted area that is too long for its length field is cut to 255 bytes.
    #[inline(never)]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(255);
        self.bytes[1] = self.bytes.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.bytes.append(&mut self.strings);
        self.bytes.push(0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn builds_and_parses() {
        let bytes = Builder::new(1, 0x100)
            .string(b"one")
            .string(b"")
            .string("zw\u{f6}i".as_bytes())
            .word(7)
            .finish();
        assert_eq!(
            bytes,
            b"\x01\x09\x00\x01\x01\x00\x02\x07\x00one\0zw\xc3\xb6i\0\0"
        );
        let (structure, rest) = Structure::parse(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!((structure.kind(), structure.handle()), (1, 0x100));
        assert_eq!(structure.strings().count(), 2);
        let empty = Builder::new(END_OF_TABLE, 0x7f00).finish();
        assert_eq!(empty, [127, 4, 0, 0x7f, 0, 0]);
    }

    #[test]
    fn refuses_what_is_not_complete() {
        let parse = |bytes| Structure::parse(bytes).map(|_| ()).unwrap_err();
        assert_eq!(parse(b"\x01\x04\x00"), StructureError::NoHeader);
        assert_eq!(parse(b"\x01\x03\x00\x00\x00\x00"), StructureError::NoHeader);
        assert_eq!(
            parse(b"\x01\x08\x00\x00\x00\x00"),
            StructureError::Truncated
        );
        assert_eq!(parse(b"\x01\x04\x00\x00ab\0"), StructureError::Unterminated);
    }

    proptest! {
        #[test]
        fn parses_any_bytes(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..600)) {
            for structure in structures(&bytes) {
                let _ = structure.strings().count();
                prop_assert!(structure.formatted().len() >= HEADER_SIZE);
            }
        }

        #[test]
        fn any_strings_are_safe(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..300)) {
            let mut builder = Builder::new(OEM_STRINGS, 1);
            for text in &texts {
                builder.add_string(text);
            }
            let count = usize::from(builder.string_count());
            let bytes = builder.finish();
            let (structure, rest) = Structure::parse(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(structure.strings().count(), count);
        }
    }
}
