//! From a Xen guest's start to the first instruction of Debian's kernel, through GRUB: what its user waits for.

use super::{Figure, STARTED, Way, seconds, start_with};
use crate::xen::bed::Bed;
use crate::xen::guest::Loader;
use anyhow::Result;
use std::time::Duration;

/// The disk of [`way::disk`](crate::bench::way::disk) in dom0.
const DISK: &str = "/dev/vdf";
const MEMORY_MIB: u32 = 512;
/// How long a guest may take: the stock loader's BIOS reads an IDE disk word by word.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Measures our loader by both back ends and the stock one, each once, for that one takes long. `toolstack` are the seconds
/// that are the toolstack's.
///
/// # Errors
/// A guest does not start or does not come to its kernel.
pub fn figures(bed: &mut Bed, ours: &Loader, toolstack: f64) -> Result<Vec<Figure>> {
    let mut ours_took = Vec::new();
    for (way, back_end) in Way::PARAVIRTUAL {
        eprintln!("The way to Debian's kernel, by {back_end}");
        ours_took.push((back_end, taken(bed, ours, way)?));
    }
    eprintln!("The same under the stock loader");
    let stock = taken(bed, &Loader::Stock, Way::Qemu)? - toolstack;
    let figure = |(back_end, taken): (&str, f64)| Figure {
        name: format!("s of wall time to Debian's kernel through GRUB, by {back_end}"),
        ours: taken - toolstack,
        stock: Some(stock),
        digits: 2,
    };
    Ok(ours_took.into_iter().map(figure).collect())
}

/// The seconds from `xl unpause` to the kernel.
fn taken(bed: &mut Bed, loader: &Loader, way: Way) -> Result<f64> {
    let guest = way.guest(bed, loader, DISK)?.set("memory", MEMORY_MIB);
    let seen = start_with(bed, guest, STARTED, "", way.setting(), DEADLINE)?;
    Ok(seconds(&seen, 0, 1))
}
