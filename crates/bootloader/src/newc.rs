//! A file in an archive of its own, as GRUB's `initrd newc:NAME:FILE` has it: the kernel unpacks it beside the other initial RAM disks
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

/// Bytes of a name at most, as Linux has it.
const NAME: usize = 4096;
/// Modes of what is in the archive (inode(7)): a directory and a file that only root uses.
const DIRECTORY: u32 = 0o040_700;
const FILE: u32 = 0o100_600;

/// What comes before the bytes of a file `name` of `size` bytes: the directories that it is in, and its own header. Nothing where the
/// format has no room for them.
pub fn head(name: &str, size: u64) -> Option<Vec<u8>> {
    let name = name.trim_matches('/');
    let size = u32::try_from(size).ok()?;
    if name.is_empty() || name.len() > NAME {
        return None;
    }
    let mut bytes = Vec::new();
    for (end, _) in name.match_indices('/') {
        bytes.extend(header(&name[..end], DIRECTORY, 0));
    }
    bytes.extend(header(name, FILE, size));
    Some(bytes)
}

/// What comes behind the bytes of a file.
pub fn tail(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; (size.next_multiple_of(4) - size) as usize];
    bytes.extend(header("TRAILER!!!", 0, 0));
    bytes
}

fn header(name: &str, mode: u32, size: u32) -> Vec<u8> {
    let name_size = name.len() as u32 + 1;
    // Number, mode, links, user, group, time, size, four halves of devices, the name's size, and a sum that this format has not.
    let fields = [0, mode, 1, 0, 0, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut bytes = b"070701".to_vec();
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names, modes and contents of an archive.
    fn unpacked(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[6 + 8 * index..][..8]).expect("text");
                u32::from_str_radix(text, 16).expect("a number")
            };
            assert!(archive.starts_with(b"070701"));
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let text = String::from_utf8(archive[110..110 + name - 1].to_vec()).expect("text");
            let start = (110 + name).next_multiple_of(4);
            found.push((text, mode, archive[start..start + size].to_vec()));
            archive = &archive[(start + size).next_multiple_of(4)..];
            if archive.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn a_file_is_in_an_archive_with_its_directories() {
        let archive = [
            head("/etc/keys/root.key", 5).expect("room"),
            b"12345".to_vec(),
            tail(5),
        ];
        let entry = |name: &str, mode, content: &[u8]| (name.to_owned(), mode, content.to_vec());
        assert_eq!(
            unpacked(&archive.concat()),
            [
                entry("etc", DIRECTORY, b""),
                entry("etc/keys", DIRECTORY, b""),
                entry("etc/keys/root.key", FILE, b"12345"),
                entry("TRAILER!!!", 0, b""),
            ]
        );
        assert_eq!(head("//", 1), None);
        assert_eq!(head("a", 1 << 32), None);
        assert_eq!(head(&"a".repeat(NAME + 1), 1), None);
    }
}
