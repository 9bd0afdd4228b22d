//! What has to hold on every version of Xen.

use anyhow::{Result, ensure};
use firstlight_tests::guest::workspace;
use firstlight_tests::xen::{
    Bed, Guest, Loader, PROBE, Then, Version, bed, empty_disk, firstlight, guest_lines, probe_disk,
    ram,
};
use std::fs;
use std::time::{Duration, Instant};

mod bootloader;
mod disk;
mod domain;
mod kept;
mod life;
mod linux;
mod menu;
mod power;
mod tables;
mod tool;
pub use bootloader::*;
pub use disk::*;
pub use domain::*;
pub use kept::*;
pub use life::*;
pub use linux::*;
pub use menu::*;
pub use power::*;
pub use tables::*;
pub use tool::*;

/// The last thing a probe says before it ticks.
const END: &str = "probe end";
/// What the firmware says when it has nothing to boot and waits.
const IN_FIRMWARE: &str = "Press a key to restart";
/// How long what many CPUs share, or the stock loader has to do, may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long OVMF may take to its shell: it reads its clock by way of dom0's QEMU all the time.
const OVMF: Duration = Duration::from_secs(600);

/// How much longer than ours a guest of the stock loader may take, and what its slower start may take besides. What it does is told, and not
/// tested: one that never ends must not cost the time of a deadline.
const STOCK_TIMES: u32 = 2;
const STOCK_START: Duration = Duration::from_secs(60);

/// Leads the same life under our loader, which has to succeed, and then under the stock one. What that fails in is no failure of ours: it
/// is left in target/xen-life, and docs/xen.md tells of it.
fn beside_stock(
    version: Version,
    test: &str,
    life: impl Fn(&mut Bed, &Loader) -> Result<()>,
) -> Result<()> {
    let mut bed = bed(version)?;
    let start = Instant::now();
    life(&mut bed, &firstlight())?;
    bed.destroy_all()?;
    let time = start.elapsed() * STOCK_TIMES + STOCK_START;
    let directory = workspace().join("target/xen-life");
    fs::create_dir_all(&directory)?;
    let told = match bed.within(time, |bed| life(bed, &Loader::Stock)) {
        Ok(()) => "the same under the stock loader\n".to_owned(),
        Err(error) => format!("not under the stock loader: {error:?}\n"),
    };
    fs::write(
        directory.join(format!("{}-{test}.txt", version.number())),
        told,
    )?;
    bed.destroy_all()
}

/// The guest with a disk that the BIOS behind the stock loader reads by DMA: an IDE disk it reads word by word, which takes minutes here.
fn with_fast_disk(guest: Guest, loader: &Loader) -> Guest {
    match loader {
        Loader::Stock => guest.string("hdtype", "ahci"),
        Loader::File(_) => guest,
    }
}

/// Starts a probe with `settings`, and returns its report.
fn report(version: Version, name: &str, settings: impl FnOnce(Guest) -> Guest) -> Result<String> {
    let mut bed = bed(version)?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let guest = settings(Guest::new(name, &firstlight()).disk(&disk));
    bed.boot(&guest, END, PROBE)
}

/// RAM below and from 4 GiB has the sizes that the toolstack gives, but for what firmware takes at the top of low RAM and below
/// 1 MiB.
fn ensure_ram(report: &str, low_mib: u64, high_mib: u64) -> Result<()> {
    let (low, high) = ram(report)?;
    let (low_mib_told, high_mib_told) = (low >> 20, high >> 20);
    ensure!(
        (low_mib - 4..=low_mib).contains(&low_mib_told) && high_mib_told == high_mib,
        "RAM of {low_mib_told} MiB below 4 GiB and {high_mib_told} MiB above, not {low_mib} and {high_mib}:\n{report}"
    );
    Ok(())
}

pub fn one_cpu_and_256_mib(version: Version) -> Result<()> {
    let report = report(version, "small", |guest| guest)?;
    // 8 MiB of every guest are for its screen.
    ensure_ram(&report, 248, 0)
}

pub fn four_cpus_and_5_gib(version: Version) -> Result<()> {
    let report = report(version, "large", |guest| {
        guest.set("memory", 5120).set("vcpus", 4)
    })?;
    ensure_ram(&report, 3840, 5120 - 8 - 3840)
}

pub fn ram_of_3584_mib_is_all_below_4_gib(version: Version) -> Result<()> {
    let report = report(version, "middle", |guest| guest.set("memory", 3584))?;
    ensure_ram(&report, 3576, 0)
}

pub fn without_acpi(version: Version) -> Result<()> {
    report(version, "no-acpi", |guest| guest.set("acpi", 0)).map(drop)
}

pub fn without_apic(version: Version) -> Result<()> {
    report(version, "no-apic", |guest| guest.set("apic", 0)).map(drop)
}

