//! Configurations that nobody writes, always the same ones: what `fuzz/` does without end, bounded.

use firstlight_bootloader::exercise;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Words and signs that mean something to some reader.
const WORDS: &[&str] = &[
    "if",
    "then",
    "elif",
    "else",
    "fi",
    "for",
    "in",
    "do",
    "done",
    "while",
    "until",
    "function",
    "menuentry",
    "submenu",
    "{",
    "}",
    "[",
    "]",
    "!",
    ";",
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    " ",
    "'",
    "\"",
    "\\",
    "$",
    "${",
    "${a}",
    "$a",
    "$1",
    "$@",
    "$#",
    "\"$@\"",
    "=",
    "a=",
    "set a=",
    "set root=",
    "set default=",
    "1>0",
    "(",
    ")",
    "(hd0,1)",
    "(loop)",
    "hd0,gpt1",
    "*",
    "?",
    "/",
    "/*",
    "/boot/*/*",
    "linux /k",
    "initrd /k /k",
    "linux (hd0,1)/k",
    "module /k",
    "multiboot /xen",
    "source",
    "configfile",
    "/boot/grub/grub.cfg",
    "load_env",
    "blscfg",
    "search --set=root --file /k",
    "search -l a -s b",
    "loopback loop /k",
    "regexp --set=1:a '(.*)' b",
    "probe --set=a --fs-uuid (hd0,1)",
    "eval",
    "shift",
    "setparams",
    "return",
    "break 2",
    "continue",
    "exit",
    "boot",
    "true",
    "false",
    "test",
    "-f",
    "-a",
    "-o",
    "-lt",
    "export a",
    "unset a",
    "increment a",
    "a",
    "b",
    "0",
    "-1",
    "label",
    "kernel",
    "append",
    "initrd",
    "menu begin",
    "menu end",
    "menu default",
    "include",
    "config",
    "default",
    "timeout",
    "title",
    "root",
    "#",
    "\t",
    "\r",
    "\u{0}",
    "\u{1b}[2J",
    "é",
    "options",
    "--id",
    "--class",
];

/// What distributions write.
const CONFIGS: &[&str] = &[
    include_str!("configs/debian.cfg"),
    include_str!("configs/ubuntu.cfg"),
    include_str!("configs/opensuse.cfg"),
    include_str!("configs/coreos.cfg"),
    include_str!("configs/live.cfg"),
    include_str!("configs/alpine.cfg"),
    include_str!("configs/isolinux-menu.cfg"),
    include_str!("configs/legacy.cfg"),
];

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn rows_of_words_do_no_harm() {
    let words = prop::collection::vec(prop::sample::select(WORDS), 0..120);
    let done = runner(4000).run(&words, |words| {
        exercise::configuration(&words.join(" "));
        exercise::configuration(&words.concat());
        Ok(())
    });
    done.expect("harmless");
}

#[test]
fn damaged_configurations_do_no_harm() {
    let edits = prop::collection::vec(
        (any::<u16>(), 0..40_usize, prop::sample::select(WORDS)),
        1..12,
    );
    let damaged = (prop::sample::select(CONFIGS), edits);
    let done = runner(1500).run(&damaged, |(config, edits)| {
        let mut text: Vec<char> = config.chars().collect();
        for (at, length, word) in edits {
            let at = usize::from(at) % text.len().max(1);
            let end = (at + length).min(text.len());
            text.splice(at.min(end)..end, word.chars());
        }
        exercise::configuration(&text.into_iter().collect::<String>());
        Ok(())
    });
    done.expect("harmless");
}

#[test]
fn any_text_does_no_harm() {
    let done = runner(1500).run(&any::<String>(), |text| {
        exercise::configuration(&text);
        Ok(())
    });
    done.expect("harmless");
}

#[test]
fn huge_and_deep_configurations_end_soon() {
    let start = std::time::Instant::now();
    for text in [
        "{ ".repeat(200_000),
        "(".repeat(200_000),
        "menuentry a {\n".repeat(20_000),
        "menuentry a { linux /k; }\n".repeat(20_000),
        "if true; then\n".repeat(50_000),
        "submenu a { ".repeat(50),
        "label a\nmenu begin\n".repeat(20_000),
        "label a\nkernel /k\n".repeat(20_000),
        "title a\nkernel /k\n".repeat(20_000),
        "include grub.cfg\n".repeat(20_000),
        "label a\nconfig grub.cfg\n".repeat(50),
        "! ".repeat(100_000),
        "[ ! ".repeat(50_000),
        format!("[ {}", "( ".repeat(100_000)),
        format!("linux {}/k", "()".repeat(50_000)),
        "echo /*/*/*/*/*/*/*/*\n".repeat(1000),
        format!(
            "set a=xxxxxxxx\n{}menuentry \"$a\" {{ linux /k $a; }}\n",
            "set a=\"$a$a\"\n".repeat(40)
        ),
        "for i in 1 2 3 4 5 6 7 8 9; do\n".repeat(50) + "true\n" + &"done\n".repeat(50),
        format!(
            "regexp '({})*' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
            "(a*)*".repeat(50)
        ),
        "blscfg\n".repeat(3000),
    ] {
        exercise::configuration(&text);
    }
    // The bound is on work, not on time: this only tells a hang.
    assert!(start.elapsed().as_secs() < 300);
}
