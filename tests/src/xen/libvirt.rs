//! libvirt's Xen driver in dom0.

use super::{Bed, Guest, Loader, Toolstack, Version, bed_with, firstlight};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::sync::MutexGuard;
use xtask::build::host::{self, Program};

/// Starts libvirt's daemon with its Xen driver alone: it ends where one of the others cannot start. All of its processor models have a
/// feature that QEMU's translator lacks (VME), so it would find none for the bed's. Firstlight is installed as its packages do it.
const START: &str = r#"
virsh -c xen:///system version >/dev/null 2>&1 && exit 0
for driver in /usr/lib/*/libvirt/connection-driver/*.so; do
    [ "${driver##*/}" = libvirt_driver_libxl.so ] || rm -f "$driver"
done
sed -i "/<feature name='vme'\/>/d" /usr/share/libvirt/cpu_map/x86_*.xml
mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/lib/dpkg /usr/share/firstlight
[ -e /etc/passwd ] || echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
[ -e /etc/group ] || echo 'root:x:0:' >/etc/group
cp /job/hvmloader /usr/share/firstlight/ && cp /job/firstlight /job/firstlight-bootloader /usr/bin/ || exit 1
printf '%s\n' 'auth_unix_rw = "none"' 'unix_sock_group = "root"' >/tmp/libvirtd.conf
LIBVIRT_LOG_OUTPUTS="3:file:/tmp/libvirtd.log" libvirtd -d -f /tmp/libvirtd.conf
for i in $(seq 60); do
    virsh -c xen:///system version >/dev/null 2>&1 && exit 0
    sleep 1
done
cat /tmp/libvirtd.log
exit 1
"#;

/// The running test bed, with libvirt's daemon in its dom0 and Firstlight installed there, but not in hvmloader's place.
///
/// # Errors
/// As [`super::bed`], or the daemon does not come up.
pub fn bed() -> Result<MutexGuard<'static, Bed>> {
    let mut bed = bed_with(Version::V4_17, Toolstack::Libvirt)?;
    let job = bed.job();
    if let Loader::File(loader) = firstlight() {
        fs::copy(loader, job.join("hvmloader"))?;
    }
    for (program, name) in [
        (Program::Tool, "firstlight"),
        (Program::Bootloader, "firstlight-bootloader"),
    ] {
        fs::copy(host::file(program)?, job.join(name))?;
    }
    bed.check(START)?;
    bed.check("firstlight divert --undo")?;
    Ok(bed)
}

/// Has libvirt create a domain that does not run yet, and keeps it off dom0's processor. Returns the guest for what a test bed asks
/// of one.
///
/// # Errors
/// libvirt refuses, in each of a few attempts: the toolstack's deadlines are short here.
pub fn create(bed: &mut Bed, name: &str, xml: &str) -> Result<Guest> {
    let file = format!("{name}.xml");
    fs::write(bed.job().join(&file), xml)?;
    let guest = Guest::new(name, &Loader::Stock);
    let mut said = String::new();
    for _ in 0..4 {
        let output = bed.run(&format!(
            "virsh -q -c xen:///system create --paused /job/{file} && xl vcpu-pin {name} all 1"
        ))?;
        if output.status == 0 {
            return Ok(guest);
        }
        said = output.text;
        bed.run(&format!("virsh -q -c xen:///system destroy {name}"))?;
    }
    let log = bed.run(&format!(
        "tail -n 20 /tmp/libvirtd.log /var/log/libvirt/libxl/libxl-driver.log /var/log/xen/*{name}*"
    ))?;
    bail!("virsh create {name}: {said}\n{}", log.text);
}

/// Lets a domain of [`create`] run.
///
/// # Errors
/// libvirt refuses.
pub fn resume(bed: &mut Bed, name: &str) -> Result<()> {
    bed.check(&format!("virsh -q -c xen:///system resume {name}"))?;
    Ok(())
}

/// Ends a domain, which may have ended by itself.
///
/// # Errors
/// It goes on.
pub fn destroy(bed: &mut Bed, name: &str) -> Result<()> {
    bed.run(&format!("virsh -q -c xen:///system destroy {name}"))?;
    let left = bed.check("virsh -q -c xen:///system list --name")?;
    ensure!(!left.lines().any(|line| line.trim() == name), "{left}");
    Ok(())
}

/// What libvirt makes of a domain, in xl.cfg's words.
///
/// # Errors
/// libvirt does not understand it.
pub fn native(bed: &mut Bed, xml: &str) -> Result<String> {
    fs::write(bed.job().join("native.xml"), xml)?;
    bed.check("virsh -q -c xen:///system domxml-to-native xen-xl /job/native.xml")
}
