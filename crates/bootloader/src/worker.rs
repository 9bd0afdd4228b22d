//! The process in the sandbox: reads the disk, lets the user choose, and copies what is chosen.

use crate::copy::{self, Copy, Pipe, Row};
use crate::disk::Disk;
use crate::find::{self, EntryError};
use crate::grub::{Machine, Opened};
use crate::kernel;
use crate::menu::{Boot, Menu};
use crate::notes::printable;
use crate::options::Options;
use crate::sandbox::{self, Rules};
use crate::supervisor::{Channel, Message};
use crate::terminal::Tty;
use crate::tree::Tree;
use crate::ui;
use crate::volumes::{File, Location, Volumes};
use anyhow::{Context, Result, anyhow, bail};
use firstlight_disk::image::Image;
use rustix::fd::OwnedFd;
use std::fs;
use std::io::{Read, Write};
use std::rc::Rc;

/// How many bytes a configuration may have that is given by itself.
const CONFIG: u64 = 4 << 20;
/// The environment variable that says how many MiB a copy may have: pygrub's.
pub const LIMIT: &str = "PYGRUB_MAX_FILE_SIZE_MB";

/// What the process outside has opened.
pub struct Files {
    pub disk: OwnedFd,
    /// Where keys come from.
    pub terminal: OwnedFd,
    /// Where to copy to: kernel and initial RAM disk. Nothing, if nothing is to be copied.
    pub copies: Option<(fs::File, fs::File)>,
}

/// Does the work in the sandbox.
///
/// # Errors
/// Why nothing is booted.
pub fn main(options: &Options) -> Result<()> {
    let channel = Channel::inside();
    let files = channel.receive(!options.not_really && !options.only_shows())?;
    let limit = file_limit();
    let pipe = Pipe::new()?;
    let mut image = fs::File::from(files.disk);
    let data = match options.isconfig {
        true => None,
        false => Some(Image::from_file(image.try_clone()?).context("the disk cannot be read")?),
    };
    let done = sandbox::enter(Rules {
        user: options.runas,
        file_size: limit,
    })
    .context("the sandbox cannot be set up")?;
    if options.debug {
        eprint!("{done}\r\n");
    }
    let Some(data) = data else {
        return configuration(options, &mut image, &channel);
    };
    let mut disk = Disk::scan(Rc::new(data), options.offset).map_err(|why| anyhow!(why))?;
    let complaints = std::mem::take(&mut disk.complaints);
    let mut terminal = match options.menu && !options.list_entries {
        true => Tty::new(files.terminal),
        false => None,
    };
    let chosen = {
        let mut machine = Machine::new(&mut disk);
        machine.notes.shown = true;
        machine.notes.verbose = options.debug;
        for complaint in complaints {
            machine.notes.say(complaint);
        }
        choose(&mut machine, options, &mut terminal, &channel)
    };
    drop(terminal);
    let Some(boot) = chosen? else {
        return channel.send(&Message::Shown);
    };
    let copies = files.copies.as_ref();
    copy(&disk, &boot, &image, copies, &pipe, limit, &channel)?;
    channel.send(&Message::Boot {
        kernel: boot.kernel.path,
        ramdisk: boot.initrds.first().map(|place| place.path.clone()),
        args: boot.args,
    })
}

/// How many bytes the kernel may have, and all initial RAM disks together.
pub fn file_limit() -> u64 {
    let set = std::env::var(LIMIT).ok();
    let set = set.and_then(|value| value.parse::<u64>().ok());
    set.unwrap_or(512).saturating_mul(1 << 20)
}

/// What is to be booted. Nothing, if the entries were only to be listed.
fn choose(
    machine: &mut Machine,
    options: &Options,
    terminal: &mut Option<Tty>,
    channel: &Channel,
) -> Result<Option<Boot>> {
    if let Some(kernel) = &options.kernel {
        return named(machine, kernel, options).map(Some);
    }
    let found = search(machine)?;
    machine.notes.detail(format!("booted by {}", found.place));
    let opened = found.opened;
    if options.list_entries {
        list(machine, &opened)?;
        return Ok(None);
    }
    let mut boot = match opened {
        Opened::Boot(boot) => boot,
        Opened::Menu(menu) => pick(machine, menu, options, terminal, channel)?,
    };
    if let Some(added) = options.added() {
        boot.args = format!("{} {added}", boot.args).trim().to_owned();
    }
    Ok(Some(boot))
}

