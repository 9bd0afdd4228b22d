//! `cargo xtask smbios`: the blob of SMBIOS structures that a guest is given.
//!
//! Its format is that of xl.cfg's `smbios_firmware=`: a row of a 32-bit length and a structure. QEMU takes the same file with
//! `-fw_cfg name=opt/firstlight/smbios,file=FILE`.

use crate::project;
use anyhow::{Context, Result, bail, ensure};
use firstlight_tables::smbios::{
    self, Baseboard, Bios, Chassis, System, UUID_OFFSET, pack, structures,
};
use std::fs;
use std::path::PathBuf;

/// Make the blob of SMBIOS structures for a guest, from this host's own or from a libvirt domain's <sysinfo>.
#[derive(clap::Args)]
pub struct Args {
    /// Copy blocks 0 and 1 of the host (libvirt's mode='host'). The guest keeps its own UUID
    #[arg(long, conflicts_with = "sysinfo", required_unless_present = "sysinfo")]
    host: bool,
    /// Take the values of this domain's <sysinfo> element (libvirt's mode='sysinfo')
    #[arg(long, value_name = "DOMAIN.XML")]
    sysinfo: Option<PathBuf>,
    /// The host's table
    #[arg(long, default_value = "/sys/firmware/dmi/tables/DMI")]
    tables: PathBuf,
    /// Where the blob goes; target/smbios.bin where this is not given
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Carries out `cargo xtask smbios`.
pub fn main(args: Args) -> Result<()> {
    let blob = match &args.sysinfo {
        Some(domain) => {
            let text = fs::read_to_string(domain);
            let text = text.with_context(|| format!("cannot read {}", domain.display()))?;
            from_sysinfo(&text).with_context(|| domain.display().to_string())?
        }
        None => {
            let table = fs::read(&args.tables).with_context(|| {
                let path = args.tables.display();
                format!("cannot read {path}: it takes root, and a host that has SMBIOS")
            })?;
            from_host(&table)?
        }
    };
    let output = args.output;
    let output = output.unwrap_or_else(|| project::target().join("smbios.bin"));
    fs::write(&output, &blob).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), blob.len());
    Ok(())
}

/// The blob of blocks 0 and 1 of a host's `table`, with no UUID: the guest puts its own there.
///
/// # Errors
/// There is neither block.
pub fn from_host(table: &[u8]) -> Result<Vec<u8>> {
    const UUID: std::ops::Range<usize> = UUID_OFFSET..UUID_OFFSET + 16;
    let wanted = structures(table).filter(|structure| structure.kind() < 2);
    let blocks: Vec<Vec<u8>> = wanted
        .map(|structure| {
            let mut bytes = structure.bytes().to_vec();
            if structure.kind() == 1 && structure.formatted().len() >= UUID.end {
                bytes[UUID].fill(0);
            }
            bytes
        })
        .collect();
    ensure!(!blocks.is_empty(), "the host's table has no block 0 or 1");
    Ok(pack(&blocks))
}

/// The values of one block of `<sysinfo>`.
struct Block<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Block<'a> {
    /// Block `name`; `None` where the element is not there.
    fn find(sysinfo: roxmltree::Node<'a, 'a>, name: &str) -> Option<Self> {
        let block = sysinfo.children().find(|node| node.has_tag_name(name))?;
        let entries = block.children().filter(|node| node.has_tag_name("entry"));
        let value = |node: roxmltree::Node<'a, 'a>| {
            let name = node.attribute("name").unwrap_or_default();
            (name, node.text().unwrap_or_default().trim())
        };
        Some(Self(entries.map(value).collect()))
    }

    /// All values in order.
    fn texts(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.0.iter().map(|(_, text)| text.as_bytes())
    }

    /// The value called `name`, empty where there is none.
    fn get(&self, name: &str) -> &'a [u8] {
        let value = self.0.iter().find(|(known, _)| *known == name);
        value.map_or(b"", |(_, text)| text.as_bytes())
    }
}