pub fn a_good_boot_is_quiet(version: Version) -> Result<()> {
    let lines = log(version, |_| String::new(), |guest| guest)?;
    ensure!(
        lines.len() <= 10,
        "{} lines:\n{}",
        lines.len(),
        lines.join("\n")
    );
    Ok(())
}

pub fn all_is_logged_on_demand(version: Version) -> Result<()> {
    let script = |at: &str| format!("xenstore-write {at}/platform/firstlight/log debug");
    let lines = log(version, script, |guest| guest)?;
    // What was found, and what is done with it.
    for part in [
        "memory 0x0000000000 to 0x",
        "PCI 00:01.1 8086:7010 class 010180",
        "BAR 4 Io at 0x",
        "booting QEMU HARDDISK",
    ] {
        ensure!(
            lines.iter().any(|line| line.contains(part)),
            "no {part:?} in:\n{}",
            lines.join("\n")
        );
    }
    Ok(())
}

/// What cannot be done as it was asked for costs one line, and the built-in BIOS starts.
pub fn wrong_requests_are_told_in_one_line(version: Version) -> Result<()> {
    let garbage = "platform/firstlight/payload=module";
    for (request, told) in [
        ("hvmloader/bios=zebra", "firmware \"zebra\" is not known"),
        ("platform/firstlight/payload=zebra", "payload=zebra"),
        (garbage, "the firmware module is damaged"),
        ("hvmloader/bios=ovmf", "the firmware module"),
    ] {
        let script = |at: &str| format!("xenstore-write {at}/{}", request.replace('=', " "));
        let lines = log(version, script, |guest| match request == garbage {
            true => guest.string("bios_path_override", "/job/garbage"),
            false => guest,
        })?;
        let about: Vec<_> = lines.iter().filter(|line| line.contains(told)).collect();
        ensure!(
            about.len() == 1,
            "{request} is not told in one line:\n{}",
            lines.join("\n")
        );
    }
    Ok(())
}

/// The lines of the firmware's own in Xen's console at the start of a probe, for which dom0 first runs what `script` makes of the
/// domain's path in xenstore.
fn log(
    version: Version,
    script: impl Fn(&str) -> String,
    settings: impl Fn(Guest) -> Guest,
) -> Result<Vec<String>> {
    let mut bed = bed(version)?;
    bed.check("head -c 262144 /dev/urandom >/job/garbage")?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let guest = settings(Guest::new("logged", &firstlight()).disk(&disk));
    bed.create_paused(&guest)?;
    let script = script("/local/domain/$(xl domid logged)");
    bed.check(&format!("{script}\nxl unpause logged"))?;
    bed.wait_for(&guest, END, PROBE)?;
    let dmesg = bed.dmesg()?;
    Ok(guest_lines(&dmesg)
        .into_iter()
        .filter(|line| line.contains("firstlight"))
        .map(str::to_owned)
        .collect())
}

pub fn seabios_as_a_module(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let guest = Guest::new("module", &firstlight()).disk(&disk);
    bed.create_paused(&guest)?;
    bed.check(
        "xenstore-write /local/domain/$(xl domid module)/platform/firstlight/payload module && xl unpause module",
    )?;
    let report = bed.wait_for(&guest, END, PROBE)?;
    ensure_ram(&report, 248, 0)?;
    let dmesg = bed.dmesg()?;
    ensure!(
        dmesg.contains("SeaBIOS (version"),
        "SeaBIOS did not start:\n{dmesg}"
    );
    Ok(())
}

/// OVMF gets to its shell, as it does under the stock loader.
pub fn ovmf_as_a_module(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let guest = Guest::new("ovmf", &firstlight())
        .set("memory", 512)
        // Drawing its logo takes a minute here.
        .string("vga", "none")
        .disk(&empty_disk(&bed)?)
        .file_of_host(&xtask::xen::ovmf::file()?, "ovmf.fd")
        .string("bios", "ovmf")
        .string("bios_path_override", "/job/ovmf.fd");
    bed.boot(&guest, "Shell>", OVMF)?;
    Ok(())
}

pub fn destroyed_in_the_firmware_and_started_again(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let guest = Guest::new("short", &firstlight()).disk(&probe_disk(&bed, Then::Tick)?);
    bed.create(&guest)?;
    bed.check("xl destroy short")?;
    bed.boot(&guest, END, PROBE)?;
    Ok(())
}

pub fn two_guests_at_once(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let disk = probe_disk(&bed, Then::Tick)?;
    bed.check("cp /job/tick.img /job/tick2.img")?;
    let guests = [
        Guest::new("first", &firstlight()).disk(&disk),
        Guest::new("second", &firstlight()).disk("/job/tick2.img"),
    ];
    for guest in &guests {
        bed.create(guest)?;
    }
    for guest in &guests {
        bed.wait_for(guest, END, PROBE)?;
    }
    Ok(())
}

