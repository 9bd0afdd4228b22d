//! What kinds of guests there are, each beside the stock loader.

use super::{DEADLINE, END, beside_stock, ensure_ram};
use anyhow::{Context, Result, ensure};
use firstlight_tests::xen::{Guest, Then, Version, probe_disk};

/// Xen 4.20 makes no guest that may run guests itself, whatever its loader, on a processor that lacks some features of SVM (its
/// docs/designs/nested-svm-cpu-features.md has the list), as QEMU's does.
const NESTED: &str = "nested";

/// A kind of guest: its name, the MiB that it has beside its display, and its settings in xl.cfg.
type Kind = (&'static str, u64, &'static [(&'static str, &'static str)]);

const KINDS: &[Kind] = &[
    ("no-display", 256, &[("vga", "\"none\"")]),
    ("standard-vga", 240, &[("vga", "\"stdvga\"")]),
    ("cirrus", 248, &[("vga", "\"cirrus\"")]),
    ("no-platform", 248, &[("xen_platform_pci", "0")]),
    ("platform", 248, &[("xen_platform_pci", "1")]),
    ("enlightened", 248, &[("viridian", "1")]),
    ("bound", 248, &[("nomigrate", "1")]),
    (NESTED, 248, &[("nestedhvm", "1")]),
    ("two-cpus", 248, &[("vcpus", "2")]),
    ("odd-cpus", 248, &[("vcpus", "7"), ("maxvcpus", "31")]),
    ("many-cpus", 248, &[("vcpus", "32")]),
];

pub fn all_kinds_of_guests_start(version: Version) -> Result<()> {
    beside_stock(version, "all_kinds_of_guests_start", |bed, loader| {
        let disk = probe_disk(bed, Then::Tick)?;
        let kinds = KINDS
            .iter()
            .filter(|(name, _, _)| *name != NESTED || version != Version::V4_20);
        for (name, mib, settings) in kinds {
            let guest = Guest::new(name, loader).disk(&disk);
            let guest = settings
                .iter()
                .fold(guest, |guest, (option, value)| guest.set(option, value));
            let report = bed.boot(&guest, END, DEADLINE).context(*name)?;
            ensure_ram(&report, *mib, 0).context(*name)?;
            bed.destroy_all()?;
        }
        Ok(())
    })
}

/// The guest is told of all the memory that it may get; pages without memory behind them get some when they are touched.
pub fn memory_on_demand(version: Version) -> Result<()> {
    beside_stock(version, "memory_on_demand", |bed, loader| {
        let guest = Guest::new("on-demand", loader)
            .disk(&probe_disk(bed, Then::Tick)?)
            .set("maxmem", 512);
        let report = bed.boot(&guest, END, DEADLINE)?;
        ensure_ram(&report, 504, 0)?;
        let memory = bed.check("xl list on-demand")?;
        let mib = memory.lines().last().and_then(|line| {
            let mut words = line.split_whitespace();
            words.nth(2)?.parse::<u32>().ok()
        });
        ensure!(mib.is_some_and(|mib| mib <= 257), "{memory}");
        Ok(())
    })
}
