//! Xen's CPUID leaves (public header arch-x86/cpuid.h).

/// CPUID as a function: EAX in, EAX to EDX out.
pub trait Cpuid {
    /// The four registers of leaf `leaf`, subleaf 0.
    fn cpuid(&self, leaf: u32) -> [u32; 4];
}

impl<F: Fn(u32) -> [u32; 4]> Cpuid for F {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        self(leaf)
    }
}

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
    /// Xen's version: major, minor.
    pub version: (u16, u16),
    /// The MSR that takes the address of a page for hypercalls.
    pub hypercall_msr: u32,
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
            _ => [0; 4],
        }
    }

    #[test]
    fn finds_xen_behind_another_interface() {
        for base in [FIRST, 0x4000_0100] {
            let leaves = find(&xen_at(base)).unwrap();
            assert_eq!((leaves.base, leaves.version), (base, (4, 17)));
            assert_eq!(leaves.hypercall_msr, 0x4000_0000);
        }
    }

    #[test]
    fn nothing_where_there_is_no_xen() {
        assert_eq!(find(&|_| [0; 4]), None);
        assert_eq!(find(&|_| [u32::MAX; 4]), None);
        assert_eq!(find(&xen_at(0x4000_0101)), None);
    }
}
