//! Unified kernel images: EFI programs that carry a Linux, its initial RAM disk and its command line in sections (uapi-group.org,
//! "Unified Kernel Image"; Microsoft, "PE Format"). Type 2 of the Boot Loader Specification has them in `/EFI/Linux`.

use crate::bls::Specified;
use crate::menu::Boot;
use crate::notes::Notes;
use crate::volumes::{File, FileError, Location, Part, Volumes};

/// Sections of a program that are looked at, and bytes of a text in one.
const SECTIONS: u16 = 96;
const TEXT: u64 = 64 << 10;
/// Programs in the directory that are looked at.
const COUNT: usize = 256;
/// Bytes of the header before the optional one, and of a section's header.
const HEADER: u64 = 24;
const SECTION: u64 = 40;

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image {
    linux: Option<Part>,
    initrd: Option<Part>,
    cmdline: Option<Part>,
    osrel: Option<Part>,
    uname: Option<Part>,
}

/// The entries of the images in `/EFI/Linux` below `root`.
pub fn entries(volumes: &dyn Volumes, root: &Location, notes: &mut Notes) -> Vec<Specified> {
    let directory = root.join("EFI/Linux");
    let mut names = volumes.list(&directory).unwrap_or_default();
    names.retain(|name| name.to_ascii_lowercase().ends_with(".efi"));
    names.sort();
    names.truncate(COUNT);
    let mut found = Vec::new();
    for name in names {
        let file = directory.join(&name);
        match entry(volumes, &file) {
            Ok(entry) => found.push(entry),
            Err(why) => notes.say(format!("{}: {why}", file.path)),
        }
    }
    found
}

/// What an image boots.
///
/// # Errors
/// A text that says why it is no image with a Linux in it.
pub fn boot(volumes: &dyn Volumes, file: &Location) -> Result<Boot, String> {
    let image = read(volumes, file)?;
    let part = |part: Option<Part>| {
        let part = part?;
        Some(Location {
            part: Some(part),
            ..file.clone()
        })
    };
    Ok(Boot {
        kernel: part(image.linux).ok_or("there is no Linux in it")?,
        initrds: part(image.initrd).into_iter().collect(),
        args: text(volumes, file, image.cmdline),
    })
}

fn entry(volumes: &dyn Volumes, file: &Location) -> Result<Specified, String> {
    let image = read(volumes, file)?;
    let boot = boot(volumes, file)?;
    let release = text(volumes, file, image.osrel);
    let value = |key: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    };
    let uname = text(volumes, file, image.uname);
    let version = Some(uname).filter(|version| !version.is_empty());
    let name = file.name();
    let (id, bad) = crate::bls::counted(name.get(..name.len() - 4).unwrap_or(name));
    Ok(Specified {
        id: id.to_owned(),
        bad,
        title: value("PRETTY_NAME"),
        version: version.or_else(|| value("VERSION_ID")),
        sort_key: value("IMAGE_ID").or_else(|| value("ID")),
        boot: Some(boot),
        ..Specified::default()
    })
}

/// A section's text on one line, without what fills it up.
fn text(volumes: &dyn Volumes, file: &Location, part: Option<Part>) -> String {
    let place = Location {
        part,
        ..file.clone()
    };
    let text = part.and_then(|_| volumes.read_text(&place, TEXT).ok());
    text.unwrap_or_default()
        .trim_matches(['\0', ' ', '\n', '\r', '\t'])
        .to_owned()
}

/// Finds the sections.
fn read(volumes: &dyn Volumes, file: &Location) -> Result<Image, String> {
    const WRONG: &str = "it is no EFI program";
    let file = volumes.open(file).map_err(|error| error.to_string())?;
    let file = file.as_ref();
    let start: [u8; 64] = array(file, 0)?;
    let header = u64::from(u32::from_le_bytes([
        start[60], start[61], start[62], start[63],
    ]));
    let coff: [u8; HEADER as usize] = array(file, header)?;
    if !start.starts_with(b"MZ") || !coff.starts_with(b"PE\0\0") {
        return Err(WRONG.to_owned());
    }
    let count = u16::from_le_bytes([coff[6], coff[7]]);
    let optional = u64::from(u16::from_le_bytes([coff[20], coff[21]]));
    let mut image = Image::default();
    for number in 0..u64::from(count.min(SECTIONS)) {
        let section: [u8; SECTION as usize] =
            array(file, header + HEADER + optional + number * SECTION)?;
        let field = |at: usize| {
            let bytes = [
                section[at],
                section[at + 1],
                section[at + 2],
                section[at + 3],
            ];
            u64::from(u32::from_le_bytes(bytes))
        };
        // What is in the file, without what fills its last sector there.
        let part = Part {
            start: field(20),
            len: field(8).min(field(16)),
        };
        let place = match section[..8].split(|byte| *byte == 0).next() {
            Some(b".linux") => &mut image.linux,
            Some(b".initrd") => &mut image.initrd,
            Some(b".cmdline") => &mut image.cmdline,
            Some(b".osrel") => &mut image.osrel,
            Some(b".uname") => &mut image.uname,
            _ => continue,
        };
        if part.start.saturating_add(part.len) > file.size() {
            return Err("a section ends beyond the file".to_owned());
        }
        // Of several profiles the first is the default.
        place.get_or_insert(part);
    }
    Ok(image)
}

