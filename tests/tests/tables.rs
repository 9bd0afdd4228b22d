//! What a guest is told about its machine, judged by the programs that read it: Linux, dmidecode and iasl.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::linux::{self, Ended, dmidecode_says, strings};
use firstlight_tests::media;

const UUID: &str = "3cd90213-12e3-4f46-a14e-390253fd9535";

/// A guest that has devices with tables of their own.
fn config(machine: Machine, firmware: Firmware) -> Config {
    Config::new(machine, firmware)
        .deadline_seconds(240)
        .memory_mib(384)
        .args(["-uuid", UUID])
        .args([
            "-device",
            "vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87",
        ])
}

/// What Linux switches on or off by the year of the BIOS, it treats as under SeaBIOS: by the year only Linux knows what that is, so the
/// messages are compared in which it says so.
#[test]
fn linux_takes_the_machine_for_as_old_as_under_seabios() -> Result<()> {
    const SAYS: [&str; 3] = [
        "E820 reservations for host bridge",
        "rtc_cmos",
        "MCFG region",
    ];
    for machine in Machine::ALL {
        let said = |firmware| {
            let ended = linux::report(config(machine, firmware))?;
            let messages = ended.report.text("dmesg.txt");
            let lines = messages
                .lines()
                .filter(|line| SAYS.iter().any(|says| line.contains(says)));
            let lines = lines.filter(|line| !line.contains("setting system clock"));
            let text = |line: &str| line.split_once("] ").map(|(_, text)| text.to_owned());
            anyhow::Ok(lines.filter_map(text).collect::<Vec<_>>())
        };
        let [theirs, ours] = [said(Firmware::SeaBios)?, said(Firmware::Firstlight)?];
        ensure!(
            !ours.is_empty() && ours == theirs,
            "SeaBIOS {theirs:#?}, Firstlight {ours:#?}"
        );
    }
    Ok(())
}

/// The slots of bus 0 in the PCI interrupt routing table, and what each of their four pins is wired to.
fn routed(firmware: Firmware) -> Result<BTreeMap<u8, Vec<u8>>> {
    const F_SEGMENT: (u64, u64) = (0xf_0000, 0x1_0000);
    const HEADER: usize = 32;
    const SLOT: usize = 16;
    let disk = Disk::blank(1 << 20)?;
    disk.write(0, &media::program('R'))?;
    let mut guest = Config::new(Machine::Pc, firmware)
        .disk(&disk.path())
        .start()?;
    guest.wait_for(Log::Debug, "R")?;
    let file = disk.directory().join("f-segment");
    let (start, len) = F_SEGMENT;
    let save = format!("pmemsave {start:#x} {len:#x} \"{}\"", file.display());
    let answer = guest.monitor(&save)?;
    let bytes = fs::read(&file).context(answer)?;
    let table = bytes.chunks(16).position(|row| row.starts_with(b"$PIR"));
    let table = &bytes[16 * table.context("no $PIR")?..];
    let size = usize::from(u16::from_le_bytes([table[6], table[7]]));
    let slots = table[HEADER..size].chunks_exact(SLOT);
    let wired = |slot: &[u8]| [2, 5, 8, 11].map(|at| slot[at]).to_vec();
    Ok(slots.map(|slot| (slot[1], wired(slot))).collect())
}

/// SeaBIOS has six slots, whatever is in them.
#[test]
fn all_slots_are_routed_as_under_seabios() -> Result<()> {
    let [theirs, ours] = [routed(Firmware::SeaBios)?, routed(Firmware::Firstlight)?];
    let same = theirs
        .iter()
        .all(|(slot, wired)| ours.get(slot) == Some(wired));
    ensure!(
        theirs.len() == 6 && same,
        "SeaBIOS {theirs:x?}, Firstlight {ours:x?}"
    );
    Ok(())
}

fn emulate(machine: Machine) -> Result<()> {
    let config = config(machine, Firmware::Firstlight);
    let mode = "name=opt/firstlight/smbios-mode,string=emulate";
    let ended = linux::report(config.args(["-fw_cfg", mode]))?;
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Firstlight",
        "System Information: Manufacturer: QEMU",
        "System Information: Serial Number: Not Specified",
        &uuid,
    ];
    dmidecode_says(&ended.report, &lines)?;
    let text = ended.report.text("dmidecode.txt");
    ensure!(
        !text.contains("Base Board"),
        "a board that nobody gave:\n{text}"
    );
    Ok(())
}

#[test]
fn pc_smbios_emulate() -> Result<()> {
    emulate(Machine::Pc)
}

#[test]
fn q35_smbios_emulate() -> Result<()> {
    emulate(Machine::Q35)
}

