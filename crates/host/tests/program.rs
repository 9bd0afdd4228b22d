//! The program `firstlight` as a user calls it, with stand-ins for QEMU and xl that write down what they were told.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A name with all that shells, QEMU's options and xl.cfg take as their own.
const NAME: &str = "a b,c'd\"e\\f;$(touch evil)\n`g`=%n #";

/// A directory with firmware, stand-ins, and a domain.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a directory"));
        for name in ["rom", "loader", "bootloader", NAME] {
            fs::write(host.path(name), "").expect("a file");
        }
        fs::create_dir(host.path("bin")).expect("a directory");
        for name in ["qemu-system-x86_64", "xl"] {
            // Each argument ends with NUL, since it may have a line end.
            let told = host.path("told");
            host.stand_in(
                name,
                &format!("printf '%s\\0' \"$@\" > '{}'", told.display()),
            );
        }
        host
    }

    fn stand_in(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program on a domain.
    fn run(&self, command: &[&str], domain: &str) -> Output {
        let file = self.path("domain.xml");
        fs::write(&file, domain).expect("a file");
        let path = std::env::var("PATH").expect("a path");
        Command::new(env!("CARGO_BIN_EXE_firstlight"))
            .args(&command[..1])
            .arg(file)
            .args(&command[1..])
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .current_dir(self.0.path())
            .output()
            .expect("the program runs")
    }

    /// What a stand-in was told.
    fn told(&self) -> Vec<OsString> {
        let told = fs::read(self.path("told")).expect("it was called");
        let words = told.split(|byte| *byte == 0);
        let mut words: Vec<OsString> = words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect();
        words.pop();
        words
    }

    fn was_called(&self) -> bool {
        self.path("told").exists()
    }
}

fn domain(kind: &str, top: &str, os: &str, devices: &str) -> String {
    format!(
        "<domain type='{kind}'><name>guest</name><memory unit='MiB'>64</memory>{top}<os>{os}</os><devices>{devices}</devices></domain>"
    )
}

fn escaped(name: &str) -> String {
    let name = name.replace('"', "&quot;").replace('\'', "&apos;");
    name.replace('\n', "&#10;")
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

const HVM: &str = "<type>hvm</type>";
const SERIAL: &str = "<serial type='pty'/>";

#[test]
fn names_reach_qemu_as_they_are() {
    let host = Host::new();
    let name = escaped(NAME);
    let os =
        format!("{HVM}<kernel>{name}</kernel><initrd>{name}</initrd><cmdline>{name}</cmdline>");
    let disk = format!("{SERIAL}<disk><source file='{name}'/><target dev='hda'/></disk>");
    let output = host.run(&["run", "--rom", "rom"], &domain("qemu", "", &os, &disk));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = host.told();
    let after = |option: &str| {
        let at = told.iter().position(|word| word == option);
        told[at.expect("the option") + 1].clone()
    };
    let file = host.path(NAME);
    assert_eq!(after("-kernel"), file);
    assert_eq!(after("-initrd"), file);
    assert_eq!(after("-append"), NAME);
    let file = file.display().to_string().replace(',', ",,");
    let drive = after("-drive").into_string().expect("UTF-8");
    assert!(drive.ends_with(&format!("file.filename={file}")), "{drive}");
    assert!(!host.path("evil").exists());
}

#[test]
fn names_reach_xl_as_they_are() {
    let host = Host::new();
    let name = escaped(NAME);
    let os = format!("{HVM}<kernel>{name}</kernel><cmdline>{name}</cmdline>");
    let disk = format!("<disk><source file='{name}'/><target dev='hda'/></disk>");
    let xml = domain("xen", "", &os, &disk);
    let output = host.run(&["xl", "-o", "out", "--loader", "loader", "--start"], &xml);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = host.path("out/xl.cfg");
    assert_eq!(host.told(), [OsString::from("create"), file.clone().into()]);
    let config = fs::read_to_string(file).expect("a configuration");
    // A string of xl.cfg has \ before " and \, and \n for a line end; a disk's name cannot have one, so a link has it.
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        text.replace('\n', "\\n")
    };
    let kernel = quoted(&host.path(NAME).display().to_string());
    let link = host.path("out/disk0");
    for line in [
        format!("kernel = \"{kernel}\"\n"),
        format!("cmdline = \"{}\"\n", quoted(NAME)),
        format!("target={}\"", link.display()),
    ] {
        assert!(config.contains(&line), "no {line} in {config}");
    }
    assert_eq!(fs::read_link(link).expect("a link"), host.path(NAME));
    assert!(!host.path("evil").exists());
}

