//! The bootloader beside the real pygrub, on the same disks. Each difference has its reason in `pygrub-differences.toml`.

use anyhow::{Context, Result, ensure};
use firstlight_tests::guestdisk::{Content, Fs, Layout, Part, disk};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use xtask::build::host::Program;

/// A file in a guest's disk: its path, and its text. One without a text is a kernel or an initial RAM disk.
type Files = &'static [(&'static str, Option<&'static str>)];

/// A disk, and what both are asked.
struct Case {
    name: &'static str,
    layout: Layout,
    parts: Vec<(Fs, Files)>,
    arguments: &'static [&'static str],
}

#[derive(Deserialize)]
struct Table {
    difference: Vec<Difference>,
}

#[derive(Clone, Deserialize)]
struct Difference {
    case: String,
    pygrub: String,
    firstlight: String,
    reason: String,
}

macro_rules! config {
    ($name:literal) => {
        Some(include_str!(concat!(
            "../../crates/bootloader/tests/configs/",
            $name
        )))
    };
}

const DEBIAN: Files = &[
    ("/boot/grub/grub.cfg", config!("debian.cfg")),
    ("/boot/vmlinuz-6.1.0-2-amd64", None),
    ("/boot/initrd.img-6.1.0-2-amd64", None),
    ("/boot/vmlinuz-6.1.0-1-amd64", None),
    ("/boot/initrd.img-6.1.0-1-amd64", None),
];

const SAVED: Files = &[
    ("/boot/grub/grub.cfg", config!("debian.cfg")),
    (
        "/boot/grub/grubenv",
        Some("saved_entry=gnulinux-advanced-1111>gnulinux-6.1.0-1-amd64-recovery-1111\n"),
    ),
    ("/boot/vmlinuz-6.1.0-2-amd64", None),
    ("/boot/initrd.img-6.1.0-2-amd64", None),
    ("/boot/vmlinuz-6.1.0-1-amd64", None),
    ("/boot/initrd.img-6.1.0-1-amd64", None),
];

const UBUNTU: Files = &[
    ("/grub/grub.cfg", config!("ubuntu.cfg")),
    ("/vmlinuz-6.8.0-31-generic", None),
    ("/initrd.img-6.8.0-31-generic", None),
];

const FEDORA: Files = &[
    ("/grub2/grub.cfg", config!("fedora.cfg")),
    (
        "/loader/entries/m-6.10.2.conf",
        Some(
            "title Fedora\nversion 6.10.2\nlinux /vmlinuz-6.10.2\ninitrd /initramfs-6.10.2.img\noptions root=UUID=1 ro\n",
        ),
    ),
    ("/vmlinuz-6.10.2", None),
    ("/initramfs-6.10.2.img", None),
];

const OPENSUSE: Files = &[
    ("/boot/grub2/grub.cfg", config!("opensuse.cfg")),
    ("/boot/vmlinuz-6.9-default", None),
    ("/boot/initrd-6.9-default", None),
];

const NIXOS: Files = &[
    ("/grub/grub.cfg", config!("nixos.cfg")),
    ("/kernels/abc-linux-6.6-bzImage", None),
    ("/kernels/abc-initrd-linux-6.6-initrd", None),
];

const OPENWRT: Files = &[
    ("/boot/grub/grub.cfg", config!("openwrt.cfg")),
    ("/boot/vmlinuz", None),
];

const ARCH: Files = &[
    ("/boot/grub/grub.cfg", config!("arch.cfg")),
    ("/boot/vmlinuz-linux", None),
    ("/boot/intel-ucode.img", None),
    ("/boot/initramfs-linux.img", None),
];

const ALPINE: Files = &[
    ("/boot/extlinux.conf", config!("alpine.cfg")),
    ("/boot/vmlinuz-virt", None),
    ("/boot/initramfs-virt", None),
    ("/boot/vmlinuz-lts", None),
    ("/boot/ucode.img", None),
    ("/boot/initramfs-lts", None),
];

const EXTLINUX: Files = &[
    (
        "/extlinux.conf",
        Some(
            "default two\ntimeout 30\nlabel one\n kernel /one\n append a\nlabel two\n kernel /two\n append initrd=/two.img root=/dev/xvda1 ro\n",
        ),
    ),
    ("/one", None),
    ("/two", None),
    ("/two.img", None),
];

const LEGACY: Files = &[
    (
        "/boot/grub/menu.lst",
        Some(
            "default 1\ntimeout 5\ntitle Old\nroot (hd0,0)\nkernel /boot/one ro\ntitle New\nroot (hd0,0)\nkernel /boot/two root=/dev/xvda1 ro\ninitrd /boot/two.img\n",
        ),
    ),
    ("/boot/one", None),
    ("/boot/two", None),
    ("/boot/two.img", None),
];

const LEGACY_XEN: Files = &[
    ("/grub/menu.lst", config!("legacy.cfg")),
    ("/vmlinuz-2.6.18", None),
    ("/initrd-2.6.18.img", None),
    ("/xen.gz", None),
    ("/vmlinuz-xen", None),
    ("/initrd-xen.img", None),
];

