#!/bin/sh
# unpack.sh PACKAGES OUTPUT SCRIPTS: from the archive of a test bed's unpacked packages, makes what QEMU starts it with:
# the files vmlinuz, initrd and root.img in the directory OUTPUT, and xen, where the packages have that.
set -eu
packages=$1 output=$2 scripts=$3
export PATH="$PATH:/usr/sbin:/sbin"

root=$output/root
mkdir "$root"
tar -C "$root" -xf "$packages"
rm "$packages"
kernel=$(basename "$root"/lib/modules/*)

cp "$root/boot/vmlinuz-$kernel" "$output/vmlinuz"
for xen in "$root"/boot/xen-*-amd64.gz; do
    [ ! -e "$xen" ] || gzip -dc "$xen" >"$output/xen"
done

# A bed runs QEMU, and what there is of a toolstack. Nobody reads manuals or plays sound there.
rm -rf "$root"/boot/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale \
    "$root"/usr/share/perl* "$root"/usr/lib/python3* "$root"/usr/lib/systemd "$root"/usr/lib/udev \
    "$root"/usr/share/qemu/edk2-* "$root"/usr/share/iso-codes "$root"/usr/share/xml \
    "$root"/var/cache/apt "$root"/var/lib/apt "$root"/var/lib/dpkg
for drivers in gpu gpio hwmon i2c iio infiniband md media mmc mtd net scsi staging usb; do
    rm -rf "$root/lib/modules/$kernel/kernel/drivers/$drivers"
done
rm -rf "$root/lib/modules/$kernel/kernel/sound"
depmod -b "$root" "$kernel"

# The packages are unpacked and not configured. What their scripts would have linked comes from busybox.
for applet in awk blkid cat cmp cut date dd dmesg grep head hexdump ip ls mkdir mount poweroff sed sh sleep sync tail \
    tar timeout tr umount uname wc; do
    for directory in bin sbin usr/bin usr/sbin; do
        [ ! -e "$root/$directory/$applet" ] || continue 2
    done
    ln -s busybox "$root/bin/$applet"
done
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/root" "$root/job" \
    "$root/var/lib/xen" "$root/var/lib/xenstored" "$root/var/log/xen"
# The dynamic linker's own directories are all that is looked in without its configuration.
[ ! -e "$root/etc/ld.so.conf" ] || ldconfig -r "$root"
rm -rf "$root/var/run" "$root/var/lock"
ln -s ../run "$root/var/run"
ln -s ../run/lock "$root/var/lock"
cp "$scripts/init.sh" "$root/init"
chmod 755 "$root/init"

# The initial RAM disk: busybox, and the modules by which the root disk is reached, in the order to load them.
initrd=$output/initrd.d
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/root" "$initrd/modules"
cp "$root/bin/busybox" "$initrd/bin/busybox"
ln -s busybox "$initrd/bin/sh"
cp "$scripts/initrd.sh" "$initrd/init"
chmod 755 "$initrd/init"
for module in virtio_pci virtio_blk crc32c_generic ext4; do
    modprobe -a -d "$root" -S "$kernel" --show-depends "$module"
done | while read -r action path _; do
    name=$(basename "$path" .xz)
    [ "$action" = insmod ] && [ ! -e "$initrd/modules/$name" ] || continue
    case $path in
    *.xz) xz -dc "$path" >"$initrd/modules/$name" ;;
    *) cp "$path" "$initrd/modules/$name" ;;
    esac
    echo "insmod /modules/$name" >>"$initrd/modules/load"
done
(cd "$initrd" && find . | ./bin/busybox cpio -o -H newc 2>/dev/null) >"$output/initrd"

size=$(du -sk "$root" | cut -f1)
mkfs.ext4 -q -F -m 0 -O '^has_journal' -d "$root" "$output/root.img" $((size * 5 / 4 + 65536))k
rm -rf "$root" "$initrd"
