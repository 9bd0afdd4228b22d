//! Hypercalls, through the page of stubs that Xen fills for us (public headers xen.h and arch-x86/cpuid.h).

use super::hypercalls::{Errno, Hypercalls, MapEntry, Param, Shutdown, Vnuma, VnumaRange};
use super::leaves::{self, Leaves};
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::cell::UnsafeCell;
use spin::Once;
use x86_64::registers::model_specific::Msr;

const MEMORY_OP: usize = 12;
const XEN_VERSION: usize = 17;
const SCHED_OP: usize = 29;
const EVENT_CHANNEL_OP: usize = 32;
const HVM_OP: usize = 34;

const XENMEM_POPULATE_PHYSMAP: u64 = 6;
const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
const XENMEM_MEMORY_MAP: u64 = 9;
const XENMEM_GET_VNUMAINFO: u64 = 26;
/// The answer to a call with too little room: no buffer space (public header errno.h).
const ENOBUFS: i64 = 105;
/// More nodes, CPUs or ranges than this are not believed.
const VNUMA_LIMIT: u32 = 256;
const XENMAPSPACE_GRANT_TABLE: u32 = 1;
const XENMAPSPACE_GMFN: u32 = 2;
const HVMOP_SET_PARAM: u64 = 0;
const HVMOP_GET_PARAM: u64 = 1;
const XENVER_EXTRAVERSION: u64 = 1;
const XENVER_GUEST_HANDLE: u64 = 8;
const EVTCHNOP_CLOSE: u64 = 3;
const EVTCHNOP_SEND: u64 = 4;
const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;
const SCHEDOP_YIELD: u64 = 0;
const SCHEDOP_SHUTDOWN: u64 = 2;
const DOMID_SELF: u16 = 0x7ff0;

/// Bytes of one stub in the page.
const STUB_SIZE: usize = 32;
/// Most entries of a memory map; Xen's own limit for HVM is 128.
const MAP_ENTRIES: usize = 128;
/// An entry of the memory map is packed: start, size, type.
const MAP_ENTRY_SIZE: usize = 20;

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: Rust never reads or writes the page's bytes: Xen writes them once and the processor runs them.
unsafe impl Sync for Page {}

#[unsafe(link_section = ".noinit.hypercalls")]
static PAGE: Page = Page(UnsafeCell::new([0; 4096]));

/// Xen, once it was found.
static FOUND: Once<Option<Xen>> = Once::new();

/// Xen, with its hypercall page in place.
#[derive(Clone, Copy, Debug)]
pub struct Xen {
    /// What CPUID said of it.
    pub leaves: Leaves,
}

impl Xen {
    /// Finds Xen and lets it fill the hypercall page, the first time. `None` where there is no Xen.
    ///
    /// To be called where the image stays, since the page is a part of it.
    pub fn find() -> Option<Self> {
        *FOUND.call_once(Self::look)
    }

    /// Xen, where [`find`](Self::find) found it.
    pub fn found() -> Option<Self> {
        FOUND.get().copied().flatten()
    }

    fn look() -> Option<Self> {
        let leaves = leaves::find(&cpuid)?;
        // SAFETY: Xen announced this MSR as the one that takes the address of a page to fill, and the page is ours alone,
        // one page long and mapped at its physical address.
        unsafe { Msr::new(leaves.hypercall_msr).write(PAGE.0.get() as u64) };
        Some(Self { leaves })
    }

