//! Files that take long to make, kept in the user's cache directory under a name that tells how they were made.

use crate::project;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Returns the file or directory `NAME-<hash of recipe>.EXTENSION` of the cache, for `name` = `NAME.EXTENSION`.
///
/// If it is not there, `make` is called with an empty temporary directory and leaves the file there under the path that is its
/// second argument; the file then appears in the cache at once and whole. A second process that wants a file of the same name
/// meanwhile waits for the first. Files of `name` from other recipes are deleted, since nothing asks for them any more.
///
/// # Errors
/// `make` failed, or the cache directory cannot be written.
pub fn made(
    name: &str,
    recipe: &[&str],
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = project::cache()?;
    let (stem, extension) = name
        .rsplit_once('.')
        .context("a file name with an extension")?;
    let file = directory.join(format!("{stem}-{}.{extension}", hash(recipe)));
    if file.exists() {
        return Ok(file);
    }
    let lock =
        File::create(directory.join(format!("{stem}.lock"))).context("cannot make a lock file")?;
    if lock.try_lock().is_err() {
        eprintln!("Waiting for another process that makes {name}");
        lock.lock().context("cannot take the lock")?;
    }
    if file.exists() {
        return Ok(file);
    }
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(&directory)?;
    let product = work.path().join(name);
    make(work.path(), &product)?;
    fs::rename(&product, &file).with_context(|| format!("cannot make {}", file.display()))?;
    delete_others(&directory, stem, extension, &file)?;
    Ok(file)
}

/// A short name for a recipe: the first 48 bits of its SHA-256 in hexadecimal.
fn hash(recipe: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in recipe {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn delete_others(directory: &Path, stem: &str, extension: &str, keep: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let of_another_recipe =
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    let hash = name
                        .strip_prefix(stem)
                        .and_then(|rest| rest.strip_prefix('-'));
                    let hash = hash
                        .and_then(|rest| rest.strip_suffix(extension))
                        .and_then(|rest| rest.strip_suffix('.'));
                    hash.is_some_and(|hash| {
                        hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                    })
                });
        if of_another_recipe && path != keep {
            let deleted = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            deleted.with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_more_than_its_joined_parts() {
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
        assert_ne!(hash(&["ab"]), hash(&["a", "b"]));
        assert_eq!(hash(&[]).len(), 12);
    }

    #[test]
    fn only_files_of_the_same_name_are_deleted() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = [
            "debian-0123456789ab.img",
            "debian-ffffffffffff.img",
            "debian-x.img",
            "debian-0123456789ab.log",
            "other.img",
        ];
        for name in names {
            fs::write(directory.path().join(name), "").expect("a file");
        }
        delete_others(
            directory.path(),
            "debian",
            "img",
            &directory.path().join(names[1]),
        )
        .expect("deleted");
        let left = names.map(|name| directory.path().join(name).exists());
        assert_eq!(left, [false, true, true, true, true]);
    }
}
