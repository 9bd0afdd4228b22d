//! The rest of what QEMU's user can say, by the fw_cfg files that SeaBIOS gave their names: see docs/settings.md.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::media;
use firstlight_vm::{Chardev, FwCfg, FwCfgValue};
use tempfile::TempDir;

/// The option ROM of guest/rom.s: says I when it is initialised and B when it is booted, and gives up.
static DISK_ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bcv.bin"));
static OPTION_ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rom.bin"));

fn config() -> Config {
    Config::new(Machine::Pc, Firmware::Firstlight)
}

/// Gives a file of one number.
fn number(config: Config, files: &TempDir, name: &str, value: u8) -> Result<Config> {
    let path = files.path().join(name.replace('/', "-"));
    std::fs::write(&path, [value])?;
    Ok(config.with(|guest| {
        guest.fw_cfg.push(FwCfg {
            name: name.into(),
            value: FwCfgValue::File(path),
        });
    }))
}

/// QEMU gives a value for CPUs with local machine check exceptions. Its translator forgets what is written to the register, so that
/// only the boot shows here; the host's tests show what is written.
#[test]
fn feature_control_of_two_cpus() -> Result<()> {
    let files = tempfile::tempdir()?;
    let disk = media::disk(files.path(), '1')?;
    let mut guest = config()
        .cpus(2)
        .args(["-cpu", "qemu64,+lmce"])
        .disk(&disk)
        .start()?;
    let log = guest.wait_for(Log::Debug, "1")?;
    ensure!(!log.contains("feature control"), "{log}");
    Ok(())
}

fn rom(files: &TempDir, program: &[u8], right: bool) -> Result<PathBuf> {
    let path = files.path().join("card.rom");
    std::fs::write(&path, media::rom(program, right))?;
    Ok(path)
}

#[test]
fn which_option_roms_run() -> Result<()> {
    let (exec, sums) = ("etc/pci-optionrom-exec", "etc/optionroms-checksum");
    for (file, value, right, runs) in [
        (None, 0, true, true),
        (None, 0, false, false),
        (Some(sums), 0, false, true),
        (Some(sums), 1, false, false),
        (Some(exec), 0, true, false),
        (Some(exec), 1, true, false),
        (Some(exec), 2, true, true),
    ] {
        let files = tempfile::tempdir()?;
        let card = format!("edu,romfile={}", rom(&files, OPTION_ROM, right)?.display());
        let disk = media::disk(files.path(), '1')?;
        let mut config = config().disk(&disk).args(["-device", &card]);
        if let Some(file) = file {
            config = number(config, &files, file, value)?;
        }
        let mut guest = config.start()?;
        let log = guest.wait_for(Log::Debug, "1")?;
        ensure!(
            log.starts_with('I') == runs,
            "{file:?} {value}, checksum right: {right}: {log:?}"
        );
    }
    Ok(())
}

/// A ROM's hard disk has its number and its place in the order, by its name or its card.
#[test]
fn disks_behind_option_roms_boot() -> Result<()> {
    for (order, said, drive) in [
        ("hd", "1V", "81h"),
        ("sector in", "V1", "80h"),
        ("/pci@i0cf8/*@5", "V1", "80h"),
    ] {
        let files = tempfile::tempdir()?;
        let disk = media::disk(files.path(), '1')?;
        let card = format!(
            "edu,addr=5,romfile={}",
            rom(&files, DISK_ROM, true)?.display()
        );
        let mut guest = config()
            .setting("order", order)
            .disk(&disk)
            .args(["-device", &card])
            .start()?;
        guest.wait_for(Log::Serial, &format!("Sector in a ROM (drive {drive})"))?;
        let log = guest.log(Log::Debug);
        ensure!(log.starts_with(said), "{order}: {log:?}");
    }
    Ok(())
}

/// The log is on SeaBIOS's port as well, where there is one.
#[test]
fn the_log_is_on_seabios_port() -> Result<()> {
    let files = tempfile::tempdir()?;
    let log = files.path().join("402");
    let mut guest = config()
        .with(|guest| guest.debug_ports.push((0x402, Chardev::File(log.clone()))))
        .start()?;
    let text = "firstlight: nothing could be booted\n";
    guest.wait_for(Log::Debug, text)?;
    std::thread::sleep(Duration::from_millis(200));
    let other = std::fs::read_to_string(&log)?;
    ensure!(other.contains(text), "{other:?}");
    Ok(())
}

/// A guest that wakes up finds the video card's ROM started again where the user wants that. The ROM says I.
#[test]
fn the_video_rom_after_a_sleep() -> Result<()> {
    static SLEEPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wake.bin"));
    for (value, times) in [(None, 1), (Some(0), 1), (Some(1), 2)] {
        let files = tempfile::tempdir()?;
        let disk = Disk::blank(1 << 20)?;
        disk.write(0, SLEEPER)?;
        let card = format!("VGA,romfile={}", rom(&files, OPTION_ROM, true)?.display());
        let mut config = config()
            .video("none")
            .disk(&disk.path())
            .args(["-device", &card]);
        if let Some(value) = value {
            config = number(config, &files, "etc/s3-resume-vga-init", value)?;
        }
        let mut guest = config.start()?;
        guest.wait_for_status("paused (suspended)")?;
        guest.monitor("system_wakeup")?;
        let log = guest.wait_for(Log::Debug, "lim=")?;
        let said = log.split("lim=").next().unwrap_or_default();
        // The log has a message on this ROM: it serves no INT 10h.
        let started = said.replace("INT", "").matches('I').count();
        ensure!(started == times, "{value:?}: {log:?}");
    }
    Ok(())
}
