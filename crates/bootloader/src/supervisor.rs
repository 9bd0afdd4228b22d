//! The process outside the sandbox: opens what the other one needs, starts it, and writes the result.
//!
//! It reads nothing of the guest's disk. All it takes from the process in the sandbox are a few short messages, which it checks:
//! what that process has read may have taken it over.

use crate::copy::{Copy, Pipe, Row};
use crate::options::Options;
use crate::output::{self, Output};
use crate::worker::{self, Files};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// How long the process in the sandbox may work, without the time in which it waits for a user.
const WORK: Duration = Duration::from_secs(60);
/// How many bytes a message may have.
const MESSAGE: usize = 32 << 10;
/// Where copies go if nothing else is said: pygrub's place.
const DIRECTORY: &str = "/var/run/xen/pygrub";

/// What the process in the sandbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It waits for a user.
    Waiting,
    /// It goes on.
    Working,
    /// It has shown what was asked for.
    Shown,
    /// It asks for a file of the disk's, in these rows, to be added to the initial RAM disk. What comes after it is asked for when that
    /// is done.
    Copy(Vec<Row>),
    /// What is to be booted, with the names on the guest's disk.
    Boot {
        kernel: String,
        ramdisk: Option<String>,
        args: String,
    },
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let text = match self {
            Message::Waiting => "waiting".to_owned(),
            Message::Working => "working".to_owned(),
            Message::Shown => "shown".to_owned(),
            Message::Copy(rows) => {
                let rows = rows.iter().map(|row| format!("\0{} {}", row.at, row.len));
                format!("copy{}", rows.collect::<String>())
            }
            Message::Boot {
                kernel,
                ramdisk,
                args,
            } => format!(
                "boot\0{kernel}\0{}\0{args}",
                ramdisk.as_deref().unwrap_or_default()
            ),
        };
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)?;
        let fields: Vec<&str> = text.split('\0').collect();
        Ok(match fields[..] {
            ["waiting"] => Message::Waiting,
            ["working"] => Message::Working,
            ["shown"] => Message::Shown,
            ["copy", ref rows @ ..] => {
                let rows = rows.iter().map(|row| {
                    let (at, len) = row.split_once(' ').context("a row without a length")?;
                    let (at, len) = (at.parse()?, len.parse()?);
                    Ok(Row { at, len })
                });
                Message::Copy(rows.collect::<Result<_>>()?)
            }
            ["boot", kernel, ramdisk, args] => Message::Boot {
                kernel: kernel.to_owned(),
                ramdisk: (!ramdisk.is_empty()).then(|| ramdisk.to_owned()),
                args: args.to_owned(),
            },
            _ => bail!("a message that is not understood"),
        })
    }
}

/// A socket between the two processes. Inside, it is standard input.
pub struct Channel {
    socket: Option<OwnedFd>,
}

impl Channel {
    /// The end in the sandbox.
    pub fn inside() -> Self {
        Self { socket: None }
    }

    fn fd(&self) -> rustix::fd::BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => rustix::stdio::stdin(),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other process is gone, or the message is too long.
    pub fn send(&self, message: &Message) -> Result<()> {
        let bytes = message.encode();
        if bytes.len() > MESSAGE {
            bail!("the command line has {} bytes, too many", bytes.len());
        }
        rustix::net::send(self.fd(), &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message, or nothing if the other process is gone.
    fn next(&self) -> Result<Option<Message>> {
        let mut buffer = vec![0; MESSAGE + 1];
        let (count, _) = rustix::net::recv(self.fd(), &mut buffer, RecvFlags::empty())?;
        match count {
            0 => Ok(None),
            count => Message::decode(&buffer[..count]).map(Some),
        }
    }

    /// Hands over open files.
    fn give(&self, files: &[rustix::fd::BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(files)) {
            bail!("too many files");
        }
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(self.fd(), &[IoSlice::new(b"files")], &mut control, flags)?;
        Ok(())
    }

    /// Takes the open files: the disk, the terminal and, with `copies`, the two to copy to.
    ///
    /// # Errors
    /// They do not come.
    pub fn receive(&self, copies: bool) -> Result<Files> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 8];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(&mut text)];
        rustix::net::recvmsg(self.fd(), &mut parts, &mut control, flags)
            .context("standard input is no channel")?;
        let mut files: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        let mut files = files.into_iter();
        let mut next = || files.next().context("a file is missing");
        Ok(Files {
            disk: next()?,
            terminal: next()?,
            copies: match copies {
                true => Some((next()?.into(), next()?.into())),
                false => None,
            },
        })
    }
}

/// Runs the bootloader with the command line of this process, and returns pygrub's exit code: 0, or 1 for whatever is wrong.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let options = match Options::read(arguments.clone()) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            };
        }
    };
    let done = match options.worker {
        true => worker::main(&options),
        false => supervise(&options, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let name = if options.worker {
                ""
            } else {
                "firstlight-bootloader: "
            };
            let text = crate::notes::printable(&format!("{error:#}"));
            if !text.is_empty() {
                let _ = write!(std::io::stderr(), "{name}{text}\r\n");
            }
            ExitCode::FAILURE
        }
    }
}

/// The copies, which are removed unless they are kept.
struct Copies {
    kernel: NamedTempFile,
    ramdisk: NamedTempFile,
}

impl Copies {
    /// Makes the two files, as pygrub names them.
    fn make(directory: Option<&Path>) -> Result<Self> {
        let directory: PathBuf = match directory {
            Some(directory) if directory.is_dir() => directory.to_owned(),
            Some(directory) => bail!("{} is not an existing directory", directory.display()),
            None => {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(DIRECTORY)?;
                DIRECTORY.into()
            }
        };
        let make = |prefix: &str| {
            let file = tempfile::Builder::new()
                .prefix(prefix)
                .tempfile_in(&directory);
            file.with_context(|| format!("cannot write to {}", directory.display()))
        };
        Ok(Self {
            kernel: make("boot_kernel.")?,
            ramdisk: make("boot_ramdisk.")?,
        })
    }
}

