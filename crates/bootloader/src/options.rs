//! The command line: pygrub's, option for option.

use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `linux (kernel 'FILE')(ramdisk 'FILE')(args 'LINE')`
    Sxp,
    /// Lines of `kernel FILE`, `ramdisk FILE` and `args LINE`, and an empty one.
    Simple,
    /// The same with NUL in place of line breaks: what libxl asks for.
    Simple0,
}

/// Picks a Xen guest's kernel from the guest's own disk.
///
/// Reads the boot configuration on the disk IMAGE (GRUB 2, Boot Loader Specification, SYSLINUX, GRUB legacy), copies the kernel and
/// the initial RAM disk that it chooses to files of the host, and writes their names. All that reads the disk runs in a sandbox.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "firstlight-bootloader",
    version,
    infer_long_args = true,
    args_override_self = true
)]
pub struct Options {
    /// Show no menu; boot the default, or what --entry says.
    #[arg(short, long, overrides_with = "interactive")]
    pub quiet: bool,
    /// Show the menu on the terminal. This is so without --quiet and --entry; the last of the three counts.
    #[arg(short, long)]
    pub interactive: bool,
    /// List all entries with what they boot, and end.
    #[arg(short, long)]
    pub list_entries: bool,
    /// Copy nothing: write the names that kernel and initial RAM disk have on the disk.
    #[arg(short, long)]
    pub not_really: bool,
    /// Write the result to this file, which has to exist. `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// How the result is written.
    #[arg(long, value_name = "FORMAT", default_value = "sxp")]
    pub output_format: Format,
    /// Where to put the copies.
    #[arg(long, value_name = "DIRECTORY")]
    pub output_directory: Option<PathBuf>,
    /// Boot this file of the disk, and read no configuration.
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<String>,
    /// The initial RAM disk to --kernel.
    #[arg(long, value_name = "PATH")]
    pub ramdisk: Option<String>,
    /// Add this to the kernel's command line; with --kernel, it is the command line.
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub args: Option<String>,
    /// Add this to the kernel's command line, too.
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// The entry to boot: its number among all entries (as --list-entries shows them, from 0), its title or its id.
    #[arg(long, value_name = "ENTRY", allow_hyphen_values = true)]
    pub entry: Option<String>,
    /// Read only the file system that begins so many bytes into IMAGE.
    #[arg(long, value_name = "BYTES")]
    pub offset: Option<u64>,
    /// Read the disk as this user. As root without it, as the user `nobody`.
    #[arg(long, value_name = "UID")]
    pub runas: Option<u32>,
    /// IMAGE is a configuration file: show what it boots, and end.
    #[arg(long)]
    pub isconfig: bool,
    /// Say what is tried, and what the sandbox consists of.
    #[arg(long)]
    pub debug: bool,
    /// This is the process in the sandbox: what it works on comes in through standard input.
    #[arg(long, hide = true)]
    pub worker: bool,
    /// A disk image or block device.
    pub image: PathBuf,
    /// Whether the menu is to be shown, by the order of --quiet, --interactive and --entry.
    #[arg(skip)]
    pub menu: bool,
}

impl Options {
    /// Reads the command line's arguments, of which the first is the program's name.
    ///
    /// # Errors
    /// What clap says of them; a call for help is one.
    pub fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let arguments = unglued(arguments);
        let mut options = Self::try_parse_from(&arguments)?;
        options.menu = interactive(&arguments);
        Ok(options)
    }

    /// What is added to the kernel's command line.
    pub fn added(&self) -> Option<String> {
        let parts = [self.args.as_deref(), self.append.as_deref()];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    /// Whether it only shows something, and writes no result.
    pub fn only_shows(&self) -> bool {
        self.list_entries || self.isconfig
    }
}