/// A guest takes the host's blocks 0 and 1, and keeps its own UUID. The host is another guest here.
fn host(machine: Machine) -> Result<()> {
    let host = Config::new(machine, Firmware::SeaBios)
        .deadline_seconds(240)
        .args(["-uuid", "11111111-2222-3333-4444-555555555555"])
        .args([
            "-smbios",
            "type=0,vendor=Host Works,version=9.8,date=01/02/2025,release=9.8",
        ])
        .args([
            "-smbios",
            "type=1,manufacturer=Host Maker,product=Häuser GmbH,serial=H-1",
        ])
        .args(["-smbios", "type=2,manufacturer=Host Board"]);
    let host = linux::report(host)?;
    let table = fs::read(host.report.directory().join("dmi/DMI"))?;
    let blob = tempfile::NamedTempFile::new()?;
    fs::write(blob.path(), firstlight_host::smbios::from_host(&table)?)?;

    let file = format!("name=opt/firstlight/smbios,file={}", blob.path().display());
    let guest = config(machine, Firmware::Firstlight)
        .args(["-fw_cfg", "name=opt/firstlight/smbios-mode,string=host"])
        .args(["-fw_cfg", &file]);
    let ended = linux::report(guest)?;
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Host Works",
        "BIOS Information: Version: 9.8",
        "BIOS Information: Release Date: 01/02/2025",
        "BIOS Information: BIOS Revision: 9.8",
        "System Information: Manufacturer: Host Maker",
        "System Information: Serial Number: H-1",
        "Chassis Information: Manufacturer: QEMU",
        &uuid,
    ];
    dmidecode_says(&ended.report, &lines)?;
    let system = strings(&ended.report, 1)?;
    ensure!(
        system.iter().any(|text| text == "Häuser GmbH".as_bytes()),
        "{system:?}"
    );
    let text = ended.report.text("dmidecode.txt");
    ensure!(!text.contains("Host Board"), "the host's board:\n{text}");
    Ok(())
}

#[test]
fn pc_smbios_host() -> Result<()> {
    host(Machine::Pc)
}

#[test]
fn q35_smbios_host() -> Result<()> {
    host(Machine::Q35)
}

/// The `<sysinfo>` of a libvirt domain, in the ways it can be given.
const SYSINFO: &str = "<domain><sysinfo type='smbios'>
    <bios><entry name='vendor'>Acme Firmware Works</entry><entry name='version'>4.2</entry>
        <entry name='date'>11/22/2026</entry><entry name='release'>4.2</entry></bios>
    <system><entry name='manufacturer'>Acme</entry><entry name='product'>Gerät</entry><entry name='version'/>
        <entry name='serial'>LONG</entry><entry name='sku'>RG-7</entry><entry name='family'>Guests</entry></system>
    <baseBoard><entry name='manufacturer'>Acme</entry><entry name='product'>Board</entry><entry name='asset'>A-1</entry>
        <entry name='location'>Slot 3</entry></baseBoard>
    <chassis><entry name='manufacturer'>Acme</entry><entry name='serial'>CH-0001</entry><entry name='sku'>CH-SKU</entry></chassis>
    <oemStrings><entry>com.example:rack=12</entry><entry>firstlight.menu=no</entry><entry>zweite Zeile: ß</entry></oemStrings>
</sysinfo></domain>";

/// What a guest of [`SYSINFO`] has to say, however it was given.
fn is_sysinfo(ended: &Ended) -> Result<()> {
    let serial = format!("System Information: Serial Number: {}", "s".repeat(200));
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Acme Firmware Works",
        "BIOS Information: Version: 4.2",
        "BIOS Information: Release Date: 11/22/2026",
        "BIOS Information: BIOS Revision: 4.2",
        "System Information: Manufacturer: Acme",
        "System Information: SKU Number: RG-7",
        "System Information: Family: Guests",
        &serial,
        &uuid,
        "Base Board Information: Manufacturer: Acme",
        "Base Board Information: Product Name: Board",
        "Base Board Information: Serial Number: Not Specified",
        "Base Board Information: Asset Tag: A-1",
        "Base Board Information: Location In Chassis: Slot 3",
        "Chassis Information: Manufacturer: Acme",
        "Chassis Information: Serial Number: CH-0001",
        "Chassis Information: Asset Tag: Not Specified",
        "Chassis Information: SKU Number: CH-SKU",
    ];
    dmidecode_says(&ended.report, &lines)?;
    let product = strings(&ended.report, 1)?;
    let product = product.get(1).map(Vec::as_slice);
    ensure!(product == Some("Gerät".as_bytes()), "product {product:?}");
    let oem = strings(&ended.report, 11)?;
    let wanted = ["com.example:rack=12", "zweite Zeile: ß"];
    ensure!(
        oem == wanted.map(|text| text.as_bytes().to_vec()),
        "{oem:?}"
    );
    Ok(())
}