    /// Makes call `number`.
    ///
    /// # Safety
    /// The arguments are what the call expects; structures that they point to are valid and not otherwise borrowed.
    unsafe fn call(&self, number: usize, first: u64, second: u64) -> Result<u64, Errno> {
        let stub = PAGE.0.get() as usize + number * STUB_SIZE;
        let result: i64;
        // SAFETY: the stub is code that Xen put there; it changes RAX and the argument registers only. RSP steps over the
        // red zone, as the call pushes a return address.
        unsafe {
            asm!(
                "lea rsp, [rsp - 128]",
                "call {stub}",
                "lea rsp, [rsp + 128]",
                stub = in(reg) stub,
                inout("rdi") first => _,
                inout("rsi") second => _,
                lateout("rax") result,
                out("rdx") _, out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        u64::try_from(result).map_err(|_| Errno(-result))
    }

    /// A call with a command and a structure that Xen reads and writes.
    fn command<T>(&self, number: usize, command: u64, argument: &mut T) -> Result<u64, Errno> {
        // SAFETY: `argument` is exclusively borrowed for the call; the callers in this file pair each command with the
        // structure that its header gives it, whose inner pointers are to buffers that live as long.
        unsafe { self.call(number, command, argument as *mut T as u64) }
    }

    /// Shows page `idx` of a space of pages at the guest's page `gpfn`.
    fn add_to_physmap(&self, space: u32, idx: u64, gpfn: u64) -> Result<(), Errno> {
        let mut argument = AddToPhysmap {
            domid: DOMID_SELF,
            size: 0,
            space,
            idx,
            gpfn,
        };
        self.command(MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut argument)
            .map(drop)
    }
}

#[repr(C)]
struct HvmParam {
    domid: u16,
    pad: u16,
    index: u32,
    value: u64,
}

#[repr(C)]
struct MemoryMap {
    nr_entries: u32,
    buffer: u64,
}

#[repr(C)]
struct MemoryReservation {
    extent_start: u64,
    nr_extents: u64,
    extent_order: u32,
    mem_flags: u32,
    domid: u16,
}

#[derive(Default)]
#[repr(C)]
struct VnumaTopology {
    domid: u16,
    pad: u16,
    nodes: u32,
    cpus: u32,
    ranges: u32,
    distances: u64,
    cpu_nodes: u64,
    memory: u64,
}

#[repr(C)]
struct AddToPhysmap {
    domid: u16,
    size: u16,
    space: u32,
    idx: u64,
    gpfn: u64,
}

#[repr(C)]
struct AllocUnbound {
    domid: u16,
    remote: u16,
    port: u32,
}

fn cpuid(leaf: u32) -> [u32; 4] {
    super::cpu::cpuid(leaf, 0)
}

impl Hypercalls for Xen {
    fn param(&self, param: Param) -> Result<u64, Errno> {
        let mut argument = HvmParam {
            domid: DOMID_SELF,
            pad: 0,
            index: param as u32,
            value: 0,
        };
        self.command(HVM_OP, HVMOP_GET_PARAM, &mut argument)?;
        Ok(argument.value)
    }

    fn set_param(&self, param: Param, value: u64) -> Result<(), Errno> {
        let mut argument = HvmParam {
            domid: DOMID_SELF,
            pad: 0,
            index: param as u32,
            value,
        };
        self.command(HVM_OP, HVMOP_SET_PARAM, &mut argument)
            .map(drop)
    }

    fn memory_map(&self) -> Result<Vec<MapEntry>, Errno> {
        let mut buffer = vec![0u8; MAP_ENTRIES * MAP_ENTRY_SIZE];
        let mut argument = MemoryMap {
            nr_entries: MAP_ENTRIES as u32,
            buffer: buffer.as_mut_ptr() as u64,
        };
        self.command(MEMORY_OP, XENMEM_MEMORY_MAP, &mut argument)?;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(buffer
            .chunks_exact(MAP_ENTRY_SIZE)
            .take(argument.nr_entries as usize)
            .map(|entry| MapEntry {
                start: number(&entry[..8]),
                size: number(&entry[8..16]),
                kind: number(&entry[16..]) as u32,
            })
            .collect())
    }

    fn vnuma(&self) -> Result<Vnuma, Errno> {
        let mut sizes = VnumaTopology {
            domid: DOMID_SELF,
            ..VnumaTopology::default()
        };
        // Without room, the answer is how much it takes.
        match self.command(MEMORY_OP, XENMEM_GET_VNUMAINFO, &mut sizes) {
            Err(Errno(ENOBUFS)) => {}
            other => return Err(other.err().unwrap_or(Errno(ENOBUFS))),
        }
        if sizes.nodes.max(sizes.cpus).max(sizes.ranges) > VNUMA_LIMIT {
            return Err(Errno(ENOBUFS));
        }
        let mut vnuma = Vnuma {
            nodes: sizes.nodes,
            distances: vec![0; (sizes.nodes * sizes.nodes) as usize],
            cpu_nodes: vec![0; sizes.cpus as usize],
            memory: vec![VnumaRange::default(); sizes.ranges as usize],
        };
        sizes.distances = vnuma.distances.as_mut_ptr() as u64;
        sizes.cpu_nodes = vnuma.cpu_nodes.as_mut_ptr() as u64;
        sizes.memory = vnuma.memory.as_mut_ptr() as u64;
        self.command(MEMORY_OP, XENMEM_GET_VNUMAINFO, &mut sizes)?;
        Ok(vnuma)
    }

    fn populate(&self, pages: &[u64]) -> Result<usize, Errno> {
        let mut pages = pages.to_vec();
        let mut argument = MemoryReservation {
            extent_start: pages.as_mut_ptr() as u64,
            nr_extents: pages.len() as u64,
            extent_order: 0,
            mem_flags: 0,
            domid: DOMID_SELF,
        };
        self.command(MEMORY_OP, XENMEM_POPULATE_PHYSMAP, &mut argument)
            .map(|done| done as usize)
    }

    fn move_page(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.add_to_physmap(XENMAPSPACE_GMFN, from, to)
    }

    fn map_grant_table(&self, at: u64) -> Result<(), Errno> {
        self.add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, at)
    }

    fn notify(&self, port: u32) -> Result<(), Errno> {
        let mut argument = port;
        self.command(EVENT_CHANNEL_OP, EVTCHNOP_SEND, &mut argument)
            .map(drop)
    }

    fn open_port(&self, remote: u16) -> Result<u32, Errno> {
        let mut argument = AllocUnbound {
            domid: DOMID_SELF,
            remote,
            port: 0,
        };
        self.command(EVENT_CHANNEL_OP, EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
        Ok(argument.port)
    }

    fn close_port(&self, port: u32) -> Result<(), Errno> {
        let mut argument = port;
        self.command(EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, &mut argument)
            .map(drop)
    }

    fn domain(&self) -> Option<u32> {
        self.leaves.domain(&cpuid)
    }

    fn domain_uuid(&self) -> Result<[u8; 16], Errno> {
        let mut uuid = [0; 16];
        self.command(XEN_VERSION, XENVER_GUEST_HANDLE, &mut uuid)?;
        Ok(uuid)
    }

    fn extra_version(&self) -> Result<[u8; 16], Errno> {
        let mut text = [0; 16];
        self.command(XEN_VERSION, XENVER_EXTRAVERSION, &mut text)?;
        Ok(text)
    }

    fn yield_cpu(&self) {
        // The only outcome of a yield is that time has passed.
        let _ = self.command(SCHED_OP, SCHEDOP_YIELD, &mut 0u32);
    }

    fn shutdown(&self, reason: Shutdown) {
        let mut argument = reason as u32;
        // Where Xen refuses, the caller goes on.
        let _ = self.command(SCHED_OP, SCHEDOP_SHUTDOWN, &mut argument);
    }
}
