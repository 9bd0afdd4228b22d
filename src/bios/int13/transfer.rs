//! Moving sectors, by cylinder, head and sector or by block, which all kinds of drives do in the same way.

use super::edd::{self, Packet};
use super::{Answer, BAD_COMMAND, BOUNDARY, Reply, status};
use crate::arch::{Frame, Hardware, linear};
use crate::bios::buffer::Buffers;
use crate::storage::{Chs, Disk};

/// Most sectors of a transfer by cylinder, head and sector.
const MOST_SECTORS: u8 = 128;

/// What to do with the sectors of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// From the drive to memory.
    Read,
    /// From memory to the drive.
    Write,
    /// Only see whether they exist.
    Verify,
    /// See whether they can be read.
    Test,
}

impl Action {
    /// Whether the caller has a buffer for it.
    fn moves(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

fn act<H: Hardware>(
    hw: &H,
    disk: &mut Disk,
    action: Action,
    lba: u64,
    count: u32,
    buffer: u64,
) -> Result<(), u8> {
    match action {
        Action::Read => disk.read(hw, lba, count, buffer),
        Action::Write => disk.write(hw, lba, count, buffer),
        Action::Verify => disk.verify(lba, count),
        Action::Test => disk.test(hw, lba, count),
    }
    .map_err(status)
}

/// Functions 02h to 05h of a drive with this `logical` geometry: AL sectors from cylinder CH and CL 7:6, head DH, sector CL 5:0, buffer at ES:BX.
pub fn by_cylinder<H: Hardware>(
    hw: &H,
    disk: &mut Disk,
    logical: Chs,
    buffers: &Buffers,
    frame: &mut Frame,
    action: Action,
) -> Answer {
    let Chs {
        cylinders,
        heads,
        sectors,
    } = logical;
    let count = frame.al();
    let cylinder = u32::from(frame.ch()) | u32::from(frame.cl() & 0xc0) << 2;
    let head = u32::from(frame.dh());
    let sector = u32::from(frame.cl() & 0x3f);
    if count == 0 || count > MOST_SECTORS || cylinder >= cylinders || head >= heads {
        return Err(BAD_COMMAND);
    }
    if sector == 0 || sector > sectors {
        return Err(BAD_COMMAND);
    }
    let lba = (cylinder * heads + head) * sectors + sector - 1;
    let len = u64::from(count) * u64::from(disk.info().sector_size);
    let result = if action.moves() {
        buffers.real_mode(frame.es, frame.bx(), len).ok_or(BOUNDARY)
    } else {
        Ok(0)
    }
    .and_then(|buffer| act(hw, disk, action, lba.into(), count.into(), buffer));
    if result.is_err() {
        frame.set_al(0);
    }
    result.map(|()| Reply::Done)
}

/// Functions 42h, 43h, 44h and 47h: the packet at DS:SI says everything.
pub fn by_block<H: Hardware>(
    hw: &H,
    disk: &mut Disk,
    buffers: &Buffers,
    frame: &mut Frame,
    action: Action,
) -> Answer {
    let addr = linear(frame.ds, frame.si());
    let packet = Packet::read(hw, addr);
    disk.see_medium().map_err(status)?;
    if packet.lba >= disk.info().sectors {
        return Err(BAD_COMMAND);
    }
    if packet.count == 0 {
        return Ok(Reply::Done);
    }
    let len = u64::from(packet.count) * u64::from(disk.info().sector_size);
    let buffer = match (action, packet.flat_buffer()) {
        _ if !action.moves() => Ok(0),
        (_, Some(flat)) => buffers.ram(flat, len).ok_or(BOUNDARY),
        (_, None) => buffers
            .real_mode(packet.segment, packet.offset, len)
            .ok_or(BOUNDARY),
    };
    let result =
        buffer.and_then(|buffer| act(hw, disk, action, packet.lba, packet.count.into(), buffer));
    if result.is_err() {
        hw.write16(addr + edd::COUNT_OFFSET, 0);
    }
    result.map(|()| Reply::Done)
}
