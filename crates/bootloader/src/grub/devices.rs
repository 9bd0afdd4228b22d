//! Where files are: devices' names, `root`, and the commands that look for volumes.

use super::machine::Machine;
use crate::volumes::{Location, VolumeId, VolumeInfo};

/// What `search` compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    File,
    Label,
    Uuid,
}

impl Machine<'_> {
    /// The usual name of a volume.
    pub(super) fn device_of(&self, volume: VolumeId) -> String {
        let names = &self.volumes.info(volume).names;
        names.first().cloned().unwrap_or_else(|| "hd0".to_owned())
    }

    /// The volume that `name` means, in parentheses or not. A guest's configuration may have another name for its only disk
    /// (`hd1,msdos1`, `xen/xvda,gpt2`): the partition counts.
    pub(super) fn device(&self, name: &str) -> Option<VolumeId> {
        let name = name.trim();
        let name = name
            .strip_prefix('(')
            .and_then(|name| name.strip_suffix(')'))
            .unwrap_or(name);
        if let Some(volume) = self.volumes.find(name) {
            return Some(volume);
        }
        let (disk, partition) = name.split_once(',')?;
        let other_disk = ["hd", "ahci", "ata", "nvme", "xen/", "fd", "ieee1275/"];
        if !other_disk.iter().any(|prefix| disk.starts_with(prefix)) {
            return None;
        }
        self.volumes.find(&format!("hd0,{partition}"))
    }

    /// The volume that `root` means.
    pub(super) fn root(&self) -> Option<VolumeId> {
        self.device(self.env.get("root"))
    }

    /// The place of a file that a command names: `(device)/path`, or `/path` in `root`.
    pub(super) fn locate(&mut self, name: &str) -> Result<Location, String> {
        // No device between parentheses is `root`.
        let name = name.trim_start_matches("()");
        if let Some(rest) = name.strip_prefix('(') {
            let (device, path) = rest.split_once(')').ok_or("«)» is missing")?;
            let volume = self
                .device(device)
                .ok_or_else(|| format!("there is no device «{device}»"))?;
            return Ok(Location::new(volume, path));
        }
        let volume = match self.root() {
            Some(volume) => volume,
            None => {
                let root = self.env.get("root").to_owned();
                self.notes.say(format!(
                    "there is no device «{root}»: the configuration's own is taken"
                ));
                self.home
            }
        };
        Ok(Location::new(volume, name))
    }

    /// The place of a file that has to be there. If it is not in `root`, the volume with the configuration is tried, as pygrub
    /// does always.
    pub(super) fn existing(&mut self, name: &str) -> Result<Location, String> {
        let place = self.locate(name)?;
        match self.volumes.open(&place).map(|_| ()) {
            Ok(()) => Ok(place),
            Err(error) => {
                let at_home = Location::new(self.home, &place.path);
                if !name.starts_with('(') && self.volumes.has(&at_home) {
                    let device = self.device_of(place.volume);
                    self.notes.say(format!(
                        "{} is not in {device}, but beside the configuration",
                        place.path
                    ));
                    return Ok(at_home);
                }
                Err(format!("{name}: {error}"))
            }
        }
    }

    /// `search`, whose `words` are what it was called with, and `by` the kind that its name says.
    pub(super) fn search(&mut self, by: Option<By>, words: &[String]) -> bool {
        let mut by_option = by;
        let mut variable = by.map(|_| "root".to_owned());
        let mut set = false;
        let mut name = None;
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--file" | "-f" => by_option = Some(By::File),
                "--label" | "-l" | "--fs-label" => by_option = Some(By::Label),
                "--fs-uuid" | "-u" => by_option = Some(By::Uuid),
                "--set" | "-s" => {
                    set = true;
                    variable.get_or_insert("root".to_owned());
                }
                option if option.starts_with("--set=") => {
                    variable = Some(option["--set=".len()..].to_owned());
                }
                "--hint" => {
                    rest.next();
                }
                option if option.starts_with('-') => {}
                value if name.is_none() => name = Some(value),
                // `search -s root …` and `search.fs_uuid UUID root …` name the variable after an argument.
                value => {
                    if by.is_some() {
                        variable = Some(value.to_owned());
                        break;
                    }
                    if set {
                        variable = name.replace(value).map(str::to_owned);
                        set = false;
                    }
                }
            }
        }
        let (Some(by), Some(name)) = (by_option.or(Some(By::File)), name) else {
            return false;
        };
        let Some(volume) = self.search_volume(by, name) else {
            self.notes.detail(format!("search: nothing has «{name}»"));
            return false;
        };
        if let Some(variable) = variable {
            let device = self.device_of(volume);
            self.set(&variable, &device);
        }
        true
    }

    fn search_volume(&mut self, by: By, name: &str) -> Option<VolumeId> {
        if !self.burn(10) {
            return None;
        }
        // The volume with the configuration comes first, where several have what is looked for.
        let home = self.home;
        let others = (0..self.volumes.count()).filter(|volume| *volume != home);
        std::iter::once(home).chain(others).find(|volume| {
            let info = self.volumes.info(*volume);
            match by {
                By::File => self.volumes.is_file(&Location::new(*volume, name)),
                By::Label => info.label.as_deref() == Some(name),
                By::Uuid => info
                    .uuid
                    .as_deref()
                    .is_some_and(|uuid| uuid.eq_ignore_ascii_case(name)),
            }
        })
    }

    /// `probe [--set VARIABLE] --KIND DEVICE`: what is known of a volume.
    pub(super) fn probe(&mut self, words: &[String]) -> bool {
        let mut variable = None;
        let mut kind = None;
        let mut device = None;
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--set" | "-s" => variable = rest.next().cloned(),
                option if option.starts_with("--set=") => {
                    variable = Some(option["--set=".len()..].to_owned());
                }
                option if option.starts_with('-') => kind = Some(option),
                value => device = Some(value),
            }
        }
        let found = device
            .and_then(|device| self.device(device))
            .and_then(|volume| property(self.volumes.info(volume), kind?));
        match (found, variable) {
            (Some(value), Some(variable)) => {
                self.set(&variable, &value);
                true
            }
            (found, _) => found.is_some(),
        }
    }

    /// `loopback NAME FILE`.
    pub(super) fn loopback(&mut self, words: &[String]) -> bool {
        let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
        let [name, file] = words.as_slice() else {
            return true;
        };
        if self.volumes.find(name).is_some() {
            return true;
        }
        // A configuration has few of them; each keeps a file system open.
        if self.volumes.count() > 64 {
            self.notes.say("too many loop devices");
            return false;
        }
        let attached = self.existing(file).and_then(|place| {
            let attached = self.volumes.attach(name, &place);
            attached.map_err(|error| error.to_string())
        });
        match attached {
            Ok(()) => true,
            Err(error) => {
                self.notes.say(format!("loopback {name}: {error}"));
                false
            }
        }
    }
}

fn property(info: &VolumeInfo, kind: &str) -> Option<String> {
    match kind {
        "--fs" | "-f" => info.filesystem.clone(),
        "--fs-uuid" | "-u" => info.uuid.clone(),
        "--label" | "-l" => info.label.clone(),
        "--partmap" | "-p" => info.partition_map.clone(),
        "--part-uuid" => info.partition_uuid.clone(),
        "--driver" | "-d" => Some("xen".to_owned()),
        _ => None,
    }
}
