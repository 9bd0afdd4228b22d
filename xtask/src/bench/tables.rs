//! What the firmware's tables cost on Xen, in guest instructions.

use crate::build;
use crate::xen::bed::Bed;
use crate::xen::guest::{Guest, Loader};
use anyhow::Result;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// How long the firmware may take to its tables with every instruction logged, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(600);
/// The steps that come before the tables: machine, memory and PCI; processors. See `firstlight_main`.
const STEPS_BEFORE: usize = 2;

/// The instructions in which Firstlight's last build, which `loader` has to be, makes and installs the tables of a guest with one
/// CPU in `bed`.
///
/// # Errors
/// The guest does not start, or `loader` is another build.
pub fn instructions(bed: &mut Bed, loader: &Path) -> Result<u64> {
    let [start, step_done] = build::symbols(["image_in_place", "step_done"])?;
    let guest = Guest::new("counted", &Loader::File(loader.to_owned()));
    bed.create_paused(&guest)?;
    let mut counter = Counter {
        step_done: step_done.wrapping_sub(start),
        ..Counter::default()
    };
    bed.executed(&guest, DEADLINE, |address| counter.see(address))?;
    bed.destroy_all()?;
    Ok(counter.tables)
}

/// Counts the instructions of the step in which the tables are made.
#[derive(Debug, Default)]
struct Counter {
    /// How far the function that ends a step is behind the first instruction, modulo 2^64.
    step_done: u64,
    /// The address of the first instruction.
    first: Option<u64>,
    /// Steps that have ended.
    steps: usize,
    tables: u64,
}

impl Counter {
    fn see(&mut self, address: u64) -> ControlFlow<()> {
        let first = *self.first.get_or_insert(address);
        if address == first.wrapping_add(self.step_done) {
            self.steps += 1;
        }
        match self.steps {
            ..STEPS_BEFORE => {}
            STEPS_BEFORE => self.tables += 1,
            _ => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_step_is_counted() {
        let mut counter = Counter {
            step_done: 100u64.wrapping_neg(),
            ..Counter::default()
        };
        let end = 900;
        let run = [1000, 1001, end, 901, 1002, end, 901, 1003, 1004, end];
        let broke = run.map(|address| counter.see(address).is_break());
        assert_eq!(broke.iter().filter(|broke| **broke).count(), 1);
        assert!(broke[9]);
        assert_eq!(counter.tables, 4);
    }
}
