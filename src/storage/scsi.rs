//! SCSI disks and CD drives, over any transport that carries a command there and its status back.
//!
//! A transport (ATAPI, virtio-scsi, USB, a host adapter) implements [`Transport`] and gives each device it finds to
//! [`ScsiDisk::probe`] or, where it knows already what the device is, to [`ScsiDisk::new`].
//!
//! Sources: SCSI Primary Commands 4 (SPC-4), sections 4.5 and 6; SCSI Block Commands 3 (SBC-3), section 5; Multi-Media Commands 6
//! (MMC-6), section 6.

use super::{BlockDevice, Chs, DiskError, DiskInfo, Dma, EddPath, Kind, Limits, Medium, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::place::Place;
use alloc::string::String;

/// The data of a command, by physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none.
    None,
    /// At most so many bytes come to `buffer`.
    In {
        /// Where to.
        buffer: u64,
        /// How many.
        len: u32,
    },
    /// So many bytes go from `buffer`.
    Out {
        /// Where from.
        buffer: u64,
        /// How many.
        len: u32,
    },
}

/// A command on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command descriptor block, filled up with zeros.
    pub block: [u8; 16],
    /// How much of it counts: 6, 10, 12 or 16. ATAPI sends 12 or 16 of it in any case.
    pub block_len: u8,
    /// What it moves.
    pub data: Data,
    /// It fails where less is moved.
    pub whole: bool,
    /// How long the device may be silent.
    pub deadline_us: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was carried out.
    Good,
    /// The device has something to say. Where the transport brought it along, these are the sense data's first bytes.
    Check(Option<[u8; SENSE_LEN]>),
    /// The device cannot take the command now.
    Busy,
}

/// The way to one device (one logical unit).
pub trait Transport: Send {
    /// Carries out one command and waits for its end.
    ///
    /// # Errors
    /// What the transport itself reports: silence, a fault of the controller, a device that is gone.
    fn run(&mut self, command: &Command) -> Result<Status, DiskError>;

    /// Makes commands work again after `run` has failed.
    ///
    /// # Errors
    /// The device does not come back.
    fn recover(&mut self) -> Result<(), DiskError>;
}

/// Bytes of sense data that are looked at.
pub const SENSE_LEN: usize = 18;
/// Bytes of INQUIRY data that every device has.
const INQUIRY_LEN: usize = 36;
/// Bytes of a mode page with a geometry, and of its header.
pub const GEOMETRY_LEN: usize = 28;
/// Bytes for the answers to commands that move no sectors.
const SCRATCH_LEN: usize = 64;
/// How long a command that moves no sectors may take.
const COMMAND_US: u64 = 4_000_000;
/// How long a device that says that it is getting ready may take, and how often it is asked.
const READY_US: u64 = 5_000_000;
const READY_PAUSE_US: u64 = 20_000;
/// How many things a device may have to say before it takes a command.
const ATTENTIONS: u32 = 8;
/// Most sectors of READ (10) and WRITE (10).
const MOST_SECTORS: u32 = 0xffff;

/// Operation codes.
mod op {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const READ_CAPACITY_16: u8 = 0x10;
}

/// What a device says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Disk or CD drive.
    pub kind: Kind,
    /// Vendor and product.
    pub model: String,
}