pub fn an_empty_disk_leaves_the_guest_running(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let guest = Guest::new("empty", &firstlight()).disk(&empty_disk(&bed)?);
    bed.boot(&guest, IN_FIRMWARE, PROBE)?;
    let dmesg = bed.dmesg()?;
    ensure!(
        guest_lines(&dmesg)
            .iter()
            .any(|line| line.contains("firstlight: nothing could be booted")),
        "the log does not say that nothing boots:\n{dmesg}"
    );
    bed.check("sleep 5; xl list empty")?;
    Ok(())
}

pub fn a_module_of_garbage_does_not_matter(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    bed.check("head -c 262144 /dev/urandom >/job/garbage")?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let guest = Guest::new("garbage", &firstlight()).disk(&disk);
    let guest = guest
        .string("bios", "seabios")
        .string("bios_path_override", "/job/garbage");
    bed.boot(&guest, END, PROBE)?;
    Ok(())
}

pub fn nonsense_in_xenstore_does_not_matter(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let guest = Guest::new("nonsense", &firstlight()).disk(&disk);
    bed.create_paused(&guest)?;
    let long = "x".repeat(2000);
    bed.check(&format!(
        "at=/local/domain/$(xl domid nonsense)\n\
         for key in platform/acpi platform/mmio_hole_size platform/generation-id hvmloader/allow-memory-relocate \
         hvmloader/acpi/address hvmloader/acpi/length hvmloader/smbios/address hvmloader/smbios/length \
         platform/firstlight/menu platform/firstlight/order platform/firstlight/log platform/firstlight/unknown; do\n\
         xenstore-write $at/$key '-1 zebra'\n\
         done\n\
         xenstore-write $at/bios-strings/bios-vendor {long}\n\
         xl unpause nonsense"
    ))?;
    bed.wait_for(&guest, END, PROBE)?;
    Ok(())
}

/// One test for each of the functions above, in the shared test bed of a version.
macro_rules! tests {
    ($version:ident: $($name:ident)*) => {
        $(
            #[test]
            #[ignore = "the test bed of Xen takes minutes: cargo xtask test --xen"]
            fn $name() -> anyhow::Result<()> {
                xen::$name(firstlight_tests::xen::Version::$version)
            }
        )*
    };
    ($version:ident) => {
        xen::tests! { $version:
            one_cpu_and_256_mib
            four_cpus_and_5_gib
            ram_of_3584_mib_is_all_below_4_gib
            without_acpi
            without_apic
            a_good_boot_is_quiet
            all_is_logged_on_demand
            wrong_requests_are_told_in_one_line
            seabios_as_a_module
            ovmf_as_a_module
            destroyed_in_the_firmware_and_started_again
            two_guests_at_once
            an_empty_disk_leaves_the_guest_running
            a_module_of_garbage_does_not_matter
            nonsense_in_xenstore_does_not_matter
            all_kinds_of_guests_start
            memory_on_demand
            kept_in_a_boot_sector
            kept_in_the_firmware
            kept_in_grub
            kept_under_load_in_linux
            paused_in_mid_transfer
            a_hundred_restarts_from_inside
            the_menu_by_keys_on_the_serial_console
            the_menu_by_an_oem_string
            the_menu_waits_as_long_as_it_is_told
            saved_and_restored_in_the_menu
            pv_disk_is_read_and_written_also_after_a_restore
            pv_disk_by_the_kernels_back_end
            without_pv_disk_the_emulated_one_is_used
            a_disk_that_is_only_a_vbd_boots
            a_cd_boots
            without_a_back_end_the_emulated_disk_boots
            debian_to_login
            debian_to_login_by_seabios
            a_domain_has_its_menu_its_order_and_its_sysinfo
            a_domain_with_a_kernel
            linux_finds_the_stock_loaders_machine
            linux_restarts_from_inside
            linux_sleeps_and_is_woken_up
            linux_sleeps_is_woken_up_and_kept
            linux_gets_cpus_up_to_32
            making_the_tables_takes_less_than_a_million_instructions
            linux_without_acpi
            linux_without_apic
            what_the_toolstack_hands_over_reaches_the_guest
            smbios_emulate
            smbios_host
            smbios_sysinfo_of_a_domain
            smbios_sysinfo_and_tables_as_good_as_the_stock_loaders
            the_bootloader_starts_debian_paravirtualised
            the_bootloader_starts_debian_as_pvh
            the_bootloader_reads_each_file_system
            the_tool_starts_a_paravirtual_domain
            the_tool_starts_a_domain_with_a_bios
            xl_reads_the_names_that_the_domain_has
        }
    };
}
pub(crate) use tests;
