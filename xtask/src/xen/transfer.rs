//! Takes the files that an xl.cfg(5) file names into the test bed.

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// Most disks that the test bed takes: /dev/vdb to /dev/vdz.
const DISKS: usize = 25;

/// A configuration as dom0 can read it, and what has to be there for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The configuration, with dom0's paths.
    pub text: String,
    /// Images that are dom0's /dev/vdb, /dev/vdc and so on.
    pub disks: Vec<PathBuf>,
    /// Files of the host, each with its name in /job.
    pub files: Vec<(PathBuf, String)>,
    /// The guest's memory in MiB.
    pub memory_mib: Option<u32>,
    /// The guest is one of PV or PVH.
    pub paravirtual: bool,
}

/// Replaces each path of a file of the host, relative to `base`, by its path in dom0.
///
/// Network cards are left out with a message: the test bed has no network.
///
/// # Errors
/// There are more disks than the test bed takes.
pub fn transfer(text: &str, base: &Path) -> Result<Transfer> {
    let mut transfer = Transfer::default();
    let mut option = String::new();
    let mut depth = 0;
    for line in text.lines() {
        if depth == 0
            && let Some((name, _)) = line.split_once('=')
        {
            option = name.trim().to_owned();
        }
        let mut replaced = String::new();
        let mut rest = line;
        while let Some(start) = rest.find(['"', '\'', '[', ']', '#']) {
            let (before, from) = rest.split_at(start);
            replaced.push_str(before);
            rest = from;
            let (mark, after) = from.split_at(1);
            match mark {
                "[" => depth += 1,
                "]" => depth -= 1,
                "#" => break,
                quote => {
                    let Some((string, after)) = after.split_once(quote) else {
                        break;
                    };
                    replaced.push_str(&format!(
                        "{quote}{}{quote}",
                        transfer.string(&option, string, base)?
                    ));
                    rest = after;
                    continue;
                }
            }
            replaced.push_str(mark);
            rest = after;
        }
        replaced.push_str(rest.split('#').next().unwrap_or_default());
        if option == "memory" {
            transfer.memory_mib = replaced
                .split('=')
                .nth(1)
                .and_then(|value| value.trim().parse().ok());
        }
        if option == "type" {
            transfer.paravirtual = !replaced.contains("hvm");
        }
        if option == "vif" {
            eprintln!("The test bed has no network; left out: {}", line.trim());
        } else {
            transfer.text.extend([replaced.trim_end(), "\n"]);
        }
    }
    Ok(transfer)
}

impl Transfer {
    /// One string of the configuration, as dom0 needs it. Its fields are divided by commas, each perhaps behind `target=` or `file:`.
    fn string(&mut self, option: &str, string: &str, base: &Path) -> Result<String> {
        let mut fields = Vec::new();
        let mut found = false;
        for field in string.split(',') {
            let (prefix, path) = field.split_at(field.rfind(['=', ':']).map_or(0, |at| at + 1));
            let file = base.join(path);
            if path.is_empty() || !file.is_file() {
                fields.push(field.to_owned());
                continue;
            }
            found = true;
            let there = if option == "disk" {
                self.add_disk(file)?
            } else {
                self.add_file(file)
            };
            // `phy:` would ask for the kernel's block back end and its scripts.
            let prefix = if prefix == "phy:" { "file:" } else { prefix };
            fields.push(format!("{prefix}{there}"));
        }
        if option == "disk" && found && !string.contains("backendtype=") {
            // The other back ends need the host's block scripts. A target stays last, as it may have commas.
            let at = fields
                .iter()
                .position(|field| field.starts_with("target="))
                .unwrap_or(fields.len());
            fields.insert(at, "backendtype=qdisk".to_owned());
        }
        Ok(fields.join(","))
    }

    fn add_disk(&mut self, file: PathBuf) -> Result<String> {
        ensure!(
            self.disks.len() < DISKS,
            "the test bed takes at most {DISKS} disks"
        );
        self.disks.push(file);
        Ok(format!(
            "/dev/vd{}",
            (b'a' + self.disks.len() as u8) as char
        ))
    }

    fn add_file(&mut self, file: PathBuf) -> String {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = format!("{}-{name}", self.files.len());
        let there = format!("/job/{name}");
        self.files.push((file, name));
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_host_get_their_paths_in_dom0() {
        let base = tempfile::tempdir().expect("a directory");
        for name in ["a.img", "b.qcow2", "vmlinuz"] {
            std::fs::write(base.path().join(name), "").expect("a file");
        }
        let text = "name = \"x\" # a.img\nmemory = 2048\nkernel='vmlinuz'\nvif = ['bridge=br0']\n\
                    disk = [ 'file:a.img,hda,w',\n  \"format=qcow2,vdev=hdb,target=b.qcow2\" ]\nboot=\"c\"\n";
        let transfer = transfer(text, base.path()).expect("few disks");
        assert_eq!(
            transfer.text,
            "name = \"x\"\nmemory = 2048\nkernel='/job/0-vmlinuz'\n\
             disk = [ 'file:/dev/vdb,hda,w,backendtype=qdisk',\n  \"format=qcow2,vdev=hdb,backendtype=qdisk,target=/dev/vdc\" ]\n\
             boot=\"c\"\n"
        );
        assert_eq!(transfer.memory_mib, Some(2048));
        assert!(!transfer.paravirtual);
        assert_eq!(
            transfer.disks,
            [base.path().join("a.img"), base.path().join("b.qcow2")]
        );
        assert_eq!(
            transfer.files,
            [(base.path().join("vmlinuz"), "0-vmlinuz".to_owned())]
        );
    }

    #[test]
    fn a_paravirtual_guest_is_told_by_its_type() {
        for (kind, paravirtual) in [("pv", true), ("pvh", true), ("hvm", false)] {
            let text = format!("type = \"{kind}\"\n");
            let transfer = transfer(&text, Path::new("/")).expect("no disks");
            assert_eq!(transfer.paravirtual, paravirtual, "{kind}");
        }
    }

    #[test]
    fn an_unfinished_string_is_left_as_it_is() {
        let transfer = transfer("a = \"b\nc = [\n", Path::new("/")).expect("no disks");
        assert_eq!(transfer.text, "a = \"b\nc = [\n");
    }
}