/// The blob of a libvirt domain's `<sysinfo>`: blocks 0, 1, 2, 3 and 11 (DSP0134 3.7, section 7), as far as the element has them.
///
/// # Errors
/// The text is no XML, or the element is not there, is empty, or has a release that is no number.
pub fn from_sysinfo(xml: &str) -> Result<Vec<u8>> {
    let document = roxmltree::Document::parse(xml)?;
    let mut elements = document.descendants();
    let Some(sysinfo) = elements.find(|node| node.has_tag_name("sysinfo")) else {
        bail!("there is no <sysinfo> element");
    };
    let mut blocks = Vec::new();
    if let Some(block) = Block::find(sysinfo, "bios") {
        blocks.push(bios(&block)?);
    }
    if let Some(block) = Block::find(sysinfo, "system") {
        blocks.push(system(&block));
    }
    if let Some(block) = Block::find(sysinfo, "baseBoard") {
        blocks.push(base_board(&block));
    }
    if let Some(block) = Block::find(sysinfo, "chassis") {
        blocks.push(chassis(&block));
    }
    if let Some(block) = Block::find(sysinfo, "oemStrings") {
        blocks.extend(smbios::oem_strings(block.texts()));
    }
    ensure!(
        !blocks.is_empty(),
        "<sysinfo> has no block that SMBIOS knows"
    );
    Ok(pack(&blocks))
}

fn bios(block: &Block) -> Result<Vec<u8>> {
    let release = block.get("release");
    let release = match release.contains(&b'.') {
        true => Some(smbios::release(release).context("the BIOS release is no MAJOR.MINOR")?),
        false => None,
    };
    let bios = Bios {
        vendor: block.get("vendor"),
        version: block.get("version"),
        release_date: block.get("date"),
        release,
    };
    Ok(bios.structure())
}

fn system(block: &Block) -> Vec<u8> {
    System {
        manufacturer: block.get("manufacturer"),
        product: block.get("product"),
        version: block.get("version"),
        serial: block.get("serial"),
        // libvirt takes no other UUID than the domain's own, which the firmware knows.
        uuid: [0; 16],
        sku: block.get("sku"),
        family: block.get("family"),
    }
    .structure()
}

fn base_board(block: &Block) -> Vec<u8> {
    Baseboard {
        manufacturer: block.get("manufacturer"),
        product: block.get("product"),
        version: block.get("version"),
        serial: block.get("serial"),
        asset: block.get("asset"),
        location: block.get("location"),
    }
    .structure()
}

fn chassis(block: &Block) -> Vec<u8> {
    Chassis {
        manufacturer: block.get("manufacturer"),
        version: block.get("version"),
        serial: block.get("serial"),
        asset: block.get("asset"),
        sku: block.get("sku"),
    }
    .structure()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::smbios::{Builder, blob_structures};

    #[test]
    fn a_domains_values_go_into_their_blocks() {
        let xml = "<domain><sysinfo type='smbios'><bios><entry name='vendor'>V</entry>\
            <entry name='release'>4.2</entry></bios><system><entry name='serial'>S &amp; N</entry>\
            </system><oemStrings><entry>a=1</entry></oemStrings></sysinfo></domain>";
        let blob = from_sysinfo(xml).unwrap();
        let blocks: Vec<_> = blob_structures(&blob).collect();
        let kinds: Vec<u8> = blocks.iter().map(|block| block.kind()).collect();
        assert_eq!(kinds, [0, 1, 11]);
        assert_eq!(blocks[0].formatted()[0x14..0x16], [4, 2]);
        assert_eq!(blocks[1].strings().next(), Some(&b"S & N"[..]));
        assert_eq!(blocks[2].strings().next(), Some(&b"a=1"[..]));
        assert!(from_sysinfo("<domain/>").is_err());
    }

    #[test]
    fn the_hosts_uuid_stays_on_the_host() {
        let mut table = Builder::new(0, 0).string(b"Maker").finish();
        table.extend(Builder::new(1, 1).raw(&[0; 4]).raw(&[9; 16]).finish());
        table.extend(Builder::new(3, 3).byte(0).finish());
        let blob = from_host(&table).unwrap();
        let blocks: Vec<_> = blob_structures(&blob).collect();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[1].formatted()[8..24], [0; 16]);
        assert!(from_host(b"").is_err());
    }
}
