//! The bootloader's look at a kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = firstlight_bootloader::kernel::check(&data);
});
