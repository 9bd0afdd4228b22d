//! Makes sure that the programs a command uses are installed, from the machine's own Debian or Ubuntu package sources.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::{Command, Output, Stdio};

/// What a command is about to do, in terms of the packages that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Start a guest under QEMU.
    Qemu,
    /// Make the demo disk: a Debian with GRUB in its master boot record.
    DebianDisk,
    /// Assemble the small guests that tests and benchmarks start, and make disks for them.
    Guests,
    /// Make and start a test bed, of Xen or of KVM.
    Bed,
    /// Make images with partitions and file systems of each kind.
    FileSystems,
    /// Run the real pygrub, whose package is unpacked, and measure it.
    Pygrub,
    /// Make Debian packages and an archive.
    Packages,
    /// Install and remove them in a Debian of their own.
    Chroot,
    /// Start domains by libvirt.
    Libvirt,
    /// Give a guest a TPM.
    Tpm,
    /// Start a disk by EFI as well, by OVMF.
    Efi,
    /// Make the small Linux that reports a guest's tables, and read these.
    Tables,
}

/// libvirt 11's daemon does not bring its driver for QEMU.
const LIBVIRT: &[&str] = &[
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "util-linux",
];

impl Need {
    /// The Debian packages that serve this need. Ubuntu has them under the same names.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Need::Qemu => &["qemu-system-data", "qemu-system-x86", "seabios"],
            Need::DebianDisk => &[
                "mmdebstrap",
                "debian-archive-keyring",
                "e2fsprogs",
                "grub-common",
                "grub-pc-bin",
            ],
            Need::Guests => &[
                "binutils",
                "e2fsprogs",
                "debian-installer-12-netboot-amd64",
                "grub-common",
                "grub-pc-bin",
                "grub-rescue-pc",
                "ipxe",
                "isolinux",
                "memtest86+",
                "mtools",
                "qemu-utils",
                "syslinux-common",
                "xorriso",
                "xz-utils",
            ],
            Need::FileSystems => &[
                "btrfs-progs",
                "dosfstools",
                "e2fsprogs",
                "fdisk",
                "gdisk",
                "mtools",
                "squashfs-tools",
                "xfsprogs",
                "xorriso",
            ],
            Need::Pygrub => &["e2fsprogs", "python3", "time"],
            Need::Tables => &[
                "acpica-tools",
                "busybox-static",
                "dmidecode",
                "e2fsprogs",
                "pciutils",
            ],
            Need::Packages => &["dpkg", "gzip", "tar", "xz-utils"],
            Need::Chroot => &["mmdebstrap", "debian-archive-keyring"],
            Need::Tpm => &["swtpm"],
            Need::Efi => &["dosfstools", "grub-efi-amd64-bin", "mtools", "ovmf"],
            Need::Libvirt => LIBVIRT,
            Need::Bed => &[
                "mmdebstrap",
                "debian-archive-keyring",
                "e2fsprogs",
                "kmod",
                "xz-utils",
            ],
        }
    }
}

/// Where the package `debian-archive-keyring` puts the keys of Debian's archives.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The packages that only a user other than root takes, to make a file system whose files belong to root.
const UNPRIVILEGED: &[&str] = &["fakeroot", "uidmap"];

/// Whether an installation is confirmed by the user first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Ask on the terminal; where standard input is no terminal, go on without asking.
    Ask,
    /// Go on without asking.
    Given,
}

impl Consent {
    /// What a `--yes` flag says.
    pub fn from_flag(yes: bool) -> Self {
        if yes { Consent::Given } else { Consent::Ask }
    }
}

/// Install the packages that all commands use
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
}

/// Carries out `cargo xtask setup`.
pub fn main(args: Args) -> Result<()> {
    ensure(
        &[
            Need::Qemu,
            Need::DebianDisk,
            Need::Guests,
            Need::Bed,
            Need::FileSystems,
            Need::Pygrub,
            Need::Tables,
            Need::Packages,
            Need::Chroot,
            Need::Libvirt,
            Need::Efi,
        ],
        Consent::from_flag(args.yes),
    )?;
    println!("All that Firstlight's commands use is installed.");
    Ok(())
}