/// The command whose answer [`identity`] reads.
pub const INQUIRY: [u8; 6] = [op::INQUIRY, 0, 0, 0, INQUIRY_LEN as u8, 0];
/// The command whose answer [`capacity_10`] reads.
pub const READ_CAPACITY: [u8; 10] = [op::READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The command whose answer [`geometry`] reads: MODE SENSE (6) for page 4, without block descriptors.
pub const MODE_SENSE_GEOMETRY: [u8; 6] = [op::MODE_SENSE_6, 1 << 3, 4, 0, GEOMETRY_LEN as u8, 0];

/// Reads INQUIRY data: `None` for devices that are no disk and no CD drive, or that are not there.
pub fn identity(data: &[u8; INQUIRY_LEN]) -> Option<Identity> {
    // The qualifier, which is 0 for a device that is there, and the type.
    let kind = match data[0] {
        // Direct access, optical memory, and direct access with fewer commands.
        0x00 | 0x07 | 0x0e => Kind::HardDisk,
        0x05 => Kind::CdRom,
        _ => return None,
    };
    let text = |bytes: &[u8]| -> String {
        let printable = |&byte: &u8| match byte {
            0x20..=0x7e => char::from(byte),
            _ => ' ',
        };
        let text: String = bytes.iter().map(printable).collect();
        text.trim().into()
    };
    let mut model = text(&data[8..16]);
    model.push(' ');
    model += &text(&data[16..32]);
    Some(Identity {
        kind,
        model: model.trim().into(),
    })
}

/// Sense data: why a command was not carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sense {
    key: u8,
    /// Additional sense code and its qualifier.
    code: u8,
    qualifier: u8,
}

impl Sense {
    /// Reads sense data in the fixed or the descriptor form.
    fn parse(data: &[u8; SENSE_LEN]) -> Self {
        match data[0] & 0x7f {
            0x70 | 0x71 => Self {
                key: data[2] & 0x0f,
                code: data[12],
                qualifier: data[13],
            },
            0x72 | 0x73 => Self {
                key: data[1] & 0x0f,
                code: data[2],
                qualifier: data[3],
            },
            // What makes no sense is a fault of the hardware.
            _ => Self {
                key: 0x04,
                ..Self::default()
            },
        }
    }

    /// What it means for the command.
    fn verdict(self) -> Verdict {
        const NO_MEDIUM: u8 = 0x3a;
        const NOT_READY: u8 = 0x04;
        const MEDIUM_MAY_HAVE_CHANGED: u8 = 0x28;
        const ADDRESS_OUT_OF_RANGE: u8 = 0x21;
        match (self.key, self.code, self.qualifier) {
            // No sense, recovered error, completed.
            (0x00 | 0x01 | 0x0f, ..) => Verdict::Done,
            (0x02, NO_MEDIUM, _) => Verdict::Failed(DiskError::NoMedium),
            (0x02, NOT_READY, 0x01 | 0x07 | 0x08) => Verdict::Wait,
            (0x02, NOT_READY, 0x02) => Verdict::Start,
            (0x02, ..) => Verdict::Failed(DiskError::NotReady),
            (0x05, ADDRESS_OUT_OF_RANGE, _) => Verdict::Failed(DiskError::SectorNotFound),
            (0x05, ..) => Verdict::Failed(DiskError::BadRequest),
            (0x06, MEDIUM_MAY_HAVE_CHANGED, _) => Verdict::Failed(DiskError::MediumChanged),
            // A reset, new parameters: it was told, and the next command will work.
            (0x06, ..) => Verdict::Again,
            (0x07, ..) => Verdict::Failed(DiskError::WriteProtected),
            // Bad data, blank medium.
            (0x03 | 0x08, ..) => Verdict::Failed(DiskError::Media),
            _ => Verdict::Failed(DiskError::Controller),
        }
    }
}

/// What to do about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was carried out.
    Done,
    /// It was not, and will not be.
    Failed(DiskError),
    /// It is to be sent again at once.
    Again,
    /// The device is getting ready.
    Wait,
    /// The device waits for START STOP UNIT.
    Start,
}

/// Sectors and bytes a sector, from the last sector's number and the size that READ CAPACITY answers.
fn capacity(last: u64, size: u32) -> Result<(u64, u32), DiskError> {
    let sectors = last.checked_add(1).ok_or(DiskError::Controller)?;
    match size {
        512 | 1024 | 2048 | 4096 => Ok((sectors, size)),
        _ => Err(DiskError::Controller),
    }
}

