//! The sandbox, proved: this program puts itself into it and then tries to escape, each time in another way.

use firstlight_bootloader::sandbox::{self, Rules};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

/// Where a child finds the escape that it is to try.
const ESCAPE: &str = "FIRSTLIGHT_ESCAPE";

/// An escape: what comes of it.
type Escape = fn(&mut File) -> std::io::Result<()>;

/// What a process that a disk has taken over may try. The file is one that it was given.
const ESCAPES: &[(&str, Escape)] = &[
    ("open /etc/passwd", |_| File::open("/etc/passwd").map(drop)),
    ("list /", |_| fs::read_dir("/").map(drop)),
    ("look for /etc/passwd", |_| {
        fs::metadata("/etc/passwd").map(drop)
    }),
    ("write elsewhere", |_| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open("/tmp/firstlight-escape")
            .map(drop)
    }),
    ("make a directory", |_| {
        fs::create_dir("/tmp/firstlight-escape.d")
    }),
    ("remove a file", |_| {
        fs::remove_file("/tmp/firstlight-escape")
    }),
    ("rename a file", |_| {
        fs::rename("/tmp/firstlight-a", "/tmp/firstlight-b")
    }),
    ("read a link", |_| fs::read_link("/proc/self/exe").map(drop)),
    ("open itself again", |_| {
        File::open("/proc/self/fd/0").map(drop)
    }),
    ("execute", |_| Command::new("/bin/true").status().map(drop)),
    ("connect", |_| TcpStream::connect("127.0.0.1:1").map(drop)),
    ("listen", |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("send a datagram", |_| {
        UdpSocket::bind("127.0.0.1:0").map(drop)
    }),
    ("connect to a service", |_| {
        UnixStream::connect("/run/dbus/system_bus_socket").map(drop)
    }),
    ("make a socket", |_| UnixDatagram::unbound().map(drop)),
    ("start a thread", |_| {
        std::thread::Builder::new().spawn(|| {}).map(drop)
    }),
    ("duplicate a file", |file| file.try_clone().map(drop)),
    ("lock a file", |file| file.lock()),
    ("change a file's mode", |file| {
        let metadata = file.metadata()?;
        file.set_permissions(metadata.permissions())
    }),
    ("send a signal", |_| {
        rustix::process::test_kill_process(rustix::process::Pid::INIT)?;
        Ok(())
    }),
    ("become root", |_| {
        rustix::thread::set_thread_uid(rustix::process::Uid::ROOT)?;
        Ok(())
    }),
    ("have more memory", |_| {
        let limit = rustix::process::Rlimit {
            current: None,
            maximum: None,
        };
        rustix::process::setrlimit(rustix::process::Resource::As, limit)?;
        Ok(())
    }),
    ("type into the terminal", |file| {
        // TIOCSTI is no request that rustix has; making the terminal one's own is as good a test of ioctl.
        rustix::process::ioctl_tiocsctty(file)?;
        Ok(())
    }),
    ("take 600 MiB", |_| {
        let mut memory: Vec<u8> = Vec::new();
        let reserved = memory.try_reserve_exact(600 << 20);
        reserved.map_err(|_| ErrorKind::OutOfMemory.into())
    }),
];

/// What is still to work: each has to succeed.
const WORK: &[(&str, Escape)] = &[
    ("read a file that was given", |file| {
        file.read_exact(&mut [0; 4])
    }),
    ("write to standard output", |_| {
        writeln!(std::io::stdout(), "written")
    }),
    ("take 64 MiB", |_| {
        let memory = vec![1_u8; 64 << 20];
        match memory.iter().map(|byte| u64::from(*byte)).sum::<u64>() {
            0 => Err(ErrorKind::OutOfMemory.into()),
            _ => Ok(()),
        }
    }),
];

/// What kills, instead of failing: the limits of a file's size, and of time.
const DEADLY: &[(&str, Escape, i32)] = &[(
    "write more than is allowed",
    |_| {
        let chunk = vec![0; 1 << 20];
        for _ in 0..64 {
            std::io::stdout().write_all(&chunk)?;
        }
        Ok(())
    },
    libc::SIGXFSZ,
)];

/// Tries the escape `name`. The exit code tells: 0 it worked, 10 it failed.
fn child(name: &str) -> ! {
    let mut file = File::open("/proc/self/exe").expect("the program can be read");
    let rules = Rules {
        user: None,
        file_size: 4 << 20,
    };
    if let Err(error) = sandbox::enter(rules) {
        eprintln!("no sandbox: {error:#}");
        std::process::exit(20);
    }
    let deadly = DEADLY.iter().map(|(name, escape, _)| (*name, *escape));
    let all = ESCAPES.iter().chain(WORK).copied().chain(deadly);
    for (known, escape) in all {
        if known == name {
            let code = match escape(&mut file) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("{name}: {error}");
                    10
                }
            };
            std::process::exit(code);
        }
    }
    std::process::exit(30);
}

fn attempt(name: &str, output: Stdio) -> ExitStatus {
    let program = std::env::current_exe().expect("this program has a name");
    Command::new(program)
        .env(ESCAPE, name)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .status()
        .expect("this program starts")
}

// No harness: the sandbox is for a process of one thread.
fn main() {
    if let Ok(name) = std::env::var(ESCAPE) {
        child(&name);
    }
    let mut failed = 0;
    let mut judge = |name: &str, good: bool, status: ExitStatus| {
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        if !good {
            println!("  {status}");
            failed += 1;
        }
    };
    for (name, _) in ESCAPES {
        let status = attempt(name, Stdio::null());
        judge(name, status.code() == Some(10), status);
    }
    for (name, _) in WORK {
        let status = attempt(name, Stdio::null());
        judge(name, status.success(), status);
    }
    for (name, _, signal) in DEADLY {
        let file = tempfile::tempfile().expect("a file can be made");
        let status = attempt(name, file.into());
        judge(name, status.signal() == Some(*signal), status);
    }
    let passed = ESCAPES.len() + WORK.len() + DEADLY.len() - failed;
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    std::process::exit(i32::from(failed > 0));
}
