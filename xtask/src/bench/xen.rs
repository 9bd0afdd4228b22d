//! `cargo xtask bench --xen`: Firstlight's loader beside the stock one, in the same dom0 of the test bed.
//!
//! The guest is the boot sector of guest.s. The wall time from `xl unpause` has the toolstack's part taken away, which a loader that
//! only says that it runs tells; the guest's processor time is Xen's account of it. What making the tables takes is counted in
//! instructions, by [`tables`], and what reaches dom0's QEMU in requests, by [`ioreq`].

use super::guest::{self, Report};
use super::{ioreq, median, tables};
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

/// The setting by which Firstlight leaves the paravirtual disks alone.
const EMULATED: &str = "pv-disk no";

/// One loader's measurements, in seconds and bytes a second.
#[derive(Debug, Default)]
struct Times {
    wall: Vec<f64>,
    processor: Vec<f64>,
    throughput: Vec<f64>,
}

/// Measures both loaders `runs` times in turn, prints a table and writes target/bench-xen.json.
///
/// # Errors
/// The test bed or a guest does not start, or a guest's reads fail.
pub fn main(version: Version, runs: u32) -> Result<()> {
    let hvmloader = build::firmware()?.hvmloader;
    let ours = Loader::File(hvmloader.clone());
    let directory = tempfile::tempdir()?;
    let empty = Loader::File(guest::loader(directory.path())?);
    eprintln!("Starting Xen {} and its dom0", version.number());
    // Reads by DMA do not work from a file in /job, so the disks are the bed's: /dev/vdb and on.
    let disks = [0, READS, STOCK_READS, PV_READS]
        .map(|reads| guest::disk(directory.path(), reads))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let config = Config::new(version);
    let mut bed = disks
        .iter()
        .fold(config, |config, disk| config.disk(disk))
        .start()?;
    let mut toolstack = Vec::new();
    let mut times = [Times::default(), Times::default()];
    let mut paravirtual = Vec::new();
    for run in 1..=runs {
        eprintln!("Run {run} of {runs}");
        let seen = start(&mut bed, &empty, IDLE, 1)?;
        toolstack.push(seconds(&seen, 0, 1));
        for (times, (loader, disk, reads)) in times.iter_mut().zip([
            (&ours, "/dev/vdc", READS),
            (&Loader::Stock, "/dev/vdd", STOCK_READS),
        ]) {
            let seen = start(&mut bed, loader, IDLE, STARTED)?;
            times.wall.push(seconds(&seen, 0, 1));
            times.processor.push(processor_time(&mut bed)?);
            let rate = throughput(&mut bed, loader, disk, EMULATED, reads)?;
            times.throughput.push(rate);
        }
        paravirtual.push(throughput(&mut bed, &ours, "/dev/vde", "", PV_READS)?);
    }
    eprintln!("Counting requests and instructions");
    let requests = [
        requests(&mut bed, &ours)?,
        requests(&mut bed, &Loader::Stock)?,
    ];
    let tables = tables::instructions(&mut bed, &hvmloader)?;
    let toolstack = median(toolstack);
    let mut figures = times_of(toolstack, times);
    figures.push(Figure {
        name: "MB/s read by INT 13h, paravirtual".to_owned(),
        ours: median(paravirtual) / 1e6,
        // Its BIOS has the emulated disk only.
        stock: figures[THROUGHPUT].stock,
        digits: 2,
    });
    figures.extend(requests_of(&requests));
    figures.push(Figure {
        name: "guest instructions for the tables".to_owned(),
        ours: tables as f64,
        stock: None,
        digits: 0,
    });
    report(version, toolstack, &figures)
}

/// Bytes a second that a guest reads in so many reads from `disk`, with a setting for its firmware.
fn throughput(
    bed: &mut Bed,
    loader: &Loader,
    disk: &str,
    setting: &str,
    reads: u16,
) -> Result<f64> {
    let seen = start_with(bed, loader, disk, FINISHED, "", setting)?;
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
    start_with(bed, loader, disk, bytes, "", "")
}

