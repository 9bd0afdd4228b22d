//! What a controller and its namespaces say of themselves (NVM Express Base Specification 1.4, section 5.15.2).

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

/// Bytes that are looked at of a data structure of 4096: the last one of a controller's is number 525.
pub const DATA_LEN: usize = 528;
/// The part of a data structure that is looked at.
pub type Data = [u8; DATA_LEN];

fn word(data: &Data, at: usize) -> u32 {
    let bytes = data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn long(data: &Data, at: usize) -> u64 {
    u64::from(word(data, at)) | u64::from(word(data, at + 4)) << 32
}

/// What a controller calls itself. What cannot be shown of it is displayed as spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model([u8; 40]);

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.trim_ascii().iter().try_for_each(|&byte| {
            f.write_char(match byte {
                b' '..=b'~' => byte.into(),
                _ => ' ',
            })
        })
    }
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its model.
    pub model: Model,
    /// The largest transfer is 2 to the power of this many pages; 0 for no limit.
    transfer: u8,
    /// The highest number of a namespace.
    pub namespaces: u32,
    /// What is written may be lost without a flush.
    pub has_cache: bool,
}

impl Controller {
    /// Reads the structure.
    pub fn read(data: &Data) -> Self {
        let mut model = [0; 40];
        model.copy_from_slice(&data[24..64]);
        Self {
            model: Model(model),
            transfer: data[77],
            namespaces: word(data, 516),
            has_cache: data[525] & 1 != 0,
        }
    }

    /// The most bytes of a transfer, at least a page and at most `limit`.
    pub fn most_bytes(&self, limit: u64) -> u32 {
        let most = match self.transfer {
            0 | 20.. => limit,
            power => limit.min(4096 << power),
        };
        most.min(u32::MAX.into()) as u32
    }
}

/// The numbers in a list of namespaces: ascending, ended by zero or by its own end.
pub fn namespaces(data: &Data) -> impl Iterator<Item = u32> {
    let mut last = 0;
    (0..DATA_LEN).step_by(4).map_while(move |at| {
        let id = word(data, at);
        let next = id > last && id < 0xffff_ffff;
        last = id;
        next.then_some(id)
    })
}

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Bytes a sector.
    pub sector_size: u32,
    /// Sectors.
    pub sectors: u64,
    /// It cannot be written.
    pub read_only: bool,
}

impl Namespace {
    /// Reads the structure; `None` for a number that no namespace has.
    ///
    /// # Errors
    /// Why the namespace cannot be used.
    pub fn read(data: &Data) -> Result<Option<Self>, String> {
        let sectors = long(data, 0);
        if sectors == 0 {
            return Ok(None);
        }
        // 3:0, and since 2.0 6:5 above them.
        let format = usize::from(data[26] & 15 | data[26] >> 1 & 0x30);
        let format = word(data, 128 + 4 * format);
        let (metadata, shift) = (format & 0xffff, format >> 16 & 0xff);
        if !matches!(shift, 9..=12) {
            return Err(format!("its sectors have 2^{shift} bytes"));
        }
        // With metadata behind each sector's data, a transfer would be longer than the caller's buffer.
        if metadata != 0 && data[26] & 0x10 != 0 {
            return Err(format!("its sectors end with {metadata} bytes of metadata"));
        }
        let most = u64::MAX >> shift;
        if sectors > most {
            return Err(format!("{sectors} sectors are more than there can be"));
        }
        Ok(Some(Self {
            sector_size: 1 << shift,
            sectors,
            read_only: data[99] & 1 != 0,
        }))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A namespace of `sectors` sectors, the second of whose formats, in use, has sectors of 2^`shift` bytes.
    pub fn namespace(sectors: u64, shift: u8) -> Data {
        let mut data = [0; DATA_LEN];
        data[..8].copy_from_slice(&sectors.to_le_bytes());
        data[25] = 1;
        data[26] = 1;
        data[128 + 4 + 2] = shift;
        data
    }

    #[test]
    fn sizes() {
        let read = |sectors, shift| Namespace::read(&namespace(sectors, shift));
        let expected = Namespace {
            sector_size: 4096,
            sectors: 10,
            read_only: false,
        };
        assert_eq!(read(10, 12), Ok(Some(expected)));
        assert_eq!(read(0, 12), Ok(None));
        for shift in [0, 8, 13, 31, 63, 64, 255] {
            assert!(read(10, shift).is_err(), "{shift}");
        }
        assert!(read(u64::MAX, 9).is_err());
    }

    #[test]
    fn metadata_behind_the_data_is_refused() {
        let mut data = namespace(10, 9);
        data[132] = 8;
        assert!(Namespace::read(&data).is_ok());
        data[26] |= 0x10;
        assert!(Namespace::read(&data).is_err());
    }

    #[test]
    fn controllers() {
        let mut data = [0; DATA_LEN];
        data[24..64].fill(b' ');
        data[24..28].copy_from_slice(b"Q\x1b\xff!");
        data[77] = 3;
        data[525] = 7;
        let controller = Controller::read(&data);
        assert_eq!(format!("{}", controller.model), "Q  !");
        assert!(controller.has_cache);
        assert_eq!(controller.most_bytes(1 << 21), 32768);
        data[77] = 255;
        assert_eq!(Controller::read(&data).most_bytes(1 << 21), 1 << 21);
    }

    #[test]
    fn lists_end_where_they_stop_ascending() {
        let list = |ids: &[u32]| {
            let mut data = [0; DATA_LEN];
            for (bytes, id) in data.chunks_exact_mut(4).zip(ids) {
                bytes.copy_from_slice(&id.to_le_bytes());
            }
            namespaces(&data).collect::<Vec<_>>()
        };
        assert_eq!(list(&[]), []);
        assert_eq!(list(&[1, 2, 9]), [1, 2, 9]);
        assert_eq!(list(&[1, 1, 2]), [1]);
        assert_eq!(list(&[5, 4]), [5]);
        assert_eq!(list(&[u32::MAX; 256]), []);
        let full = list(&(1..=256).collect::<Vec<_>>());
        assert_eq!(full.len(), DATA_LEN / 4);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(0u8.., DATA_LEN)) {
            let data: Data = bytes.try_into().unwrap();
            if let Ok(Some(namespace)) = Namespace::read(&data) {
                assert!(matches!(namespace.sector_size, 512 | 1024 | 2048 | 4096));
            }
            assert!(Controller::read(&data).most_bytes(1 << 21) >= 4096);
            assert!(namespaces(&data).count() <= 256);
        }
    }
}
