//! `cargo xtask bench --xen`: Firstlight's loader beside the stock one, in the same dom0 of the test bed.
//!
//! The guest is the boot sector of guest.s. The wall time from `xl unpause` has the toolstack's part taken away, which a loader that
//! only says that it runs tells; the guest's processor time is Xen's account of it. What making the tables takes is counted in
//! instructions, by [`tables`], all exits to Xen, by [`vmexits`], and what of them reaches dom0's QEMU in requests, by [`ioreq`].

mod way;

use super::guest::{self, Report};
use super::{Part, ioreq, median, tables, vmexits};
use crate::xen::bed::{Bed, Config};
use crate::xen::dom0::Version;
use crate::xen::guest::{Guest, Loader};
use crate::{build, project};
use anyhow::{Context, Result, bail};
use firstlight_vm::wait;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The guests' name.
const NAME: &str = "bench";
/// How long one guest may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often a guest's report is looked at.
const POLL: Duration = Duration::from_millis(1);
/// Reads that Firstlight's guest makes by the paravirtual disk: 33 MB.
const PV_READS: u16 = 500;
/// Reads that it makes by the emulated disk: 3.3 MB. Each access to a device costs a millisecond and more here.
const READS: u16 = 50;
/// Reads that the stock loader's guest makes: it transfers by programmed I/O, and 130 KB take seconds.
const STOCK_READS: u16 = 2;
/// Where dom0's QEMU writes its trace.
const TRACE: &str = "/tmp/bench.trace";
/// dom0's name of the disk whose boot sector makes no reads.
const IDLE: &str = "/dev/vdb";
/// The bytes of a report at the boot sector: 'T' and the time-stamp counter.
const STARTED: usize = 9;
/// The bytes of a report of reads: these, 'B' and 'E'.
const FINISHED: usize = STARTED + 2;

/// By what a guest's disk is read.
#[derive(Clone, Copy)]
enum Way {
    /// The emulated disk, whatever else there is.
    Emulated,
    /// The back end in QEMU, which hosts use for files.
    Qemu,
    /// The back end in dom0's kernel, which hosts use for block devices.
    Kernel,
}

impl Way {
    /// Those that are not emulated, and their names.
    const PARAVIRTUAL: [(Self, &str); 2] = [(Self::Qemu, "QEMU"), (Self::Kernel, "the kernel")];

    /// A guest whose disk is `device` of dom0.
    fn guest(self, bed: &mut Bed, loader: &Loader, device: &str) -> Result<Guest> {
        let guest = Guest::new(NAME, loader);
        Ok(match self {
            Self::Kernel => guest.disk_specification(&bed.kernels_disk(device)?),
            Self::Emulated | Self::Qemu => guest.disk(device),
        })
    }

    /// What the firmware is set to: a name and a value.
    fn setting(self) -> &'static str {
        match self {
            Self::Emulated => "pv-disk no",
            _ => "",
        }
    }
}

/// One loader's measurements, in seconds and bytes a second.
#[derive(Debug, Default)]
struct Times {
    wall: Vec<f64>,
    processor: Vec<f64>,
    throughput: Vec<f64>,
}

/// Measures both loaders `runs` times in turn, prints a table and writes target/bench-xen.json. Of the parts, [`Part::Debian`] can be left
/// out, and be the only one.
///
/// # Errors
/// The test bed or a guest does not start, or a guest's reads fail.
pub fn main(version: Version, runs: u32, parts: &[Part]) -> Result<()> {
    let hvmloader = build::firmware()?.hvmloader;
    let ours = Loader::File(hvmloader.clone());
    let directory = tempfile::tempdir()?;
    let empty = Loader::File(guest::loader(directory.path())?);
    eprintln!("Starting Xen {} and its dom0", version.number());
    // Reads by DMA do not work from a file in /job, so the disks are the bed's: /dev/vdb and on.
    let mut disks = [0, READS, STOCK_READS, PV_READS]
        .map(|reads| guest::disk(directory.path(), reads))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let debian = parts.contains(&Part::Debian);
    if debian {
        disks.push(super::way::disk(directory.path())?);
    }
    let config = Config::new(version);
    let mut bed = disks
        .iter()
        .fold(config, |config, disk| config.disk(disk))
        .start()?;
    let (toolstack, mut figures) = match parts == [Part::Debian] {
        true => (toolstacks_part(&mut bed, &empty)?, Vec::new()),
        false => boot_sector(&mut bed, &hvmloader, &empty, runs)?,
    };
    if debian {
        figures.extend(way::figures(&mut bed, &ours, toolstack)?);
    }
    report(version, toolstack, &figures)
}

