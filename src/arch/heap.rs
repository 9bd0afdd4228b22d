//! The firmware's heap. It is large while the firmware starts, when all that the machine has is looked at, and gives back what is
//! not used then.

use super::cpu;
use core::ops::Range;
use core::ptr::NonNull;
use spin::{Mutex, Once};
use talc::{TalcLock, source::Manual};

/// What services may use while the guest runs, at least: the menu and its dialogues, what CDs emulate.
const ROOM: u64 = 96 << 10;
/// What is kept ends at a multiple of this, so that little changes do not change the guest's memory map from boot to boot.
const STEP: u64 = 32 << 10;

#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Manual> = TalcLock::new(Manual);

/// Where the heap ended when it was claimed.
static END: Once<u64> = Once::new();

/// Makes the heap usable. Nothing can be allocated before.
pub fn claim() {
    END.call_once(|| {
        let Range { start, end } = cpu::heap();
        // SAFETY: the linker script and `entry.s` set this range aside for nothing else, and it is claimed once.
        let claimed = unsafe { HEAP.lock().claim(start as *mut u8, (end - start) as usize) };
        claimed.map_or(start, |end| end.as_ptr() as u64)
    });
}

/// Gives back what is not used and will not be: whole pages at the end of the heap, which are the caller's from now on. Once;
/// after that it is an empty range.
pub fn give_back() -> Range<u64> {
    static GIVEN_BACK: Once<()> = Once::new();
    let end = cpu::heap().end;
    let mut given = end..end;
    GIVEN_BACK.call_once(|| {
        let Some(claimed) = END.get().and_then(|&end| NonNull::new(end as *mut u8)) else {
            return;
        };
        let mut heap = HEAP.lock();
        // SAFETY: this is where the heap ends, as `claim` was told, and nothing has changed it since.
        let used = unsafe { heap.reserved(claimed) }.up_to.as_ptr() as u64;
        let kept = (used + ROOM).next_multiple_of(STEP);
        if kept < end {
            // SAFETY: as before; all that is allocated lies below.
            unsafe { heap.truncate(claimed, kept as *mut u8) };
            given = kept..end;
        }
        log::debug!(
            "heap: {} KiB used, {} KiB kept of {}",
            (used - cpu::heap().start) >> 10,
            (given.start - cpu::heap().start) >> 10,
            (end - cpu::heap().start) >> 10
        );
    });
    given
}
