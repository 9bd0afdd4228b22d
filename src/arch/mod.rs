//! The processor: entry, long mode, the real-mode bridge, and the only 16-bit code of the firmware.

pub mod abi;
#[cfg(not(test))]
pub mod bridge;
mod calls;
pub mod clock;
#[cfg(not(test))]
pub mod cpu;
mod dma;
#[cfg(not(test))]
pub mod exception;
#[cfg(test)]
pub mod fake;
#[cfg(all(feature = "xen", test))]
pub mod fake_xen;
pub mod frame;
#[cfg(all(feature = "xen", not(test)))]
pub mod handoff;
#[cfg(not(test))]
pub mod heap;
pub mod hw;
#[cfg(feature = "xen")]
pub mod hypercalls;
#[cfg(not(test))]
pub mod kernel;
#[cfg(feature = "xen")]
pub mod leaves;
mod paging;
#[cfg(not(test))]
pub mod pc;
#[cfg(not(test))]
pub mod place;
pub mod sizes;
#[cfg(not(test))]
pub mod smi;
mod window;
#[cfg(all(feature = "xen", not(test)))]
pub mod xen;

pub use crate::units::linear;
pub use dma::room_for;
pub use frame::{Entries, Frame, Outcome};
pub use hw::{Clock, Cpuid, DmaMemory, Handle, Hardware, PhysMem, Ports, RealMode, RealRegs};
