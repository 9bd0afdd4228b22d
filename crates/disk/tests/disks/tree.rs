//! The files that go onto every image, and the comparison of an image with them.

use firstlight_disk::{FileKind, FileSystem, Node, list, path, read_file};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What a file system can hold.
#[derive(Clone, Copy)]
pub enum Holds {
    /// All of it.
    Everything,
    /// No symbolic links.
    NoLinks,
    /// No blanks in names.
    NoBlanks,
}

/// Bytes that do not compress, the same ones for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| random.next() as u8).collect()
}

/// A small generator of the same numbers each time: xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Fills `directory`.
pub fn make(directory: &Path, holds: Holds) {
    let grub = directory.join("boot/grub");
    fs::create_dir_all(&grub).expect("a directory");
    let place = |name: &str| match holds {
        Holds::NoBlanks => directory.join(name.replace(' ', "_")),
        _ => directory.join(name),
    };
    fs::create_dir_all(place("etc/empty directory")).expect("a directory");
    let write = |name: &str, content: &[u8]| {
        fs::write(place(name), content).expect("a file");
    };
    write("boot/vmlinuz-6.1.0-amd64", &noise(300_001, 1));
    write("boot/initrd.img-6.1.0-amd64", &text(1_500_000));
    write(
        "boot/grub/grub.cfg",
        b"set default=0\nmenuentry Linux { }\n",
    );
    write("etc/empty", b"");
    write("etc/Größe and ☃.txt", b"names in UTF-8\n");
    write(&format!("etc/{}", "long".repeat(45)), b"a long name\n");
    fs::create_dir(directory.join("many")).expect("a directory");
    for number in 0..400 {
        let name = format!("many/an entry of a large directory, number {number:05}");
        write(&name, format!("{number}\n").as_bytes());
    }
    if matches!(holds, Holds::NoLinks) {
        return;
    }
    let mut sparse = fs::File::create(directory.join("sparse")).expect("a file");
    sparse.seek(SeekFrom::Start(5 << 20)).expect("a seek");
    sparse.write_all(b"behind a hole").expect("a write");
    for (name, target) in [
        ("vmlinuz", "boot/vmlinuz-6.1.0-amd64"),
        ("etc/link", "../boot/grub/./grub.cfg"),
        ("absolute", "/boot/grub"),
        ("loop", "loop"),
        ("beyond", "../../../../etc/empty"),
        ("dangling", "nowhere"),
        (
            "deep",
            &format!("boot{}/grub/grub.cfg", "/../boot".repeat(40)),
        ),
    ] {
        symlink(target, directory.join(name)).expect("a link");
    }
}

/// Text that compresses well.
fn text(len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for line in 0.. {
        if text.len() >= len {
            break;
        }
        text.extend(format!("line {line} of a file that compresses\n").bytes());
    }
    text.truncate(len);
    text
}

/// Compares all of `directory` with the file system, from its root.
pub fn assert_same(fs: &dyn FileSystem, directory: &Path) {
    assert_same_below(fs, fs.root(), directory);
}

/// Compares all of `directory` with `root` of the file system.
pub fn assert_same_below(fs: &dyn FileSystem, root: Node, directory: &Path) {
    let mut names: BTreeSet<Vec<u8>> = list(fs, root, 10_000)
        .expect("a directory can be read")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    // Made by mke2fs.
    names.remove(&b"lost+found"[..]);
    let expected: BTreeSet<Vec<u8>> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
        .collect();
    assert_eq!(names, expected, "in {}", directory.display());
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        let name = entry.file_name();
        let node = fs
            .lookup(root, name.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let metadata = fs.metadata(node).expect("metadata");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            assert_eq!(metadata.kind, FileKind::Directory, "{}", path.display());
            assert_same_below(fs, node, &path);
        } else if kind.is_symlink() {
            assert_eq!(metadata.kind, FileKind::Link, "{}", path.display());
            let target = std::fs::read_link(&path).expect("a link");
            assert_eq!(
                fs.read_link(node),
                Ok(target.as_os_str().as_bytes().to_vec())
            );
        } else {
            assert_eq!(metadata.kind, FileKind::File, "{}", path.display());
            let expected = std::fs::read(&path).expect("a file");
            assert_eq!(metadata.size, expected.len() as u64);
            let content = read_file(fs, node, 16 << 20);
            assert!(content == Ok(expected), "{}", path.display());
        }
    }
}

