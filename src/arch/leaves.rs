//! Xen's CPUID leaves (public header arch-x86/cpuid.h).

use super::Cpuid;

const FIRST: u32 = 0x4000_0000;
const END: u32 = 0x4001_0000;
const STEP: u32 = 0x100;
/// "XenVMMXenVMM" in EBX, ECX, EDX.
const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];

/// What the leaves say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// The leaf with the signature.
    pub base: u32,
    /// The last of the leaves.
    pub last: u32,
    /// Xen's version: major, minor.
    pub version: (u16, u16),
    /// The MSR that takes the address of a page for hypercalls.
    pub hypercall_msr: u32,
}

impl Leaves {
    /// The frequency of the guest's TSC in MHz, rounded; 0 where Xen does not say.
    pub fn tsc_mhz(&self, cpu: &impl Cpuid) -> u16 {
        let time = self.base + 3;
        if self.last < time {
            return 0;
        }
        let [_, _, khz, _] = cpu.cpuid(time);
        u16::try_from(khz.saturating_add(500) / 1000).unwrap_or(0)
    }

    /// The number of the domain, which is another after a restore; `None` where Xen does not say.
    pub fn domain(&self, cpu: &impl Cpuid) -> Option<u32> {
        const PRESENT: u32 = 1 << 4;
        let features = self.base + 4;
        let [flags, _, number, _] = cpu.cpuid(features);
        (self.last >= features && flags & PRESENT != 0).then_some(number)
    }
}

/// Finds Xen. Other interfaces may come first (Viridian's is at 0x40000000), so every 0x100th leaf is asked.
pub fn find(cpu: &impl Cpuid) -> Option<Leaves> {
    (FIRST..END).step_by(STEP as usize).find_map(|base| {
        let [last, ebx, ecx, edx] = cpu.cpuid(base);
        if [ebx, ecx, edx] != SIGNATURE || last < base + 2 {
            return None;
        }
        let version = cpu.cpuid(base + 1)[0];
        let [pages, hypercall_msr, ..] = cpu.cpuid(base + 2);
        (pages >= 1).then_some(Leaves {
            base,
            last,
            version: ((version >> 16) as u16, version as u16),
            hypercall_msr,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xen_at(at: u32) -> impl Fn(u32) -> [u32; 4] {
        move |leaf| match leaf.wrapping_sub(at) {
            0 => [at + 5, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
            1 => [4 << 16 | 17, 0, 0, 0],
            2 => [1, 0x4000_0000, 0, 0],
            3 => [0, 0, 2_616_499, 0],
            4 => [0x18, 0, 77, 0],
            _ => [0; 4],
        }
    }

    #[test]
    fn finds_xen_behind_another_interface() {
        for base in [FIRST, 0x4000_0100] {
            let leaves = find(&xen_at(base)).unwrap();
            assert_eq!((leaves.base, leaves.version), (base, (4, 17)));
            assert_eq!(leaves.hypercall_msr, 0x4000_0000);
            assert_eq!(leaves.domain(&xen_at(base)), Some(77));
        }
    }

    #[test]
    fn the_clock_is_what_xen_says() {
        let cpu = xen_at(FIRST);
        let leaves = find(&cpu).unwrap();
        assert_eq!(leaves.tsc_mhz(&cpu), 2616);
        assert_eq!(leaves.tsc_mhz(&|_| [u32::MAX; 4]), 0);
        let short = Leaves {
            last: leaves.base + 2,
            ..leaves
        };
        assert_eq!(short.tsc_mhz(&cpu), 0);
    }

    #[test]
    fn nothing_where_there_is_no_xen() {
        assert_eq!(find(&|_| [0; 4]), None);
        assert_eq!(find(&|_| [u32::MAX; 4]), None);
        assert_eq!(find(&xen_at(0x4000_0101)), None);
    }
}
