#!/bin/sh
# The first and only service of a test bed: this part mounts what every bed has, then come the bed's own daemons, then it serves
# commands from the host. Files are exchanged through /job, a directory of the host.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/lock
for module in virtio_console 9pnet_virtio 9p; do
    modprobe "$module" || echo "firstlight-bed: no module $module"
done
share() { mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none "$1" "$2"; }
share job /job
ip link set lo up 2>/dev/null

