//! Advanced Power Management, which is not there: power belongs to ACPI.
//!
//! Boot loaders and old kernels ask whether it is installed, and go on without it.
//! Source: Advanced Power Management BIOS Interface Specification 1.2.

use crate::arch::Frame;

/// APM: no APM BIOS of that kind.
const NOT_PRESENT: u8 = 0x86;

/// Serves INT 15h AH=53h.
pub fn serve(frame: &mut Frame) {
    frame.fail(NOT_PRESENT);
}
