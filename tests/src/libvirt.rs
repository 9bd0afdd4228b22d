//! A libvirt of its own for the tests, which touches nothing of the machine's: its QEMU driver as an ordinary user, with all its
//! files in one directory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firstlight_vm::wait;
use tempfile::TempDir;

/// How long the daemon may take to come up, and a guest to do its work.
const DEADLINE: Duration = Duration::from_secs(120);
/// Whoever owns nothing: libvirt's daemon is the system's own as root.
const NOBODY: &str = "65534";

/// A running libvirtd. Dropping it ends its guests.
#[derive(Debug)]
pub struct Libvirt {
    daemon: Child,
    files: TempDir,
}

impl Libvirt {
    /// Starts a daemon.
    ///
    /// # Errors
    /// libvirt is not installed, or does not come up.
    pub fn start() -> Result<Self> {
        let files = TempDir::with_prefix("fl-libvirt-")?;
        let root = files.path();
        for directory in [
            "run",
            "config/libvirt",
            "config/qemu/firmware",
            "cache",
            "data",
        ] {
            fs::create_dir_all(root.join(directory))?;
        }
        let configuration = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";
        fs::write(root.join("config/libvirt/qemu.conf"), configuration)?;
        fs::copy(crate::guest::rom_path(), root.join("firstlight.rom"))?;
        let mut libvirt = Self {
            daemon: Command::new("true").spawn()?,
            files,
        };
        libvirt.hand_over()?;
        let log = fs::File::create(libvirt.path("libvirtd.log"))?;
        let mut command = libvirt.command("libvirtd");
        let daemon = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        // What was there ended at once.
        libvirt.daemon.wait()?;
        libvirt.daemon = daemon.context("cannot start libvirtd: run `cargo xtask setup`")?;
        let deadline = Instant::now() + DEADLINE * wait::scale();
        let up = wait::until(deadline, Duration::from_millis(200), || {
            Ok(libvirt.virsh(["uri"]).ok())
        })?;
        let said = fs::read_to_string(libvirt.path("libvirtd.log")).unwrap_or_default();
        up.with_context(|| format!("libvirtd does not come up:\n{said}"))?;
        Ok(libvirt)
    }

    /// A path in the directory of all files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Makes all files those of the user that the daemon runs as.
    fn hand_over(&self) -> Result<()> {
        let root = self.files.path();
        if xtask::setup::is_root()? {
            let status = Command::new("chown")
                .args(["-R", NOBODY])
                .arg(root)
                .status()?;
            ensure!(status.success(), "cannot chown {}", root.display());
        }
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let root = xtask::setup::is_root().unwrap_or(false);
        let mut command = Command::new(if root { "setpriv" } else { "env" });
        if root {
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
            command.args(["--clear-groups", "env"]);
        }
        command.arg("-i");
        let path = std::env::var("PATH").unwrap_or_default();
        command.arg(format!("PATH={path}:/usr/sbin:/sbin"));
        for (name, place) in [
            ("HOME", ""),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.arg(format!("{name}={}", self.path(place).display()));
        }
        command.arg(program);
        command.current_dir(self.files.path());
        command
    }

    /// Runs virsh and returns what it says.
    ///
    /// # Errors
    /// virsh fails.
    pub fn virsh<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        arguments: I,
    ) -> Result<String> {
        let mut command = self.command("virsh");
        command
            .args(["-q", "-c", "qemu:///session"])
            .args(arguments);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("cannot start virsh")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "virsh: {said}");
        Ok(said)
    }

    /// Creates a domain, which runs unless it is `paused`.
    ///
    /// # Errors
    /// libvirt refuses.
    pub fn create(&self, xml: &str, paused: bool) -> Result<()> {
        let file = self.path("domain.xml");
        fs::write(&file, xml)?;
        self.hand_over()?;
        let mut arguments = vec!["create".as_ref(), file.as_os_str()];
        if paused {
            arguments.push("--paused".as_ref());
        }
        self.virsh(arguments).map(drop)
    }

    /// Ends a domain, which may have ended by itself, and without a definition is gone then.
    ///
    /// # Errors
    /// It goes on.
    pub fn destroy(&self, name: &str) -> Result<()> {
        let Err(error) = self.virsh(["destroy", name]) else {
            return Ok(());
        };
        let running = self.virsh(["list", "--name"])?;
        match running.lines().any(|line| line.trim() == name) {
            true => Err(error),
            false => Ok(()),
        }
    }

    /// The arguments with which libvirt started the QEMU of a domain that it created last.
    ///
    /// # Errors
    /// There is no log of it.
    pub fn arguments(&self, name: &str) -> Result<Vec<String>> {
        let log = self.path(&format!("cache/libvirt/qemu/log/{name}.log"));
        let log = fs::read_to_string(log)?;
        let (_, last) = log
            .rsplit_once("starting up libvirt")
            .context("no start in the log")?;
        let (_, command) = last
            .split_once("qemu-system-x86_64 \\\n")
            .context("no command")?;
        let (command, _) = command.split_once("-msg timestamp=on").context("no end")?;
        // libvirt writes it for a shell.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("printf '%s\\0' {command}")]);
        let output = shell.output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Waits until a file, to which a guest's serial port is written, has `text`, and returns it.
    ///
    /// # Errors
    /// It has not, in time.
    pub fn wait_for(&self, file: &Path, text: &str) -> Result<String> {
        let read = || String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let deadline = Instant::now() + DEADLINE * wait::scale();
        let found = wait::until(deadline, wait::POLL, || {
            let said = read();
            Ok(said.contains(text).then_some(said))
        })?;
        found.with_context(|| format!("no {text:?} in:\n{}", read()))
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // A guest outlives its daemon.
        let names = self.virsh(["list", "--name"]).unwrap_or_default();
        for name in names.split_whitespace() {
            let _ = self.destroy(name);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