/// The toolstack's part in seconds, and all that there is to measure on the way to a boot sector, and by it.
fn boot_sector(
    bed: &mut Bed,
    hvmloader: &Path,
    empty: &Loader,
    runs: u32,
) -> Result<(f64, Vec<Figure>)> {
    let ours = Loader::File(hvmloader.to_owned());
    let (toolstack, times, paravirtual) = measured(bed, &ours, empty, runs)?;
    eprintln!("Counting exits and instructions");
    let mut counts = Vec::new();
    for machine in MACHINES {
        let ours = exits(bed, &ours, machine)?;
        counts.push((machine.name, [ours, exits(bed, &Loader::Stock, machine)?]));
    }
    let tables = tables::instructions(bed, hvmloader)?;
    let mut figures = times_of(toolstack, times);
    // The stock loader's BIOS has the emulated disk only.
    let ide = &figures[THROUGHPUT];
    let others = [
        ("", ide.stock),
        (", beside our own IDE disk", Some(ide.ours)),
    ];
    for ((_, back_end), rate) in Way::PARAVIRTUAL.into_iter().zip(paravirtual) {
        figures.extend(others.map(|(beside, other)| Figure {
            name: format!("MB/s read by INT 13h, paravirtual, by {back_end}{beside}"),
            ours: rate,
            stock: other,
            digits: 2,
        }));
    }
    for (machine, counts) in &counts {
        figures.extend(exits_of(machine, counts));
    }
    figures.push(Figure {
        name: "guest instructions for the tables".to_owned(),
        ours: tables as f64,
        stock: None,
        digits: 0,
    });
    Ok((toolstack, figures))
}

/// Measures the toolstack's part in seconds, both loaders, and MB/s by the paravirtual disks, `runs` times in turn.
fn measured(
    bed: &mut Bed,
    ours: &Loader,
    empty: &Loader,
    runs: u32,
) -> Result<(f64, [Times; 2], [f64; 2])> {
    let mut toolstack = Vec::new();
    let mut times = [Times::default(), Times::default()];
    let mut paravirtual = [Vec::new(), Vec::new()];
    for run in 1..=runs {
        eprintln!("Run {run} of {runs}");
        toolstack.push(toolstacks_part(bed, empty)?);
        for (times, (loader, disk, reads)) in times.iter_mut().zip([
            (ours, "/dev/vdc", READS),
            (&Loader::Stock, "/dev/vdd", STOCK_READS),
        ]) {
            let seen = start(bed, loader, IDLE, STARTED)?;
            times.wall.push(seconds(&seen, 0, 1));
            times.processor.push(processor_time(bed)?);
            let rate = throughput(bed, loader, disk, Way::Emulated, reads)?;
            times.throughput.push(rate);
        }
        for (rates, (way, _)) in paravirtual.iter_mut().zip(Way::PARAVIRTUAL) {
            rates.push(throughput(bed, ours, "/dev/vde", way, PV_READS)?);
        }
    }
    let paravirtual = paravirtual.map(|rates| median(rates) / 1e6);
    Ok((median(toolstack), times, paravirtual))
}

/// The seconds from `xl unpause` to the first instruction of a loader that only says that it runs.
fn toolstacks_part(bed: &mut Bed, empty: &Loader) -> Result<f64> {
    Ok(seconds(&start(bed, empty, IDLE, 1)?, 0, 1))
}

/// Bytes a second that a guest reads in so many reads from `disk`.
fn throughput(bed: &mut Bed, loader: &Loader, disk: &str, way: Way, reads: u16) -> Result<f64> {
    let guest = way.guest(bed, loader, disk)?;
    let seen = start_with(bed, guest, FINISHED, "", way.setting(), DEADLINE)?;
    let bytes = f64::from(reads) * f64::from(guest::SECTORS_PER_READ) * 512.0;
    Ok(bytes / seconds(&seen, FINISHED - 1, FINISHED))
}

/// Seconds from moment `from` to moment `to`.
fn seconds(moments: &[Instant], from: usize, to: usize) -> f64 {
    (moments[to] - moments[from]).as_secs_f64()
}

/// Starts a guest from `disk`. Returns the moment of `xl unpause`, then those at which each of the `bytes` bytes of its
/// report was there.
fn start(bed: &mut Bed, loader: &Loader, disk: &str, bytes: usize) -> Result<Vec<Instant>> {
    let guest = Guest::new(NAME, loader).disk(disk);
    start_with(bed, guest, bytes, "", "", DEADLINE)
}

