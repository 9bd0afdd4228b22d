//! The menu and other settings, as the owner of a guest of Xen gives them.

use super::kept::save_and_restore;
use anyhow::{Result, ensure};
use firstlight_tests::media;
use firstlight_tests::xen::{Bed, Guest, PROBE, Version, bed, firstlight, guest_lines};
use firstlight_vm::wait;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROMPT: &str = "for the boot menu";
const MENU: &str = "Choose what to boot";

/// The blob that gives settings as OEM strings.
fn blob(settings: &[&str]) -> Result<Vec<u8>> {
    let strings: String = settings
        .iter()
        .map(|setting| format!("<entry>firstlight.{setting}</entry>"))
        .collect();
    firstlight_host::smbios::from_sysinfo(&format!(
        "<domain><sysinfo type='smbios'><oemStrings>{strings}</oemStrings></sysinfo></domain>"
    ))
}

/// Where a guest's settings stand.
#[derive(Clone, Copy)]
enum Given {
    /// In xenstore, `platform/firstlight/*`.
    Store,
    /// As OEM strings of the guest's xl.cfg.
    Configuration,
}

/// Starts a guest with two disks, which say 1 and 2 on port E9h, whose first serial port is a terminal with `xl console`.
fn two_disks(
    version: Version,
    bed: &mut Bed,
    files: &TempDir,
    given: Given,
    settings: &[&str],
) -> Result<Guest> {
    let mut guest = Guest::new("menu", &firstlight()).string("serial", "pty");
    for letter in ['1', '2'] {
        let name = format!("{letter}.img");
        guest = guest
            .file_of_host(&media::disk(files.path(), letter)?, &name)
            .disk(&format!("/job/{name}"));
    }
    let mut script = "at=/local/domain/$(xl domid menu)/platform/firstlight\n".to_owned();
    match given {
        Given::Store => {
            for setting in settings {
                let setting = setting.replacen('=', " ", 1);
                script.push_str(&format!("xenstore-write $at/{setting}\n"));
            }
        }
        // Before Xen 4.18, xl.cfg has nothing but a blob for them.
        Given::Configuration if version == Version::V4_20 => {
            let strings = settings
                .iter()
                .map(|setting| format!("\"oem=firstlight.{setting}\""));
            let strings: Vec<_> = strings.collect();
            guest = guest.set("smbios", format!("[{}]", strings.join(",")));
        }
        Given::Configuration => {
            let file = files.path().join("smbios");
            std::fs::write(&file, blob(settings)?)?;
            guest = guest
                .file_of_host(&file, "menu.smbios")
                .string("smbios_firmware", "/job/menu.smbios");
        }
    }
    bed.create_paused(&guest)?;
    bed.check(&script)?;
    bed.open_terminal(&guest)?;
    bed.check("xl unpause menu")?;
    Ok(guest)
}

/// Waits until the boot programs have said something, one after the other, which has to be `text`.
fn wait_said(bed: &mut Bed, text: &str) -> Result<()> {
    let end = Instant::now() + PROBE * wait::scale();
    let mut said = String::new();
    while Instant::now() < end {
        said.push_str(&bed.dmesg()?);
        let mut lines = guest_lines(&said)
            .into_iter()
            .filter_map(|line| line.split_once(") "));
        if let Some((_, letters)) = lines.find(|(_, line)| line.starts_with(['1', '2'])) {
            ensure!(letters.starts_with(text), "not {text:?} but {letters:?}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    anyhow::bail!(
        "the boot programs have not said {text:?}:\n{said}\n{}",
        bed.tails()
    )
}

/// Chooses the second disk within the three seconds that there are for the menu's key.
fn chosen(version: Version, given: Given) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let timeout = format!("menu-timeout={}", 3000 * wait::scale());
    let guest = two_disks(version, &mut bed, &files, given, &["menu=yes", &timeout])?;
    bed.type_after(&guest, PROMPT, "\\033")?;
    bed.wait_for(&guest, MENU, PROBE)?;
    bed.type_after(&guest, MENU, "\\033[B\\r")?;
    wait_said(&mut bed, "21")
}

pub fn the_menu_by_keys_on_the_serial_console(version: Version) -> Result<()> {
    chosen(version, Given::Store)
}

pub fn the_menu_by_an_oem_string(version: Version) -> Result<()> {
    chosen(version, Given::Configuration)
}

/// A guest that was saved while its menu was open shows it still, and boots what is chosen then.
pub fn saved_and_restored_in_the_menu(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let settings = ["menu=yes", "menu-timeout=forever"];
    let guest = two_disks(version, &mut bed, &files, Given::Store, &settings)?;
    bed.type_after(&guest, PROMPT, "\\033")?;
    bed.wait_for(&guest, MENU, PROBE)?;
    save_and_restore(&mut bed, &guest)?;
    bed.open_terminal(&guest)?;
    // The terminal is a new one: what tells that the guest lives is that it draws.
    bed.check("printf '\\033[B' >/tmp/keys")?;
    bed.type_after(&guest, "HARDDISK", "\\r")?;
    wait_said(&mut bed, "21")
}

/// Without a key the boot goes on after the time that was said, and not before.
pub fn the_menu_waits_as_long_as_it_is_told(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let settings = ["menu=yes", "menu-timeout=60000"];
    let guest = two_disks(version, &mut bed, &files, Given::Store, &settings)?;
    bed.wait_for(&guest, PROMPT, PROBE)?;
    let start = Instant::now();
    wait_said(&mut bed, "12")?;
    let waited = start.elapsed();
    ensure!(
        waited >= Duration::from_secs(50),
        "the boot went on after {waited:?}"
    );
    Ok(())
}
