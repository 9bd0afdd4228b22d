//! Who gets which addresses: a pure function from what was found to what to write.
//!
//! From the leaves to the roots, each bridge's windows become as large as what is behind them; then, from the roots
//! down, everything gets its place. What does not fit stays without an address.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;

use super::{BarKind, PciDevice};

/// The addresses that PCI functions may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Ports, in the order of preference.
    pub io: Vec<Range<u64>>,
    /// Memory below 4 GiB, in the order of preference.
    pub memory: Vec<Range<u64>>,
    /// Memory above 4 GiB, for what does not fit below.
    pub high: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Io,
    Memory,
    Pref,
}

const SPACES: [Space; 3] = [Space::Io, Space::Memory, Space::Pref];

impl Space {
    /// What a bridge's window is a multiple of.
    fn granule(self) -> u64 {
        match self {
            Space::Io => 0x1000,
            Space::Memory | Space::Pref => 0x10_0000,
        }
    }
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Bar(usize, usize),
    Window(usize, Space),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    owner: Owner,
    size: u64,
    align: u64,
    /// May lie above 4 GiB.
    high: bool,
}

/// Requests on one bus, or on all root buses, by [`Space`]; those with the largest alignment come first: then requests with sizes of
/// powers of two leave no holes between them.
type Requests = [Vec<Request>; 3];

fn sort(requests: &mut Requests) {
    for requests in requests {
        firstlight_tables::sort::by_key(requests, |request| {
            (Reverse(request.align), Reverse(request.size))
        });
    }
}

/// Gives every BAR and bridge window of `devices` an address in `windows`. A bridge comes before what is behind it.
///
/// BARs that already have an address keep it. Room for hot-plug is given up before any device's address is.
/// Returns how many BARs got none.
pub fn plan(devices: &mut [PciDevice], windows: &Windows) -> usize {
    let mut placed = Roots::default();
    let mut requests = Vec::new();
    for with_spare in [true, false] {
        requests = gather(devices, with_spare);
        let (root, _) = requests.split_last().expect("one entry for the roots");
        placed = place_roots(root, windows);
        if placed.all {
            break;
        }
    }
    for (request, address) in placed.places {
        assign(devices, &requests, request, address);
    }
    devices
        .iter()
        .flat_map(|device| &device.bars)
        .filter(|bar| bar.size != 0 && bar.address.is_none())
        .count()
}

/// What each bus asks for; entry `i` is the bus behind device `i`, the last entry all root buses.
fn gather(devices: &[PciDevice], with_spare: bool) -> Vec<Requests> {
    let roots = devices.len();
    let mut requests = Vec::new();
    requests.resize_with(roots + 1, Requests::default);
    for (index, device) in devices.iter().enumerate().rev() {
        sort(&mut requests[index]);
        let parent = device.parent.filter(|p| *p < index).unwrap_or(roots);
        for (number, bar) in device.bars.iter().enumerate() {
            if bar.size == 0 || bar.address.is_some() {
                continue;
            }
            let is64 = bar.kind == BarKind::Memory64;
            let space = match bar.kind {
                BarKind::Io => Space::Io,
                _ => memory_space(devices, parent, bar.prefetchable, is64),
            };
            requests[parent][space as usize].push(Request {
                owner: Owner::Bar(index, number),
                size: bar.size,
                align: bar.size,
                high: is64 && (parent == roots || space == Space::Pref),
            });
        }
        if device.bridge.is_some() {
            for space in SPACES {
                if let Some((place, request)) = window(devices, &requests, index, space, with_spare)
                {
                    requests[parent][place as usize].push(request);
                }
            }
        }
    }
    sort(&mut requests[roots]);
    requests
}

/// Where memory behind bridge `parent` (or on a root bus) belongs: a 64-bit prefetchable window takes only what may
/// follow it above 4 GiB.
fn memory_space(devices: &[PciDevice], parent: usize, prefetchable: bool, is64: bool) -> Space {
    let bridge = devices
        .get(parent)
        .and_then(|device| device.bridge.as_ref());
    match bridge {
        Some(bridge) if bridge.has_pref && prefetchable && (is64 || !bridge.pref64) => Space::Pref,
        _ => Space::Memory,
    }
}

