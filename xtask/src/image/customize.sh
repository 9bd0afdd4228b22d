#!/bin/sh
# Turns a plain Debian into the demo guest. $1 is the root directory.
set -eu
root=$1

echo firstlight > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 firstlight\n' > "$root/etc/hosts"
# A machine id that is there already spares systemd the work of a first boot, which every run from a snapshot would be.
echo f1257116f1257116f1257116f1257116 > "$root/etc/machine-id"
echo 'UUID=@UUID@ / ext4 rw,noatime 0 0' > "$root/etc/fstab"
chroot "$root" passwd --quiet --delete root

mkdir -p "$root/boot/grub"
cat > "$root/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
menuentry "Debian" {
    linux /vmlinuz root=UUID=@UUID@ rw console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
END

# Housekeeping that only costs time in a guest that lives for minutes.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-pstore.service systemd-update-utmp-runlevel.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root/var/lib/apt/lists" "$root/var/cache/apt" "$root/var/log/"*
# Newer than /usr: systemd need not bring /etc and /var up to date at every start from a snapshot.
touch "$root/etc/.updated" "$root/var/.updated"
