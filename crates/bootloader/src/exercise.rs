//! What fuzzing does with a configuration: reads it, opens all that it defines, and holds the results against what the rest of the
//! program relies on.

use crate::find::{self, Format};
use crate::grub::{Machine, Opened};
use crate::menu::Boot;
use crate::tree::Tree;
use crate::volumes::{Location, Volumes};

/// Where the configuration is, and other files that it may name.
const FILES: &[&str] = &[
    "/boot/grub/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/syslinux.cfg",
];

/// Reads `text` as a configuration of each kind, beside itself under the other names, and as an entry and an environment block.
///
/// # Panics
/// A result is not what the rest of the program relies on.
pub fn configuration(text: &str) {
    for format in [Format::Grub, Format::Syslinux, Format::Legacy] {
        let mut files: Vec<(&str, &str)> = FILES.iter().map(|name| (*name, text)).collect();
        files.push(("/loader/entries/a.conf", text));
        files.push(("/boot/grub/grubenv", text));
        files.push(("/k", "kernel"));
        let mut tree = Tree::with(&files);
        tree.image("/k", Tree::with(&[("/k", "kernel")]));
        let mut machine = Machine::new(&mut tree);
        let opened = find::read(&mut machine, format, &Location::new(0, FILES[0]));
        judge(&mut machine, opened);
        let found = find::on_volume(&mut machine, 0);
        judge(
            &mut machine,
            found.map(|found| found.opened).map_err(|_| String::new()),
        );
    }
}

fn judge(machine: &mut Machine, opened: Result<Opened, String>) {
    let menu = match opened {
        Err(_) => return,
        Ok(Opened::Boot(boot)) => return check(machine, &boot),
        Ok(Opened::Menu(menu)) => menu,
    };
    if let Ok(boot) = find::default(machine, &menu) {
        check(machine, &boot);
    }
    for flat in find::flatten(machine, &menu) {
        if let Ok(boot) = flat.opened {
            check(machine, &boot);
        }
    }
    for choice in ["0", "1>0", "a", "-1", ""] {
        let _ = find::entry(machine, &menu, choice);
    }
    for note in machine.notes.all() {
        assert!(!note.chars().any(char::is_control), "{note:?}");
    }
}

/// Whatever is booted has places that exist, and a command line that is bounded.
fn check(machine: &Machine, boot: &Boot) {
    let volumes: &dyn Volumes = machine.volumes;
    for place in boot.initrds.iter().chain([&boot.kernel]) {
        assert!(place.volume < volumes.count(), "{place:?}");
        let path = &place.path;
        assert!(path.starts_with('/') && !path.contains("/../"), "{path}");
    }
    assert!(boot.args.len() < 64 << 20, "{}", boot.args.len());
}