/// Installs what is missing for `needs`. Says what it installs; does nothing and says nothing when all is there.
///
/// # Errors
/// The user declines, there is no way to become root, or apt cannot install the packages.
pub fn ensure(needs: &[Need], consent: Consent) -> Result<()> {
    let mut wanted: BTreeSet<&str> = needs
        .iter()
        .flat_map(|need| need.packages())
        .copied()
        .collect();
    let unpacks = |need: &Need| matches!(need, Need::Chroot | Need::DebianDisk | Need::Bed);
    if needs.iter().any(unpacks) && !is_root()? {
        wanted.extend(UNPRIVILEGED);
    }
    let Some(missing) = missing(&wanted)? else {
        eprintln!(
            "This is no Debian or Ubuntu: the counterparts of these packages have to be there: {}",
            list(&wanted)
        );
        return Ok(());
    };
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing packages: {}", list(&missing));
    if consent == Consent::Ask && std::io::stdin().is_terminal() {
        confirm("Install them with apt-get?")?;
    }
    install(&missing)
}

/// Those of `wanted` that are not installed, or nothing where packages are not managed by dpkg.
fn missing<'a>(wanted: &BTreeSet<&'a str>) -> Result<Option<BTreeSet<&'a str>>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot start dpkg-query"),
    };
    Ok(Some(not_installed(
        wanted,
        &String::from_utf8_lossy(&output.stdout),
    )))
}

/// Those of `wanted` for which dpkg-query's answer, lines of a name and a state, does not say "installed".
fn not_installed<'a>(wanted: &BTreeSet<&'a str>, answer: &str) -> BTreeSet<&'a str> {
    let installed: BTreeSet<&str> = answer
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    wanted
        .iter()
        .filter(|name| !installed.contains(*name))
        .copied()
        .collect()
}

fn list(packages: &BTreeSet<&str>) -> String {
    packages.iter().copied().collect::<Vec<_>>().join(" ")
}

fn confirm(question: &str) -> Result<()> {
    eprint!("{question} [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(
        matches!(answer.trim(), "" | "y" | "Y" | "yes"),
        "not installed: {question} was answered with no"
    );
    Ok(())
}

fn install(packages: &BTreeSet<&str>) -> Result<()> {
    update();
    if !installable(packages, None)? {
        let release = enable_backports(packages)?;
        update();
        ensure!(
            installable(packages, Some(&release))?,
            "apt-get cannot install {} from {release} either",
            list(packages)
        );
        return apt_install(packages, Some(&release));
    }
    apt_install(packages, None)
}

/// Brings the package lists up to date. One third-party source that cannot be reached fails the whole of `apt-get update` although
/// the other lists arrived, so a failure is only reported: the installation itself tells whether it mattered.
fn update() {
    eprintln!("Updating apt's package lists");
    for _ in 0..10 {
        match as_root("apt-get").and_then(|mut apt| {
            apt.args(["-q", "update"])
                .output()
                .context("cannot start apt-get")
        }) {
            Ok(output) if output.status.success() => return,
            Ok(output) if stderr(&output).contains("Could not get lock") => {
                std::thread::sleep(std::time::Duration::from_secs(3))
            }
            Ok(output) => {
                return eprintln!(
                    "apt-get update had problems; going on.\n{}",
                    stderr(&output).trim_end()
                );
            }
            Err(error) => return eprintln!("{error:#}; going on."),
        }
    }
}

/// Whether apt can install `packages`, from `release` if one is named, without removing any package.
fn installable(packages: &BTreeSet<&str>, release: Option<&str>) -> Result<bool> {
    let output = install_command(Command::new("apt-get"), packages, release)
        .arg("--simulate")
        .output()?;
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success() && !plan.lines().any(|line| line.starts_with("Remv ")))
}

fn apt_install(packages: &BTreeSet<&str>, release: Option<&str>) -> Result<()> {
    let status = install_command(as_root("apt-get")?, packages, release)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()?;
    ensure!(
        status.success(),
        "apt-get could not install {}",
        list(packages)
    );
    Ok(())
}

fn install_command(mut apt: Command, packages: &BTreeSet<&str>, release: Option<&str>) -> Command {
    apt.args([
        "-q",
        "-y",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=600",
        "-o",
        "Dpkg::Use-Pty=0",
    ]);
    if let Some(release) = release {
        apt.args(["-t", release]);
    }
    apt.arg("install").args(packages);
    apt
}

