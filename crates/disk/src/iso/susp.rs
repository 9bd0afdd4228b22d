//! The system use areas of ISO 9660's directory records: Rock Ridge's names, links and modes.

use crate::bytes::Fields;
use crate::error::{Error, Result};
use crate::path::MAX_PATH;
use crate::source::Source;
use alloc::vec::Vec;

/// Continuation areas of one record at most. Each can name a next one, itself too.
const MAX_CONTINUATIONS: usize = 32;
/// Bytes of a continuation area at most: it lies in one sector (SUSP, 5.1).
const MAX_AREA: usize = 2048;
/// Bytes of a name at most.
const MAX_NAME: usize = 255;

/// What Rock Ridge says of an entry.
#[derive(Default)]
pub(super) struct Attributes {
    /// The name.
    pub name: Option<Vec<u8>>,
    /// The Unix mode.
    pub mode: Option<u32>,
    /// The target of a symbolic link.
    pub link: Option<Alias>,
    /// The block of a directory that was moved elsewhere and belongs here.
    pub child: Option<u32>,
    /// This directory was moved here and belongs elsewhere.
    pub moved: bool,
    /// The content is compressed by zisofs.
    pub compressed: bool,
}

/// The target of a link as its parts come in.
#[derive(Default)]
pub(super) struct Alias {
    pub target: Vec<u8>,
    /// The last component goes on in the next one.
    open: bool,
}

impl Alias {
    /// Adds the components of one `SL` entry (Rock Ridge, 4.1.3).
    fn add(&mut self, mut components: &[u8]) -> Result<()> {
        while let [flags, len, rest @ ..] = components {
            let text = rest
                .get(..usize::from(*len))
                .ok_or(Error::Corrupt("a symbolic link of Rock Ridge"))?;
            components = &rest[usize::from(*len)..];
            if !self.open && !self.target.is_empty() && self.target.last() != Some(&b'/') {
                self.target.push(b'/');
            }
            match flags & 0x0e {
                0x02 => self.target.push(b'.'),
                0x04 => self.target.extend_from_slice(b".."),
                // The root; in the middle of a path it stands for nothing between two slashes.
                0x08 if self.target.is_empty() => self.target.push(b'/'),
                0x08 => {}
                _ => self.target.extend_from_slice(text),
            }
            self.open = flags & 1 != 0;
            if self.target.len() > MAX_PATH {
                return Err(Error::TooLong);
            }
        }
        Ok(())
    }
}

/// The bytes to skip by the `SP` entry that opens the area of the root directory's own record.
pub(super) fn announced(area: &[u8]) -> Option<usize> {
    // An area behind CD-ROM XA attributes, which are 14 bytes long, is found too.
    [0, 14]
        .iter()
        .find_map(|&skip| match area.get(skip..skip + 7)? {
            [b'S', b'P', 7, 1, 0xbe, 0xef, skip] => Some(usize::from(*skip)),
            _ => None,
        })
}

/// Reads the area of a record and those in which it goes on.
pub(super) fn attributes(
    source: &Source,
    block: u64,
    area: &[u8],
    skip: usize,
) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    let mut name_goes_on = false;
    let mut area = area.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..MAX_CONTINUATIONS {
        match entries(&area, &mut attributes, &mut name_goes_on)? {
            None => return Ok(attributes),
            Some(next) => {
                if next.len > MAX_AREA {
                    return Err(Error::Corrupt("a continuation area of Rock Ridge"));
                }
                let at = u64::from(next.block) * block + u64::from(next.offset);
                area = source.bytes(at, next.len)?;
            }
        }
    }
    Err(Error::Corrupt("too many continuation areas of Rock Ridge"))
}

/// Where an area goes on.
struct Continuation {
    block: u32,
    offset: u32,
    len: usize,
}

/// Takes the entries of one area. An entry that is cut off ends the area, as padding does.
fn entries(
    mut area: &[u8],
    attributes: &mut Attributes,
    name_goes_on: &mut bool,
) -> Result<Option<Continuation>> {
    let mut next = None;
    while let &[first, second, len, _version, ..] = area {
        let Some(entry) = area.get(..len.into()).filter(|entry| entry.len() >= 4) else {
            break;
        };
        area = &area[entry.len()..];
        let fields = Fields(entry);
        match &[first, second] {
            b"NM" => name(attributes, fields, name_goes_on)?,
            b"PX" => attributes.mode = Some(fields.le32(4)?),
            b"SL" => attributes
                .link
                .get_or_insert_default()
                .add(entry.get(5..).unwrap_or_default())?,
            b"CL" => attributes.child = Some(fields.le32(4)?),
            b"RE" => attributes.moved = true,
            b"ZF" => attributes.compressed = true,
            b"CE" => {
                next = Some(Continuation {
                    block: fields.le32(4)?,
                    offset: fields.le32(12)?,
                    len: fields.le32(20)? as usize,
                });
            }
            b"ST" => break,
            _ => {}
        }
    }
    Ok(next)
}