/// The kernel that the caller names.
fn named(machine: &Machine, kernel: &str, options: &Options) -> Result<Boot> {
    let names: Vec<&str> = std::iter::once(kernel)
        .chain(options.ramdisk.as_deref())
        .collect();
    let volume = find::with_files(machine, &names);
    let volume = volume.with_context(|| format!("no file system has {}", names.join(" and ")))?;
    let place = |path: &str| Location::new(volume, path);
    Ok(Boot {
        kernel: place(kernel),
        initrds: options.ramdisk.iter().map(|path| place(path)).collect(),
        args: options.added().unwrap_or_default(),
    })
}

/// The configuration of the first file system that has one.
fn search(machine: &mut Machine) -> Result<find::Found> {
    let mut why = Vec::new();
    for volume in 0..machine.volumes.count() {
        match find::on_volume(machine, volume) {
            Ok(found) => return Ok(found),
            Err(error) => why.extend(error),
        }
    }
    if why.is_empty() {
        let count = machine.volumes.count();
        bail!("no boot configuration was found in {count} file systems");
    }
    bail!(why.join("; "))
}

/// What a menu boots: what --entry says, what the user chooses, or the default.
fn pick(
    machine: &mut Machine,
    menu: Menu,
    options: &Options,
    terminal: &mut Option<Tty>,
    channel: &Channel,
) -> Result<Boot> {
    if let Some(entry) = &options.entry {
        match find::entry(machine, &menu, entry) {
            Ok(boot) => return Ok(boot),
            Err(EntryError::Refused(why)) => bail!(why),
            // As pygrub has it.
            Err(EntryError::Missing) => {
                let note = format!("there is no entry «{entry}»: the default is taken");
                machine.notes.say(note);
            }
        }
    }
    let Some(terminal) = terminal else {
        return find::default(machine, &menu).map_err(|why| anyhow!(why));
    };
    // A user may take all the time in the world.
    channel.send(&Message::Waiting)?;
    machine.notes.shown = false;
    let chosen = ui::choose(machine, menu, terminal);
    machine.notes.shown = true;
    channel.send(&Message::Working)?;
    chosen.map_err(|ui::Left::Gone(why)| anyhow!(why))
}

/// Shows all entries, as pygrub does.
fn list(machine: &mut Machine, opened: &Opened) -> Result<()> {
    let mut text = String::new();
    match opened {
        Opened::Boot(boot) => text.push_str(&described("", Ok(boot), machine)),
        Opened::Menu(menu) => {
            for flat in find::flatten(machine, menu) {
                let boot = flat.opened.as_ref().map_err(String::as_str);
                text.push_str(&described(&flat.entry.title, boot, machine));
            }
        }
    }
    write(&text)
}

fn described(title: &str, boot: Result<&Boot, &str>, machine: &Machine) -> String {
    let title = printable(title);
    match boot {
        Err(why) => format!("title: {title}\n  kernel: None ({})\n", printable(why)),
        Ok(boot) => {
            let names = &machine.volumes.info(boot.kernel.volume).names;
            let initrds: Vec<&str> = boot
                .initrds
                .iter()
                .map(|place| place.path.as_str())
                .collect();
            let initrds = match initrds.is_empty() {
                true => "None".to_owned(),
                false => printable(&initrds.join(" ")),
            };
            format!(
                "title: {title}\n  root: {}\n  kernel: {}\n  args: {}\n  initrd: {initrds}\n",
                names.first().map_or("None", String::as_str),
                printable(&boot.kernel.path),
                printable(&boot.args),
            )
        }
    }
}

