//! `cargo xtask bench --xen`: Firstlight's loader beside the stock one, in the same dom0 of the test bed.
//!
//! The guest is the boot sector of guest.s. The wall time from `xl unpause` has the toolstack's part taken away, which a loader that
//! only says that it runs tells; the guest's processor time is Xen's account of it. What making the tables takes is counted in
//! instructions, by [`tables`].

use super::guest::{self, Report};
use super::{median, tables};
use crate::xen::bed::{Bed, Config};
use crate::xen::dom0::Version;
use crate::xen::guest::{Guest, Loader};
use crate::{build, project};
use anyhow::{Context, Result, bail};
use firstlight_vm::wait;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long one guest may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often a guest's report is looked at.
const POLL: Duration = Duration::from_millis(1);
/// Reads that Firstlight's guest makes: 3.3 MB. Each access to a device costs a millisecond and more here.
const READS: u16 = 50;
/// Reads that the stock loader's guest makes: it transfers by programmed I/O, and 130 KB take seconds.
const STOCK_READS: u16 = 2;
/// dom0's name of the disk whose boot sector makes no reads.
const IDLE: &str = "/dev/vdb";
/// The bytes of a report at the boot sector: 'T' and the time-stamp counter.
const STARTED: usize = 9;
/// The bytes of a report of reads: these, 'B' and 'E'.
const FINISHED: usize = STARTED + 2;

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
    let disks = [0, READS, STOCK_READS]
        .map(|reads| guest::disk(directory.path(), reads))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let config = Config::new(version).nested_paging();
    let mut bed = disks
        .iter()
        .fold(config, |config, disk| config.disk(disk))
        .start()?;
    let mut toolstack = Vec::new();
    let mut times = [Times::default(), Times::default()];
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
            let seen = start(&mut bed, loader, disk, FINISHED)?;
            let bytes = f64::from(reads) * f64::from(guest::SECTORS_PER_READ) * 512.0;
            times
                .throughput
                .push(bytes / seconds(&seen, FINISHED - 1, FINISHED));
        }
    }
    eprintln!("Counting instructions");
    let tables = tables::instructions(&mut bed, &hvmloader)?;
    report(version, median(toolstack), times, tables)
}

/// Seconds from moment `from` to moment `to`.
fn seconds(moments: &[Instant], from: usize, to: usize) -> f64 {
    (moments[to] - moments[from]).as_secs_f64()
}

/// Starts a guest from `disk`. Returns the moment of `xl unpause`, then those at which each of the `bytes` bytes of its
/// report was there.
fn start(bed: &mut Bed, loader: &Loader, disk: &str, bytes: usize) -> Result<Vec<Instant>> {
    bed.destroy_all()?;
    let output = bed.job().join("bench.out");
    fs::write(&output, "")?;
    let arguments = format!(
        "[\"-chardev\", \"file,id=bench,path=/job/bench.out\", \"-device\", \"isa-debugcon,iobase={:#x},chardev=bench\"]",
        guest::PORT
    );
    let guest = Guest::new("bench", loader)
        .disk(disk)
        .set("device_model_args_hvm", arguments);
    bed.create_paused(&guest)?;
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

fn report(version: Version, toolstack: f64, times: [Times; 2], tables: u64) -> Result<()> {
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
    println!(
        "\nXen {}; the toolstack's {toolstack:.2} s before a guest's first instruction are taken away\n{:<40} {:>12} {:>12} {:>8}",
        version.number(),
        "",
        "Firstlight",
        "stock",
        "better"
    );
    let mut figures = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let (ours, stock) = (ours[index], stock[index]);
        let ratio = if name.starts_with("MB") {
            ours / stock
        } else {
            stock / ours
        };
        println!("{name:<40} {ours:>12.2} {stock:>12.2} {ratio:>7.1}x");
        figures.push(json!({ "what": name, "firstlight": ours, "stock": stock, "ratio": ratio }));
    }
    let name = "guest instructions for the tables";
    println!("{name:<40} {tables:>12} {:>12}", "-");
    figures.push(json!({ "what": name, "firstlight": tables, "stock": null, "ratio": null }));
    let path: &Path = &project::target().join("bench-xen.json");
    let text = serde_json::to_string_pretty(
        &json!({ "xen": version.number(), "toolstack": toolstack, "figures": figures }),
    )?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nWritten to {}", path.display());
    Ok(())
}