/// One `NM` entry (Rock Ridge, 4.1.4). `.` and `..` have flags in place of text.
fn name(attributes: &mut Attributes, entry: Fields<'_>, goes_on: &mut bool) -> Result<()> {
    let flags = entry.u8(4)?;
    if flags & 0x06 != 0 {
        return Ok(());
    }
    let text = entry.0.get(5..).unwrap_or_default();
    let name = attributes.name.get_or_insert_default();
    if !core::mem::replace(goes_on, flags & 1 != 0) {
        name.clear();
    }
    if name.len() + text.len() > MAX_NAME {
        return Err(Error::TooLong);
    }
    name.extend_from_slice(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Budget, Limits};
    use alloc::rc::Rc;
    use alloc::vec;

    fn read(disk: Vec<u8>, area: &[u8]) -> Result<Attributes> {
        let limits = Limits {
            bytes: 1 << 20,
            steps: 10_000,
        };
        attributes(
            &Source::new(Rc::new(disk), Budget::new(limits)),
            2048,
            area,
            0,
        )
    }

    /// An entry that says where the area goes on, in both orders of bytes.
    fn continuation(block: u32, offset: u32, len: u32) -> Vec<u8> {
        let mut entry = b"CE\x1c\x01".to_vec();
        for number in [block, offset, len] {
            entry.extend(number.to_le_bytes());
            entry.extend(number.to_be_bytes());
        }
        entry
    }

    fn entry(signature: &[u8; 2], content: &[u8]) -> Vec<u8> {
        let mut entry = signature.to_vec();
        entry.extend([content.len() as u8 + 4, 1]);
        entry.extend(content);
        entry
    }

    #[test]
    fn an_area_that_goes_on_in_itself_is_an_error() {
        let mut disk = vec![0; 4096];
        disk[2048..2048 + 28].copy_from_slice(&continuation(1, 0, 28));
        assert!(matches!(
            read(disk, &continuation(1, 0, 28)),
            Err(Error::Corrupt("too many continuation areas of Rock Ridge"))
        ));
    }

    #[test]
    fn an_area_beyond_the_disk_or_of_any_length_is_an_error() {
        for (block, offset, len) in [(u32::MAX, 0, 28), (0, u32::MAX, 28), (0, 0, u32::MAX)] {
            assert!(read(vec![0; 4096], &continuation(block, offset, len)).is_err());
        }
    }

    #[test]
    fn a_name_in_parts_is_put_together_within_its_bound() {
        let area = [entry(b"NM", b"\x01one, "), entry(b"NM", b"\x00two")].concat();
        let name = read(Vec::new(), &area).expect("attributes").name;
        assert_eq!(name.as_deref(), Some(&b"one, two"[..]));
        let part = entry(b"NM", &[&[1][..], &[b'x'; 200]].concat());
        assert!(matches!(
            read(Vec::new(), &part.repeat(2)),
            Err(Error::TooLong)
        ));
    }

    #[test]
    fn a_link_in_parts_is_put_together_within_its_bound() {
        let area = [
            entry(b"SL", b"\x01\x08\x00\x00\x04boot\x01\x02vm"),
            entry(b"SL", b"\x00\x00\x05linuz\x04\x00\x02\x00"),
        ]
        .concat();
        let link = read(Vec::new(), &area).expect("attributes").link;
        let target = link.map(|link| link.target);
        assert_eq!(target.as_deref(), Some(&b"/boot/vmlinuz/../."[..]));
        // A component longer than its entry.
        assert!(read(Vec::new(), &entry(b"SL", b"\x00\x00\xffx")).is_err());
        let part = entry(b"SL", &[&[0, 0, 240][..], &[b'x'; 240]].concat());
        assert!(matches!(
            read(Vec::new(), &part.repeat(20)),
            Err(Error::TooLong)
        ));
    }

    #[test]
    fn entries_that_are_cut_off_end_the_area() {
        for area in [&b"NM"[..], b"NM\xff\x01\x00x", b"NM\x03\x01", b"NM\x00\x01"] {
            assert!(read(Vec::new(), area).is_ok_and(|found| found.name.is_none()));
        }
        assert!(read(Vec::new(), &entry(b"PX", b"\x01")).is_err());
    }
}