/// As libvirt's QEMU driver gives it, beside the same guest with SeaBIOS: all else that the firmware tells is as good as there.
fn as_good_as_seabios(machine: Machine) -> Result<()> {
    let serial = "s".repeat(200);
    let guest = |firmware| {
        config(machine, firmware)
            .cpus(2)
            .args(["-smbios", "type=0,vendor=Acme Firmware Works,version=4.2,date=11/22/2026,release=4.2"])
            .args(["-smbios", &format!("type=1,manufacturer=Acme,product=Gerät,version=,serial={serial},sku=RG-7,family=Guests")])
            .args(["-smbios", "type=2,manufacturer=Acme,product=Board,asset=A-1,location=Slot 3"])
            .args(["-smbios", "type=3,manufacturer=Acme,serial=CH-0001,sku=CH-SKU"])
            .args(["-smbios", "type=11,value=com.example:rack=12,value=firstlight.menu=no,value=zweite Zeile: ß"])
    };
    let ours = linux::report(guest(Firmware::Firstlight))?;
    is_sysinfo(&ours)?;
    let peer = linux::report(guest(Firmware::SeaBios))?;
    let messages = ours.report.text("dmesg.txt");
    linux::is_content(&messages)?;
    tables_are_as_good(&ours, &peer)
}

/// All ACPI tables of `peer` are in `ours`; none has a wrong checksum, or is more to complain of for iasl.
fn tables_are_as_good(ours: &Ended, peer: &Ended) -> Result<()> {
    let (tables, theirs) = (ours.report.acpi()?, peer.report.acpi()?);
    let names = |tables: &[xtask::linux::AcpiTable]| {
        tables
            .iter()
            .map(|table| table.name.clone())
            .collect::<Vec<_>>()
    };
    ensure!(
        names(&tables) == names(&theirs) && tables.len() > 4,
        "ACPI tables {:?}, with SeaBIOS {:?}",
        names(&tables),
        names(&theirs)
    );
    for (table, peer) in tables.iter().zip(&theirs) {
        ensure!(table.sum_is_right(), "{}: wrong checksum", table.name);
        let mut expected = peer.decompile()?.messages;
        for message in table.decompile()?.messages {
            let at = expected.iter().position(|known| *known == message);
            let at = at.with_context(|| format!("{}: iasl says {message}", table.name))?;
            expected.swap_remove(at);
        }
    }
    Ok(())
}

#[test]
fn pc_tables_are_as_good_as_seabios() -> Result<()> {
    as_good_as_seabios(Machine::Pc)
}

#[test]
fn q35_tables_are_as_good_as_seabios() -> Result<()> {
    as_good_as_seabios(Machine::Q35)
}

/// As `firstlight smbios --domain` makes a blob of it.
#[test]
fn pc_smbios_sysinfo_as_a_blob() -> Result<()> {
    let xml = SYSINFO.replace("LONG", &"s".repeat(200));
    let blob = tempfile::NamedTempFile::new()?;
    fs::write(blob.path(), firstlight_host::smbios::from_sysinfo(&xml)?)?;
    let file = format!("name=opt/firstlight/smbios,file={}", blob.path().display());
    let guest = config(Machine::Pc, Firmware::Firstlight).args(["-fw_cfg", &file]);
    is_sysinfo(&linux::report(guest)?)
}

/// A machine with a bridge and four CPUs goes to sleep (S3) and wakes up.
fn sleeps(machine: Machine) -> Result<()> {
    let bridge = match machine {
        Machine::Pc => "pci-bridge,id=bridge,chassis_nr=1",
        Machine::Q35 => "pcie-root-port,id=bridge,chassis=1",
    };
    let behind = match machine {
        Machine::Pc => "virtio-rng-pci,bus=bridge,addr=1",
        Machine::Q35 => "virtio-rng-pci,bus=bridge",
    };
    let config = config(machine, Firmware::Firstlight)
        .cpus(4)
        .args(["-device", bridge, "-device", behind]);
    let sleep = format!(
        "echo deep > /sys/power/mem_sleep\n{}",
        linux::sleeping_job(100_000_000, ":")
    );
    let mut linux = linux::start(config, "no_console_suspend", &sleep)?;
    for turn in 1..=2 {
        linux
            .guest
            .wait_for(Log::Serial, &format!("to-sleep {turn}"))?;
        linux.guest.wait_for_status("paused (suspended)")?;
        linux.guest.monitor("system_wakeup")?;
        linux
            .guest
            .wait_for(Log::Serial, &format!("awake-again {turn}"))?;
    }
    let ended = linux.end()?;
    linux::slept_well(&ended.job)
}

