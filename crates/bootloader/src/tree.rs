//! Volumes in memory: what tests and fuzzing give to the readers of configurations.

use crate::volumes::{File, FileError, Kind, Location, VolumeId, VolumeInfo, Volumes};
use std::collections::{BTreeMap, BTreeSet};

/// Volumes whose files are in memory.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    volumes: Vec<(VolumeInfo, BTreeMap<String, Vec<u8>>)>,
    images: BTreeMap<String, Tree>,
    all: bool,
}

impl Tree {
    /// One volume, `hd0,gpt1`, with `files`: paths and texts.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        tree.add(&["hd0,gpt1", "hd0,1"], "", "", files);
        tree
    }

    /// Adds a volume with names, UUID, label and files.
    pub fn add(
        &mut self,
        names: &[&str],
        uuid: &str,
        label: &str,
        files: &[(&str, &str)],
    ) -> &mut Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let info = VolumeInfo {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            filesystem: Some("ext2".to_owned()),
            uuid: some(uuid),
            label: some(label),
            partition_map: Some("gpt".to_owned()),
            ..VolumeInfo::default()
        };
        let files = files
            .iter()
            .map(|(path, text)| (Location::new(0, path).path, text.as_bytes().to_vec()));
        self.volumes.push((info, files.collect()));
        self
    }

    /// Puts a file into a volume that is there.
    pub fn put(&mut self, volume: VolumeId, path: &str, content: &[u8]) -> &mut Self {
        if let Some((_, files)) = self.volumes.get_mut(volume) {
            files.insert(Location::new(0, path).path, content.to_vec());
        }
        self
    }

    /// What is known of a volume, to change.
    pub fn info_mut(&mut self, volume: VolumeId) -> &mut VolumeInfo {
        &mut self.volumes[volume].0
    }

    /// Makes the file at `path`, in whatever volume, an image that has the first volume of `content`.
    pub fn image(&mut self, path: &str, content: Tree) -> &mut Self {
        self.images.insert(path.to_owned(), content);
        self
    }

    /// Lets every file be opened, those that are not there as empty ones.
    pub fn has_all_files(&mut self) {
        self.all = true;
    }

    fn files(&self, volume: VolumeId) -> Result<&BTreeMap<String, Vec<u8>>, FileError> {
        let found = self.volumes.get(volume);
        Ok(&found.ok_or(FileError::NotFound)?.1)
    }
}

impl File for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Volumes for Tree {
    fn count(&self) -> usize {
        self.volumes.len()
    }

    fn info(&self, volume: VolumeId) -> &VolumeInfo {
        &self.volumes[volume].0
    }

    fn kind(&self, place: &Location) -> Result<Kind, FileError> {
        let files = self.files(place.volume)?;
        if let Some(content) = files.get(&place.path) {
            let size = content.len() as u64;
            return Ok(Kind::File { size });
        }
        self.list(place).map(|_| Kind::Directory)
    }

    fn list(&self, directory: &Location) -> Result<Vec<String>, FileError> {
        let files = self.files(directory.volume)?;
        if files.contains_key(&directory.path) {
            return Err(FileError::WrongKind);
        }
        let prefix = format!("{}/", directory.path.trim_end_matches('/'));
        let names: BTreeSet<&str> = files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.split('/').next())
            .collect();
        if names.is_empty() && directory.path != "/" {
            return Err(FileError::NotFound);
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn open_whole(&self, file: &Location) -> Result<Box<dyn File + '_>, FileError> {
        match self.files(file.volume)?.get(&file.path) {
            Some(content) => Ok(Box::new(content.as_slice())),
            None if self.list(file).is_ok() => Err(FileError::WrongKind),
            None if self.all => Ok(Box::new(&[][..])),
            None => Err(FileError::NotFound),
        }
    }

    fn attach(&mut self, name: &str, image: &Location) -> Result<(), FileError> {
        let content = self.images.get(&image.path).ok_or(FileError::NotFound)?;
        let Some((info, files)) = content.volumes.first() else {
            return Err(FileError::Unreadable("an empty image".to_owned()));
        };
        let mut info = info.clone();
        info.names = vec![name.to_owned()];
        self.volumes.push((info, files.clone()));
        Ok(())
    }
}
