//! The program as a toolstack calls it: on a disk, with its output in a file, and its menu on a pty.

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const CONFIG: &str = "set timeout=30\n\
    menuentry 'First entry' { linux /boot/one root=/dev/xvda1; initrd /boot/a /boot/b; }\n\
    submenu 'More' { menuentry 'Second entry' { linux /boot/two single; } }\n\
    menuentry 'Broken' { linux /boot/text; }\n";

/// A disk, and places for what is made of it.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        let files = host.path("files/boot");
        fs::create_dir_all(files.join("grub")).expect("a directory");
        fs::write(files.join("grub/grub.cfg"), CONFIG).expect("a file");
        for name in ["one", "two"] {
            fs::write(files.join(name), kernel(name)).expect("a file");
        }
        fs::write(files.join("a"), "12345").expect("a file");
        fs::write(files.join("b"), "678").expect("a file");
        fs::write(files.join("text"), "no kernel").expect("a file");
        let made = Command::new("sh")
            .args(["-euc", "truncate -s 32M $2; mkfs.ext4 -q -d $1 $2", "sh"])
            .args([host.path("files"), host.disk()])
            .env(
                "PATH",
                "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
            )
            .status();
        assert!(
            made.expect("a shell").success(),
            "`cargo xtask setup` installs what the tests use"
        );
        fs::create_dir(host.path("copies")).expect("a directory");
        fs::write(host.path("output"), "").expect("a file");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    /// The program with the options that libxl gives.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_firstlight-bootloader"));
        program
            .arg(format!("--output={}", self.path("output").display()))
            .arg("--output-format=simple0")
            .arg(format!(
                "--output-directory={}",
                self.path("copies").display()
            ))
            .args(arguments)
            .arg(self.disk())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        program
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments)
            .output()
            .expect("the program starts")
    }

    /// What was copied and written: the kernel's name, the initial RAM disk, the command line.
    fn result(&self) -> (String, Vec<u8>, String) {
        let text = fs::read_to_string(self.path("output")).expect("the output");
        let mut result = (String::new(), Vec::new(), String::new());
        for item in text.split('\0').filter(|item| !item.is_empty()) {
            match item.split_once(' ').expect("a name and a value") {
                ("kernel", file) => {
                    let content = fs::read(file).expect("the kernel");
                    result.0 = String::from_utf8_lossy(&content[4096..4099]).into_owned();
                }
                ("ramdisk", file) => result.1 = fs::read(file).expect("the initial RAM disk"),
                ("args", line) => result.2 = line.to_owned(),
                other => panic!("{other:?}"),
            }
        }
        result
    }

    fn copies(&self) -> usize {
        fs::read_dir(self.path("copies"))
            .expect("a directory")
            .count()
    }
}

/// A bzImage as far as the program looks at it, with a name.
fn kernel(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    bytes[0x1f1] = 1;
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes[1024..1026].copy_from_slice(b"\x1f\x8b");
    bytes[4096..4099].copy_from_slice(name.as_bytes());
    bytes
}