const INSTALLER: Files = &[
    ("/isolinux/isolinux.cfg", config!("isolinux.cfg")),
    ("/isolinux/menu.cfg", config!("isolinux-menu.cfg")),
    ("/isolinux/txt.cfg", config!("isolinux-txt.cfg")),
    ("/install/vmlinuz", None),
    ("/install/initrd.gz", None),
];

const SYSTEMD_BOOT: Files = &[
    (
        "/loader/entries/arch.conf",
        Some(
            "title Arch\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions root=LABEL=arch rw\n",
        ),
    ),
    ("/vmlinuz-linux", None),
    ("/initramfs-linux.img", None),
];

const BRANCHES: Files = &[
    (
        "/boot/grub/grub.cfg",
        Some(
            "set default=1\nif [ \"$grub_platform\" = efi ]; then\nmenuentry 'never' {\nlinux /never x\n}\nfi\nmenuentry 'first' {\nlinux /first x\n}\nmenuentry 'second' {\nlinux /second x\n}\n",
        ),
    ),
    ("/never", None),
    ("/first", None),
    ("/second", None),
];

const VARIABLES: Files = &[
    (
        "/boot/grub/grub.cfg",
        Some(
            "set version=6\nset console='console=hvc0'\nmenuentry 'v' {\nlinux /boot/vmlinuz-$version root=/dev/xvda1 ${console}\n}\n",
        ),
    ),
    ("/boot/vmlinuz-6", None),
];

const TITLES: Files = &[
    (
        "/boot/grub/grub.cfg",
        Some(
            "set default=\"second\"\nmenuentry 'first' {\nlinux /first x\n}\nmenuentry 'second' {\nlinux /second x\n}\n",
        ),
    ),
    ("/first", None),
    ("/second", None),
];

const UNIFIED: Files = &[("/EFI/Linux/arch-6.10.efi", Some("root=LABEL=arch rw"))];

const SOURCED: Files = &[
    (
        "/boot/grub/grub.cfg",
        Some("source /boot/grub/entries.cfg\n"),
    ),
    (
        "/boot/grub/entries.cfg",
        Some("menuentry 'e' {\nlinux /k x\n}\n"),
    ),
    ("/k", None),
];

const EFI_STUB: Files = &[(
    "/EFI/debian/grub.cfg",
    Some(
        "search --file /boot/vmlinuz-6.1.0-2-amd64 --set=root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n",
    ),
)];

const LILO: Files = &[("/etc/lilo.conf", Some("image=/k\n")), ("/k", None)];

const INJECTION: Files = &[
    (
        "/boot/grub/grub.cfg",
        Some("menuentry 'e' {\nlinux /k a)(kernel /etc/shadow)\n}\n"),
    ),
    ("/k", None),
];

fn case(name: &'static str, layout: Layout, fs: Fs, files: Files) -> Case {
    Case {
        name,
        layout,
        parts: vec![(fs, files)],
        arguments: &[],
    }
}

fn cases() -> Vec<Case> {
    use Fs::{Btrfs, Ext4, Fat, Iso, Xfs, XfsV4};
    use Layout::{Gpt, Logical, Lvm, Mbr, Whole};
    let asked = |name, arguments| Case {
        arguments,
        ..case(name, Mbr, Ext4, DEBIAN)
    };
    vec![
        case("Debian", Mbr, Ext4, DEBIAN),
        case("Debian, whole disk", Whole, Ext4, DEBIAN),
        case("Debian, GPT", Gpt, Ext4, DEBIAN),
        case("Debian, logical partition", Logical, Ext4, DEBIAN),
        case("Debian, LVM", Lvm, Ext4, DEBIAN),
        case("Fedora, XFS on LVM", Lvm, Xfs, FEDORA),
        case("Debian, saved entry", Mbr, Ext4, SAVED),
        asked("entry by number", &["--entry=2"]),
        asked(
            "entry by title",
            &["--entry=Debian GNU/Linux, with Linux 6.1.0-1-amd64 (recovery mode)"],
        ),
        asked("no such entry", &["--entry=nonsense"]),
        asked(
            "kernel of the caller",
            &["--kernel=/boot/vmlinuz-6.1.0-1-amd64", "--args=single"],
        ),
        asked("added arguments", &["--args=console=hvc0 single"]),
        asked("names only", &["--not-really"]),
        case("Ubuntu", Mbr, Ext4, UBUNTU),
        Case {
            parts: vec![(Fat, EFI_STUB), (Ext4, FEDORA)],
            ..case("Fedora", Gpt, Ext4, &[])
        },
        case("Fedora, XFS", Gpt, Xfs, FEDORA),
        case("openSUSE", Mbr, Ext4, OPENSUSE),
        case("openSUSE, btrfs", Gpt, Btrfs, OPENSUSE),
        case("NixOS", Mbr, Ext4, NIXOS),
        case("OpenWrt", Mbr, Ext4, OPENWRT),
        case("Arch", Mbr, Ext4, ARCH),
        case("Arch, systemd-boot", Gpt, Fat, SYSTEMD_BOOT),
        case("Arch, unified kernel image", Gpt, Fat, UNIFIED),
        case("Alpine", Mbr, Ext4, ALPINE),
        case("extlinux", Mbr, Ext4, EXTLINUX),
        case("extlinux, FAT", Mbr, Fat, EXTLINUX),
        case("extlinux, XFS version 4", Mbr, XfsV4, EXTLINUX),
        case("GRUB legacy", Mbr, Ext4, LEGACY),
        case("GRUB legacy, entry of a host", Mbr, Ext4, LEGACY_XEN),
        case("Debian, ISO 9660", Whole, Iso, DEBIAN),
        case("installer, ISO 9660", Whole, Iso, INSTALLER),
        case("branches", Mbr, Ext4, BRANCHES),
        case("variables", Mbr, Ext4, VARIABLES),
        case("default by title", Mbr, Ext4, TITLES),
        case("source", Mbr, Ext4, SOURCED),
        Case {
            parts: vec![(Fat, EFI_STUB), (Ext4, DEBIAN)],
            ..case("EFI system partition", Gpt, Ext4, &[])
        },
        case("LILO", Mbr, Ext4, LILO),
        case("parentheses in the command line", Mbr, Ext4, INJECTION),
    ]
}

