//! `cargo xtask dist`: an archive and Debian packages, the same bytes whenever and wherever they are made from one commit.

use crate::progress::Progress;
use crate::setup::{Consent, Need};
use crate::{build, command, project, setup};
use anyhow::{Context, Result, ensure};
use firstlight_host::firmware::{DIRECTORY, HVMLOADER, ROM};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPYRIGHT: &str = include_str!("dist/copyright");
const BEFORE_REMOVAL: &str = include_str!("dist/prerm");

/// Where QEMU's users look for descriptors of firmware (QEMU, docs/interop/firmware.json).
const DESCRIPTOR: &str = "/usr/share/qemu/firmware/70-firstlight.json";
/// The programs, each with its package of this workspace.
const PROGRAMS: [(&str, &str); 2] = [
    ("firstlight", "firstlight-host"),
    ("firstlight-bootloader", "firstlight-bootloader"),
];

/// Make an archive and Debian packages of the firmware and the host tools, in target/dist
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Files {
    /// The archive, to be unpacked anywhere.
    pub archive: PathBuf,
    /// Debian package firstlight-firmware.
    pub firmware: PathBuf,
    /// Debian package firstlight.
    pub tools: PathBuf,
}

/// Carries out `cargo xtask dist`.
pub fn main(args: Args) -> Result<()> {
    setup::ensure(&[Need::Packages], Consent::from_flag(args.yes))?;
    let files = make(&project::target().join("dist"))?;
    for file in [files.archive, files.firmware, files.tools] {
        println!("{}: {} bytes", file.display(), fs::metadata(&file)?.len());
    }
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes all files in `directory`, which is made anew.
///
/// # Errors
/// Something does not compile, or a program that packs is not there.
pub fn make(directory: &Path) -> Result<Files> {
    let mut progress = Progress::new("Making packages", 3);
    progress.step("firmware");
    let firmware = build::firmware()?;
    progress.step("host tools");
    let programs = host_programs()?;
    progress.step("packages");
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let time = source_time()?;
    let trees = [
        firmware_tree(directory, &firmware)?,
        tools_tree(directory, &programs)?,
    ];
    let archive = archive(directory, &trees, time)?;
    let [firmware_tree, tools_tree] = trees;
    let firmware = firmware_tree.package(&Package {
        name: "firstlight-firmware",
        architecture: "all",
        depends: "",
        summary: "boot firmware for virtual machines: BIOS for QEMU, loader for Xen",
        before_removal: None,
        time,
    })?;
    let depends = format!(
        "firstlight-firmware (= {VERSION}), libc6 (>= {})",
        oldest_libc(&programs)?
    );
    let tools = tools_tree.package(&Package {
        name: "firstlight",
        architecture: "amd64",
        depends: &depends,
        summary: "runs, checks and converts a domain's XML with the Firstlight firmware",
        before_removal: Some(BEFORE_REMOVAL),
        time,
    })?;
    progress.done();
    Ok(Files {
        archive,
        firmware,
        tools,
    })
}

/// What the package of the firmware has.
fn firmware_tree(directory: &Path, firmware: &build::Firmware) -> Result<Tree> {
    let tree = Tree::new(directory.join("firstlight-firmware"));
    let rom = format!("{DIRECTORY}/{ROM}");
    tree.copy(&firmware.rom, &rom, 0o644)?;
    let hvmloader = format!("{DIRECTORY}/{HVMLOADER}");
    tree.copy(&firmware.hvmloader, &hvmloader, 0o644)?;
    tree.write(DESCRIPTOR, descriptor(&rom), 0o644)?;
    let copyright = "/usr/share/doc/firstlight-firmware/copyright";
    tree.write(copyright, COPYRIGHT, 0o644)?;
    Ok(tree)
}

/// What the package of the host's programs has.
fn tools_tree(directory: &Path, programs: &[PathBuf]) -> Result<Tree> {
    let tree = Tree::new(directory.join("firstlight"));
    for (program, (name, _)) in programs.iter().zip(PROGRAMS) {
        tree.copy(program, &format!("/usr/bin/{name}"), 0o755)?;
    }
    manual(&tree)?;
    completions(&tree)?;
    let documents = "/usr/share/doc/firstlight";
    tree.write(&format!("{documents}/copyright"), COPYRIGHT, 0o644)?;
    for path in [
        "docs/using.md",
        "docs/bootloader.md",
        "docs/settings.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
    ] {
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = project::root().join(path);
        tree.copy(&file, &format!("{documents}/{name}"), 0o644)?;
    }
    let examples = project::root().join("docs/examples");
    for name in file_names(&examples)? {
        let target = format!("{documents}/examples/{name}");
        tree.copy(&examples.join(&name), &target, 0o644)?;
    }
    Ok(tree)
}

/// The archive, which has all of `trees`, and no place in the system.
fn archive(directory: &Path, trees: &[Tree], time: u64) -> Result<PathBuf> {
    let name = format!("firstlight-{VERSION}");
    let whole = directory.join(&name);
    for tree in trees {
        let copy = "mkdir -p \"$2\" && cp -a \"$1/usr/.\" \"$2\"";
        let mut shell = Command::new("sh");
        command::run_quietly(shell.args(["-c", copy, "sh"]).args([&tree.root, &whole]))?;
    }
    let archive = directory.join(format!("{name}-x86_64.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--format=gnu",
    ]);
    tar.arg(format!("--mtime=@{time}")).arg("-C").arg(directory);
    command::run_quietly(tar.arg("-cJf").args([&archive, Path::new(&name)]))?;
    fs::remove_dir_all(&whole)?;
    Ok(archive)
}

/// The description by which libvirt finds a BIOS in the file `rom` (QEMU, docs/interop/firmware.json).
pub fn descriptor(rom: &str) -> String {
    let descriptor = json!({
        "description": "Firstlight, a BIOS in Rust",
        "interface-types": ["bios"],
        "mapping": { "device": "memory", "filename": rom },
        "targets": [
            { "architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"] },
        ],
        "features": ["acpi-s3"],
        "tags": [],
    });
    format!("{descriptor:#}\n")
}

