//! A small Linux that tells what the firmware told it: Debian's kernel, and an initial RAM disk of busybox and dmidecode.
//!
//! It starts in seconds, needs no disk, and answers with a [`Report`] on its console: the first serial port, or under Xen the
//! paravirtual console. `cargo xtask inspect` shows that to a person, and the tests judge it.

use crate::xen::guest::{Guest, Loader};
use crate::{cache, command, image};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const INIT: &str = include_str!("linux/init.sh");

/// What the RAM disk has of the demo Debian: the path there and here.
const FILES: &[(&str, &str)] = &[
    ("/usr/sbin/dmidecode", "bin/dmidecode"),
    (
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "lib64/ld-linux-x86-64.so.2",
    ),
    ("/usr/lib/x86_64-linux-gnu/libc.so.6", "lib64/libc.so.6"),
];

/// The command line that sends the report to the first serial port, and keeps the kernel's own messages out of it: the watchdog's,
/// which a busy host causes, come at any level.
pub const COMMAND_LINE: &str = "console=ttyS0,115200 quiet nowatchdog panic=-1";

/// The same in a guest of Xen, by its paravirtual console.
pub const XEN_COMMAND_LINE: &str = "console=ttyS0,115200 console=hvc0 quiet nowatchdog panic=-1";

/// The last line of what the kernel's console gets of a report.
pub const REPORT_END: &str = "report-end";

/// The small Linux's files.
#[derive(Clone, Debug)]
pub struct Linux {
    directory: PathBuf,
}

impl Linux {
    /// Returns the small Linux. It is made now if it is not in the cache, and so is the demo Debian that it is taken from.
    ///
    /// # Errors
    /// A file cannot be made: see [`image::demo_disk`] and [`image::copy_out`].
    pub fn get() -> Result<Self> {
        let debian = image::demo_disk()?;
        let files = format!("{FILES:?}");
        let source = debian.file_name().context("the demo disk has no name")?;
        let recipe = [INIT, &files, &source.to_string_lossy()];
        let directory = cache::made("linux.d", &recipe, |work, product| {
            make(&debian, work, product)
        })?;
        Ok(Self { directory })
    }

