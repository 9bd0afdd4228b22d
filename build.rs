//! Hands the linker its script, linker.ld through the C preprocessor, which puts in the sizes below; and the assembler the font.

use std::ops::Range;
use std::path::PathBuf;
use std::{env, fs};

/// What keys give, for the 16-bit code, too.
#[allow(dead_code)]
#[path = "src/bios/keyboard/keymap.rs"]
mod keymap;
/// What the firmware itself knows these sizes by.
#[allow(dead_code)]
#[path = "src/arch/sizes.rs"]
mod sizes;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let script = cc::Build::new()
        .file("linker.ld")
        .define("PAGE_TABLE_PAGES", &*sizes::page_tables::PAGES.to_string())
        .define("STACK_SIZE", &*sizes::STACK.to_string())
        .define("HEAP_SIZE", &*sizes::HEAP.to_string())
        .flag("-P")
        .flag("-xc")
        .expand();
    let path = out.join("linker.ld");
    fs::write(&path, script).expect("OUT_DIR is writable");

    fs::write(out.join("font.s"), font()).expect("OUT_DIR is writable");
    fs::write(out.join("keys.s"), keys()).expect("OUT_DIR is writable");

    println!("cargo:rerun-if-changed=linker.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/arch/sizes.rs");
    println!("cargo:rerun-if-changed=src/bios/keyboard/keymap.rs");
    for arg in [
        &*format!("-Wl,-T,{}", path.display()),
        "-nostartfiles",
        "-nostdlib",
        "-static-pie",
        "-Wl,--no-dynamic-linker,--build-id=none,--gc-sections,--no-eh-frame-hdr,--hash-style=sysv,-z,norelro,-z,noexecstack",
        "-Wl,-z,max-page-size=4096,-z,pack-relative-relocs",
    ] {
        println!("cargo:rustc-link-arg-bin=firmware={arg}");
    }
}

/// The assembler macro `font_rows`: 128 characters of eight rows from the top, the leftmost pixel in the highest bit, where the
/// crate has it in the lowest.
fn font() -> String {
    let rows = font8x8::legacy::BASIC_LEGACY.concat();
    let rows: Vec<String> = rows
        .iter()
        .map(|row| row.reverse_bits().to_string())
        .collect();
    assembler_macro("font_rows", "byte", &rows)
}

/// An assembler macro of this name that puts `values` there.
fn assembler_macro(name: &str, kind: &str, values: &[String]) -> String {
    let values = values.join(", ");
    format!("    .macro {name}\n    .{kind} {values}\n    .endm\n")
}

/// The macros `key_rows` and `extended_key_rows`, four words for each scan code of set 1 without a prefix and with E0h, their numbers
/// `KEY_ROWS` and `EXTENDED_KEY_ROWS`, and `key_lock_bits`, which lock of 40:17 applies to a key.
fn keys() -> String {
    use keymap::Level;
    const KEYS: Range<u8> = 0..0x59;
    const EXTENDED: Range<u8> = 0x1c..0x54;
    let words = |codes: Range<u8>, extended| -> Vec<String> {
        let levels = [Level::Plain, Level::Shift, Level::Ctrl, Level::Alt];
        let of_key = |code| levels.map(|level| keymap::word(code, extended, level).unwrap_or(0));
        codes
            .flat_map(of_key)
            .map(|word| word.to_string())
            .collect()
    };
    let lock = |code| match () {
        () if keymap::is_letter(code) => "SHIFT_CAPS".to_owned(),
        () if keymap::is_keypad(code) => "SHIFT_NUM".to_owned(),
        () => "0".to_owned(),
    };
    let locks: Vec<String> = KEYS.map(lock).collect();
    [
        format!("    .set KEY_ROWS, {}\n", KEYS.len()),
        format!("    .set EXTENDED_KEYS_FIRST, {}\n", EXTENDED.start),
        format!("    .set EXTENDED_KEY_ROWS, {}\n", EXTENDED.len()),
        assembler_macro("key_rows", "word", &words(KEYS, false)),
        assembler_macro("extended_key_rows", "word", &words(EXTENDED, true)),
        assembler_macro("key_lock_bits", "byte", &locks),
    ]
    .concat()
}