fn supervise(options: &Options, arguments: &[std::ffi::OsString]) -> Result<()> {
    let image = options.image.display();
    // Without O_NONBLOCK a FIFO in place of the disk would hold this process.
    let disk = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(&options.image);
    let disk = disk.with_context(|| format!("cannot open {image}"))?;
    let mut output = match options.output.as_os_str() == "-" {
        true => None,
        false => {
            let opened = OpenOptions::new().write(true).open(&options.output);
            Some(opened.with_context(|| format!("cannot open {}", options.output.display()))?)
        }
    };
    let copies = match options.only_shows() || options.not_really {
        true => None,
        false => Some(Copies::make(options.output_directory.as_deref())?),
    };
    let boot = delegate(&disk, copies.as_ref(), options, arguments)?;
    let Message::Boot {
        kernel,
        ramdisk,
        args,
    } = boot
    else {
        return Ok(());
    };
    let name = |file: &NamedTempFile| file.path().to_string_lossy().into_owned();
    let result = match &copies {
        Some(copies) => Output {
            kernel: name(&copies.kernel),
            ramdisk: ramdisk.map(|_| name(&copies.ramdisk)),
            args,
        },
        None => Output {
            kernel: format!("<kernel:{kernel}>"),
            ramdisk: ramdisk.map(|ramdisk| format!("<ramdisk:{ramdisk}>")),
            args,
        },
    };
    let text = result.text(options.output_format);
    let text = text.map_err(|why| anyhow::anyhow!(why))?;
    match &mut output {
        Some(output) => output.write_all(text.as_bytes())?,
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    if let Some(copies) = copies {
        copies.kernel.keep()?;
        if result.ramdisk.is_some() {
            copies.ramdisk.keep()?;
        }
    }
    Ok(())
}

/// Starts the process in the sandbox, and returns its last message.
fn delegate(
    disk: &File,
    copies: Option<&Copies>,
    options: &Options,
    arguments: &[std::ffi::OsString],
) -> Result<Message> {
    let (outside, inside) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let channel = Channel {
        socket: Some(outside),
    };
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.first() {
        command.arg0(name);
    }
    command.arg("--worker").args(arguments.iter().skip(1));
    command.env_clear();
    let limit = std::env::var_os(worker::LIMIT).map(|value| (worker::LIMIT, value));
    command.envs(limit);
    let mut child = command
        .stdin(Stdio::from(inside))
        .spawn()
        .context("cannot start the process that reads the disk")?;
    // The command holds the other end, which would keep the channel open after the process's end.
    drop(command);
    let terminal = rustix::stdio::stdin();
    let mut files = vec![disk.as_fd(), terminal];
    if let Some(copies) = copies {
        files.push(copies.kernel.as_file().as_fd());
        files.push(copies.ramdisk.as_file().as_fd());
    }
    let ramdisk = copies.map(|copies| copies.ramdisk.as_file());
    let pipe = Pipe::new()?;
    let ramdisk = ramdisk.map(|file| Copy::new(disk, file, &pipe, worker::file_limit()));
    let said = channel
        .give(&files)
        .and_then(|()| listen(&channel, options.menu, ramdisk));
    if said.is_err() {
        let _ = child.kill();
    }
    finish(&mut child, said)
}

/// Takes messages until the last, and copies to `ramdisk` what is asked for.
fn listen(
    channel: &Channel,
    may_wait: bool,
    mut ramdisk: Option<Copy<'_>>,
) -> Result<Option<Message>> {
    let mut left = WORK;
    let mut waiting = false;
    let mut last = None;
    loop {
        let start = Instant::now();
        let timeout = (!waiting).then(|| Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut wait = [PollFd::from_borrowed_fd(channel.fd(), PollFlags::IN)];
        match poll(&mut wait, timeout.as_ref()) {
            Ok(0) => bail!("reading the disk takes more than {} s", WORK.as_secs()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !waiting {
            left = left.saturating_sub(start.elapsed());
        }
        if wait[0].revents().is_empty() {
            continue;
        }
        match channel.next()? {
            None => return Ok(last),
            Some(Message::Waiting) => waiting = may_wait,
            Some(Message::Working) => waiting = false,
            Some(Message::Copy(rows)) => {
                let ramdisk = ramdisk.as_mut().context("nothing is to be copied")?;
                let start = Instant::now();
                ramdisk.until(start + left);
                ramdisk.append_rows(&rows).context("initial RAM disk")?;
                left = left.saturating_sub(start.elapsed());
            }
            Some(message) => last = Some(message),
        }
    }
}

/// Waits for the process's end, and checks what it said.
fn finish(child: &mut Child, said: Result<Option<Message>>) -> Result<Message> {
    let status = child.wait()?;
    let message = said?;
    if !status.success() {
        match status.code() {
            // It has said why.
            Some(_) => bail!("no kernel can be booted"),
            None => bail!("the process that reads the disk was ended: {status}"),
        }
    }
    let message = message.context("the process that reads the disk said nothing")?;
    if let Message::Boot { kernel, args, .. } = &message {
        let check = output::check("kernel", kernel);
        check.map_err(|why| anyhow::anyhow!(why))?;
        if args.len() > 1023 {
            let count = args.len();
            eprint!("the command line has {count} bytes: Xen gives a PV guest 1,023\r\n");
        }
    }
    Ok(message)
}
