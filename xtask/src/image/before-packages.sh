#!/bin/sh
# Runs in the new Debian before its kernel is installed, so that the one initramfs that is made is the one wanted.
# $1 is the root directory.
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
cat > "$1/etc/initramfs-tools/conf.d/firstlight" <<'END'
MODULES=list
COMPRESS=gzip
COMPRESSLEVEL=6
FSTYPE=ext4
END
# Every way that a virtual machine may give the disk to the guest.
cat > "$1/etc/initramfs-tools/modules" <<'END'
ata_piix
ata_generic
ahci
sd_mod
nvme
virtio_pci
virtio_blk
virtio_scsi
xen-blkfront
crc32c_generic
ext4
END
