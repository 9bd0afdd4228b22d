//! Memory for devices, out of the firmware's heap, where addresses are physical addresses below 4 GiB; and whether there is more.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;

macro_rules! unit {
    ($name:ident, $len:literal) => {
        #[repr(C, align($len))]
        struct $name([u8; $len]);
    };
}

unit!(Line, 64);
unit!(Kib, 1024);
unit!(Page, 4096);

/// Takes `len` bytes with anything in them at a multiple of `align` out of the heap for good; `None` where it has no more.
pub fn take(len: usize, align: usize) -> Option<u64> {
    match align {
        0..=64 => leak::<Line>(len),
        65..=1024 => leak::<Kib>(len),
        1025..=4096 => leak::<Page>(len),
        _ => None,
    }
}

/// Whether the heap has `len` more bytes in one piece. What grows with the machine, or with what the host says, asks before it
/// grows, and leaves out the rest: an allocation that fails stops the firmware.
pub fn room_for(len: usize) -> bool {
    let mut memory = Vec::<u8>::new();
    let room = memory.try_reserve_exact(len).is_ok();
    // Else the compiler takes it that there is.
    core::hint::black_box(memory.as_ptr());
    room
}

fn leak<T>(len: usize) -> Option<u64> {
    let mut memory = ManuallyDrop::new(Vec::<T>::new());
    memory
        .try_reserve_exact(len.div_ceil(size_of::<T>()))
        .ok()?;
    Some(memory.as_mut_ptr().expose_provenance() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_runs_out() {
        for align in [1, 4, 64, 128, 1024, 4096] {
            let address = take(100, align).unwrap();
            assert_eq!(address % align as u64, 0);
        }
        assert_eq!(take(1, 8192), None);
        assert_eq!(take(isize::MAX as usize, 1), None);
        assert!(room_for(100) && !room_for(isize::MAX as usize));
    }
}
