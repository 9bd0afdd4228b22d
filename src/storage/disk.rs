//! What every disk needs and no driver has to do: bounds, commands within the device's limits, memory that it cannot reach,
//! retries, lasting writes, a view in sectors of 512 bytes, and what the log says.

use super::{BlockDevice, DiskError, DiskInfo, Dma, Medium, Op, Request};
use crate::arch::{DmaMemory, PhysMem, room_for};
use alloc::boxed::Box;
use core::ops::Range;

/// Times that a command is tried.
const ATTEMPTS: u32 = 3;
/// How long a device that has never moved a sector may be silent. Two such silences and a recovery take less than 10 s, after
/// which the next one is booted.
const FIRST_US: u64 = 4_000_000;
/// How long a device that works may be silent: storage behind a hypervisor may be far away or rationed.
const WORKING_US: u64 = 32_000_000;
/// Addresses where devices and shadow memory are, which no device is sent to.
const NO_DMA: Range<u64> = 0xa_0000..0x10_0000;
/// The sectors that boot programs take for granted.
const VIEW_SECTOR: u32 = 512;

/// Memory that all devices reach, for requests to and from memory that one does not. Requests come one after the other, so all
/// disks share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounce {
    start: u64,
    len: u64,
}

impl Bounce {
    /// None, for a device that reaches all memory.
    pub const NONE: Self = Self { start: 0, len: 0 };
    const LEN: usize = 32 * 1024;
    /// Where memory is little. No sector is larger.
    const SHORT: usize = 4096;

    /// Takes the memory. Without any left, requests that need it fail.
    pub fn new(hw: &impl DmaMemory) -> Self {
        let len = match room_for(2 * Self::LEN) {
            true => Self::LEN,
            false => Self::SHORT,
        };
        let start = hw.dma_buffer(len, 4096);
        if start.is_none() {
            log::warn!("no memory for transfers to where a device does not reach");
        }
        Self {
            start: start.unwrap_or(0),
            len: start.map_or(0, |_| len as u64),
        }
    }
}

/// Sectors of `size` bytes from `buffer` on that `dma` reaches in one transfer.
fn reached(dma: Dma, buffer: u64, size: u64) -> u64 {
    if buffer & (dma.align - 1) != 0 || NO_DMA.contains(&buffer) {
        return 0;
    }
    let mut end = if buffer < NO_DMA.start {
        dma.end.min(NO_DMA.start)
    } else {
        dma.end
    };
    if dma.boundary != 0 {
        end = end.min((buffer | (dma.boundary - 1)).saturating_add(1));
    }
    end.saturating_sub(buffer) / size
}

/// The next command of a request that still has `count` sectors to go to or from `buffer`: its sectors, and whether it uses the
/// bounce buffer, as it has to where `buffer` is not `plain` memory to devices. No sectors where there is no way.
fn next_part(info: &DiskInfo, bounce: Bounce, count: u32, buffer: u64, plain: bool) -> (u32, bool) {
    let size = u64::from(info.sector_size);
    let count = count.min(info.limits.sectors);
    let least = |sectors: u64| u64::from(count).min(sectors) as u32;
    let Some(dma) = info.limits.dma else {
        return (count, false);
    };
    let direct = if plain || bounce == Bounce::NONE {
        reached(dma, buffer, size)
    } else {
        0
    };
    match least(direct) {
        0 => {
            let room = reached(dma, bounce.start, size).min(bounce.len / size);
            (least(room), true)
        }
        direct => (direct, false),
    }
}

/// A device as the rest of the firmware uses it.
pub struct Disk {
    device: Box<dyn BlockDevice>,
    bounce: Bounce,
    /// The device did not recover from its last failure.
    failed: bool,
    /// It has moved sectors, and has not been silent since.
    works: bool,
    /// Callers see sectors of 512 bytes.
    small_sectors: bool,
    /// Its properties as callers see them, where these are not the device's own.
    view: Option<DiskInfo>,
}

impl Disk {
    /// Takes a device over.
    pub fn new(device: Box<dyn BlockDevice>, bounce: Bounce) -> Self {
        Self {
            device,
            bounce,
            failed: false,
            works: false,
            small_sectors: false,
            view: None,
        }
    }

