//! The packages in a Debian that has nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use firstlight_tests::guest::workspace;
use xtask::{command, dist, setup};

/// A package that has an hvmloader, as Xen's has.
fn stand_in(directory: &Path, version: u32) -> Result<()> {
    let tree = directory.join(format!("tree-{version}"));
    let place = tree.join("usr/lib/xen-4.17/boot");
    fs::create_dir_all(&place)?;
    fs::create_dir(tree.join("DEBIAN"))?;
    fs::write(place.join("hvmloader"), format!("stock-{version}"))?;
    let control = format!(
        "Package: xen-stand-in\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n"
    );
    fs::write(tree.join("DEBIAN/control"), control)?;
    let package = directory.join(format!("xen-{version}.deb"));
    let mut pack = Command::new("dpkg-deb");
    command::run_quietly(
        pack.args(["--root-owner-group", "--build"])
            .args([&tree, &package]),
    )
}

#[test]
fn packages_install_run_and_leave_nothing_behind() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let files = dist::make(&directory.path().join("dist"))?;
    // One more time, the same bytes.
    let again = dist::make(&directory.path().join("again"))?;
    for (one, other) in [
        (&files.archive, &again.archive),
        (&files.firmware, &again.firmware),
        (&files.tools, &again.tools),
    ] {
        ensure!(
            fs::read(one)? == fs::read(other)?,
            "{} is not reproducible",
            one.display()
        );
    }
    let packages = directory.path().join("packages");
    fs::create_dir(&packages)?;
    fs::copy(&files.firmware, packages.join("firstlight-firmware.deb"))?;
    fs::copy(&files.tools, packages.join("firstlight.deb"))?;
    for version in [1, 2] {
        stand_in(&packages, version)?;
        fs::remove_dir_all(packages.join(format!("tree-{version}")))?;
    }
    let script = workspace().join("tests/guest/chroot.sh");
    ensure!(
        fs::metadata(&script)?.permissions().mode() & 0o111 != 0,
        "{} cannot be run",
        script.display()
    );
    let archive = setup::debian_archive();
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args([
        "--variant=essential",
        "--format=null",
        "--skip=chroot/mount",
    ]);
    bootstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    bootstrap.arg(format!("--customize-hook=copy-in {} /", packages.display()));
    bootstrap.arg(format!("--customize-hook={}", script.display()));
    let suite = archive
        .as_ref()
        .map_or("bookworm", |archive| &archive.codename);
    bootstrap.arg(suite).arg("/dev/null");
    bootstrap.args(archive.iter().map(|archive| &archive.uri));
    let output = bootstrap
        .output()
        .context("cannot start mmdebstrap: run `cargo xtask setup`")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(
        output.status.success() && said.contains("nothing is left"),
        "{said}"
    );
    Ok(())
}