/// What reaches dom0's QEMU up to the boot sector, by device.
fn requests(bed: &mut Bed, loader: &Loader) -> Result<BTreeMap<&'static str, u64>> {
    let trace = format!(", \"-trace\", \"handle_ioreq\", \"-D\", \"{TRACE}\"");
    start_with(bed, loader, IDLE, STARTED, &trace, "")?;
    // QEMU writes the end of its log when it ends.
    bed.destroy_all()?;
    let name = "bench.trace";
    bed.check(&format!("sleep 1; cp {TRACE} /job/{name}; rm {TRACE}"))?;
    let text = fs::read_to_string(bed.job().join(name))?;
    ioreq::count(&text).context("the trace does not come to the boot sector")
}

/// [`start`], with further options of QEMU's, and a setting for the firmware: a name and a value.
fn start_with(
    bed: &mut Bed,
    loader: &Loader,
    disk: &str,
    bytes: usize,
    options: &str,
    setting: &str,
) -> Result<Vec<Instant>> {
    bed.destroy_all()?;
    let output = bed.job().join("bench.out");
    fs::write(&output, "")?;
    let arguments = format!(
        "[\"-chardev\", \"file,id=bench,path=/job/bench.out\", \"-device\", \"isa-debugcon,iobase={:#x},chardev=bench\"{options}]",
        guest::PORT
    );
    let guest = Guest::new("bench", loader)
        .disk(disk)
        .set("device_model_args_hvm", arguments);
    bed.create_paused(&guest)?;
    if !setting.is_empty() {
        bed.check(&format!(
            "xenstore-write /local/domain/$(xl domid bench)/platform/firstlight/{setting}"
        ))?;
    }
    let watcher = watch(output.clone(), bytes);
    let mut moments = vec![Instant::now()];
    bed.check("xl unpause bench")?;
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
fn watch(path: PathBuf, bytes: usize) -> JoinHandle<Result<Vec<Instant>>> {
    thread::spawn(move || {
        let mut moments = Vec::new();
        let all = wait::until(Instant::now() + DEADLINE, POLL, || {
            let length = fs::metadata(&path)?.len().min(bytes as u64) as usize;
            moments.resize(length.max(moments.len()), Instant::now());
            Ok((moments.len() >= bytes).then_some(()))
        })?;
        if all.is_none() {
            bail!(
                "the guest wrote {} bytes of {bytes} in {} s",
                moments.len(),
                DEADLINE.as_secs()
            );
        }
        Ok(moments)
    })
}

/// The processor time of the guest so far, in seconds, to a tenth of one.
fn processor_time(bed: &mut Bed) -> Result<f64> {
    let list = bed.check("xl list bench")?;
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

fn requests_of(requests: &[BTreeMap<&'static str, u64>; 2]) -> Vec<Figure> {
    let figure = |name: String, count: &dyn Fn(&BTreeMap<&str, u64>) -> u64| Figure {
        name,
        ours: count(&requests[0]) as f64,
        stock: Some(count(&requests[1]) as f64),
        digits: 0,
    };
    let all = figure(
        "requests to QEMU before the boot sector".to_owned(),
        &|counts| counts.values().sum(),
    );
    let devices: BTreeSet<_> = requests.iter().flat_map(BTreeMap::keys).collect();
    let device = |device: &&str| {
        figure(format!("  {device}"), &|counts| {
            counts.get(device).copied().unwrap_or(0)
        })
    };
    [all]
        .into_iter()
        .chain(devices.into_iter().map(device))
        .collect()
}

fn report(version: Version, toolstack: f64, figures: &[Figure]) -> Result<()> {
    println!(
        "\nXen {}; the toolstack's {toolstack:.2} s before a guest's first instruction are taken away\n{:<40} {:>12} {:>12} {:>8}",
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
        println!("{name:<40} {ours:>12.digits$} {stock_text:>12} {ratio_text:>8}");
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
