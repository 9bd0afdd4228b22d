//! The bootloader's readers of configurations: each has the text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| firstlight_bootloader::exercise::configuration(text));