/// The host's programs, compiled such that no path of this machine is in them.
fn host_programs() -> Result<Vec<PathBuf>> {
    let root = project::root();
    let target = project::target().join("dist-build");
    let flags = format!(
        "--remap-path-prefix={}=firstlight --remap-path-prefix={}=cargo",
        root.display(),
        home::cargo_home()?.display()
    );
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--locked"]);
    for (_, package) in PROGRAMS {
        cargo.args(["--package", package]);
    }
    let status = cargo
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", flags)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .current_dir(root)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the host tools do not compile");
    Ok(PROGRAMS
        .map(|(name, _)| target.join("release").join(name))
        .into())
}

/// When the source was last changed, in seconds since 1970: `SOURCE_DATE_EPOCH`, or the commit's time. All files have it.
fn source_time() -> Result<u64> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return time.parse().context("SOURCE_DATE_EPOCH is no number");
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(project::root());
    let output = git
        .output()
        .context("cannot start git: set SOURCE_DATE_EPOCH")?;
    let time = String::from_utf8_lossy(&output.stdout).trim().parse();
    time.context("there is no commit: set SOURCE_DATE_EPOCH")
}

/// The newest version of the C library that a symbol of the programs is of.
fn oldest_libc(programs: &[PathBuf]) -> Result<String> {
    let mut newest = (2, 17);
    for program in programs {
        let bytes = fs::read(program)?;
        let mark = b"GLIBC_2.";
        for at in 0..bytes.len().saturating_sub(mark.len()) {
            if bytes[at..].starts_with(mark) {
                let rest = bytes[at + mark.len()..].iter();
                let digits = rest.take_while(|byte| byte.is_ascii_digit());
                let digits: String = digits.map(|&byte| char::from(byte)).collect();
                newest = newest.max((2, digits.parse().unwrap_or(0)));
            }
        }
    }
    Ok(format!("{}.{}", newest.0, newest.1))
}

fn manual(tree: &Tree) -> Result<()> {
    let program = firstlight_host::cli::command();
    let mut pages = vec![(program.get_name().to_owned(), program.clone())];
    for command in program.get_subcommands() {
        let name = format!("{}-{}", program.get_name(), command.get_name());
        let command = command.clone().display_name(name.clone());
        pages.push((name.clone(), command.bin_name(name.replacen('-', " ", 1))));
    }
    for (name, page) in pages {
        let mut text = Vec::new();
        clap_mangen::Man::new(page).render(&mut text)?;
        manual_page(tree, &format!("man1/{name}.1"), text)?;
    }
    let bootloader = fs::read(project::root().join("docs/firstlight-bootloader.8"))?;
    manual_page(tree, "man8/firstlight-bootloader.8", bootloader)
}