fn array<const N: usize>(file: &dyn File, offset: u64) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match file.read_at(offset.saturating_add(filled as u64), &mut bytes[filled..]) {
            Ok(0) => return Err("it ends early".to_owned()),
            Ok(count) => filled += count,
            Err(error) => return Err(FileError::to_string(&error)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::Action;
    use crate::tree::Tree;
    use proptest::prelude::*;

    /// An EFI program with sections, each filled up with zeros to 512 bytes.
    fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[60] = 64;
        bytes.extend(b"PE\0\0\x64\x86");
        bytes.extend((sections.len() as u16).to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(16u16.to_le_bytes());
        bytes.extend([0; 2 + 16]);
        let mut content = Vec::new();
        let start = 1024;
        for (name, data) in sections {
            let mut header = [0; 40];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
            let raw = data.len().next_multiple_of(512);
            header[16..20].copy_from_slice(&(raw as u32).to_le_bytes());
            let at = start + content.len() as u32;
            header[20..24].copy_from_slice(&at.to_le_bytes());
            bytes.extend(header);
            content.extend_from_slice(data);
            content.resize(content.len().next_multiple_of(512), 0);
        }
        bytes.resize(start as usize, 0);
        [bytes, content].concat()
    }

    #[test]
    fn a_unified_kernel_image_is_an_entry() {
        let image = program(&[
            (".osrel", b"ID=fedora\nPRETTY_NAME=\"Fedora 42\"\n"),
            (".cmdline", b"root=LABEL=x quiet\n\0"),
            (".uname", b"6.10.2"),
            (".initrd", b"initrd"),
            (".linux", b"the kernel"),
        ]);
        let mut tree = Tree::with(&[("/EFI/Linux/text.efi", "no program")]);
        tree.put(0, "/EFI/Linux/fedora+3.efi", &image);
        let mut notes = Notes::default();
        let menu = crate::bls::menu(&tree, &Location::new(0, "/"), &mut notes);
        let menu = menu.expect("a menu");
        assert_eq!(menu.entries.len(), 1);
        assert_eq!(menu.entries[0].title, "Fedora 42");
        assert_eq!(menu.entries[0].id.as_deref(), Some("fedora"));
        let Action::Boot(boot) = &menu.entries[0].action else {
            panic!("{:?}", menu.entries[0]);
        };
        assert_eq!(boot.args, "root=LABEL=x quiet");
        assert_eq!(
            tree.read(&boot.kernel, 100).as_deref(),
            Ok(&b"the kernel"[..])
        );
        assert_eq!(
            tree.read(&boot.initrds[0], 100).as_deref(),
            Ok(&b"initrd"[..])
        );
        assert!(notes.all()[0].contains("text.efi"));
    }

    #[test]
    fn what_has_no_linux_is_refused() {
        let mut tree = Tree::with(&[]);
        tree.put(0, "/a.efi", &program(&[(".text", b"x")]));
        tree.put(0, "/b.efi", &program(&[(".linux", b"x")])[..1024]);
        let boot = |path| boot(&tree, &Location::new(0, path));
        assert_eq!(boot("/a.efi"), Err("there is no Linux in it".to_owned()));
        assert_eq!(
            boot("/b.efi"),
            Err("a section ends beyond the file".to_owned())
        );
        assert!(boot("/c.efi").is_err());
    }

    proptest! {
        #[test]
        fn no_program_harms(mut bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..600usize, value: u8) {
            let mut tree = Tree::with(&[]);
            let mut damaged = program(&[(".linux", b"kernel"), (".initrd", b"initrd")]);
            damaged[at] = value;
            if bytes.len() > 64 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[60..64].copy_from_slice(&[64, 0, 0, 0]);
            }
            tree.put(0, "/a.efi", &damaged).put(0, "/b.efi", &bytes);
            for path in ["/a.efi", "/b.efi"] {
                if let Ok(boot) = boot(&tree, &Location::new(0, path)) {
                    let _ = tree.read(&boot.kernel, 1 << 20);
                }
            }
        }
    }
}