/// A machine whose exits are counted.
struct Machine {
    name: &'static str,
    cpus: u32,
    /// PCI functions beside those of every guest: network cards.
    functions: usize,
}

const MACHINES: &[Machine] = &[
    Machine {
        name: "",
        cpus: 1,
        functions: 0,
    },
    Machine {
        name: " with 64 CPUs and 20 more functions",
        cpus: 64,
        functions: 20,
    },
];

/// A guest's exits up to the boot sector.
struct Exits {
    /// Those that reach dom0's QEMU, by device.
    requests: BTreeMap<&'static str, u64>,
    /// All, by reason.
    all: BTreeMap<&'static str, u64>,
}

/// Counts the exits of a guest. What it is counted from is left in target/xen-exits.
fn exits(bed: &mut Bed, loader: &Loader, machine: &Machine) -> Result<Exits> {
    let card = ", \"-device\", \"rtl8139,romfile=\"".repeat(machine.functions);
    // Nothing else is to be traced.
    bed.destroy_all()?;
    let options = format!(", \"-trace\", \"handle_ioreq\", \"-D\", \"{TRACE}\"{card}");
    bed.check(&format!(
        "rm -f {TRACE}*; $(ls /usr/sbin/xentrace /usr/lib/xen-*/bin/xentrace 2>/dev/null | head -1) -D -S 1024 -e {} {TRACE}.exits \
         >/dev/null 2>&1 & echo $! >{TRACE}.pid; sleep 2",
        vmexits::EVENTS
    ))?;
    let guest = Guest::new(NAME, loader)
        .disk(IDLE)
        .set("vcpus", machine.cpus);
    start_with(bed, guest, STARTED, &options, "", DEADLINE)?;
    // QEMU writes the end of its log when it ends, and xentrace as well.
    bed.destroy_all()?;
    bed.check(&format!(
        "kill $(cat {TRACE}.pid); sleep 2; cp {TRACE} {TRACE}.exits /job"
    ))?;
    let directory = project::target().join("xen-exits");
    fs::create_dir_all(&directory)?;
    let take = |name: &str| -> Result<Vec<u8>> {
        let bytes = fs::read(bed.job().join(name))?;
        let loader = match loader {
            Loader::Stock => "stock",
            Loader::File(_) => "firstlight",
        };
        fs::write(
            directory.join(format!("{loader}-{}.{name}", machine.cpus)),
            &bytes,
        )?;
        Ok(bytes)
    };
    let requests = String::from_utf8_lossy(&take("bench.trace")?).into_owned();
    let all = take("bench.trace.exits")?;
    Ok(Exits {
        requests: ioreq::count(&requests).context("the trace does not come to the boot sector")?,
        all: vmexits::count(&all).context("xentrace does not come to the boot sector")?,
    })
}

/// [`start`] for a guest called [`NAME`], with further options of QEMU's and a setting for the firmware (a name and a value).
fn start_with(
    bed: &mut Bed,
    guest: Guest,
    bytes: usize,
    options: &str,
    setting: &str,
    deadline: Duration,
) -> Result<Vec<Instant>> {
    bed.destroy_all()?;
    let output = bed.job().join("bench.out");
    fs::write(&output, "")?;
    let arguments = format!(
        "[\"-chardev\", \"file,id=bench,path=/job/bench.out\", \"-device\", \"isa-debugcon,iobase={:#x},chardev=bench\"{options}]",
        guest::PORT
    );
    let guest = guest.set("device_model_args_hvm", arguments);
    bed.create_paused(&guest)?;
    if !setting.is_empty() {
        bed.check(&format!(
            "xenstore-write /local/domain/$(xl domid {NAME})/platform/firstlight/{setting}"
        ))?;
    }
    let watcher = watch(output.clone(), bytes, deadline);
    let mut moments = vec![Instant::now()];
    bed.check(&format!("xl unpause {NAME}"))?;
    let watched = watcher
        .join()
        .map_err(|_| anyhow::anyhow!("the watcher ended"))?;
    moments.extend(watched.with_context(|| bed.tails())?);
    if bytes >= STARTED {
        Report::parse(&fs::read(&output)?)?;
    }
    Ok(moments)
}