/// What bridge `index` asks its parent for, to forward `space`, and as which space.
fn window(
    devices: &[PciDevice],
    requests: &[Requests],
    index: usize,
    space: Space,
    with_spare: bool,
) -> Option<(Space, Request)> {
    let bridge = devices[index].bridge.as_ref()?;
    let spare = match space {
        Space::Io if !bridge.has_io => return None,
        Space::Pref if !bridge.has_pref => return None,
        _ if !with_spare => 0,
        Space::Io => bridge.spare.io,
        Space::Memory => bridge.spare.memory,
        Space::Pref => bridge.spare.pref,
    };
    let behind = &requests[index][space as usize];
    let granule = space.granule();
    let align = behind.iter().map(|r| r.align).fold(granule, u64::max);
    let size = pack(behind, 0, |_, _| {}).max(spare);
    if size == 0 {
        return None;
    }
    let parent = devices[index].parent.filter(|p| *p < index);
    let place = match space {
        Space::Io => Space::Io,
        Space::Memory => Space::Memory,
        Space::Pref => memory_space(
            devices,
            parent.unwrap_or(devices.len()),
            true,
            bridge.pref64,
        ),
    };
    let request = Request {
        owner: Owner::Window(index, space),
        size: size.checked_next_multiple_of(granule)?,
        align,
        high: space == Space::Pref && bridge.pref64 && (parent.is_none() || place == Space::Pref),
    };
    Some((place, request))
}

/// Puts `requests` one after the other from `base`, tells `place` where each went, and returns the bytes that takes.
fn pack(requests: &[Request], base: u64, mut place: impl FnMut(Request, u64)) -> u64 {
    let mut next = base;
    for request in requests {
        let address = next.saturating_add(request.align - 1) & !(request.align - 1);
        place(*request, address);
        next = address.saturating_add(request.size);
    }
    next - base
}

/// Where the requests of the root buses went.
#[derive(Default)]
struct Roots {
    places: Vec<(Request, u64)>,
    all: bool,
}

fn place_roots(requests: &Requests, windows: &Windows) -> Roots {
    let [io, memory, _] = requests;
    let mut roots = Roots {
        all: true,
        ..Roots::default()
    };
    roots.add(fit(io, &windows.io));
    let mut low = memory.clone();
    let mut high = Vec::new();
    let mut fitted = fit(&low, &windows.memory);
    // The largest go up first, so that small ones stay where every guest and driver reaches them.
    while !fitted.all && !windows.high.is_empty() {
        let largest = (0..low.len())
            .filter(|i| low[*i].high)
            .max_by_key(|i| low[*i].size);
        let Some(largest) = largest else { break };
        high.push(low.remove(largest));
        fitted = fit(&low, &windows.memory);
    }
    roots.add(fitted);
    roots.add(fit(&high, core::slice::from_ref(&windows.high)));
    roots
}

impl Roots {
    fn add(&mut self, other: Roots) {
        self.places.extend(other.places);
        self.all &= other.all;
    }
}

/// Puts each request into the first of `ranges` that has room for it.
fn fit(requests: &[Request], ranges: &[Range<u64>]) -> Roots {
    let mut next: Vec<Range<u64>> = ranges.to_vec();
    let mut placed = Roots {
        all: true,
        ..Roots::default()
    };
    for request in requests {
        let address = next.iter_mut().find_map(|range| {
            let start = range.start.checked_add(request.align - 1)? & !(request.align - 1);
            let end = start.checked_add(request.size)?;
            (end <= range.end).then(|| {
                range.start = end;
                start
            })
        });
        match address {
            Some(address) => placed.places.push((*request, address)),
            None => placed.all = false,
        }
    }
    placed
}

/// Records `address`, and for a bridge's window the addresses of all that is in it.
fn assign(devices: &mut [PciDevice], requests: &[Requests], request: Request, address: u64) {
    let (index, space) = match request.owner {
        Owner::Bar(index, number) => {
            devices[index].bars[number].address = Some(address);
            return;
        }
        Owner::Window(index, space) => (index, space),
    };
    if let Some(bridge) = &mut devices[index].bridge {
        let window = Some((address, address + (request.size - 1)));
        match space {
            Space::Io => bridge.io = window,
            Space::Memory => bridge.memory = window,
            Space::Pref => bridge.pref = window,
        }
    }
    pack(&requests[index][space as usize], address, |request, at| {
        assign(devices, requests, request, at);
    });
}