/// Sectors and their size in an answer to READ CAPACITY (10); `None` where there are too many for it, or they make no sense.
pub fn capacity_10([a, b, c, d, size @ ..]: [u8; 8]) -> Option<(u64, u32)> {
    let last = u32::from_be_bytes([a, b, c, d]);
    capacity(last.into(), u32::from_be_bytes(size))
        .ok()
        .filter(|_| last != u32::MAX)
}

/// The geometry in the page for rigid disks (SBC-2, section 6.3.6), for a disk with so many sectors, all of which it covers; none where
/// there is none.
pub fn geometry(answer: [u8; GEOMETRY_LEN], sectors: u64) -> Chs {
    const HEADER_LEN: usize = 4;
    const PAGE: u8 = 4;
    let page = HEADER_LEN + usize::from(answer[3]);
    let Some(&[code, _, a, b, c, heads, ..]) = answer.get(page..) else {
        return Chs::default();
    };
    let cylinders = u32::from_be_bytes([0, a, b, c]);
    let tracks = u64::from(cylinders) * u64::from(heads);
    match sectors.checked_div(tracks) {
        Some(track @ 1..=255) if code & 0x3f == PAGE && track * tracks == sectors => Chs {
            cylinders,
            heads: heads.into(),
            sectors: track as u32,
        },
        _ => Chs::default(),
    }
}

/// Whether the header of that answer says that the medium cannot be written (SBC-3, section 6.5.1).
pub fn is_read_only(answer: &[u8; GEOMETRY_LEN]) -> bool {
    answer[2] & 0x80 != 0
}

fn block<const N: usize>(bytes: [u8; N]) -> ([u8; 16], u8) {
    let mut block = [0; 16];
    block[..N].copy_from_slice(&bytes);
    (block, N as u8)
}

/// The command block that moves sectors: the short form where their numbers fit.
fn transfer_block(writes: bool, lba: u64, count: u32) -> ([u8; 16], u8) {
    match (u32::try_from(lba), u16::try_from(count)) {
        (Ok(lba), Ok(count)) if lba.checked_add(count.into()).is_some() => {
            let code = if writes { op::WRITE_10 } else { op::READ_10 };
            let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), count.to_be_bytes());
            block([code, 0, a, b, c, d, 0, e, f, 0])
        }
        _ => {
            let mut long = [0; 16];
            long[0] = if writes { op::WRITE_16 } else { op::READ_16 };
            long[2..10].copy_from_slice(&lba.to_be_bytes());
            long[10..14].copy_from_slice(&count.to_be_bytes());
            (long, 16)
        }
    }
}

/// What the finder of a device knows of it.
pub struct Found {
    /// Where it is, for people: "SATA port 1".
    pub name: Name,
    /// Its OpenFirmware path.
    pub place: Place,
    /// Its path in the enhanced disk drive tables.
    pub edd: Option<EddPath>,
    /// Most bytes of one command.
    pub most_bytes: u32,
    /// The memory that the transport reaches; `None` where the processor moves the data.
    pub dma: Option<Dma>,
}

/// A disk or a CD drive.
pub struct ScsiDisk<H, T> {
    hw: H,
    transport: T,
    info: DiskInfo,
    /// Memory for answers.
    scratch: u64,
    most_bytes: u32,
    read_only: bool,
}

impl<H: Handle, T: Transport> ScsiDisk<H, T> {
    /// Asks the device what it is, and a disk how large it is. `None` for what is neither disk nor CD drive.
    ///
    /// # Errors
    /// The device answers nothing, or nothing that makes sense.
    pub fn probe(hw: H, transport: T, found: Found) -> Result<Option<Self>, DiskError> {
        let unknown = Identity {
            kind: Kind::HardDisk,
            model: String::new(),
        };
        let Some(mut disk) = Self::new(hw, transport, unknown, found) else {
            log::warn!("a SCSI device is not used: no memory");
            return Ok(None);
        };
        let Some(identity) = identity(&disk.ask(block(INQUIRY))?) else {
            return Ok(None);
        };
        disk.info.name = Name::of_model(identity.model, disk.info.name.clone());
        disk.info.kind = identity.kind;
        if identity.kind == Kind::HardDisk {
            // Media that comes and goes may be absent now; then there are no sectors until there is one.
            disk.medium()?;
        } else {
            disk.set_capacity(0, 2048);
        }
        Ok(Some(disk))
    }

