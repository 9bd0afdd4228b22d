//! The boot menu, the report and the serial console, as a user meets them: by keys, on the screen and on a terminal.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Guest, Log, Machine, workspace};
use firstlight_tests::media;
use firstlight_tests::script::Script;
use firstlight_vm::Chardev;
use tempfile::TempDir;

const PROMPT: &str = "for the boot menu";
const MENU: &str = "Choose what to boot";
const NOTHING_BOOTS: &str = "Nothing could be booted";

/// Two disks that say 1 and 2.
fn two_disks(machine: Machine, files: &TempDir) -> Result<Config> {
    let mut config = Config::new(machine, Firmware::Firstlight);
    for letter in ['1', '2'] {
        config = config.disk(&media::disk(files.path(), letter)?);
    }
    Ok(config)
}

fn with_menu(config: Config, ms: u32) -> Config {
    config.with(|guest| {
        guest.boot.menu = Some(true);
        guest.boot.menu_timeout = Some(ms);
    })
}

/// What the boot programs have said.
fn said(guest: &Guest) -> String {
    let log = guest.log(Log::Debug);
    log.split("firstlight:")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn wait_said(guest: &mut Guest, text: &str) -> Result<()> {
    guest.wait_until(&format!("{text:?} said"), |guest| {
        said(guest).starts_with(text).then_some(())
    })
}

#[test]
fn by_keys_on_the_terminal() -> Result<()> {
    for machine in Machine::ALL {
        let files = tempfile::tempdir()?;
        let mut guest = with_menu(two_disks(machine, &files)?, 60_000).start()?;
        guest.wait_for(Log::Serial, PROMPT)?;
        guest.type_serial("\x1b")?;
        guest.wait_for(Log::Serial, MENU)?;
        // What the firmware knows, and back.
        guest.type_serial("i")?;
        guest.wait_for(Log::Serial, "256 MiB")?;
        guest.type_serial("\x1b")?;
        guest.wait_for_count(Log::Serial, MENU, 2)?;
        guest.type_serial("\x1b[B\r")?;
        wait_said(&mut guest, "21")?;
    }
    Ok(())
}

/// The screen under F12, with a picture of it for people to look at.
#[test]
fn by_keys_on_the_keyboard() -> Result<()> {
    let files = tempfile::tempdir()?;
    let mut guest = with_menu(two_disks(Machine::Pc, &files)?, 60_000).start()?;
    guest.wait_for_screen(PROMPT)?;
    guest.send_key("f12")?;
    guest.wait_for_screen(MENU)?;
    guest.send_key("down")?;
    guest.wait_for_screen("drive@0/disk@1")?;
    looks_like(&guest, "menu")?;
    guest.send_key("2")?;
    wait_said(&mut guest, "21")
}

/// The screen is that of `tests/screens/NAME.txt`. A picture of it stays in `target/screens`.
fn looks_like(guest: &Guest, name: &str) -> Result<()> {
    let screen = guest.screen()?;
    let expected = workspace().join(format!("tests/screens/{name}.txt"));
    let expected = std::fs::read_to_string(expected)?;
    let picture = keep(&format!("{name}.ppm"), &guest.picture()?)?;
    // The bar has the version. Lines are `Ä` here: the screen is read as if it were Latin-1.
    let body = |text: &str| {
        text.lines()
            .skip(1)
            .take(22)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    ensure!(
        body(&screen) == body(&expected),
        "the screen (see {}) is\n{screen}",
        picture.display()
    );
    Ok(())
}

/// What waits for the key, and the report, which stays for ever.
#[test]
fn the_prompt_and_the_report_on_the_screen() -> Result<()> {
    let files = tempfile::tempdir()?;
    let blank = Disk::blank(1 << 20)?;
    let config = Config::new(Machine::Pc, Firmware::Firstlight)
        .disk(&media::disk(files.path(), '1')?)
        .disk(&blank.path())
        .setting("menu", "yes")
        .setting("menu-timeout", "-1");
    let mut guest = config.start()?;
    guest.wait_for_screen(PROMPT)?;
    looks_like(&guest, "prompt")?;
    guest.send_key("f12")?;
    guest.wait_for_screen(MENU)?;
    std::thread::sleep(Duration::from_secs(1));
    guest.send_key("esc")?;
    guest.wait_for_screen("Press a key")?;
    looks_like(&guest, "report")
}

/// A card whose memory is drawn to and one that is drawn on by INT 10h show the same, dot by dot.
#[test]
fn the_menu_looks_the_same_on_all_cards() -> Result<()> {
    let mut pictures = Vec::new();
    for card in ["VGA", "cirrus-vga", "isa-vga"] {
        let files = tempfile::tempdir()?;
        let config = two_disks(Machine::Pc, &files)?.video(card);
        let mut guest = with_menu(config, 60_000).start()?;
        guest.wait_for_screen(PROMPT)?;
        guest.send_key("f12")?;
        guest.wait_for_screen("drive@0/disk@0")?;
        // The display is redrawn now and then.
        std::thread::sleep(Duration::from_millis(500));
        let picture = guest.picture()?;
        keep(&format!("menu-{card}.ppm"), &picture)?;
        pictures.push((card, picture));
    }
    for (card, picture) in &pictures[1..] {
        ensure!(
            *picture == pictures[0].1,
            "the pictures menu-VGA and menu-{card} in target/screens differ"
        );
    }
    Ok(())
}

fn keep(name: &str, picture: &[u8]) -> Result<PathBuf> {
    let directory = workspace().join("target/screens");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    std::fs::write(&path, picture)?;
    Ok(path)
}

/// Esc goes on with the order, also where it is another key that opens the menu.
#[test]
fn another_key_and_another_message() -> Result<()> {
    let files = tempfile::tempdir()?;
    let mut guest = two_disks(Machine::Pc, &files)?
        .setting("menu", "yes")
        .setting("menu-timeout", "forever")
        .setting("menu-key", "f2")
        .setting("menu-message", "F2: what to boot")
        .start()?;
    guest.wait_for_screen("F2: what to boot")?;
    ensure!(
        guest.screen()?.contains("The boot waits"),
        "{}",
        guest.screen()?
    );
    // Other keys do not matter.
    guest.send_key("a")?;
    guest.send_key("f2")?;
    guest.wait_for_screen(MENU)?;
    std::thread::sleep(Duration::from_secs(1));
    guest.send_key("esc")?;
    wait_said(&mut guest, "12")
}

#[test]
fn nobody_presses_a_key() -> Result<()> {
    for ms in [0, 1, 1500] {
        let files = tempfile::tempdir()?;
        let mut guest = with_menu(two_disks(Machine::Pc, &files)?, ms).start()?;
        wait_said(&mut guest, "12")?;
        let shown = guest.log(Log::Serial).contains(PROMPT);
        ensure!(shown == (ms > 0), "{ms} ms: the prompt was shown: {shown}");
    }
    Ok(())
}

#[test]
fn without_a_menu_nothing_is_shown() -> Result<()> {
    let files = tempfile::tempdir()?;
    let mut guest = two_disks(Machine::Pc, &files)?.start()?;
    wait_said(&mut guest, "1")?;
    let serial = guest.log(Log::Serial);
    let before = serial.split(NOTHING_BOOTS).next().unwrap_or_default();
    ensure!(!before.contains("menu"), "{serial:?}");
    Ok(())
}

#[test]
fn forty_two_devices() -> Result<()> {
    let mut config = Config::new(Machine::Q35, Firmware::Firstlight);
    for controller in 0..7 {
        config = config.args(["-device", &format!("ahci,id=ahci{controller}")]);
        for port in 0..6 {
            let id = format!("d{controller}{port}");
            let drive = format!("driver=null-co,read-zeroes=on,size=1048576,node-name={id}");
            let device = format!(
                "ide-hd,drive={id},bus=ahci{controller}.{port},model=Disk {controller}-{port}"
            );
            config = config.args(["-blockdev", &drive, "-device", &device]);
        }
    }
    let mut guest = with_menu(config, 60_000).start()?;
    guest.wait_for_screen(PROMPT)?;
    guest.send_key("f12")?;
    guest.wait_for_screen("30 more")?;
    keep("many.ppm", &guest.picture()?)?;
    guest.send_key("end")?;
    guest.wait_for_screen("Disk 6-5")?;
    guest.send_key("ret")?;
    let screen = guest.wait_for_screen(NOTHING_BOOTS)?;
    ensure!(
        screen.contains("Disk 6-5") && screen.contains("more"),
        "{screen}"
    );
    Ok(())
}

/// A key that is held down opens the menu, and does nothing else there.
#[test]
fn a_key_that_is_held_down() -> Result<()> {
    for key in ["esc", "f12"] {
        let files = tempfile::tempdir()?;
        let mut guest = with_menu(two_disks(Machine::Pc, &files)?, 60_000).start()?;
        guest.wait_for_screen(PROMPT)?;
        // A keyboard repeats a key that is held down some ten times a second.
        for _ in 0..30 {
            guest.monitor(&format!("sendkey {key} 20"))?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let screen = guest.screen()?;
        ensure!(screen.contains(MENU), "{key}: {screen}");
        ensure!(said(&guest).is_empty(), "{key}: {}", guest.tails());
        std::thread::sleep(Duration::from_secs(1));
        guest.send_key("2")?;
        wait_said(&mut guest, "21")?;
    }
    Ok(())
}

/// A key that was pressed before the menu's time opens it, also where it has no time at all.
#[test]
fn a_key_that_was_pressed_before() -> Result<()> {
    static WAIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/waitkey.bin"));
    for (ms, key, opens) in [(0, "f12", true), (60_000, "esc", true), (0, "a", false)] {
        let files = tempfile::tempdir()?;
        let rom = files.path().join("wait.rom");
        std::fs::write(&rom, media::rom(WAIT, true))?;
        let config = two_disks(Machine::Pc, &files)?
            .args(["-device", &format!("edu,romfile={}", rom.display())]);
        let mut guest = with_menu(config, ms).start()?;
        guest.wait_for(Log::Debug, "W")?;
        guest.send_key(key)?;
        match opens {
            true => guest.wait_for_screen(MENU).map(drop)?,
            false => wait_said(&mut guest, "W12")?,
        }
    }
    Ok(())
}

/// Names and messages of 200 bytes, in UTF-8, on the screen in the PC's own characters and on the terminal.
#[test]
fn long_names_in_utf_8() -> Result<()> {
    // 200 bytes of two characters in code page 437 that are not in ASCII, and one that is in neither.
    let long = "äöλ€".repeat(22);
    let long = &long[..198];
    // The superblock of a btrfs file system: its magic number and its label.
    const SUPERBLOCK: u64 = 64 << 10;
    let disk = Disk::blank(1 << 20)?;
    disk.write(SUPERBLOCK + 64, b"_BHRfS_M")?;
    disk.write(SUPERBLOCK + 0x12b, long.as_bytes())?;
    let config = Config::new(Machine::Pc, Firmware::Firstlight)
        .disk(&disk.path())
        .setting("menu-message", long);
    let mut guest = with_menu(config, 60_000).start()?;
    guest.wait_for(Log::Serial, "äö")?;
    // Code page 437 has `ä` at 84h and `ö` at 94h; the screen is read as if it were Latin-1.
    guest.wait_for_screen("\u{84}\u{94}")?;
    guest.send_key("f12")?;
    guest.wait_for_screen(MENU)?;
    let screen = guest.wait_for_screen("1 MiB  \u{84}\u{94}")?;
    keep("long.ppm", &guest.picture()?)?;
    let widest = screen.lines().map(|line| line.chars().count()).max();
    ensure!(widest <= Some(80), "{screen}");
    Ok(())
}

/// QEMU's option, which libvirt's rebootTimeout becomes, says how long the report stays.
#[test]
fn the_report_stays_as_long_as_qemu_says() -> Result<()> {
    let config = |ms| {
        Config::new(Machine::Pc, Firmware::Firstlight)
            .with(|guest| guest.boot.reboot_timeout = Some(ms))
    };
    let mut guest = config(1000).start()?;
    guest.wait_for_count(Log::Serial, NOTHING_BOOTS, 3)?;
    let mut guest = config(-1).start()?;
    guest.wait_for(Log::Serial, "Press a key to restart.")?;
    guest.type_serial("\x1b")?;
    guest.wait_for(Log::Serial, "nothing to boot from")?;
    guest.type_serial("r")?;
    guest.wait_for_count(Log::Serial, NOTHING_BOOTS, 2)
}

/// Without a graphical display the text console is on COM1, without any setting.
#[test]
fn no_display_means_a_serial_console() -> Result<()> {
    let nothing = Disk::blank(1 << 20)?;
    // mov ax,0E00h + letter; int 10h; hlt
    nothing.write(0, &[0xb8, b'Q', 0x0e, 0xcd, 0x10, 0xf4, 0xeb, 0xfd])?;
    nothing.write(510, &[0x55, 0xaa])?;
    let start = |graphics: bool| {
        Config::new(Machine::Pc, Firmware::Firstlight)
            .with(|guest| {
                if !graphics {
                    guest.machine_options.push("graphics=off".into());
                }
            })
            .disk(&nothing.path())
            .start()
    };
    start(false)?.wait_for(Log::Serial, "Q")?;
    let mut guest = start(true)?;
    guest.wait_for_screen("Q")?;
    ensure!(
        guest.log(Log::Serial).is_empty(),
        "{:?}",
        guest.log(Log::Serial)
    );
    Ok(())
}

/// A program that draws straight into text memory is shown on the terminal, and what INT 10h draws is shown once.
#[test]
fn what_is_drawn_without_the_bios_is_shown() -> Result<()> {
    const SCREEN: u32 = 0xb_8000;
    for card in ["VGA", "isa-vga"] {
        let mut script = Script::new();
        script.poke(SCREEN + 160 * 5 + 20, b"E\x1fD\x1fI\x1fT\x1f");
        // A while in which interrupts come.
        script.call(
            "wait",
            firstlight_tests::script::Call::new(0x15, 0x8600)
                .cx(0x8)
                .dx(0),
        );
        script.halt();
        let disk = Disk::running(&script, 16 << 20)?;
        let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
            .video(card)
            .setting("serial-console", "yes")
            .disk(&disk.path())
            .start()?;
        let serial = guest.wait_for(Log::Serial, "EDIT")?;
        ensure!(serial.contains("\x1b[6;11H"), "{card}: {serial:?}");
    }
    Ok(())
}

/// COM2 to COM4, by the setting and by the file that SeaBIOS knows: what is shown goes there, keys come from there, and COM1 is left
/// alone.
#[test]
fn the_console_on_another_port() -> Result<()> {
    const PORTS: [u16; 3] = [0x2f8, 0x3e8, 0x2e8];
    for (number, port) in (2..).zip(PORTS) {
        for by_file in [false, true] {
            let files = tempfile::tempdir()?;
            let (socket, log) = (files.path().join("socket"), files.path().join("log"));
            let mut config = with_menu(two_disks(Machine::Pc, &files)?, 60_000).with(|guest| {
                let others = (2..number).map(|_| Chardev::Null);
                guest.serial.extend(others);
                guest
                    .serial
                    .push(Chardev::Socket(socket.clone(), log.clone()));
            });
            if by_file {
                let file = files.path().join("port");
                std::fs::write(&file, port.to_le_bytes())?;
                let file = format!("name=etc/sercon-port,file={}", file.display());
                config = config.args(["-fw_cfg", &file]);
            } else {
                config = config.setting("serial-console", &format!("com{number}"));
            }
            let mut guest = config.start()?;
            let shows = |guest: &mut Guest, text: &str| {
                guest.wait_until(&format!("{text:?} on COM{number}"), |_| {
                    let shown = std::fs::read(&log).unwrap_or_default();
                    String::from_utf8_lossy(&shown).contains(text).then_some(())
                })
            };
            let type_keys = |keys: &[u8]| -> Result<()> {
                let mut socket = UnixStream::connect(&socket)?;
                socket.write_all(keys)?;
                // QEMU reads what is left in the socket only while it is open.
                std::thread::sleep(Duration::from_millis(300));
                Ok(())
            };
            shows(&mut guest, PROMPT)?;
            type_keys(b"\x1b")?;
            shows(&mut guest, MENU)?;
            type_keys(b"\x1b[B\r")?;
            wait_said(&mut guest, "21")?;
            let first = guest.log(Log::Serial);
            ensure!(first.is_empty(), "COM1 has {first:?}");
        }
    }
    Ok(())
}

/// Whether a line of the trace is a look at whether an IDE drive has finished, or at the clock after some of them, of which there are as
/// many as that takes time. Who waits for a user looks at the keyboard, too.
fn waits_for_drive(line: &str) -> bool {
    const STATUS: [&str; 4] = [" addr 0x1f7 ", " addr 0x3f6 ", "bmdma", "acpi-tmr"];
    line.starts_with("memory_region_ops_read") && STATUS.iter().any(|name| line.contains(name))
}

/// A menu that is off costs nothing, and one with no time costs a few questions and no wait.
#[test]
fn what_the_menu_costs() -> Result<()> {
    let cost = |options: &[&str]| -> Result<usize> {
        let files = tempfile::tempdir()?;
        let trace = files.path().join("trace");
        let mut guest = two_disks(Machine::Pc, &files)?
            .args(["-trace", "memory_region_ops_*", "-D"])
            .arg(&trace)
            .args(options)
            // The clock counts instructions, so that runs are the same.
            .args(["-icount", "shift=0,sleep=off", "-S"])
            .start()?;
        guest.monitor("cont")?;
        // Up to the first boot program, whose letter is an access of its own.
        guest.wait_for(Log::Debug, "1")?;
        drop(guest);
        let trace = std::fs::read_to_string(&trace)?;
        let letter = trace
            .lines()
            .filter(|line| line.starts_with("memory_region_ops") && !waits_for_drive(line))
            .position(|line| line.contains("addr 0xe9 value 0x31"));
        letter.context("the letter is in the trace")
    };
    let none = cost(&[])?;
    let off = cost(&["-boot", "menu=off"])?;
    let no_time = cost(&["-boot", "menu=on,splash-time=0"])?;
    println!(
        "accesses: {none} without a menu, {off} with one that is off, {no_time} with one that has no time"
    );
    ensure!(
        off == none && (none..none + 8).contains(&no_time),
        "{none} {off} {no_time}"
    );
    Ok(())
}

/// A CD in the drive is known by its name.
#[test]
fn media_are_known_by_their_labels() -> Result<()> {
    let files = tempfile::tempdir()?;
    // An ISO image on a hard disk, as on a stick.
    let image = media::cdrom(files.path(), 'D')?;
    let config =
        Config::new(Machine::Pc, Firmware::Firstlight).attach(Drive::new(Bus::Ide, &image));
    let mut guest = with_menu(config, 60_000).start()?;
    guest.wait_for_screen(PROMPT)?;
    guest.send_key("esc")?;
    guest.wait_for_screen("DISC_D")?;
    Ok(())
}

/// A guest that waits in the firmware moves to another QEMU, as to another host, while its clock ticks and its menu is shown.
#[test]
fn a_guest_in_the_menu_can_be_migrated() -> Result<()> {
    let files = tempfile::tempdir()?;
    let state = files.path().join("state");
    let config = with_menu(two_disks(Machine::Q35, &files)?, 60_000);
    let mut source = config.clone().start()?;
    source.wait_for(Log::Serial, PROMPT)?;
    source.type_serial("\x1b")?;
    source.wait_for(Log::Serial, MENU)?;
    source.monitor(&format!("migrate -d \"file:{}\"", state.display()))?;
    source.wait_for_status("postmigrate")?;
    drop(source);
    let mut destination = config
        .args(["-incoming", &format!("file:{}", state.display())])
        .start()?;
    destination.wait_for_status("running")?;
    destination.type_serial("\x1b[B\r")?;
    wait_said(&mut destination, "21")
}
