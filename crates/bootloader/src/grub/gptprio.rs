//! `gptprio.next`: which of two systems is booted on disks that are updated by exchanging partitions (Flatcar, and CoreOS before it;
//! ChromeOS has the attributes from). Nothing is written: a try that is left is not counted down.

use super::Machine;
use crate::volumes::VolumeInfo;

/// The type of such partitions, CoreOS's root.
const ROOT: &str = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6";

/// A partition's attributes: priority, tries that are left, and whether it once came up (ChromiumOS design documents, "Disk Format").
fn rank(info: &VolumeInfo) -> Option<u64> {
    let kind = info.partition_type.as_deref()?;
    let field = |from: u32, width: u32| info.attributes >> from & ((1 << width) - 1);
    let (priority, tries, successful) = (field(48, 4), field(52, 4), field(56, 1));
    let may_boot = kind.eq_ignore_ascii_case(ROOT) && priority > 0 && (tries > 0 || successful > 0);
    may_boot.then_some(priority)
}

impl Machine<'_> {
    /// `gptprio.next -d DEVICE -u UUID`: sets both variables by the partition of the highest priority.
    pub(super) fn gptprio(&mut self, words: &[String]) -> bool {
        let variable = |short: &str, long: &str| {
            let at = words
                .iter()
                .position(|word| word == short || word == long)?;
            words.get(at + 1).cloned()
        };
        let device = variable("-d", "--set-device");
        let uuid = variable("-u", "--set-uuid");
        // The first of equal ones.
        let volumes = (0..self.volumes.count()).rev();
        let best = volumes
            .filter_map(|volume| {
                let info = self.volumes.info(volume);
                Some((rank(info)?, info))
            })
            .max_by_key(|(rank, _)| *rank);
        let Some((_, info)) = best else {
            return false;
        };
        let name = info.names.first().cloned().unwrap_or_default();
        let partition = info.partition_uuid.clone().unwrap_or_default();
        for (variable, value) in [(device, name), (uuid, partition)] {
            if let Some(variable) = variable {
                self.set(&variable, &value);
            }
        }
        true
    }
}