fn write(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

/// --isconfig: shows what a configuration boots that is given by itself. Its kernels are not there to be looked for.
fn configuration(options: &Options, file: &mut fs::File, channel: &Channel) -> Result<()> {
    let mut text = Vec::new();
    file.take(CONFIG + 1).read_to_end(&mut text)?;
    if text.len() as u64 > CONFIG {
        bail!("the configuration has more than {CONFIG} bytes");
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let name = options.image.to_string_lossy().into_owned();
    let format = find::format_of(&name, &text);
    let mut tree = Tree::with(&[("/boot/grub/configuration", &text)]);
    tree.has_all_files();
    let mut machine = Machine::new(&mut tree);
    machine.notes.shown = true;
    let place = Location::new(0, "/boot/grub/configuration");
    let boot = match find::read(&mut machine, format, &place).map_err(|why| anyhow!(why))? {
        Opened::Boot(boot) => boot,
        Opened::Menu(menu) => pick(&mut machine, menu, options, &mut None, channel)?,
    };
    let args = [Some(boot.args), options.added()];
    let args: Vec<String> = args.into_iter().flatten().collect();
    let mut text = format!("  kernel: {}\n", printable(&boot.kernel.path));
    if let Some(initrd) = boot.initrds.first() {
        text.push_str(&format!("  initrd: {}\n", printable(&initrd.path)));
    }
    text.push_str(&format!("  args: {}\n", printable(args.join(" ").trim())));
    write(&text)?;
    channel.send(&Message::Shown)
}

/// Copies kernel and initial RAM disks, or looks only whether they are there.
///
/// Meanwhile the process outside copies the initial RAM disks, if the system can do that without their bytes being read here.
fn copy(
    disk: &Disk,
    boot: &Boot,
    image: &fs::File,
    copies: Option<&(fs::File, fs::File)>,
    pipe: &Pipe,
    limit: u64,
    channel: &Channel,
) -> Result<()> {
    let name = printable(&boot.kernel.path);
    disk.allow(0);
    let kernel = disk.open(&boot.kernel);
    let kernel = kernel.with_context(|| format!("kernel {name}"))?;
    kernel::check(kernel.as_ref()).map_err(|why| anyhow!("kernel {name}: {why}"))?;
    let mut ramdisks: Vec<Ramdisk> = Vec::new();
    for place in &boot.initrds {
        let name = format!("initial RAM disk {}", printable(&place.path));
        let file = disk.open(place).with_context(|| name.clone())?;
        let newc = place.newc.as_deref();
        ramdisks.push(Ramdisk { file, name, newc });
    }
    let Some((kernel_copy, ramdisk_copy)) = copies else {
        return Ok(());
    };
    let rows = rows(disk, &ramdisks)?;
    for rows in rows.iter().flatten() {
        channel.send(&Message::Copy(rows.clone()))?;
    }
    disk.allow(kernel.size());
    let copied = Copy::new(image, kernel_copy, pipe, limit).append(kernel.as_ref());
    copied.with_context(|| format!("kernel {name}"))?;
    if rows.is_some() {
        return Ok(());
    }
    let mut copy = Copy::new(image, ramdisk_copy, pipe, limit);
    for Ramdisk { file, name, newc } in &ramdisks {
        disk.allow(file.size());
        let copied = match newc {
            Some(name) => copy.append_archived(file.as_ref(), name),
            None => copy.append(file.as_ref()),
        };
        copied.with_context(|| name.clone())?;
    }
    Ok(())
}

/// An initial RAM disk, or a part of one.
struct Ramdisk<'a> {
    file: Box<dyn File + 'a>,
    /// What it is called in messages.
    name: String,
    /// Its name in an archive, if it gets one.
    newc: Option<&'a str>,
}

/// The rows in which all files lie, if the system can copy each of them.
fn rows(disk: &Disk, files: &[Ramdisk<'_>]) -> Result<Option<Vec<Vec<Row>>>> {
    let mut all = Vec::new();
    for Ramdisk { file, name, newc } in files {
        disk.allow(file.size());
        let rows = match newc {
            Some(_) => None,
            None => copy::rows(file.as_ref()).with_context(|| name.clone())?,
        };
        let Some(rows) = rows else {
            return Ok(None);
        };
        all.push(rows);
    }
    Ok(Some(all))
}