fn manual_page(tree: &Tree, name: &str, text: Vec<u8>) -> Result<()> {
    let place = format!("/usr/share/man/{name}");
    tree.write(&place, text, 0o644)?;
    // Without the file's name and time.
    command::run_quietly(Command::new("gzip").arg("-9n").arg(tree.place(&place)))
}

fn completions(tree: &Tree) -> Result<()> {
    use clap_complete::Shell;
    for (shell, place) in [
        (
            Shell::Bash,
            "/usr/share/bash-completion/completions/firstlight",
        ),
        (Shell::Zsh, "/usr/share/zsh/vendor-completions/_firstlight"),
        (
            Shell::Fish,
            "/usr/share/fish/vendor_completions.d/firstlight.fish",
        ),
    ] {
        let mut text = Vec::new();
        let mut program = firstlight_host::cli::command();
        clap_complete::generate(shell, &mut program, "firstlight", &mut text);
        tree.write(place, text, 0o644)?;
    }
    Ok(())
}

/// The names of a directory's files, in order.
fn file_names(directory: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    let names = entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// A Debian package's own words.
struct Package<'a> {
    name: &'a str,
    architecture: &'a str,
    depends: &'a str,
    summary: &'a str,
    /// The script that runs before its files are removed.
    before_removal: Option<&'a str>,
    /// The time of all files.
    time: u64,
}

/// The files of a package, as they are in the system.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let place = self.place(path);
        let mut directory = place.parent();
        fs::create_dir_all(directory.context("a file is in a directory")?)?;
        // Whatever the user's umask says.
        while let Some(own) = directory.filter(|own| own.starts_with(&self.root)) {
            fs::set_permissions(own, fs::Permissions::from_mode(0o755))?;
            directory = own.parent();
        }
        fs::write(&place, content)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(path, content, mode)
    }

    /// Makes a Debian package, and leaves nothing but that.
    fn package(&self, package: &Package) -> Result<PathBuf> {
        let version = env!("CARGO_PKG_VERSION");
        let mut control = format!(
            "Package: {}\nVersion: {version}\nArchitecture: {}\nMaintainer: The Firstlight authors <firstlight@localhost>\n\
             Section: otherosfs\nPriority: optional\n",
            package.name, package.architecture
        );
        if !package.depends.is_empty() {
            control += &format!("Depends: {}\n", package.depends);
        }
        control += &format!("Description: {}\n", package.summary);
        self.write("/DEBIAN/control", control, 0o644)?;
        if let Some(script) = package.before_removal {
            self.write("/DEBIAN/prerm", script, 0o755)?;
        }
        let name = format!("{}_{version}_{}.deb", package.name, package.architecture);
        let file = self.root.with_file_name(name);
        let mut pack = Command::new("dpkg-deb");
        // Files that are newer than this get this time.
        pack.env("SOURCE_DATE_EPOCH", package.time.to_string());
        pack.args(["--root-owner-group", "-Zxz", "--build"]);
        command::run_quietly(pack.args([&self.root, &file]))?;
        fs::remove_dir_all(&self.root)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_the_same_bytes_each_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            let tree = Tree::new(directory.path().join(name).join("x"));
            tree.write("/usr/share/x/y", "z", 0o644).expect("a file");
            let package = Package {
                name: "x",
                architecture: "all",
                depends: "",
                summary: "x",
                before_removal: Some("#!/bin/sh\n"),
                time: 1_700_000_000,
            };
            fs::read(tree.package(&package).expect("a package")).expect("a file")
        };
        assert_eq!(make("a"), make("b"));
    }

    #[test]
    fn the_descriptor_names_the_rom() {
        let descriptor: serde_json::Value = serde_json::from_str(&descriptor("/x")).expect("JSON");
        assert_eq!(descriptor["mapping"]["filename"], "/x");
        assert_eq!(descriptor["interface-types"][0], "bios");
    }
}