    /// A device of which is known what it is. Its medium is looked at when it is first used. `None` without memory for it.
    pub fn new(hw: H, transport: T, identity: Identity, found: Found) -> Option<Self> {
        let scratch = hw.dma_buffer(SCRATCH_LEN, SCRATCH_LEN)?;
        let mut disk = Self {
            hw,
            transport,
            info: DiskInfo {
                kind: identity.kind,
                name: Name::of_model(identity.model, found.name),
                sector_size: 512,
                sectors: 0,
                geometry: Chs::default(),
                limits: Limits {
                    sectors: 1,
                    dma: found.dma,
                },
                place: found.place.into(),
                edd: found.edd,
            },
            scratch,
            most_bytes: found.most_bytes,
            read_only: false,
        };
        disk.set_capacity(
            0,
            if disk.info.kind == Kind::CdRom {
                2048
            } else {
                512
            },
        );
        Some(disk)
    }

    /// The same device, with a medium of which is known how large it is.
    pub fn with_size(mut self, sectors: u64, sector_size: u32, geometry: Chs) -> Self {
        self.set_capacity(sectors, sector_size);
        self.info.geometry = geometry;
        self
    }

    /// The same device, which says whether it can be written. Of another one that is seen when it refuses.
    pub fn with_protection(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    fn set_capacity(&mut self, sectors: u64, sector_size: u32) {
        self.info.sectors = sectors;
        self.info.sector_size = sector_size;
        self.info.limits.sectors = (self.most_bytes / sector_size).clamp(1, MOST_SECTORS);
    }

    /// Sends a command until the device has carried it out or says why it does not.
    fn command(
        &mut self,
        (block, block_len): ([u8; 16], u8),
        data: Data,
        deadline_us: u64,
    ) -> Result<(), DiskError> {
        self.carry_out(&Command {
            block,
            block_len,
            data,
            whole: false,
            deadline_us,
        })
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), DiskError> {
        let mut waited_us = 0;
        let mut attentions = 0;
        loop {
            let verdict = match self.transport.run(command)? {
                Status::Good => Verdict::Done,
                Status::Busy => Verdict::Wait,
                Status::Check(sense) => self.sense(sense)?.verdict(),
            };
            match verdict {
                Verdict::Done => return Ok(()),
                Verdict::Failed(error) => return Err(error),
                Verdict::Again if attentions < ATTENTIONS => attentions += 1,
                Verdict::Start if attentions < ATTENTIONS => {
                    attentions += 1;
                    self.start();
                }
                Verdict::Wait if waited_us < READY_US => {
                    self.hw.delay_us(READY_PAUSE_US);
                    waited_us += READY_PAUSE_US;
                }
                _ => return Err(DiskError::NotReady),
            }
        }
    }

    /// The sense data, which has to be asked for where the transport did not bring it.
    fn sense(&mut self, brought: Option<[u8; SENSE_LEN]>) -> Result<Sense, DiskError> {
        if let Some(data) = brought {
            return Ok(Sense::parse(&data));
        }
        let (block, block_len) = block([op::REQUEST_SENSE, 0, 0, 0, SENSE_LEN as u8, 0]);
        self.hw.fill(self.scratch, SENSE_LEN as u64, 0);
        let status = self.transport.run(&Command {
            block,
            block_len,
            data: Data::In {
                buffer: self.scratch,
                len: SENSE_LEN as u32,
            },
            whole: false,
            deadline_us: COMMAND_US,
        })?;
        if status != Status::Good {
            return Err(DiskError::Controller);
        }
        let mut data = [0; SENSE_LEN];
        self.hw.read(self.scratch, &mut data);
        Ok(Sense::parse(&data))
    }

    /// Starts a device that waits for it. What comes of it is seen from the command that follows.
    fn start(&mut self) {
        const START: u8 = 1;
        let (block, block_len) = block([op::START_STOP_UNIT, 0, 0, 0, START, 0]);
        let _ = self.transport.run(&Command {
            block,
            block_len,
            data: Data::None,
            whole: false,
            deadline_us: READY_US,
        });
    }

    /// Sends a command whose answer has `N` bytes; what the device leaves out is zero.
    fn ask<const N: usize>(&mut self, block: ([u8; 16], u8)) -> Result<[u8; N], DiskError> {
        const { assert!(N <= SCRATCH_LEN) };
        self.hw.fill(self.scratch, N as u64, 0);
        let data = Data::In {
            buffer: self.scratch,
            len: N as u32,
        };
        self.command(block, data, COMMAND_US)?;
        let mut answer = [0; N];
        self.hw.read(self.scratch, &mut answer);
        Ok(answer)
    }

    fn read_capacity(&mut self) -> Result<(), DiskError> {
        let answer: [u8; 8] = self.ask(block(READ_CAPACITY))?;
        let [a, b, c, d, size @ ..] = answer;
        let (last, size) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(size));
        let (sectors, size) = if last == u32::MAX {
            let mut long = [0; 16];
            long[..2].copy_from_slice(&[op::SERVICE_ACTION_IN_16, op::READ_CAPACITY_16]);
            long[13] = 32;
            let answer: [u8; 32] = self.ask((long, 16))?;
            let mut last = [0; 8];
            last.copy_from_slice(&answer[..8]);
            let size = [answer[8], answer[9], answer[10], answer[11]];
            capacity(u64::from_be_bytes(last), u32::from_be_bytes(size))?
        } else {
            capacity(last.into(), size)?
        };
        self.set_capacity(sectors, size);
        Ok(())
    }
}

