#!/bin/sh
# The initial RAM disk's only program: load the disk's drivers and go to the real root.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
insmod() { /bin/busybox insmod "$1"; }
. /modules/load
/bin/busybox mount -t ext4 /dev/vda /root || exec sh
exec /bin/busybox switch_root /root /init