/// Notes when each of the first `bytes` bytes of a file is there.
fn watch(path: PathBuf, bytes: usize, deadline: Duration) -> JoinHandle<Result<Vec<Instant>>> {
    thread::spawn(move || {
        let mut moments = Vec::new();
        let all = wait::until(Instant::now() + deadline, POLL, || {
            let length = fs::metadata(&path)?.len().min(bytes as u64) as usize;
            moments.resize(length.max(moments.len()), Instant::now());
            Ok((moments.len() >= bytes).then_some(()))
        })?;
        if all.is_none() {
            bail!(
                "the guest wrote {} bytes of {bytes} in {} s",
                moments.len(),
                deadline.as_secs()
            );
        }
        Ok(moments)
    })
}

/// The processor time of the guest so far, in seconds, to a tenth of one.
fn processor_time(bed: &mut Bed) -> Result<f64> {
    let list = bed.check(&format!("xl list {NAME}"))?;
    let time = list
        .split_whitespace()
        .last()
        .and_then(|word| word.parse().ok());
    time.with_context(|| format!("xl list said {list:?}"))
}

/// Which of [`times_of`] is what the emulated disk gives.
const THROUGHPUT: usize = 2;

/// A line of the report.
struct Figure {
    name: String,
    ours: f64,
    stock: Option<f64>,
    digits: usize,
}

impl Figure {
    /// How many times better ours is: what is read in a second is to be much, all else little.
    fn ratio(&self) -> Option<f64> {
        let stock = self.stock?;
        Some(match self.name.starts_with("MB/s") {
            true => self.ours / stock,
            false => stock / self.ours,
        })
    }
}

fn times_of(toolstack: f64, times: [Times; 2]) -> Vec<Figure> {
    let [ours, stock] = times.map(|times| {
        [
            (median(times.wall) - toolstack).max(0.0),
            median(times.processor),
            median(times.throughput) / 1e6,
        ]
    });
    let names = [
        "s of wall time to the boot sector",
        "s of guest time to the boot sector",
        "MB/s read by INT 13h from an IDE disk",
    ];
    let figure = |(index, name): (usize, &str)| Figure {
        name: name.to_owned(),
        ours: ours[index],
        stock: Some(stock[index]),
        digits: 2,
    };
    names.into_iter().enumerate().map(figure).collect()
}

fn exits_of(machine: &str, [ours, stock]: &[Exits; 2]) -> Vec<Figure> {
    let kinds = [
        ("exits before the boot sector", &ours.all, &stock.all),
        ("of them requests to QEMU", &ours.requests, &stock.requests),
    ];
    let mut figures = Vec::new();
    for (name, ours, stock) in kinds {
        let figure = |name: String, count: &dyn Fn(&BTreeMap<&str, u64>) -> u64| Figure {
            name,
            ours: count(ours) as f64,
            stock: Some(count(stock) as f64),
            digits: 0,
        };
        figures.push(figure(format!("{name}{machine}"), &|counts| {
            counts.values().sum()
        }));
        let parts: BTreeSet<_> = [ours, stock].into_iter().flat_map(BTreeMap::keys).collect();
        let part = |part: &&str| {
            figure(format!("  {part}"), &|counts| {
                counts.get(part).copied().unwrap_or(0)
            })
        };
        figures.extend(parts.into_iter().map(part));
    }
    figures
}

fn report(version: Version, toolstack: f64, figures: &[Figure]) -> Result<()> {
    println!(
        "\nXen {}; the toolstack's {toolstack:.2} s before a guest's first instruction are taken away\n{:<64} {:>12} {:>12} {:>8}",
        version.number(),
        "",
        "Firstlight",
        "stock",
        "better"
    );
    let mut rows = Vec::new();
    for figure in figures {
        let Figure {
            name,
            ours,
            stock,
            digits,
        } = figure;
        let stock_text = stock.map_or("-".to_owned(), |stock| format!("{stock:.digits$}"));
        let ratio = figure.ratio();
        let ratio_text = ratio.map_or(String::new(), |ratio| format!("{ratio:.1}x"));
        println!("{name:<64} {ours:>12.digits$} {stock_text:>12} {ratio_text:>8}");
        rows.push(
            json!({ "what": name.trim(), "firstlight": ours, "stock": stock, "ratio": ratio }),
        );
    }
    let path: &Path = &project::target().join("bench-xen.json");
    let text = serde_json::to_string_pretty(
        &json!({ "xen": version.number(), "toolstack": toolstack, "figures": rows }),
    )?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nWritten to {}", path.display());
    Ok(())
}
