//! Files of a guest, copied to a file of the host.

use crate::newc;
use crate::volumes::File;
use anyhow::{Context, Result, bail};
use rustix::fd::OwnedFd;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, splice};
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// How many bytes are copied at once, between two looks at the clock.
const CHUNK: u64 = 1 << 20;
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

/// A pipe, through which the system copies between two files without the bytes coming here.
#[derive(Debug)]
pub struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl Pipe {
    /// Makes one, for a [`struct@Copy`].
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn new() -> Result<Self> {
        let (reading, writing) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // `sendfile` has a pipe of its own, of 64 KiB: writing as much as this at once takes a tenth less of a processor's time. A
        // system that allows no such pipe (pipe(7), pipe-max-size) copies with the smaller one.
        let _ = rustix::pipe::fcntl_setpipe_size(&writing, CHUNK as usize);
        Ok(Self { reading, writing })
    }

    /// Copies at most a chunk, and returns how many bytes: 0 where `from` ends. Nothing, if one of the file systems cannot do that.
    fn copy(&self, from: &fs::File, mut at: u64, len: u64, to: &fs::File) -> Result<Option<u64>> {
        let cannot = |why| matches!(why, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP);
        let most = len.min(CHUNK) as usize;
        let flags = SpliceFlags::MOVE;
        let count = match splice(from, Some(&mut at), &self.writing, None, most, flags) {
            Err(why) if cannot(why) => return Ok(None),
            count => count?,
        };
        let mut left = count;
        while left > 0 {
            match splice(&self.reading, None, to, None, left, flags) {
                // What is in the pipe stays there: it is not used again.
                Err(why) if cannot(why) && left == count => return Ok(None),
                Ok(0) => bail!("nothing can be written"),
                written => left -= written?,
            }
        }
        Ok(Some(count as u64))
    }
}

/// A file of the host that is being written.
#[derive(Debug)]
pub struct Copy<'a> {
    image: &'a fs::File,
    file: &'a fs::File,
    pipe: Option<&'a Pipe>,
    written: u64,
    limit: u64,
    end: Option<Instant>,
}

impl<'a> Copy<'a> {
    /// A copy of what lies on `image`, of at most `limit` bytes, made through `pipe` where the system can do that.
    pub fn new(image: &'a fs::File, file: &'a fs::File, pipe: &'a Pipe, limit: u64) -> Self {
        Self {
            image,
            file,
            pipe: Some(pipe),
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

    fn row(&mut self, row: Row) -> Result<()> {
        let Row { mut at, mut len } = row;
        while len > 0 {
            if self.end.is_some_and(|end| Instant::now() > end) {
                bail!("copying takes too long");
            }
            let count = self.chunk(at, len)?;
            if count == 0 {
                bail!("the disk ends at byte {at}");
            }
            self.written += count;
            at += count;
            len -= count;
        }
        Ok(())
    }

    /// Copies at most a chunk of the disk.
    fn chunk(&mut self, at: u64, len: u64) -> Result<u64> {
        if let Some(pipe) = self.pipe {
            match pipe.copy(self.image, at, len, self.file)? {
                Some(count) => return Ok(count),
                None => self.pipe = None,
            }
        }
        let mut chunk = vec![0; CHUNK.min(len) as usize];
        let count = self.image.read_at(&mut chunk, at)?;
        self.file.write_all(&chunk[..count])?;
        Ok(count as u64)
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
        let pipe = Pipe::new().expect("a pipe");
        let mut copy = Copy::new(&image, &file, &pipe, 4096);
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
        let pipe = Pipe::new().expect("a pipe");
        let refused = |rows: &[Row], limit, before: &[Row]| {
            let mut copy = Copy::new(&image, &file, &pipe, limit);
            copy.append_rows(before).expect("room");
            copy.append_rows(rows).expect_err("too much").to_string()
        };
        assert!(refused(&[row(0, 101)], 100, &[]).contains("allowed"));
        assert!(refused(&[row(0, 50)], 100, &[row(0, 51)]).contains("allowed"));
        let most = [row(0, u64::MAX), row(0, u64::MAX)];
        assert!(refused(&most, u64::MAX, &[row(0, 1)]).contains("allowed"));
        assert!(refused(&[row(8190, 3)], 100, &[]).contains("the disk ends"));
        let mut late = Copy::new(&image, &file, &pipe, 100);
        late.until(Instant::now() - Duration::from_secs(1));
        assert!(late.append_rows(&[row(0, 1)]).is_err());
    }
    #[test]
    fn more_than_a_chunk_is_copied_with_and_without_a_pipe() {
        let bytes: Vec<u8> = (0..3 * CHUNK as u32 + 77)
            .map(|at| (at >> 3) as u8)
            .collect();
        let image = tempfile::tempfile().expect("a file");
        (&image).write_all(&bytes).expect("a disk");
        let pipe = Pipe::new().expect("a pipe");
        for by_system in [true, false] {
            let file = tempfile::tempfile().expect("a file");
            let mut copy = Copy::new(&image, &file, &pipe, u64::MAX);
            copy.pipe = copy.pipe.filter(|_| by_system);
            let len = bytes.len() as u64 - 5;
            copy.append_rows(&[row(5, len)]).expect("room");
            let mut content = vec![0; bytes.len()];
            let count = file.read_at(&mut content, 0).expect("a copy");
            assert!(content[..count] == bytes[5..], "by system: {by_system}");
        }
    }

    #[test]
    fn where_the_system_cannot_copy_the_bytes_are_read_and_written() {
        let (image, _, bytes) = files();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("copy");
        // No system splices to a file that is appended to (splice(2), EINVAL).
        let file = fs::File::options().append(true).create(true).open(&path);
        let file = file.expect("a file");
        let pipe = Pipe::new().expect("a pipe");
        let mut copy = Copy::new(&image, &file, &pipe, 4096);
        copy.append_rows(&[row(1, 1000)]).expect("room");
        assert!(copy.pipe.is_none());
        let content = fs::read(&path).expect("a copy");
        assert!(content.ends_with(&bytes[1..1001]));
    }
}
