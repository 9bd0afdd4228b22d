//! LVM2: linear logical volumes, from the text in which LVM describes its volume groups.
//!
//! Source: lvm2, man page lvmsystemid(7) and vgcfgbackup(8) for the text; the places on the disk are those of its public headers
//! lib/format_text/layout.h and lib/label/label.h.

mod text;

use crate::bytes::Fields;
use crate::error::{Error, Result};
use crate::source::{ReadAt, Source};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use text::Section;

/// The unit of all places in LVM's structures.
const SECTOR: u64 = 512;
/// The label is in one of the first sectors.
const LABEL_SECTORS: u64 = 4;
const LABEL: &[u8] = b"LABELONE";
const LABEL_TYPE: &[u8] = b"LVM2 001";
const METADATA: &[u8] = b" LVM2 x[5A%r0N*>";
/// Metadata areas of a physical volume at most. LVM makes two.
const MAX_AREAS: usize = 4;
/// Bytes of a metadata area's header, behind which the text wraps.
const AREA_HEADER: u64 = 512;
/// Bytes of text at most: LVM's areas have one MiB.
const MAX_TEXT: u64 = 1 << 20;
/// Volume groups on one disk at most.
const MAX_GROUPS: usize = 8;
/// Segments of one logical volume at most.
const MAX_SEGMENTS: usize = 4096;
/// The value that LVM's checksums begin with.
const CRC_START: u32 = 0xf597_a6cf;

/// A physical volume: where a volume group lies.
pub struct Physical {
    source: Source,
    /// 32 characters, without dashes.
    uuid: String,
    text: Vec<u8>,
}

/// A logical volume that can be read.
pub struct Logical {
    /// The volume group's name.
    pub group: String,
    /// The name.
    pub name: String,
    /// The UUIDs of group and volume, with dashes. GRUB names the volume `lvmid/GROUP/VOLUME`.
    pub uuids: (String, String),
    /// Its bytes, or why it cannot be read.
    pub source: Result<Source>,
}

/// Reads the label of a physical volume and the text of its volume group.
///
/// # Errors
/// [`Error::NotFound`] if there is no label, or its structures cannot be read.
pub fn physical(source: &Source) -> Result<Physical> {
    for sector in 0..LABEL_SECTORS {
        let label: [u8; SECTOR as usize] = match source.array(sector * SECTOR) {
            Ok(label) => label,
            Err(Error::OutOfRange) => break,
            Err(error) => return Err(error),
        };
        if label.starts_with(LABEL) && label[24..32] == *LABEL_TYPE {
            return from_label(source, &label);
        }
    }
    Err(Error::NotFound)
}

fn from_label(source: &Source, label: &[u8]) -> Result<Physical> {
    let fields = Fields(label);
    let header = fields.le32(20)? as usize;
    let uuid = fields.slice(header, 32)?;
    // Behind the size are two lists of places and sizes, each with zeros at its end: data areas, then metadata areas.
    let mut at = header + 40;
    while fields.le64(at)? != 0 {
        at += 16;
    }
    at += 16;
    let mut reason = Error::NotFound;
    for _ in 0..MAX_AREAS {
        let (start, size) = (fields.le64(at)?, fields.le64(at + 8)?);
        if start == 0 {
            break;
        }
        match text_of(source, start, size) {
            Ok(text) => {
                return Ok(Physical {
                    source: source.clone(),
                    uuid: String::from_utf8_lossy(uuid).into_owned(),
                    text,
                });
            }
            Err(error @ (Error::Io | Error::Memory | Error::Budget)) => return Err(error),
            Err(error) => reason = error,
        }
        at += 16;
    }
    match reason {
        // A physical volume may leave the text to others of its group.
        Error::NotFound => Ok(Physical {
            source: source.clone(),
            uuid: String::from_utf8_lossy(uuid).into_owned(),
            text: Vec::new(),
        }),
        error => Err(error),
    }
}

/// The text in the metadata area of `size` bytes at `start`: a ring behind the header.
fn text_of(source: &Source, start: u64, size: u64) -> Result<Vec<u8>> {
    let header: [u8; AREA_HEADER as usize] = source.array(start)?;
    let fields = Fields(&header);
    if fields.slice(4, 16)? != METADATA {
        return Err(Error::Corrupt("LVM's metadata area"));
    }
    let (offset, len, sum) = (fields.le64(40)?, fields.le64(48)?, fields.le32(56)?);
    if offset == 0 || len == 0 {
        return Err(Error::NotFound);
    }
    if !(AREA_HEADER..size).contains(&offset) || len > size - AREA_HEADER || len > MAX_TEXT {
        return Err(Error::Corrupt("the place of LVM's text"));
    }
    let place = start.checked_add(offset).ok_or(Error::OutOfRange)?;
    let first = len.min(size - offset);
    let mut text = source.bytes(place, first as usize)?;
    text.extend(source.bytes(start + AREA_HEADER, (len - first) as usize)?);
    let mut hasher = crc32fast::Hasher::new_with_initial(!CRC_START);
    hasher.update(&text);
    if !hasher.finalize() != sum {
        return Err(Error::Corrupt("the checksum of LVM's text"));
    }
    Ok(text)
}