    /// The same disk in sectors of 512 bytes, whatever the device has. What callers write of a larger sector is put into what the
    /// device has there.
    pub fn in_sectors_of_512(mut self) -> Self {
        self.small_sectors = true;
        self.update_view();
        self
    }

    fn update_view(&mut self) {
        let own = self.device.info();
        let ratio = own.sector_size / VIEW_SECTOR;
        let differs = self.small_sectors && ratio > 1;
        self.view = differs.then(|| DiskInfo {
            sector_size: own.sector_size / ratio,
            sectors: own.sectors.saturating_mul(ratio.into()),
            ..own.clone()
        });
    }

    /// The device's properties, as callers see it.
    pub fn info(&self) -> &DiskInfo {
        self.view.as_ref().unwrap_or(self.device.info())
    }

    /// How many of the caller's sectors one of the device's is.
    fn ratio(&self) -> u32 {
        self.device.info().sector_size / self.info().sector_size
    }

    /// Sees whether `count` sectors from `lba` exist on the medium that is known.
    ///
    /// # Errors
    /// [`DiskError::BadRequest`] where they do not.
    pub fn verify(&self, lba: u64, count: u32) -> Result<(), DiskError> {
        match lba.checked_add(count.into()) {
            Some(end) if end <= self.info().sectors => Ok(()),
            _ => Err(DiskError::BadRequest),
        }
    }

    /// Reads `count` sectors from `lba` to physical address `buffer`.
    ///
    /// # Errors
    /// What the device reports, after retries.
    pub fn read(
        &mut self,
        hw: &impl PhysMem,
        lba: u64,
        count: u32,
        buffer: u64,
    ) -> Result<(), DiskError> {
        self.transfer(hw, Op::Read, lba, count, buffer)
    }

    /// Writes `count` sectors at `lba` from physical address `buffer`, lastingly: a BIOS caller has no way to ask for it.
    ///
    /// # Errors
    /// What the device reports, after retries.
    pub fn write(
        &mut self,
        hw: &impl PhysMem,
        lba: u64,
        count: u32,
        buffer: u64,
    ) -> Result<(), DiskError> {
        self.transfer(hw, Op::Write, lba, count, buffer)?;
        self.command(|device, _| device.flush())
            .inspect_err(|error| log::warn!("{}: flush: {error:?}", self.info().name))
    }