#[test]
fn a_toolstack_gets_files_and_a_command_line() {
    let host = Host::new();
    let output = host.run(&["--quiet", "--args=console=hvc0"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (kernel, initrd, args) = host.result();
    assert_eq!(
        (kernel.as_str(), args.as_str()),
        ("one", "root=/dev/xvda1 console=hvc0")
    );
    // The second file begins at a multiple of 4 bytes.
    assert_eq!(initrd, b"12345\x00\x00\x00678");
    assert_eq!(host.copies(), 2);
}

#[test]
fn without_an_initial_ram_disk_there_is_one_file() {
    let host = Host::new();
    // As libvirt hands over <bootloader_args>.
    assert!(host.run(&["--entry=1 --append 'a b'"]).status.success());
    assert_eq!(host.result(), ("two".into(), vec![], "single a b".into()));
    assert_eq!(host.copies(), 1);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let host = Host::new();
    for arguments in [
        &["--entry=Broken"][..],
        &["--kernel=/nothing"],
        &["--offset=512"],
    ] {
        let output = host.run(&[&["-q"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(!output.stderr.is_empty());
        assert_eq!(host.copies(), 0);
    }
    let mut small = host.program(&["-q"]);
    let output = small.env("PYGRUB_MAX_FILE_SIZE_MB", "1").output();
    let output = output.expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("allowed"));
    assert_eq!(
        (
            host.copies(),
            fs::read(host.path("output")).expect("it").len()
        ),
        (0, 0)
    );
}

#[test]
fn exit_codes_are_pygrubs() {
    let program = || Command::new(env!("CARGO_BIN_EXE_firstlight-bootloader"));
    let code = |arguments: &[&str]| {
        let output = program().args(arguments).output();
        output.expect("the program starts").status.code()
    };
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&[]), Some(1));
    assert_eq!(code(&["--nonsense", "disk"]), Some(1));
    assert_eq!(code(&["--output-format=xml", "disk"]), Some(1));
    assert_eq!(code(&["--runas=root", "disk"]), Some(1));
    assert_eq!(code(&["-q", "-n", "/dev/null"]), Some(1));
    assert_eq!(code(&["-q", "-n", "/"]), Some(1));
    // The process in the sandbox by itself has nothing to work on.
    assert_eq!(code(&["--worker", "disk"]), Some(1));
}

#[test]
fn entries_are_listed() {
    let host = Host::new();
    let output = host.run(&["-l"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    let titles: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("title: "))
        .collect();
    assert_eq!(titles, ["First entry", "Second entry", "Broken"]);
    assert!(text.contains("  initrd: /boot/a /boot/b\n"));
}

/// Runs the program on a pty, and presses keys once it has shown `prompt`. Returns what it has shown.
fn on_a_terminal(mut program: Command, presses: &[(&str, &[u8])]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
    grantpt(&master).expect("a pty");
    unlockpt(&master).expect("a pty");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let slave = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    let slave = slave.expect("the other end");
    let another = || Stdio::from(slave.try_clone().expect("a descriptor"));
    let mut child = program
        .stdin(another())
        .stdout(another())
        .stderr(another())
        .spawn()
        .expect("the program starts");
    drop(program);
    drop(slave);
    let mut terminal = File::from(master);
    let mut shown = String::new();
    let read = |terminal: &mut File, shown: &mut String| -> bool {
        let mut buffer = [0; 4096];
        match terminal.read(&mut buffer) {
            // At the end of the other side there is an error.
            Ok(0) | Err(_) => false,
            Ok(count) => {
                shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
                true
            }
        }
    };
    for (prompt, keys) in presses {
        let from = shown.len();
        while !shown[from..].contains(prompt) {
            assert!(read(&mut terminal, &mut shown), "no «{prompt}» in {shown}");
        }
        terminal.write_all(keys).expect("keys");
    }
    while read(&mut terminal, &mut shown) {}
    assert!(child.wait().expect("an end").success(), "{shown}");
    shown
}

#[test]
fn the_menu_is_on_the_terminal() {
    let host = Host::new();
    let shown = on_a_terminal(
        host.program(&[]),
        &[("First entry", b"\x1b[B\r"), ("Second entry", b"\r")],
    );
    assert!(shown.contains("boots in 30 s"), "{shown}");
    assert_eq!(host.result().0, "two");
}

#[test]
fn the_menu_works_for_another_user() {
    let host = Host::new();
    let user = match rustix::process::geteuid().is_root() {
        true => "--runas=12345".to_owned(),
        false => format!("--runas={}", rustix::process::geteuid().as_raw()),
    };
    // libxl adds --quiet to --runas; the last word counts.
    on_a_terminal(
        host.program(&[&user, "--quiet", "--interactive"]),
        &[("First entry", b"e"), ("command line", b" edited\r")],
    );
    assert_eq!(host.result().2, "root=/dev/xvda1 edited");
}

#[test]
fn a_terminal_that_goes_away_boots_the_default() {
    let host = Host::new();
    assert!(host.run(&["--interactive"]).status.success());
    assert_eq!(host.result().0, "one");
}

#[test]
fn a_disk_that_is_a_pipe_does_not_hold_it() {
    let host = Host::new();
    let pipe = host.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo")
            .success()
    );
    let mut program = Command::new(env!("CARGO_BIN_EXE_firstlight-bootloader"));
    let status = program.args(["-q", "-n"]).arg(Path::new(&pipe)).status();
    assert_eq!(status.expect("the program starts").code(), Some(1));
}