/// The logical volumes of all groups that lie on these physical volumes.
///
/// # Errors
/// [`Error::Memory`] and [`Error::Budget`]. A group whose text cannot be read has no volumes.
pub fn logical(physicals: &[Physical]) -> Result<Vec<Logical>> {
    let mut newest: Vec<(String, u64, Section)> = Vec::new();
    for physical in physicals {
        let root = match text::parse(&physical.text) {
            Ok(root) => root,
            Err(error @ Error::Memory) => return Err(error),
            Err(_) => continue,
        };
        // The group is the only section of the text.
        let Some((_, group)) = root.sections().next() else {
            continue;
        };
        let (Some(id), Some(number)) = (group.text("id"), group.number("seqno")) else {
            continue;
        };
        let entry = (String::from(id), number, root);
        match newest.iter().position(|(other, ..)| *other == entry.0) {
            Some(index) if newest[index].1 >= number => {}
            Some(index) => newest[index] = entry,
            None if newest.len() == MAX_GROUPS => {}
            None => newest.push(entry),
        }
    }
    let mut volumes = Vec::new();
    for (id, _, root) in &newest {
        for (group, section) in root.sections().take(1) {
            let Some(list) = section.section("logical_volumes") else {
                continue;
            };
            for (name, volume) in list.sections().filter(|(_, volume)| is_visible(volume)) {
                volumes.push(Logical {
                    group: group.into(),
                    name: name.into(),
                    uuids: (id.clone(), volume.text("id").unwrap_or_default().into()),
                    source: map(physicals, section, volume),
                });
            }
        }
    }
    Ok(volumes)
}

fn is_visible(volume: &Section) -> bool {
    volume.list("status").any(|status| status == "VISIBLE")
}

/// Puts a volume's segments together.
fn map(physicals: &[Physical], group: &Section, volume: &Section) -> Result<Source> {
    const WRONG: Error = Error::Corrupt("LVM's description of a volume");
    let extent = group.number("extent_size").ok_or(WRONG)?;
    let extent = extent.checked_mul(SECTOR).ok_or(WRONG)?;
    let mut segments: Vec<(u64, u64, &Section)> = Vec::new();
    for (_, segment) in volume.sections() {
        if segments.len() == MAX_SEGMENTS {
            return Err(WRONG);
        }
        let start = segment.number("start_extent").ok_or(WRONG)?;
        let count = segment.number("extent_count").ok_or(WRONG)?;
        segments.push((start, count, segment));
    }
    segments.sort_by_key(|&(start, ..)| start);
    let mut linear = Linear::default();
    for (start, count, segment) in segments {
        if start.checked_mul(extent) != Some(linear.size) {
            return Err(WRONG);
        }
        if segment.text("type") != Some("striped") || segment.number("stripe_count") != Some(1) {
            return Err(Error::Unsupported("a volume of LVM that is not linear"));
        }
        let len = count.checked_mul(extent).ok_or(WRONG)?;
        let (name, first) = segment.stripe().ok_or(WRONG)?;
        let described = group
            .section("physical_volumes")
            .and_then(|list| list.section(name))
            .ok_or(WRONG)?;
        let uuid: String = described
            .text("id")
            .unwrap_or_default()
            .chars()
            .filter(|&letter| letter != '-')
            .collect();
        let physical = physicals
            .iter()
            .find(|physical| physical.uuid == uuid)
            .ok_or(Error::Unsupported(
                "a volume of LVM on more disks than this",
            ))?;
        let data = described.number("pe_start").ok_or(WRONG)?;
        let place = first
            .checked_mul(extent)
            .and_then(|at| at.checked_add(data.checked_mul(SECTOR)?))
            .ok_or(WRONG)?;
        linear.push(len, physical.source.part(place, len)?)?;
    }
    let budget = match linear.parts.first() {
        Some((_, source)) => source.budget().clone(),
        None => return Err(WRONG),
    };
    Ok(Source::new(Rc::new(linear), budget))
}

/// Parts of disks, one behind the other.
#[derive(Default)]
struct Linear {
    size: u64,
    /// Where each part ends, and its bytes.
    parts: Vec<(u64, Source)>,
}

impl Linear {
    fn push(&mut self, len: u64, source: Source) -> Result<()> {
        self.size = self
            .size
            .checked_add(len)
            .filter(|_| source.size() == len)
            .ok_or(Error::OutOfRange)?;
        self.parts.push((self.size, source));
        Ok(())
    }
}

impl ReadAt for Linear {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.checked_add(done as u64).ok_or(Error::OutOfRange)?;
            let index = self.parts.partition_point(|&(end, _)| end <= at);
            let (end, source) = self.parts.get(index).ok_or(Error::OutOfRange)?;
            let start = end - source.size();
            let count = (end - at).min((buffer.len() - done) as u64) as usize;
            source.read_free(at - start, &mut buffer[done..done + count])?;
            done += count;
        }
        Ok(())
    }

    fn place(&self, offset: u64, len: u64) -> Option<u64> {
        let index = self.parts.partition_point(|&(end, _)| end <= offset);
        let (end, source) = self.parts.get(index)?;
        // What goes on in another part is refused there, as what ends beyond its own.
        source.place(offset - (end - source.size()), len)
    }
}
