//! Hands the linker its script, linker.ld through the C preprocessor, which puts in the sizes below; and the assembler the font.

use std::path::PathBuf;
use std::{env, fs};

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

    println!("cargo:rerun-if-changed=linker.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/arch/sizes.rs");
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
    format!(
        "    .macro font_rows\n    .byte {}\n    .endm\n",
        rows.join(", ")
    )
}
