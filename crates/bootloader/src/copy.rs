//! Files of a guest, copied to a file of the host.

use crate::newc;
use crate::volumes::File;
use anyhow::{Context, Result, bail};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// How many bytes are copied at once: through memory, and by the system between two looks at the clock.
const CHUNK: u64 = 1 << 20;
const STRETCH: u64 = 16 << 20;
/// In how many rows the files may lie that the process outside is asked to copy.
const ROWS: usize = 256;

/// Bytes of the disk that lie in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub at: u64,
    pub len: u64,
}

/// The rows of the disk in which a file lies, if it does in few of them, and nowhere else.
///
/// # Errors
/// The file cannot be read.
pub fn rows(file: &dyn File) -> Result<Option<Vec<Row>>> {
    let mut rows = Vec::new();
    let mut done = 0;
    while done < file.size() {
        match file.stretch(done, file.size() - done)? {
            Some((at, len)) if len > 0 && rows.len() < ROWS => rows.push(Row { at, len }),
            _ => return Ok(None),
        }
        done += rows.last().map_or(0, |row| row.len);
    }
    Ok(Some(rows))
}

/// A file of the host that is being written.
#[derive(Debug)]
pub struct Copy<'a> {
    image: &'a fs::File,
    file: &'a fs::File,
    written: u64,
    limit: u64,
    end: Option<Instant>,
}

impl<'a> Copy<'a> {
    /// A copy of what lies on `image`, of at most `limit` bytes.
    pub fn new(image: &'a fs::File, file: &'a fs::File, limit: u64) -> Self {
        Self {
            image,
            file,
            written: 0,
            limit,
            end: None,
        }
    }

    /// Ends copying with an error at a time.
    pub fn until(&mut self, end: Instant) {
        self.end = Some(end);
    }

    /// Adds a file of the guest.
    ///
    /// # Errors
    /// It is too long, cannot be read, or the copy cannot be written.
    pub fn append(&mut self, file: &dyn File) -> Result<()> {
        self.begin(file.size())?;
        self.content(file)
    }

    /// Adds an archive that has a file of the guest as `name`.
    ///
    /// # Errors
    /// As [`append`](Self::append), or there is no such archive.
    pub fn append_archived(&mut self, file: &dyn File, name: &str) -> Result<()> {
        let size = file.size();
        let head = newc::head(name, size).context("the archive has no room for it")?;
        let tail = newc::tail(size);
        self.begin(size.saturating_add((head.len() + tail.len()) as u64))?;
        self.write(&head)?;
        self.content(file)?;
        self.write(&tail)
    }

    fn content(&mut self, file: &dyn File) -> Result<()> {
        let size = file.size();
        let mut done = 0;
        let mut chunk = Vec::new();
        while done < size {
            let left = size - done;
            let stretch = file.stretch(done, left)?;
            if let Some((at, len)) = stretch.filter(|(_, len)| (1..=left).contains(len)) {
                self.row(Row { at, len })?;
                done += len;
                continue;
            }
            chunk.resize(CHUNK.min(left) as usize, 0);
            let count = file.read_at(done, &mut chunk)?;
            if count == 0 {
                bail!("it ends after {done} of {size} bytes");
            }
            self.write(&chunk[..count])?;
            done += count as u64;
        }
        Ok(())
    }

    /// Adds a file that lies in `rows` of the disk.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_rows(&mut self, rows: &[Row]) -> Result<()> {
        let size = rows
            .iter()
            .fold(0_u64, |size, row| size.saturating_add(row.len));
        self.begin(size)?;
        rows.iter().try_for_each(|row| self.row(*row))
    }

    /// Goes on at a multiple of 4 bytes, as the kernel wants initial RAM disks joined (Linux,
    /// Documentation/driver-api/early-userspace/buffer-format.rst), if there is room for a file of `size` bytes.
    fn begin(&mut self, size: u64) -> Result<()> {
        let start = self.written.next_multiple_of(4);
        let end = start.checked_add(size);
        if end.is_none_or(|end| end > self.limit) {
            bail!(
                "{size} bytes are more than the {} that are allowed",
                self.limit
            );
        }
        self.write(&[0; 4][..(start - self.written) as usize])?;
        // All at once is faster than a piece with each page that is written, and a full disk shows at once. Not each file system can.
        let space = rustix::fs::fallocate(self.file, FallocateFlags::empty(), start, size);
        match space {
            Err(Errno::NOSPC | Errno::DQUOT) => bail!("there is no room for {size} bytes"),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Has the system copy a row, without its bytes coming here, where it can.
    fn row(&mut self, row: Row) -> Result<()> {
        let Row { mut at, mut len } = row;
        let mut by_system = true;
        let mut chunk = Vec::new();
        while len > 0 {
            if self.end.is_some_and(|end| Instant::now() > end) {
                bail!("copying takes too long");
            }
            let count = match by_system {
                true => {
                    let most = len.min(STRETCH) as usize;
                    match rustix::fs::sendfile(self.file, self.image, Some(&mut at.clone()), most) {
                        // The one or the other is on a file system that cannot do that.
                        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                            by_system = false;
                            continue;
                        }
                        count => count? as u64,
                    }
                }
                false => {
                    chunk.resize(CHUNK.min(len) as usize, 0);
                    let count = self.image.read_at(&mut chunk, at)?;
                    self.file.write_all(&chunk[..count])?;
                    count as u64
                }
            };
            if count == 0 {
                bail!("the disk ends at byte {at}");
            }
            self.written += count;
            at += count;
            len -= count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A disk of 8,192 bytes, and an empty file.
    fn files() -> (fs::File, fs::File, Vec<u8>) {
        let bytes: Vec<u8> = (0..8192_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        let image = tempfile::tempfile().expect("a file");
        (&image).write_all(&bytes).expect("a disk");
        (image, tempfile::tempfile().expect("a file"), bytes)
    }

    fn row(at: u64, len: u64) -> Row {
        Row { at, len }
    }

    #[test]
    fn rows_are_joined_at_a_multiple_of_four_bytes() {
        let (image, file, bytes) = files();
        let mut copy = Copy::new(&image, &file, 4096);
        copy.append_rows(&[row(4090, 9), row(1, 2)]).expect("room");
        copy.append_rows(&[row(8000, 192)]).expect("room");
        let mut content = vec![0; 300];
        let count = file.read_at(&mut content, 0).expect("a copy");
        let expected = [&bytes[4090..4099], &bytes[1..3], &[0], &bytes[8000..]];
        assert_eq!(content[..count], expected.concat());
    }

    #[test]
    fn what_is_asked_for_has_bounds() {
        let (image, file, _) = files();
        let refused = |rows: &[Row], limit, before: &[Row]| {
            let mut copy = Copy::new(&image, &file, limit);
            copy.append_rows(before).expect("room");
            copy.append_rows(rows).expect_err("too much").to_string()
        };
        assert!(refused(&[row(0, 101)], 100, &[]).contains("allowed"));
        assert!(refused(&[row(0, 50)], 100, &[row(0, 51)]).contains("allowed"));
        let most = [row(0, u64::MAX), row(0, u64::MAX)];
        assert!(refused(&most, u64::MAX, &[row(0, 1)]).contains("allowed"));
        assert!(refused(&[row(8190, 3)], 100, &[]).contains("the disk ends"));
        let mut late = Copy::new(&image, &file, 100);
        late.until(Instant::now() - Duration::from_secs(1));
        assert!(late.append_rows(&[row(0, 1)]).is_err());
    }
}