#[test]
fn a_guest_of_xl_is_started_only_when_asked_and_its_failure_is_told() {
    let host = Host::new();
    let xml = domain("xen", "", HVM, "");
    let output = host.run(&["xl", "-o", "out", "--loader", "loader"], &xml);
    assert!(output.status.success() && !host.was_called());
    host.stand_in("xl", "exit 3");
    let output = host.run(&["xl", "-o", "out", "--loader", "loader", "--start"], &xml);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("xl failed (exit status: 3)"));
}

#[test]
fn the_bootloader_is_ours_whatever_the_domain_names() {
    let host = Host::new();
    let top =
        "<bootloader>/tmp/evil</bootloader><bootloader_args>--append single</bootloader_args>";
    let xml = domain("xen", top, "<type>linux</type>", "");
    let command = ["xl", "-o", "out", "--bootloader", "bootloader"];
    let output = host.run(&command, &xml);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config = fs::read_to_string(host.path("out/xl.cfg")).expect("a configuration");
    let ours = format!("bootloader = \"{}\"\n", host.path("bootloader").display());
    assert!(
        config.contains(&ours) && !config.contains("evil"),
        "{config}"
    );
    let output = host.run(&["run", "--rom", "rom"], &xml);
    assert!(!output.status.success() && !host.was_called());
}

#[test]
fn a_window_is_opened_only_when_asked_for() {
    let host = Host::new();
    let xml = domain("qemu", "", HVM, SERIAL);
    let shown = text(&host.run(&["run", "--rom", "rom", "--dry-run"], &xml).stdout);
    assert!(
        shown.contains("-display none") && !shown.contains("VGA"),
        "{shown}"
    );
    let command = ["run", "--rom", "rom", "--dry-run", "--display"];
    let shown = text(&host.run(&command, &xml).stdout);
    assert!(
        !shown.contains("-display") && shown.contains("-device VGA"),
        "{shown}"
    );
    assert!(!host.was_called());
}

#[test]
fn an_emulated_tpm_needs_its_socket() {
    let host = Host::new();
    let tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
    let xml = domain("qemu", "", HVM, tpm);
    let output = host.run(&["run", "--rom", "rom"], &xml);
    assert!(!output.status.success() && !host.was_called());
    assert!(text(&output.stderr).contains("swtpm socket"));
    let output = host.run(&["run", "--rom", "rom", "--tpm", "a,b"], &xml);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = host.told();
    for word in [
        "socket,id=tpm,path=a,,b",
        "emulator,chardev=tpm,id=tpm0",
        "tpm-crb,tpmdev=tpm0",
    ] {
        assert!(told.iter().any(|told| told == word), "{told:?}");
    }
}

#[test]
fn check_says_by_its_exit_code_whether_something_is_lost() {
    let host = Host::new();
    let menu = format!("{HVM}<bootmenu enable='yes'/>");
    for (arguments, xml, code) in [
        (&["check"][..], domain("xen", "", &menu, ""), 1),
        (
            &["check", "--on", "run,xl"],
            domain("xen", "", &menu, ""),
            0,
        ),
        (&["check", "--json"], domain("xen", "", &menu, ""), 1),
        (&["check"], domain("xen", "", "<type>linux</type>", ""), 0),
        (&["check"], domain("xen", "", "<type>x</type>", ""), 2),
    ] {
        let output = host.run(arguments, &xml);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {xml}");
    }
}

#[test]
fn bombs_are_refused_at_once() {
    let host = Host::new();
    let mut laughs = String::from("<!DOCTYPE domain [<!ENTITY a0 'ha'>");
    for level in 1..30 {
        let below = format!("&a{};", level - 1).repeat(10);
        laughs += &format!("<!ENTITY a{level} '{below}'>");
    }
    laughs += "]><domain type='qemu'><name>&a29;</name></domain>";
    let output = host.run(&["check"], &laughs);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("a document type is not taken"));
    // Each of so many has something to say.
    let many = domain("qemu", "", HVM, &"<zzz y='1'/>".repeat(60_000));
    let output = host.run(&["check"], &many);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).lines().count() <= 201);
}