    /// The kernel, a bzImage.
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("kernel")
    }

    /// The initial RAM disk of a Linux that reports and turns the machine off.
    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }

    /// A guest of Xen that the small Linux is given to, with a RAM disk of this machine.
    pub fn xen_guest(&self, name: &str, loader: &Loader, initrd: &Path) -> Guest {
        let (kernel, ramdisk) = (format!("{name}.kernel"), format!("{name}.initrd"));
        Guest::new(name, loader)
            .file_of_host(&self.kernel(), &kernel)
            .file_of_host(initrd, &ramdisk)
            .string("kernel", &format!("/job/{kernel}"))
            .string("ramdisk", &format!("/job/{ramdisk}"))
            .string("cmdline", XEN_COMMAND_LINE)
            .pv_console()
    }

    /// Writes to `file` an initial RAM disk of a Linux that reports, runs the shell script `job`, and turns the machine off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn initrd_with(&self, job: &str, file: &Path) -> Result<()> {
        let tree = tempfile::tempdir()?;
        fs::write(tree.path().join("job"), job)?;
        let mut archive = fs::read(self.initrd())?;
        // A RAM disk is a row of archives, each from a multiple of 4 bytes on.
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(pack(tree.path())?);
        fs::write(file, archive).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn make(debian: &Path, work: &Path, product: &Path) -> Result<()> {
    fs::create_dir(product)?;
    image::copy_out(debian, "/vmlinuz", &product.join("kernel"))?;
    let root = work.join("root");
    for directory in ["bin", "lib64", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    // Where the dynamic linker looks first.
    fs::create_dir_all(root.join("usr/lib"))?;
    symlink("../../lib64", root.join("usr/lib/x86_64-linux-gnu"))?;
    for (from, to) in FILES {
        let to = root.join(to);
        image::copy_out(debian, from, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    fs::copy(busybox()?, root.join("bin/busybox"))?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = work.join("archive");
    fs::write(&archive, pack(&root)?)?;
    command::run_quietly(Command::new("gzip").arg("-1").arg(&archive))?;
    fs::copy(work.join("archive.gz"), product.join("initrd"))?;
    Ok(())
}

/// This machine's busybox, which has to be the static one.
fn busybox() -> Result<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("there is no busybox: run `cargo xtask setup`")
}

/// The content of a directory as a cpio archive, its files root's.
fn pack(tree: &Path) -> Result<Vec<u8>> {
    let mut names: Vec<String> = Vec::new();
    list(tree, Path::new(""), &mut names)?;
    let mut cpio = Command::new(busybox()?)
        .args(["cpio", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start busybox")?;
    let mut input = cpio.stdin.take().context("no pipe to cpio")?;
    input.write_all(names.join("\n").as_bytes())?;
    drop(input);
    let output = cpio.wait_with_output()?;
    ensure!(output.status.success(), "cpio failed ({})", output.status);
    Ok(output.stdout)
}

/// The paths of all that is in directory `tree`/`at`, directories before their content.
fn list(tree: &Path, at: &Path, names: &mut Vec<String>) -> Result<()> {
    let mut entries = fs::read_dir(tree.join(at))?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = at.join(entry.file_name());
        names.push(path.display().to_string());
        if entry.file_type()?.is_dir() {
            list(tree, &path, names)?;
        }
    }
    Ok(())
}

/// What the small Linux found out: a directory of files.
#[derive(Clone, Debug)]
pub struct Report {
    directory: PathBuf,
}

/// One ACPI table as the guest's kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTable {
    /// Its signature, with a number behind it where there are several (SSDT1, SSDT2).
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Report {
    /// Unpacks the report from what the guest wrote to its serial port, into `directory`, which is made anew.
    ///
    /// # Errors
    /// There is no whole report.
    pub fn unpack(console: &str, directory: &Path) -> Result<Self> {
        let (_, rest) = console
            .split_once("report-begin")
            .context("the guest reported nothing")?;
        let (text, _) = rest
            .split_once(REPORT_END)
            .context("the guest's report has no end")?;
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let mut unpack = Command::new("sh")
            .args([
                "-c",
                "base64 -d -i | tar -xz --no-same-owner -C \"$1\"",
                "sh",
            ])
            .arg(directory)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start sh")?;
        let mut input = unpack.stdin.take().context("no pipe to base64")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        let output = unpack.wait_with_output()?;
        ensure!(
            output.status.success(),
            "the guest's report is damaged: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Where the report's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of the report, such as `dmesg.txt`; empty where the guest had none.
    pub fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.directory.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The memory map that the firmware gave, a line an entry: first and last address, and the kernel's name of its type.
    pub fn e820(&self) -> String {
        let mut ranges: Vec<(u64, u64, String)> = Vec::new();
        for entry in fs::read_dir(self.directory.join("memmap"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let read = |name| {
                let text = fs::read_to_string(entry.path().join(name)).unwrap_or_default();
                text.trim().to_owned()
            };
            let address = |text: String| {
                u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
            };
            ranges.push((address(read("start")), address(read("end")), read("type")));
        }
        ranges.sort();
        ranges
            .iter()
            .map(|(start, end, kind)| format!("{start:012x}-{end:012x} {kind}\n"))
            .collect()
    }

    /// All ACPI tables that the kernel has, by name.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn acpi(&self) -> Result<Vec<AcpiTable>> {
        let mut tables = Vec::new();
        let directory = self.directory.join("acpi");
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                tables.push(AcpiTable {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    bytes: fs::read(entry.path())?,
                });
            }
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }
}

impl AcpiTable {
    /// Whether its bytes add up to zero, as those of all tables do but the FACS, which has no checksum.
    pub fn sum_is_right(&self) -> bool {
        self.name == "FACS"
            || self
                .bytes
                .iter()
                .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
                == 0
    }

    /// Takes the table apart with iasl and puts it together again.
    ///
    /// # Errors
    /// iasl is not installed, or the table is not one for it.
    pub fn decompile(&self) -> Result<Decompiled> {
        let work = tempfile::tempdir()?;
        fs::write(work.path().join("table.dat"), &self.bytes)?;
        let run = |arguments: &[&str]| -> Result<String> {
            let output = Command::new("iasl")
                .args(arguments)
                .current_dir(work.path())
                .stdin(Stdio::null())
                .output()
                .context("cannot start iasl (package acpica-tools)")?;
            Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let said = run(&["-d", "table.dat"])?;
        let source = fs::read(work.path().join("table.dsl"))
            .with_context(|| format!("iasl cannot decompile {}:\n{said}", self.name))?;
        let source = String::from_utf8_lossy(&source).into_owned();
        let mut messages = complaints(&said);
        messages.extend(complaints(&run(&["-p", "again", "table.dsl"])?));
        Ok(Decompiled { source, messages })
    }
}

/// What iasl makes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decompiled {
    /// The table's source text.
    pub source: String,
    /// Errors and warnings, of decompiling and of compiling the source again, without their places.
    pub messages: Vec<String>,
}

/// The errors and warnings of iasl's output: `Warning  3073 - Multiple types`, in which no line number is.
fn complaints(output: &str) -> Vec<String> {
    let kinds = ["Error  ", "Warning  ", "Error:", "Warning:", "**** "];
    let complaint = |line: &str| {
        let start = kinds.iter().find_map(|kind| line.find(kind))?;
        let words: Vec<&str> = line[start..]
            .split_whitespace()
            .filter(|word| *word != "^")
            .collect();
        Some(words.join(" "))
    };
    output.lines().filter_map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_out_of_a_console_log() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("dmesg.txt"), "hello\n").unwrap();
        let archive = Command::new("sh")
            .args(["-c", "tar -cz -C \"$1\" . | base64", "sh"])
            .arg(tree.path())
            .output()
            .unwrap();
        let text = String::from_utf8(archive.stdout).unwrap();
        let console = format!(
            "noise\r\nreport-begin\r\n{}report-end\r\n",
            text.replace('\n', "\r\n")
        );
        let to = tree.path().join("out");
        let report = Report::unpack(&console, &to).unwrap();
        assert_eq!(report.text("dmesg.txt"), "hello\n");
        assert_eq!(report.text("nothing"), "");
        assert!(Report::unpack("report-begin\nH4", &to).is_err());
        assert!(Report::unpack("", &to).is_err());
    }

    #[test]
    fn complaints_are_told_from_talk() {
        let said = "dsdt.dsl     12:   Name (A, 1)\nWarning  3073 -      ^ Unused (A)\nASL Input: 3 lines\n\
                    Compilation successful. 0 Errors, 1 Warnings\n";
        assert_eq!(complaints(said), ["Warning 3073 - Unused (A)"]);
    }
}