/// Follows the links of the tree.
pub fn assert_links(fs: &dyn FileSystem) {
    use firstlight_disk::Error;
    let config = path::open(fs, b"/boot/grub/grub.cfg").expect("a file");
    for same in [
        "boot/grub/grub.cfg",
        "//boot/./grub/../grub//grub.cfg",
        "/etc/link",
        "/absolute/grub.cfg",
        "/deep",
        "/../absolute/../grub/grub.cfg",
    ] {
        assert_eq!(path::open(fs, same.as_bytes()), Ok(config), "{same}");
    }
    assert_eq!(path::open(fs, b"/beyond"), path::open(fs, b"/etc/empty"));
    for (wrong, error) in [
        ("/loop", Error::TooManyLinks),
        ("/loop/on", Error::TooManyLinks),
        ("/dangling", Error::NotFound),
        ("/boot/none", Error::NotFound),
        ("/etc/empty/", Error::NotADirectory),
        ("/etc/link/on", Error::NotADirectory),
        (&"/boot/..".repeat(600), Error::TooLong),
    ] {
        assert_eq!(path::open(fs, wrong.as_bytes()), Err(error), "{wrong}");
    }
    let directory = path::open(fs, b"/boot").expect("a directory");
    assert_eq!(read_file(fs, directory, 100), Err(Error::NotAFile));
    assert_eq!(read_file(fs, config, 10), Err(Error::TooLong));
}

/// Copies the large files as the disk has them in rows. Returns how many bytes lie so.
pub fn assert_stretches(fs: &dyn FileSystem, directory: &Path, image: &Path) -> usize {
    let image = std::fs::read(image).expect("an image");
    let mut copied = 0;
    for name in [
        "boot/vmlinuz-6.1.0-amd64",
        "boot/initrd.img-6.1.0-amd64",
        "sparse",
    ] {
        // Not each tree has that one.
        let Ok(expected) = std::fs::read(directory.join(name)) else {
            continue;
        };
        let file = path::open(fs, name.as_bytes()).expect("a file");
        let mut at = 0;
        while at < expected.len() {
            let rest = (expected.len() - at) as u64;
            match fs.stretch(file, at as u64, rest).expect("a map") {
                Some(stretch) => {
                    let (start, len) = (stretch.at as usize, stretch.len as usize);
                    assert!(
                        image[start..start + len] == expected[at..at + len],
                        "{name} at {at}"
                    );
                    copied += len;
                    at += len;
                }
                // A hole.
                None => at += 512,
            }
        }
        assert_eq!(fs.stretch(file, at as u64, 1), Ok(None));
    }
    copied
}

/// Reads one file in odd pieces.
pub fn assert_pieces(fs: &dyn FileSystem, directory: &Path) {
    let name = "boot/initrd.img-6.1.0-amd64";
    let expected = std::fs::read(directory.join(name)).expect("a file");
    let file = path::open(fs, name.as_bytes()).expect("a file");
    let mut random = Random(7);
    for _ in 0..100 {
        let offset = random.below(expected.len() + 10_000);
        let mut piece = vec![0; random.below(70_000)];
        let count = fs.read(file, offset as u64, &mut piece).expect("a piece");
        let rest = expected.get(offset..).unwrap_or_default();
        assert_eq!(count, rest.len().min(piece.len()));
        assert!(piece[..count] == rest[..count], "{count} bytes at {offset}");
    }
}
