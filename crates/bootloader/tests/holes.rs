//! The holes of pygrub itself that became known, by their names. Those of its file system library are tried in
//! `crates/disk/tests/disks/holes.rs`.

use firstlight_bootloader::options::Format;
use firstlight_bootloader::output::Output;
use std::fs;
use std::process::Command;

/// CVE-2007-4993: statements of grub.conf were put together to Python text and executed, so that a guest ran programs as root.
#[test]
fn cve_2007_4993_no_statement_is_executed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mark = directory.path().join("mark");
    let python = format!("__import__('os').system('touch {}')", mark.display());
    let shell = format!("$(touch {0})`touch {0}`; touch {0}", mark.display());
    for (name, statement) in [
        ("menu.lst", "default"),
        ("menu.lst", "timeout"),
        ("menu.lst", "password"),
        ("menu.lst", "splashimage"),
        ("grub.cfg", "set default="),
        ("grub.cfg", "set timeout="),
        ("grub.cfg", "eval"),
        ("extlinux.conf", "default"),
        ("extlinux.conf", "timeout"),
    ] {
        for value in [&python, &shell] {
            let entry = match name {
                "grub.cfg" => "menuentry a { linux /k; }\n",
                "menu.lst" => "title a\nkernel /k\n",
                _ => "label a\nkernel /k\n",
            };
            let file = directory.path().join(name);
            fs::write(&file, format!("{statement} {value}\n{entry}")).expect("a file");
            let mut program = Command::new(env!("CARGO_BIN_EXE_firstlight-bootloader"));
            let output = program.args(["--quiet", "--isconfig"]).arg(&file).output();
            let output = output.expect("the program runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                said.contains("kernel: /"),
                "{name} {statement}: {said}{wrong}"
            );
            assert!(!mark.exists(), "{name}: {statement} {value}");
        }
    }
}

/// XSA-198, CVE-2016-9379 and CVE-2016-9380: a command line with quotation marks, parentheses, NULs or line ends was taken for more
/// items of the result, so that libxl read and removed files of the host.
#[test]
fn xsa_198_no_command_line_is_more_than_one() {
    let output = |args: &str| Output {
        kernel: "/k".into(),
        ramdisk: None,
        args: args.into(),
    };
    for args in ["a\0kernel /etc/shadow", "a\nramdisk /etc/shadow"] {
        for format in [Format::Sxp, Format::Simple, Format::Simple0] {
            assert!(output(args).text(format).is_err(), "{args:?}");
        }
    }
    let text = output("x')(ramdisk '/etc/shadow").text(Format::Sxp);
    let text = text.expect("what is escaped is harmless");
    assert_eq!(text.matches('(').count(), 2, "{text}");
    assert_eq!(text.matches('\'').count(), 4, "{text}");
}