/// What a bootloader makes of a disk, in words: which files of the guest it copied, and the command line.
fn outcome(mut bootloader: Command, arguments: &[&str], disk: &Path) -> Result<String> {
    let copies = tempfile::tempdir()?;
    let output = bootloader
        .args(["--quiet", "--output-format=simple0"])
        .arg(format!("--output-directory={}", copies.path().display()))
        .args(arguments)
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .context("the bootloader does not start")?;
    if !output.status.success() {
        ensure!(output.status.code() == Some(1), "{}", output.status);
        return Ok("fails".to_owned());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut said = Vec::new();
    for item in text.split('\0').filter(|item| !item.is_empty()) {
        let (name, value) = item.split_once(' ').context("an item without a value")?;
        said.push(match name {
            "kernel" | "ramdisk" if value.starts_with('/') => {
                format!("{name} {}", copied(Path::new(value))?)
            }
            // Blanks between words do not matter to a kernel.
            _ => format!(
                "{name} {}",
                value.split_whitespace().collect::<Vec<_>>().join(" ")
            ),
        });
    }
    Ok(said.join(", "))
}

/// The names that the files of a guest have in them, of which a copy consists.
fn copied(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("{}", file.display()))?;
    let text = String::from_utf8_lossy(&content);
    let names: Vec<&str> = text.split('@').skip(1).step_by(2).collect();
    Ok(names.join(" + "))
}

/// What a file has in it. The text of a unified kernel image is its command line.
fn content(path: &str, text: Option<&'static str>) -> Content<'static> {
    match text {
        None => Content::Kernel,
        Some(line) if path.ends_with(".efi") => Content::Unified(line),
        Some(text) => Content::Text(text),
    }
}

#[test]
fn the_bootloader_does_what_pygrub_does_and_more() -> Result<()> {
    let ours = xtask::build::host::file(Program::Bootloader)?;
    let table: Table = toml::from_str(include_str!("../pygrub-differences.toml"))?;
    let mut known: BTreeMap<String, Difference> = BTreeMap::new();
    for difference in table.difference {
        ensure!(
            !difference.reason.is_empty(),
            "{} has no reason",
            difference.case
        );
        known.insert(difference.case.clone(), difference);
    }
    let mut wrong = String::new();
    for case in cases() {
        let directory = tempfile::tempdir()?;
        let parts: Vec<Part> = case
            .parts
            .iter()
            .map(|(fs, files)| Part {
                fs: *fs,
                files: files
                    .iter()
                    .map(|(path, text)| (*path, content(path, *text)))
                    .collect(),
            })
            .collect();
        let image: PathBuf = disk(directory.path(), case.layout, &parts)
            .with_context(|| format!("the disk of {}", case.name))?;
        let pygrub = outcome(xtask::pygrub::command()?, case.arguments, &image)?;
        let firstlight = outcome(Command::new(&ours), case.arguments, &image)?;
        let expected = known.remove(case.name);
        let expected = expected.map(|known| (known.pygrub, known.firstlight));
        let found = (pygrub != firstlight).then_some((pygrub, firstlight));
        if expected != found {
            let (pygrub, firstlight) = found.unwrap_or_default();
            writeln!(
                wrong,
                "[[difference]]\ncase = {:?}\npygrub = {pygrub:?}\nfirstlight = {firstlight:?}\nreason = \"\"\n",
                case.name
            )?;
        }
    }
    ensure!(known.is_empty(), "no such cases: {:?}", known.keys());
    ensure!(
        wrong.is_empty(),
        "not as pygrub-differences.toml has it:\n{wrong}"
    );
    Ok(())
}
