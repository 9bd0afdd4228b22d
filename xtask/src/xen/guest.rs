//! A guest of the test bed, as an xl.cfg(5) file.

use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The CPUs that guests run on: all but dom0's.
const GUEST_CPUS: &str = "1";
/// QEMU for guests without ACPI.
const DEVICE_MODEL: &str = include_str!("dom0/device-model.sh");

/// Which program Xen's domain builder starts in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The hvmloader that comes with Xen.
    Stock,
    /// A file of the host, a 32-bit ELF.
    File(PathBuf),
}

/// An HVM guest: its settings, and the files it needs.
#[derive(Clone, Debug)]
pub struct Guest {
    name: String,
    loader: Loader,
    disks: Vec<String>,
    settings: Vec<(String, String)>,
    text: String,
    files: Vec<(PathBuf, String)>,
    pv_console: bool,
}

impl Guest {
    /// A guest with 256 MiB, one virtual CPU, and a first serial port that is logged. It is gone when it is turned off or restarts.
    pub fn new(name: &str, loader: &Loader) -> Self {
        let guest = Self {
            name: name.to_owned(),
            loader: loader.clone(),
            disks: Vec::new(),
            settings: Vec::new(),
            text: String::new(),
            files: Vec::new(),
            pv_console: false,
        };
        let serial = format!("file:/job/{}", guest.serial());
        let guest = guest
            .string("name", name)
            .string("type", "hvm")
            .set("memory", 256)
            .set("vcpus", 1)
            .string("cpus", GUEST_CPUS)
            // The bed has one clock, and each RDTSC that Xen emulates is an exit.
            .string("tsc_mode", "native");
        let guest = guest
            .set("vnc", 0)
            .set("sdl", 0)
            .set("nographic", 1)
            .string("serial", &serial);
        guest
            .string("on_poweroff", "destroy")
            .string("on_reboot", "destroy")
            .string("on_crash", "destroy")
    }

    /// Lines of an xl.cfg file that come before all settings, which replace those of the same name there.
    pub fn text(mut self, text: &str) -> Self {
        self.text = text.to_owned();
        self
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets an option to a number, or to any other expression in xl.cfg's syntax, replacing an earlier value.
    pub fn set(mut self, option: &str, value: impl ToString) -> Self {
        self.settings.retain(|(name, _)| name != option);
        self.settings.push((option.to_owned(), value.to_string()));
        self
    }

    /// Sets an option to a string.
    pub fn string(self, option: &str, value: &str) -> Self {
        self.set(option, format!("\"{value}\""))
    }

    /// Leaves an option to what [`Guest::text`] says, or to xl's default.
    pub fn unset(mut self, option: &str) -> Self {
        self.settings.retain(|(name, _)| name != option);
        self
    }

    /// Adds a raw disk image, the first as the primary master of the IDE controller: a path in dom0, such as a file in /job or a
    /// block device.
    pub fn disk(mut self, path: &str) -> Self {
        let device = (b'a' + self.disks.len() as u8) as char;
        self.disks.push(format!(
            "format=raw,vdev=hd{device},access=rw,backendtype=qdisk,target={path}"
        ));
        self
    }

    /// Adds a disk in the syntax of xl-disk-configuration(5).
    pub fn disk_specification(mut self, specification: &str) -> Self {
        self.disks.push(specification.to_owned());
        self
    }

    /// Has a file of the host copied to /job under a name.
    pub fn file_of_host(mut self, path: &Path, name: &str) -> Self {
        self.files.push((path.to_owned(), name.to_owned()));
        self
    }

    /// Logs the guest's paravirtual console beside its first serial port, and takes that for what the guest says. It is a ring in
    /// memory: much faster than a port, of which each byte goes through dom0's QEMU.
    pub fn pv_console(mut self) -> Self {
        self.pv_console = true;
        self
    }

    /// Whether [`Guest::pv_console`] was called.
    pub(super) fn has_pv_console(&self) -> bool {
        self.pv_console
    }

    /// The path of the guest's configuration in dom0.
    pub(super) fn file(&self) -> String {
        format!("/job/{}.cfg", self.name)
    }

    /// The name of the log of its first serial port in /job.
    pub(super) fn serial(&self) -> String {
        format!("{}.serial", self.name)
    }

    /// The name of the log of what it says in /job.
    pub(super) fn log(&self) -> String {
        match self.pv_console {
            true => format!("{}.console", self.name),
            false => self.serial(),
        }
    }

    /// Puts the guest's configuration and files into the directory that dom0 has as /job, and clears its serial log.
    pub(super) fn prepare(&self, job: &Path) -> Result<()> {
        let copy = |from: &Path, name: &str| {
            fs::copy(from, job.join(name))
                .map(drop)
                .with_context(|| format!("cannot copy {}", from.display()))
        };
        if let Loader::File(path) = &self.loader {
            copy(path, &format!("{}.loader", self.name))?;
        }
        for (path, name) in &self.files {
            copy(path, name)?;
        }
        if self.is_without_acpi() {
            let file = job.join("device-model");
            fs::write(&file, DEVICE_MODEL)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(job.join(self.serial()), "")?;
        fs::write(job.join(self.log()), "")?;
        fs::write(job.join(format!("{}.cfg", self.name)), self.configuration())?;
        Ok(())
    }

    fn is_without_acpi(&self) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|(name, value)| name == "acpi" && value == "0")
    }

    /// The guest's configuration, in the syntax of xl.cfg(5).
    pub fn configuration(&self) -> String {
        let mut settings = self.settings.clone();
        if !self.disks.is_empty() {
            let disks: Vec<String> = self
                .disks
                .iter()
                .map(|disk| format!("\"{disk}\""))
                .collect();
            settings.push(("disk".to_owned(), format!("[{}]", disks.join(", "))));
        }
        if self.loader != Loader::Stock {
            settings.push((
                "firmware_override".to_owned(),
                format!("\"/job/{}.loader\"", self.name),
            ));
        }
        if self.is_without_acpi() {
            settings.push((
                "device_model_override".to_owned(),
                "\"/job/device-model\"".to_owned(),
            ));
        }
        let mut text = String::new();
        for line in self.text.lines() {
            let option = line.split('=').next().unwrap_or_default().trim();
            if !settings.iter().any(|(name, _)| name == option) {
                text.extend([line, "\n"]);
            }
        }
        for (name, value) in settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_replaces_an_earlier_one_and_the_line_of_a_file() {
        let guest = Guest::new("a", &Loader::Stock)
            .text("memory = 64\nacpi = 0\n")
            .set("memory", 512);
        let text = guest.configuration();
        assert!(text.starts_with("acpi = 0\n"));
        assert_eq!(text.matches("memory").count(), 1);
        assert!(text.contains("memory = 512\n"));
    }

    #[test]
    fn the_loader_and_the_disks_are_part_of_the_configuration() {
        let guest = Guest::new("a", &Loader::File("/x/hvmloader".into()))
            .disk("/dev/vdb")
            .disk("/job/b");
        let text = guest.configuration();
        assert!(text.contains("firmware_override = \"/job/a.loader\"\n"));
        assert!(text.contains(
            "vdev=hda,access=rw,backendtype=qdisk,target=/dev/vdb\", \"format=raw,vdev=hdb,"
        ));
    }
}