/// Whether the menu is shown: the last of the options that say so counts, as pygrub has it.
fn interactive(arguments: &[OsString]) -> bool {
    let mut interactive = true;
    for argument in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        let name = argument.split('=').next().unwrap_or_default();
        match name {
            "--" => break,
            _ if is_long(name, "--interactive") => interactive = true,
            _ if is_long(name, "--quiet") || is_long(name, "--entry") => interactive = false,
            _ if name.starts_with('-') && !name.starts_with("--") => {
                for flag in name.chars() {
                    match flag {
                        'q' => interactive = false,
                        'i' => interactive = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interactive
}

/// Whether `name` is `option` or an abbreviation that no other option has: its first letter does.
fn is_long(name: &str, option: &str) -> bool {
    name.len() >= 3 && option.starts_with(name)
}

/// The options that libvirt may have glued together.
const KNOWN: &[&str] = &[
    "--quiet",
    "--interactive",
    "--list-entries",
    "--not-really",
    "--output",
    "--output-format",
    "--output-directory",
    "--kernel",
    "--ramdisk",
    "--args",
    "--append",
    "--entry",
    "--offset",
    "--runas",
    "--isconfig",
    "--debug",
];

/// Splits arguments that are several: libvirt hands over `<bootloader_args>` as one. libxl puts them after `--output-directory=`, and
/// what stands before is its own: a command line in `--args=` may hold anything.
fn unglued(arguments: Vec<OsString>) -> Vec<OsString> {
    let own = arguments.iter().position(|argument| {
        argument
            .to_string_lossy()
            .starts_with("--output-directory=")
    });
    let own = own.map_or(1, |position| position + 1);
    let split = |(index, argument): (usize, OsString)| match argument.to_str() {
        Some(text) if index >= own => words(text),
        _ => vec![argument],
    };
    arguments.into_iter().enumerate().flat_map(split).collect()
}

/// The arguments in one, by the shell's rules; the argument itself where it is one.
fn words(argument: &str) -> Vec<OsString> {
    let whole = vec![OsString::from(argument)];
    if !argument.starts_with('-') {
        return whole;
    }
    let Some(words) = shlex::split(argument) else {
        return whole;
    };
    let option = argument
        .split(['=', ' ', '\t', '\n'])
        .next()
        .unwrap_or_default();
    let value_has_blanks = argument[option.len()..].starts_with('=');
    let more_options = words.iter().skip(1).any(|word| {
        let name = word.split('=').next().unwrap_or_default();
        KNOWN.contains(&name)
    });
    let quoted = argument[option.len()..]
        .strip_prefix('=')
        .is_some_and(|value| value.starts_with(['"', '\'']) && words.len() == 1);
    if !value_has_blanks || more_options || quoted {
        words.into_iter().map(OsString::from).collect()
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Options {
        let arguments = std::iter::once("bootloader").chain(arguments.iter().copied());
        Options::read(arguments.map(OsString::from).collect()).expect("good arguments")
    }

    #[test]
    fn libxls_arguments_are_read() {
        let options = read(&[
            "--args=root=/dev/xvda1 ro --entry=no dyndbg=\"file a +p\"",
            "--runas=1000",
            "--quiet",
            "--output=/run/o",
            "--output-format=simple0",
            "--output-directory=/run/d",
            "/dev/loop0",
        ]);
        assert_eq!(
            options.args.as_deref(),
            Some("root=/dev/xvda1 ro --entry=no dyndbg=\"file a +p\"")
        );
        assert_eq!((options.runas, options.menu), (Some(1000), false));
        assert_eq!(options.output_format, Format::Simple0);
        assert_eq!(options.entry, None);
    }

    #[test]
    fn what_libvirt_glues_is_split() {
        let glued = |argument| read(&["--output-directory=/run/d", argument, "disk"]);
        assert_eq!(glued("--append single").append.as_deref(), Some("single"));
        let both = glued("--entry=2 --args=\"console=hvc0 single\"");
        assert_eq!(both.entry.as_deref(), Some("2"));
        assert_eq!(both.args.as_deref(), Some("console=hvc0 single"));
        assert!(glued("-q -i").menu);
        assert!(!glued("--entry 1").menu);
        // One argument of xl.cfg's list.
        let one = glued("--args=console=hvc0 single");
        assert_eq!(one.args.as_deref(), Some("console=hvc0 single"));
        let quoted = glued("--args='a b'");
        assert_eq!(quoted.args.as_deref(), Some("a b"));
        assert_eq!(glued("--args=x=\"a b\"").args.as_deref(), Some("x=\"a b\""));
    }

    #[test]
    fn the_last_word_on_the_menu_counts() {
        assert!(read(&["d"]).menu);
        assert!(!read(&["-q", "d"]).menu);
        assert!(read(&["--quiet", "--interactive", "d"]).menu);
        assert!(!read(&["-i", "--entry=3", "d"]).menu);
        assert!(!read(&["--qui", "d"]).menu);
        assert_eq!(
            read(&["-nq", "--entry", "a", "--ent", "b", "d"])
                .entry
                .as_deref(),
            Some("b")
        );
    }
}
