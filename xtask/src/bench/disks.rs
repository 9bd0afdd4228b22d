//! The way to a boot sector on disks of every bus, and reads from there by INT 13h.

use super::measure::{self, Bench, Contestant, Counted, Crowd, Guest};
use super::rows::{RUNS, Rows};
use super::{Figure, Results, median, print_devices, print_steps, steps_as_json};
use anyhow::Result;
use firstlight_vm::{Bus, Machine};
use serde_json::json;

/// The bus of the disks that a machine has by itself.
pub fn own_bus(machine: Machine) -> Bus {
    match machine {
        Machine::Pc => Bus::Ide,
        Machine::Q35 => Bus::Sata,
    }
}

/// From reset to a boot sector on the machine's first disk, and reads from there by INT 13h.
pub fn own(
    bench: &Bench,
    firstlight: &Contestant,
    seabios: &Contestant,
    runs: u32,
) -> Result<Results> {
    let machine = bench.machine;
    let bus = own_bus(machine);
    eprintln!("Measuring on {}: instructions", machine.name());
    let instructions = [
        bench.instructions(firstlight, Guest::Disk(bus, 0))?,
        bench.instructions(seabios, Guest::Disk(bus, 0))?,
    ];
    eprintln!("Measuring on {}: device accesses", machine.name());
    let accesses = [
        bench.accesses(firstlight, bus)?,
        bench.accesses(seabios, bus)?,
    ];
    let steps = bench.steps(firstlight, Guest::Disk(bus, 0))?;
    eprintln!("Measuring on {}: time, {runs} times each", machine.name());
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        times[0].push(bench.times(firstlight, Guest::disk(bus))?);
        times[1].push(bench.times(seabios, Guest::disk(bus))?);
    }

    let [ours, theirs] = [&accesses[0].boot, &accesses[1].boot];
    println!("\nTo a boot sector on {}:", machine.name());
    print_devices(&["Firstlight", "SeaBIOS"], &[ours, theirs]);
    print_steps(&steps);
    let figures = figures(machine, instructions, &accesses, &times);
    let details = json!({
        "devices": { "firstlight": ours, "seabios": theirs },
        "steps": steps_as_json(&steps),
    });
    Ok(Results { figures, details })
}

/// The rows for the table, of what was measured of Firstlight and of SeaBIOS.
fn figures(
    machine: Machine,
    instructions: [u64; 2],
    accesses: &[Counted; 2],
    times: &[Vec<measure::Times>; 2],
) -> Vec<Figure> {
    let total = |who: usize| accesses[who].boot.values().sum::<u64>() as f64;
    let of_times = |figure: fn(&measure::Times) -> f64| {
        [0, 1].map(|who| median(times[who].iter().map(figure).collect()))
    };
    let figure = |what: &str, [firstlight, seabios]: [f64; 2], digits, more_is_better| Figure {
        machine,
        what: what.into(),
        firstlight,
        seabios: Some(seabios),
        qboot: None,
        ovmf: None,
        digits,
        more_is_better,
    };
    vec![
        figure(
            "guest instructions to the boot sector",
            instructions.map(|count| count as f64),
            0,
            false,
        ),
        figure(
            "device accesses to the boot sector",
            [0, 1].map(total),
            0,
            false,
        ),
        figure(
            "ms to the boot sector",
            of_times(|times| times.boot * 1e3),
            1,
            false,
        ),
        figure(
            "device accesses a read of 127 sectors",
            [0, 1].map(|who| accesses[who].a_read),
            1,
            false,
        ),
        figure(
            "MB/s read by INT 13h",
            of_times(|times| times.throughput / 1e6),
            1,
            true,
        ),
    ]
}

/// What a bus is called in the table.
pub fn name(bus: Bus) -> &'static str {
    match bus {
        Bus::Ide => "IDE",
        Bus::Sata => "AHCI",
        Bus::Scsi => "virtio-scsi",
        Bus::Virtio => "virtio-blk",
        Bus::Usb => "USB",
        Bus::Nvme => "NVMe",
        Bus::Floppy => "floppy",
    }
}

/// The same from these buses.
pub fn buses(bench: &Bench, rows: &mut Rows, buses: &[Bus]) {
    for &bus in buses {
        let name = name(bus);
        rows.begin(name);
        let to = "to the boot sector";
        let what = format!("{name}: instructions {to}");
        let disk = Guest::Disk(bus, 0);
        let instructions = rows.both(&what, |firmware| bench.instructions(firmware, disk));
        rows.add(what, instructions.map(as_figure), 0, false);
        let what = format!("{name}: accesses {to}");
        let counted = rows.both(&what, |firmware| bench.accesses(firmware, bus));
        let boot = |counted: &Counted| counted.boot.values().sum::<u64>() as f64;
        rows.add(
            what,
            counted.each_ref().map(|c| c.as_ref().map(boot)),
            0,
            false,
        );
        let reads = counted.map(|counted| counted.map(|counted| counted.a_read));
        let what = format!("{name}: accesses a read of 127 sectors");
        rows.add(what, reads, 1, false);
        let what = format!("{name}: MB/s by INT 13h");
        let speeds = rows.in_turns(&what, RUNS, |firmware| {
            Ok(bench.times(firmware, Guest::disk(bus))?.throughput / 1e6)
        });
        rows.add(what, speeds, 1, true);
    }
}

fn as_figure(count: Option<u64>) -> Option<f64> {
    count.map(|count| count as f64)
}

/// What many disks and cards add, on these buses.
pub fn many(bench: &Bench, rows: &mut Rows, buses: &[Bus]) {
    let crowds = crowds(bench.machine);
    for crowd in crowds
        .into_iter()
        .filter(|crowd| buses.contains(&crowd.bus))
    {
        let Crowd {
            bus, disks, nics, ..
        } = crowd;
        let strict = if crowd.strict { ", strict" } else { "" };
        let what = format!(
            "{}: instructions, {disks} disks, {nics} cards{strict}",
            name(bus)
        );
        rows.begin(&what);
        let count = rows.both(&what, |firmware| {
            bench.instructions(firmware, Guest::Crowd(crowd))
        });
        rows.add(what, count.map(as_figure), 0, false);
    }
}

/// One disk and ten with five network cards, of each kind; and a guest with a hundred disks of which one may be booted.
fn crowds(machine: Machine) -> Vec<Crowd> {
    let crowd = |bus, disks, nics| Crowd {
        bus,
        disks,
        nics,
        strict: false,
    };
    // QEMU's IDE has four drives, its AHCI six.
    let own = match machine {
        Machine::Pc => (Bus::Ide, 4),
        Machine::Q35 => (Bus::Sata, 6),
    };
    let kinds = [own, (Bus::Virtio, 10), (Bus::Scsi, 10), (Bus::Nvme, 10)];
    let mut crowds: Vec<Crowd> = kinds
        .into_iter()
        .flat_map(|(bus, many)| [crowd(bus, 1, 0), crowd(bus, many, 5)])
        .collect();
    if machine == Machine::Pc {
        crowds.extend([1, 100].map(|disks| Crowd {
            strict: true,
            ..crowd(Bus::Virtio, disks, 0)
        }));
    }
    crowds
}
