//! What the firmware asks of Xen, as a trait: `arch::xen` makes the calls, a fake stands in for it on the host.

use alloc::vec::Vec;

/// Xen's answer to a failed call: the positive error number (public header errno.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i64);

/// HVM parameters (public header hvm/params.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Param {
    /// Page of the xenstore ring.
    StorePfn = 1,
    /// Event channel of the xenstore ring.
    StoreEvtchn = 2,
    /// Page of the buffered I/O request ring.
    BufIoreqPfn = 6,
    /// Whether there is an HPET.
    HpetEnabled = 11,
    /// Where Xen's PM1a and PM timer ports are: 0 for 0x1f40, 1 for 0xb000.
    AcpiIoportsLocation = 19,
    /// Page of the console ring.
    ConsolePfn = 17,
    /// Physical address of the VM generation id.
    VmGenerationIdAddr = 34,
    /// TSS for real mode on Intel: address in bits 31:0, size in 63:32.
    Vm86TssSized = 37,
}

/// One entry of the memory map that the toolstack made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapEntry {
    /// First physical address.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// ACPI address range type.
    pub kind: u32,
}

/// The virtual NUMA that the toolstack gave the domain (public header memory.h, struct xen_vnuma_topology_info).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vnuma {
    /// Number of nodes.
    pub nodes: u32,
    /// Distances, `nodes` times `nodes`.
    pub distances: Vec<u32>,
    /// The node of each CPU.
    pub cpu_nodes: Vec<u32>,
    /// Ranges of memory.
    pub memory: Vec<VnumaRange>,
}

/// Memory of a node (struct xen_vmemrange).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VnumaRange {
    /// First physical address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// None are defined.
    pub flags: u32,
    /// The node.
    pub node: u32,
}

/// Why a domain ends (public header sched.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Shutdown {
    /// It is done.
    PowerOff = 0,
    /// Start it anew.
    Reboot = 1,
    /// It failed.
    Crash = 3,
}

/// The calls. Page numbers are of 4 KiB pages.
///
/// # Errors
/// Each returns Xen's error number where Xen refuses.
pub trait Hypercalls {
    /// Reads an HVM parameter.
    fn param(&self, param: Param) -> Result<u64, Errno>;
    /// Sets an HVM parameter.
    fn set_param(&self, param: Param, value: u64) -> Result<(), Errno>;
    /// The memory map of the domain as the toolstack set it (XENMEM_memory_map).
    fn memory_map(&self) -> Result<Vec<MapEntry>, Errno>;
    /// The domain's virtual NUMA (XENMEM_get_vnumainfo); an error where it has none.
    fn vnuma(&self) -> Result<Vnuma, Errno>;
    /// Puts new memory at each of `pages`; answers how many were done, from the front (XENMEM_populate_physmap).
    fn populate(&self, pages: &[u64]) -> Result<usize, Errno>;
    /// Moves the memory at page `from` to page `to` (XENMEM_add_to_physmap, XENMAPSPACE_gmfn).
    fn move_page(&self, from: u64, to: u64) -> Result<(), Errno>;
    /// Shows the first page of the domain's grant table at page `at`, and nowhere else any more (XENMEM_add_to_physmap,
    /// XENMAPSPACE_grant_table).
    fn map_grant_table(&self, at: u64) -> Result<(), Errno>;
    /// Tells the other side of event channel `port` to look (EVTCHNOP_send).
    fn notify(&self, port: u32) -> Result<(), Errno>;
    /// Makes an event channel to which domain `remote` may connect, and returns its port (EVTCHNOP_alloc_unbound).
    fn open_port(&self, remote: u16) -> Result<u32, Errno>;
    /// Closes an event channel (EVTCHNOP_close).
    fn close_port(&self, port: u32) -> Result<(), Errno>;
    /// The domain's number, which is another after a restore (CPUID); `None` where Xen does not say.
    fn domain(&self) -> Option<u32>;
    /// The domain's UUID, in the order in which it is written (XENVER_guest_handle).
    fn domain_uuid(&self) -> Result<[u8; 16], Errno>;
    /// What follows the major and minor number in Xen's version, such as ".5" (XENVER_extraversion).
    fn extra_version(&self) -> Result<[u8; 16], Errno>;
    /// Lets others run while we wait (SCHEDOP_yield).
    fn yield_cpu(&self);
    /// Ends the domain (SCHEDOP_shutdown).
    fn shutdown(&self, reason: Shutdown);
}