    /// Reads `count` sectors from `lba` to see whether they can be read.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn test(&mut self, hw: &impl PhysMem, lba: u64, count: u32) -> Result<(), DiskError> {
        self.by_bounce(lba, count, |disk, lba, part, at| {
            disk.read(hw, lba, part, at)
        })
    }

    /// Writes `byte` all over `count` sectors from `lba` on.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn fill(
        &mut self,
        hw: &impl PhysMem,
        lba: u64,
        count: u32,
        byte: u8,
    ) -> Result<(), DiskError> {
        hw.fill(self.bounce.start, self.bounce.len, byte);
        self.by_bounce(lba, count, |disk, lba, part, at| {
            disk.write(hw, lba, part, at)
        })
    }

    /// Has `act` done with as many sectors at a time as fit the bounce buffer, which is its memory.
    fn by_bounce(
        &mut self,
        mut lba: u64,
        mut left: u32,
        mut act: impl FnMut(&mut Self, u64, u32, u64) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.see_medium()?;
        self.verify(lba, left)?;
        let most = (self.bounce.len / u64::from(self.info().sector_size)) as u32;
        if most == 0 {
            return Err(DiskError::BadRequest);
        }
        while left > 0 {
            let part = left.min(most);
            act(self, lba, part, self.bounce.start)?;
            lba += u64::from(part);
            left -= part;
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        hw: &impl PhysMem,
        op: Op,
        mut lba: u64,
        mut left: u32,
        mut buffer: u64,
    ) -> Result<(), DiskError> {
        self.see_medium()?;
        self.verify(lba, left)?;
        while left > 0 {
            let count = self
                .part(hw, op, lba, left, buffer)
                .inspect_err(|&error| self.warn(lba, error))?;
            lba += u64::from(count);
            left -= count;
            buffer += u64::from(count) * u64::from(self.info().sector_size);
        }
        Ok(())
    }

    fn warn(&self, lba: u64, error: DiskError) {
        // Users change media, and what guests look for may not be there.
        if !matches!(error, DiskError::MediumChanged | DiskError::NoMedium) {
            log::warn!("{}: sector {lba}: {error:?}", self.info().name);
        }
    }

    /// Moves as many sectors as one command can, and says how many.
    fn part(
        &mut self,
        hw: &impl PhysMem,
        op: Op,
        lba: u64,
        left: u32,
        buffer: u64,
    ) -> Result<u32, DiskError> {
        let ratio = self.ratio();
        if ratio == 1 {
            return self.own_sectors(hw, op, lba, left, buffer);
        }
        let own = lba / u64::from(ratio);
        let before = (lba % u64::from(ratio)) as u32;
        if before == 0 && left >= ratio {
            let moved = self.own_sectors(hw, op, own, left / ratio, buffer)?;
            return Ok(moved * ratio);
        }
        let count = left.min(ratio - before);
        self.within_sector(hw, op, own, before..before + count, buffer)?;
        Ok(count)
    }

    /// Moves those of the caller's sectors that are in one of the device's.
    fn within_sector(
        &mut self,
        hw: &impl PhysMem,
        op: Op,
        own: u64,
        sectors: Range<u32>,
        buffer: u64,
    ) -> Result<(), DiskError> {
        let size = u64::from(self.info().sector_size);
        let bounce = self.bounce;
        if bounce.len < u64::from(self.device.info().sector_size) {
            return Err(DiskError::BadRequest);
        }
        let part = bounce.start + u64::from(sectors.start) * size;
        let len = u64::from(sectors.end - sectors.start) * size;
        self.own_sectors(hw, Op::Read, own, 1, bounce.start)?;
        match op {
            Op::Read => hw.copy(buffer, part, len),
            Op::Write => {
                hw.copy(part, buffer, len);
                self.own_sectors(hw, Op::Write, own, 1, bounce.start)?;
            }
        }
        Ok(())
    }

    /// Moves as many of the device's own sectors as one command can, and says how many.
    fn own_sectors(
        &mut self,
        hw: &impl PhysMem,
        op: Op,
        lba: u64,
        left: u32,
        buffer: u64,
    ) -> Result<u32, DiskError> {
        let info = self.device.info();
        let (count, bounced) = next_part(info, self.bounce, left, buffer, hw.is_plain(buffer));
        if count == 0 {
            return Err(DiskError::BadRequest);
        }
        let len = u64::from(count) * u64::from(info.sector_size);
        let target = if bounced { self.bounce.start } else { buffer };
        if bounced && op == Op::Write {
            hw.copy(target, buffer, len);
        }
        let deadline_us = if self.works { WORKING_US } else { FIRST_US };
        let result = self.command(|device, last_try| {
            device.transfer(&Request {
                op,
                lba,
                count,
                buffer: target,
                last_try,
                deadline_us,
            })
        });
        match result {
            Ok(()) => self.works = true,
            Err(DiskError::Timeout) => self.works = false,
            // Learns what the new one is. What was wanted of the old one is for the caller to know.
            Err(DiskError::MediumChanged) => drop(self.medium()),
            Err(_) => {}
        }
        result?;
        if bounced && op == Op::Read {
            hw.copy(buffer, target, len);
        }
        Ok(count)
    }

    /// Has `command` carried out, a few times if need be, with the device recovered after each failure.
    fn command(
        &mut self,
        mut command: impl FnMut(&mut dyn BlockDevice, bool) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.reset()?;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let result = command(&mut *self.device, left == 0);
            let Err(error) = result else {
                return Ok(());
            };
            if !error.may_pass() {
                return Err(error);
            }
            // Also after the last try: a command that is still under way would write to memory that is the guest's again.
            self.failed = true;
            self.reset()?;
            match (left, error) {
                (0, _) => return Err(error),
                // A device that is silent twice would only hold up the guest.
                (_, DiskError::Timeout) => left = 1,
                _ => {}
            }
        }
    }

    /// Puts the device back into a state from which commands work (INT 13h AH=00h). One that works is left alone.
    ///
    /// # Errors
    /// The device does not come back.
    pub fn reset(&mut self) -> Result<(), DiskError> {
        if self.failed {
            self.device.recover()?;
            self.failed = false;
        }
        Ok(())
    }

    /// Looks at what is in the drive.
    ///
    /// # Errors
    /// The drive does not say.
    pub fn medium(&mut self) -> Result<Medium, DiskError> {
        let mut medium = Medium::Same;
        self.command(|device, _| {
            medium = device.medium()?;
            Ok(())
        })?;
        self.update_view();
        Ok(medium)
    }

    /// Looks for a medium in a drive of which none is known.
    ///
    /// # Errors
    /// There is none, or the drive does not say.
    pub fn see_medium(&mut self) -> Result<(), DiskError> {
        if self.info().sectors == 0 && self.medium()? == Medium::Absent {
            return Err(DiskError::NoMedium);
        }
        Ok(())
    }

    /// Opens the tray.
    ///
    /// # Errors
    /// The medium cannot be taken out, or the drive did not do it.
    pub fn eject(&mut self) -> Result<(), DiskError> {
        self.command(|device, _| device.eject())
    }

    /// Leaves the device to the guest's own driver.
    pub fn quiesce(&mut self) {
        self.device.quiesce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::storage::{Chs, Kind, Limits};
    use std::sync::{Arc, Mutex};

    const SECTORS: u64 = 1000;
    const BUFFER: u64 = 0x2_0000;

    /// What happened to a device, and what it answers next; `Ok` when nothing is left.
    #[derive(Default)]
    struct Script {
        requests: Vec<Request>,
        flushes: u32,
        recoveries: u32,
        answers: Vec<Result<(), DiskError>>,
        recovers: bool,
    }

    struct Scripted {
        info: DiskInfo,
        script: Arc<Mutex<Script>>,
    }

    impl BlockDevice for Scripted {
        fn info(&self) -> &DiskInfo {
            &self.info
        }
        fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
            let mut script = self.script.lock().unwrap();
            script.requests.push(*request);
            script.answers.pop().unwrap_or(Ok(()))
        }
        fn flush(&mut self) -> Result<(), DiskError> {
            let mut script = self.script.lock().unwrap();
            script.flushes += 1;
            script.answers.pop().unwrap_or(Ok(()))
        }
        fn recover(&mut self) -> Result<(), DiskError> {
            let mut script = self.script.lock().unwrap();
            script.recoveries += 1;
            script.recovers.then_some(()).ok_or(DiskError::Controller)
        }
    }

    fn info(limits: Limits) -> DiskInfo {
        DiskInfo {
            kind: Kind::HardDisk,
            name: "scripted".into(),
            sector_size: 512,
            sectors: SECTORS,
            geometry: Chs::default(),
            limits,
            place: Arc::default(),
            edd: None,
        }
    }

    const BUS_MASTER: Limits = Limits {
        sectors: 100,
        dma: Some(Dma::BELOW_4G),
    };

    fn disk(limits: Limits) -> (Fake, Disk, Arc<Mutex<Script>>) {
        let hw = Fake::default();
        let script = Arc::new(Mutex::new(Script {
            recovers: true,
            ..Script::default()
        }));
        let device = Scripted {
            info: info(limits),
            script: script.clone(),
        };
        let bounce = Bounce::new(&hw);
        (hw, Disk::new(Box::new(device), bounce), script)
    }

    fn parts(script: &Mutex<Script>) -> Vec<(u64, u32, u64)> {
        let script = script.lock().unwrap();
        let part = |request: &Request| (request.lba, request.count, request.buffer);
        script.requests.iter().map(part).collect()
    }

    #[test]
    fn commands_stay_within_the_limits() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        disk.read(&hw, 5, 250, BUFFER).unwrap();
        let expected = [
            (5, 100, BUFFER),
            (105, 100, BUFFER + 51_200),
            (205, 50, BUFFER + 102_400),
        ];
        assert_eq!(parts(&script), expected);
    }

    #[test]
    fn requests_outside_the_disk_never_reach_it() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        for (lba, count) in [(SECTORS, 1), (SECTORS - 1, 2), (u64::MAX, 1), (0, u32::MAX)] {
            let refused = Err(DiskError::BadRequest);
            assert_eq!(disk.read(&hw, lba, count, BUFFER), refused);
            assert_eq!(disk.verify(lba, count), refused);
        }
        assert_eq!(disk.read(&hw, SECTORS, 0, BUFFER), Ok(()));
        assert!(parts(&script).is_empty());
    }

    #[test]
    fn memory_out_of_reach_goes_through_the_bounce_buffer() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        let bounce = disk.bounce.start;
        for addr in [0x2_0001, 0xa_0000, 1 << 32, 0xffff_ff00] {
            disk.read(&hw, 7, 65, addr).unwrap();
            assert_eq!(parts(&script)[..2], [(7, 64, bounce), (71, 1, bounce)]);
            script.lock().unwrap().requests.clear();
        }
        disk.read(&hw, 7, 65, 0x9_fc00).unwrap();
        assert_eq!(parts(&script), [(7, 2, 0x9_fc00), (9, 63, bounce)]);
        hw.write(0xc_0000, &[0x5a; 1024]);
        disk.write(&hw, 0, 2, 0xc_0000).unwrap();
        assert_eq!(hw.read64(bounce + 1016), 0x5a5a_5a5a_5a5a_5a5a);
        assert_eq!(script.lock().unwrap().flushes, 1);
    }

    #[test]
    fn no_memory_to_bounce_is_an_error_only_where_it_is_needed() {
        let (hw, mut disk, _) = disk(BUS_MASTER);
        disk.bounce = Bounce { start: 0, len: 0 };
        assert_eq!(disk.read(&hw, 0, 1, 0xc_0000), Err(DiskError::BadRequest));
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Ok(()));
    }

    #[test]
    fn failures_are_tried_again_after_a_recovery() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        script.lock().unwrap().answers = vec![Err(DiskError::Media); 3];
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Media));
        let tries: Vec<bool> = script
            .lock()
            .unwrap()
            .requests
            .iter()
            .map(|request| request.last_try)
            .collect();
        assert_eq!(tries, [false, false, true]);
        assert_eq!(script.lock().unwrap().recoveries, 3);
        script.lock().unwrap().answers = vec![Ok(()), Err(DiskError::Controller)];
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Ok(()));
        script.lock().unwrap().answers = vec![Err(DiskError::WriteProtected)];
        assert_eq!(
            disk.write(&hw, 0, 1, BUFFER),
            Err(DiskError::WriteProtected)
        );
        assert_eq!(script.lock().unwrap().requests.len(), 3 + 2 + 1);
    }

    #[test]
    fn silence_is_borne_twice() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        script.lock().unwrap().answers = vec![Err(DiskError::Timeout); 2];
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Timeout));
        assert!(script.lock().unwrap().requests[1].last_try);
    }

    #[test]
    fn a_device_that_does_not_recover_is_asked_to_before_the_next_command() {
        let (hw, mut disk, script) = disk(BUS_MASTER);
        script.lock().unwrap().recovers = false;
        script.lock().unwrap().answers = vec![Err(DiskError::Timeout)];
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Controller));
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Controller));
        assert_eq!(script.lock().unwrap().requests.len(), 1);
        script.lock().unwrap().recovers = true;
        assert_eq!(disk.reset(), Ok(()));
        assert_eq!(disk.reset(), Ok(()));
        assert_eq!(script.lock().unwrap().recoveries, 3);
    }

    /// A device that keeps what is written, in sectors of 4096 bytes.
    struct Stored {
        info: DiskInfo,
        hw: Fake,
        bytes: Arc<Mutex<Vec<u8>>>,
    }

    impl BlockDevice for Stored {
        fn info(&self) -> &DiskInfo {
            &self.info
        }
        fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
            assert!(request.count >= 1 && request.count <= self.info.limits.sectors);
            let mut bytes = self.bytes.lock().unwrap();
            let part = &mut bytes[request.lba as usize * 4096..][..request.count as usize * 4096];
            match request.op {
                Op::Read => self.hw.write(request.buffer, part),
                Op::Write => self.hw.read(request.buffer, part),
            }
            Ok(())
        }
        fn flush(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
        fn recover(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
    }

    fn viewed(sectors: u64) -> (Fake, Disk, Arc<Mutex<Vec<u8>>>) {
        let hw = Fake::default();
        let bytes = (0..sectors * 4096).map(|at| (at % 251) as u8).collect();
        let bytes = Arc::new(Mutex::new(bytes));
        let device = Stored {
            info: DiskInfo {
                sector_size: 4096,
                sectors,
                ..info(Limits {
                    sectors: 3,
                    dma: Some(Dma::BELOW_4G),
                })
            },
            hw: hw.clone(),
            bytes: bytes.clone(),
        };
        let bounce = Bounce::new(&hw);
        let disk = Disk::new(Box::new(device), bounce).in_sectors_of_512();
        (hw, disk, bytes)
    }

    #[test]
    fn a_view_has_as_many_bytes_as_the_device() {
        let (hw, mut disk, _) = viewed(10);
        assert_eq!((disk.info().sector_size, disk.info().sectors), (512, 80));
        assert_eq!(disk.read(&hw, 79, 1, BUFFER), Ok(()));
        assert_eq!(disk.read(&hw, 79, 2, BUFFER), Err(DiskError::BadRequest));
        disk.bounce = Bounce::NONE;
        assert_eq!(disk.read(&hw, 8, 16, BUFFER), Ok(()));
        assert_eq!(disk.read(&hw, 8, 15, BUFFER), Err(DiskError::BadRequest));
        let (_, largest, _) = viewed(0);
        assert_eq!(largest.info().sectors, 0);
    }

    proptest::proptest! {
        #[test]
        fn a_view_reads_and_writes_the_bytes_that_are_meant(
            lba in 0u64..80,
            count in 1u32..60,
            buffer in 0x2_0000u64..0x2_0003,
            writes: bool,
        ) {
            let (hw, mut disk, bytes) = viewed(20);
            let mut expected = bytes.lock().unwrap().clone();
            let range = lba as usize * 512..(lba as usize + count as usize) * 512;
            let data: Vec<u8> = (0..range.len()).map(|at| (at % 241) as u8 ^ 0xa5).collect();
            if writes {
                hw.write(buffer, &data);
                disk.write(&hw, lba, count, buffer).unwrap();
                expected[range].copy_from_slice(&data);
            } else {
                disk.read(&hw, lba, count, buffer).unwrap();
                let mut read = vec![0; range.len()];
                hw.read(buffer, &mut read);
                assert_eq!(read, expected[range]);
            }
            assert_eq!(*bytes.lock().unwrap(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_request_is_cut_into_what_the_device_can_do(
            sectors in 1u32..300,
            align in 0u32..4,
            boundary in proptest::option::of(12u32..20),
            end in proptest::sample::select(vec![1u64 << 24, 1 << 32, u64::MAX]),
            buffer in proptest::prop_oneof![0u64..0x20_0000, 0xffff_0000u64..0x1_0001_0000],
            count in 1u32..400,
        ) {
            let dma = Dma { align: 1 << align, end, boundary: boundary.map_or(0, |bits| 1 << bits) };
            let info = info(Limits { sectors, dma: Some(dma) });
            let bounce = Bounce { start: 0x70_0000, len: 32 * 1024 };
            let (mut left, mut at) = (count, buffer);
            while left > 0 {
                let (count, bounced) = next_part(&info, bounce, left, at, true);
                assert!(count > 0 && count <= left.min(sectors));
                let target = if bounced { bounce.start } else { at };
                let last = target + u64::from(count) * 512 - 1;
                assert!(target % dma.align == 0 && last < dma.end);
                assert!(target >= NO_DMA.end || last < NO_DMA.start);
                assert!(dma.boundary == 0 || target / dma.boundary == last / dma.boundary);
                assert!(!bounced || last < bounce.start + bounce.len);
                left -= count;
                at += u64::from(count) * 512;
            }
        }
    }
}