impl<H: Handle, T: Transport> BlockDevice for ScsiDisk<H, T> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        if request.writes() && self.read_only {
            return Err(DiskError::WriteProtected);
        }
        let (block, block_len) = transfer_block(request.writes(), request.lba, request.count);
        let len = request.count.saturating_mul(self.info.sector_size);
        let buffer = request.buffer;
        let data = if request.writes() {
            Data::Out { buffer, len }
        } else {
            Data::In { buffer, len }
        };
        self.carry_out(&Command {
            block,
            block_len,
            data,
            whole: true,
            deadline_us: request.deadline_us,
        })
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let block = block([op::SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        match self.command(block, Data::None, super::FLUSH_US) {
            // A device without a cache need not know the command.
            Err(DiskError::BadRequest) => Ok(()),
            result => result,
        }
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.transport.recover()
    }

    fn eject(&mut self) -> Result<(), DiskError> {
        const LOAD_OR_EJECT: u8 = 1 << 1;
        if self.info.kind != Kind::CdRom {
            return Err(DiskError::BadRequest);
        }
        let block = block([op::START_STOP_UNIT, 0, 0, 0, LOAD_OR_EJECT, 0]);
        self.command(block, Data::None, READY_US)?;
        // What comes next into the drive is looked at anew.
        self.info.sectors = 0;
        Ok(())
    }

    fn medium(&mut self) -> Result<Medium, DiskError> {
        let mut medium = Medium::Same;
        for _ in 0..ATTENTIONS {
            let ready = block([op::TEST_UNIT_READY, 0, 0, 0, 0, 0]);
            match self.command(ready, Data::None, COMMAND_US) {
                Ok(()) if medium == Medium::Same && self.info.sectors != 0 => return Ok(medium),
                Ok(()) => {
                    self.read_capacity()?;
                    return Ok(medium);
                }
                Err(DiskError::MediumChanged) => medium = Medium::Changed,
                Err(DiskError::NoMedium) => {
                    self.info.sectors = 0;
                    return Ok(Medium::Absent);
                }
                Err(error) => return Err(error),
            }
        }
        Err(DiskError::NotReady)
    }
}

#[cfg(test)]
mod tests;
