//! The feature control register: which of the processor's extensions software may turn on. Firmware sets and locks it once after
//! each reset.
//!
//! Source: Intel SDM volume 4, table 2-2, IA32_FEATURE_CONTROL (3Ah) and IA32_MCG_CAP (179h).

/// The register.
const FEATURE_CONTROL: u32 = 0x3a;
/// Its lock bit: until the next reset, a write is a general protection fault.
const LOCKED: u64 = 1 << 0;
const MCG_CAPABILITIES: u32 = 0x179;
/// Local machine check exceptions, which the register can allow.
const MCG_LMCE: u64 = 1 << 27;
/// CPUID leaf 1, ECX: virtual and safer mode extensions.
const VMX: u32 = 1 << 5;
const SMX: u32 = 1 << 6;
/// CPUID leaf 1, EDX: machine check architecture.
const MCA: u32 = 1 << 14;

/// The register and the value that the platform wants in it, where the processor has the register and it may be written.
pub fn plan(
    wanted: Option<u64>,
    cpuid: impl Fn(u32) -> [u32; 4],
    read_msr: impl Fn(u32) -> u64,
) -> Option<(u32, u64)> {
    let value = wanted?;
    let [_, _, features, more_features] = cpuid(1);
    let has_lmce = || more_features & MCA != 0 && read_msr(MCG_CAPABILITIES) & MCG_LMCE != 0;
    let present = features & (VMX | SMX) != 0 || has_lmce();
    if !present {
        log::warn!("feature control {value:#x}: this processor has no such register");
        return None;
    }
    (read_msr(FEATURE_CONTROL) & LOCKED == 0).then_some((FEATURE_CONTROL, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_it_can_be_written() {
        let plan = |wanted, ecx, edx, mcg, now| {
            let msr = move |msr| if msr == MCG_CAPABILITIES { mcg } else { now };
            super::plan(wanted, |_| [0, 0, ecx, edx], msr)
        };
        assert_eq!(plan(None, VMX, 0, 0, 0), None);
        assert_eq!(plan(Some(5), VMX, 0, 0, 0), Some((0x3a, 5)));
        assert_eq!(plan(Some(5), 0, MCA, MCG_LMCE, 0), Some((0x3a, 5)));
        assert_eq!(plan(Some(5), 0, MCA, 0, 0), None);
        assert_eq!(plan(Some(5), 0, 0, MCG_LMCE, 0), None);
        assert_eq!(plan(Some(5), SMX, 0, 0, LOCKED), None);
    }
}