/// A machine with some packages from Debian's backports cannot take their companions from the plain release: QEMU's programs
/// depend on each other's exact versions. This adds the backports of the machine's own release, from its own mirror, to apt's
/// sources, and returns their name for apt's `-t`.
fn enable_backports(packages: &BTreeSet<&str>) -> Result<String> {
    let Some(archive) = debian_archive() else {
        bail!(
            "apt-get cannot install {}, and knows no Debian archive to take backports from",
            list(packages)
        );
    };
    if !archive.has_backports {
        let file = "/etc/apt/sources.list.d/firstlight-backports.sources";
        eprintln!(
            "Adding {} from {} to apt's sources, in {file}",
            archive.backports(),
            archive.uri
        );
        let mut tee = as_root("tee")?
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        tee.stdin
            .take()
            .context("no pipe to tee")?
            .write_all(archive.source().as_bytes())?;
        ensure!(tee.wait()?.success(), "cannot write {file}");
    }
    Ok(archive.backports())
}

/// The Debian archive that a machine is installed from.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    /// The address of the mirror, as apt's own sources have it.
    pub uri: String,
    /// The release's code name.
    pub codename: String,
    has_backports: bool,
}

impl Archive {
    fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }

    /// The content of an apt source file, in the format of sources.list(5), for the backports.
    fn source(&self) -> String {
        let signed_by = if std::path::Path::new(KEYRING).exists() {
            format!("Signed-By: {KEYRING}\n")
        } else {
            String::new()
        };
        format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n{signed_by}",
            self.uri,
            self.backports()
        )
    }
}

/// Finds the Debian release in apt's index targets: lines of a label, a code name, a component and a mirror's address.
fn own_archive(targets: &str) -> Option<Archive> {
    let mut releases =
        targets.lines().filter_map(
            |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["Debian", codename, "main", uri] => Some((codename, uri)),
                _ => None,
            },
        );
    let (codename, uri) = releases
        .clone()
        .find(|(codename, _)| !codename.contains('-'))?;
    let has_backports = releases.any(|(name, _)| name.strip_suffix("-backports") == Some(codename));
    Some(Archive {
        uri: uri.to_owned(),
        codename: codename.to_owned(),
        has_backports,
    })
}

/// The Debian archive that this machine is installed from, or nothing on another distribution.
pub fn debian_archive() -> Option<Archive> {
    let format = "$(LABEL) $(CODENAME) $(COMPONENT) $(REPO_URI)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .output()
        .ok()?;
    own_archive(&String::from_utf8_lossy(&output.stdout))
}

/// Whether this process runs as root.
pub fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("cannot start id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// A command that runs as root: directly if this process does, through sudo otherwise. It asks no questions of its own.
fn as_root(program: &str) -> Result<Command> {
    let mut command = if is_root()? {
        Command::new("env")
    } else {
        let sudo = Command::new("sudo")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        ensure!(
            sudo.is_ok_and(|status| status.success()),
            "{program} has to run as root, and there is no sudo"
        );
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    Ok(command)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_as_installed_only_in_that_state() {
        let wanted = BTreeSet::from(["nasm", "seabios", "fakeroot"]);
        let answer = "nasm installed\nseabios config-files\n";
        assert_eq!(
            not_installed(&wanted, answer),
            BTreeSet::from(["seabios", "fakeroot"])
        );
    }

    #[test]
    fn the_release_is_told_from_its_updates_and_from_other_archives() {
        let targets = "Node.js nodistro main https://example.org/node/\n\
                       Debian bookworm-updates main http://mirror.example/debian/\n\
                       Debian bookworm main http://mirror.example/debian/\n\
                       Debian-Security bookworm-security main http://mirror.example/security/\n";
        let archive = own_archive(targets).expect("a Debian archive");
        assert_eq!(
            (archive.codename.as_str(), archive.uri.as_str()),
            ("bookworm", "http://mirror.example/debian/")
        );
        assert!(!archive.has_backports);
        assert!(archive.source().contains("Suites: bookworm-backports\n"));
    }

    #[test]
    fn backports_that_are_there_are_not_added_again() {
        let targets = "Debian bookworm main http://a.example/debian/\nDebian bookworm-backports main http://a.example/debian/\n";
        assert!(
            own_archive(targets)
                .expect("a Debian archive")
                .has_backports
        );
        assert_eq!(
            own_archive("Ubuntu noble main http://b.example/ubuntu/\n"),
            None
        );
    }
}