#[test]
fn pc_sleeps_and_wakes_up() -> Result<()> {
    sleeps(Machine::Pc)
}

#[test]
fn q35_sleeps_and_wakes_up() -> Result<()> {
    sleeps(Machine::Q35)
}

/// A mark of S3 in CMOS, left behind by a guest that did not sleep, is a restart like any other.
#[test]
fn restarts_with_a_mark_of_sleep() -> Result<()> {
    for machine in Machine::ALL {
        let job = "printf '\\017' | dd of=/dev/port bs=1 seek=112 conv=notrunc\n\
                   printf '\\376' | dd of=/dev/port bs=1 seek=113 conv=notrunc\nreboot -f\n";
        let mut linux = linux::start(config(machine, Firmware::Firstlight), "", job)?;
        linux.guest.wait_for_count(Log::Serial, "report-end", 2)?;
    }
    Ok(())
}

/// Waits for a CPU and for memory to be plugged in, and uses both.
const PLUGGED: &str = "
dmesg -c > /dev/null
echo ready-\"to plug\"
for i in $(seq 300); do [ -e /sys/devices/system/cpu/cpu1 ] && break; sleep 0.2; done
echo 1 > /sys/devices/system/cpu/cpu1/online
before=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
echo cpu-\"online\" $(cat /sys/devices/system/cpu/online)
for i in $(seq 300); do
    after=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
    [ $after -gt $before ] && break
    sleep 0.2
done
echo memory-\"grew\" $((after - before))
dmesg
";

fn grows(machine: Machine) -> Result<()> {
    let config = config(machine, Firmware::Firstlight)
        .args(["-smp", "maxcpus=2,sockets=2,cores=1,threads=1"])
        .args(["-m", "slots=2,maxmem=1G"]);
    let mut linux = linux::start(config, "memhp_default_state=online", PLUGGED)?;
    linux.guest.wait_for(Log::Serial, "ready-to plug")?;
    let cpu = "device_add qemu64-x86_64-cpu,id=cpu1,socket-id=1,core-id=0,thread-id=0";
    linux.guest.monitor(cpu)?;
    linux.guest.wait_for(Log::Serial, "cpu-online")?;
    linux
        .guest
        .monitor("object_add memory-backend-ram,id=more,size=128M")?;
    linux
        .guest
        .monitor("device_add pc-dimm,id=dimm,memdev=more")?;
    let ended = linux.end()?;
    ensure!(
        ended.job.contains("cpu-online 0-1") && ended.job.contains("memory-grew 131072"),
        "{}",
        ended.job
    );
    linux::is_content(&ended.job)?;
    Ok(())
}

#[test]
fn pc_grows_a_cpu_and_memory() -> Result<()> {
    grows(Machine::Pc)
}

#[test]
fn q35_grows_a_cpu_and_memory() -> Result<()> {
    grows(Machine::Q35)
}

/// The largest tables: 240 CPUs and 99 OEM strings of 100 bytes. The firmware starts all CPUs; the kernel, which would take minutes
/// for that without hardware virtualisation, one.
#[test]
fn q35_with_240_cpus_and_99_oem_strings() -> Result<()> {
    let mut config = config(Machine::Q35, Firmware::Firstlight)
        .memory_mib(1024)
        .cpus(240);
    let text = |number| format!("{number:0100}");
    for number in 1..=99 {
        config = config.args(["-smbios", &format!("type=11,value={}", text(number))]);
    }
    // Time that is counted in instructions takes minutes with so many CPUs. On the host's time a busy host can make the kernel
    // doubt its timer's wiring, which the other tests leave it to check.
    let ended = linux::start(config, "maxcpus=1 no_timer_check", "")?.end()?;
    ensure!(ended.firmware.is_empty(), "it says:\n{}", ended.firmware);
    dmidecode_says(&ended.report, &[])?;
    let oem = strings(&ended.report, 11)?;
    let all = (1..=99).map(|number| text(number).into_bytes());
    ensure!(oem == all.collect::<Vec<_>>(), "{} strings", oem.len());
    let messages = ended.report.text("dmesg.txt");
    let possible = "smpboot: Allowing 240 CPUs, 0 hotplug CPUs";
    ensure!(messages.contains(possible), "{messages}");
    linux::is_content(&messages)?;
    for table in ended.report.acpi()? {
        ensure!(table.sum_is_right(), "{}: wrong checksum", table.name);
    }
    Ok(())
}
